"""What operators write of TLS, whatever is spoken over it: whom to trust, who we are, which name to ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, model_validator

from rules.kinds.kind import Host
from rules.secret import Sources, expand, references
from rules.shape import Rule
from rules.target import ascii_host

PEM_MAX: Final = 1_000_000  # characters; the authorities of a whole system are some 220,000
EXPANDED: Final = "expanded"
"""The context of a validation after references are replaced, where a secret stands in the open."""
_NO_PEM: Final = "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"


class PemError(ValueError):
    """What is wrong with a PEM; its message repeats nothing of it."""


def _certificates(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise PemError(_NO_PEM) from None


def _pem(text: str, info: ValidationInfo) -> str:
    if not any(references(text)):
        if "-----" not in text and info.context != EXPANDED:
            raise PemError(f"{_NO_PEM}; that of a file is ${{file:/path}}")
        _certificates(text)
    return text


def _reference(text: str, info: ValidationInfo) -> str:
    if not any(references(text)) and info.context != EXPANDED:
        raise PemError("is a secret; write a reference such as ${file:/path} or ${secret:NAME}")
    return text


Pem = Annotated[str, StringConstraints(min_length=1, max_length=PEM_MAX)]
Certificates = Annotated[Pem, AfterValidator(_pem)]
TlsVersion = Literal["1.0", "1.1", "1.2", "1.3"]


class TlsRule(Rule):
    """The TLS of a beat. Nothing here says that TLS is spoken at all."""

    verify: bool = Field(
        default=True,
        description="Whether the certificate must be valid, trusted and for the name; what is wrong is measured anyway.",
    )
    ca: Certificates | None = Field(
        default=None,
        description="PEM of whom to trust instead of the system's authorities: roots, those in between, or the "
        "server's own certificate; may be a reference.",
    )
    certificate: Certificates | None = Field(
        default=None, description="PEM of our own certificate and what is above it; may be a reference."
    )
    key: Annotated[Pem, AfterValidator(_reference)] | None = Field(
        default=None, description="Reference to the PEM of its private key, which is not encrypted."
    )
    server_name: Host | None = Field(
        default=None, description="The name that is asked for and verified, instead of the host."
    )
    min_version: TlsVersion = Field(default="1.2", description="Older versions of TLS are refused.")

    @model_validator(mode="after")
    def _identifies_itself_whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            there, lacks = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ValueError(f"{there} needs `{lacks}` beside it")
        return self


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Compiled `TlsRule`; what TLS contexts are kept by."""

    verify: bool = True
    ca: str = ""  # PEM; empty: the system's authorities
    certificate: str = ""
    key: str = ""
    server_name: str = ""  # empty: the host's
    min_version: TlsVersion = "1.2"


def compile_tls(rule: TlsRule, sources: Sources) -> TlsOptions:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` for what is no PEM once it is replaced."""
    ca, certificate, key = (expand(pem or "", sources) for pem in (rule.ca, rule.certificate, rule.key))
    for name, pem in (("ca", ca), ("certificate", certificate)):
        if pem:
            _named(name, _certificates, pem)
    if certificate:
        _named("key", _expect_pair, certificate, key)
    name = ascii_host(rule.server_name) if rule.server_name else ""
    return TlsOptions(rule.verify, ca, certificate, key, name, rule.min_version)


def _named(name: str, check: Callable[..., object], *pems: str) -> None:
    try:
        check(*pems)
    except PemError as wrong:
        raise PemError(f"{name} {wrong}") from None


def _expect_pair(certificate: str, key: str) -> None:
    try:
        private = load_pem_private_key(key.encode(), None)
    except TypeError:
        raise PemError("is encrypted; write one that is not, and protect its file") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PemError("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None
    if private.public_key() != _certificates(certificate)[0].public_key():
        raise PemError("is not the key of the first certificate in `certificate`")
