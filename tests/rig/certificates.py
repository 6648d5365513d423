"""Certificates as no authority would sign them: expired, weak, revoked, endless. For what trustme does not mint."""

import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

PEM = serialization.Encoding.PEM
NOW = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251 - what is minted is valid now


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@dataclass
class Identity:
    """A certificate with its key and what is above it."""

    certificate: x509.Certificate
    key: Any
    above: list[x509.Certificate] = field(default_factory=list)

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(PEM).decode()

    @property
    def key_pem(self) -> str:
        plain = serialization.NoEncryption()
        encoded: bytes = self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain)
        return encoded.decode()

    @property
    def chain_pem(self) -> str:
        return self.certificate_pem + "".join(one.public_bytes(PEM).decode() for one in self.above)

    @property
    def sha256(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def issue(
        self,
        *names: str,
        days: float = 365,
        begins: float = -1,
        sha1: bool = False,
        key: Any = None,
        is_authority: bool = False,
        for_clients: bool = False,
    ) -> "Identity":
        """A certificate for `names` that expires in `days`, and began `begins` days from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = _build(names, key.public_key(), self.certificate.subject, begins, days, is_authority)
        if for_clients:
            certificate = certificate.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
        above = [self.certificate, *self.above] if self.above or not _is_root(self.certificate) else []
        signed = certificate.sign(self.key, hashes.SHA256())
        return Identity(self._sha1(signed) if sha1 else signed, key, above)

    def _sha1(self, certificate: x509.Certificate) -> x509.Certificate:
        again = crypto.X509.from_cryptography(certificate)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            again.sign(crypto.PKey.from_cryptography_key(self.key), "sha1")  # which cryptography refuses
        return again.to_cryptography()

    def staple(self, leaf: "Identity", *, revoked: bool) -> bytes:
        """What this authority says of `leaf` by OCSP."""
        answer = ocsp.OCSPResponseBuilder().add_response(
            cert=leaf.certificate,
            issuer=self.certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=NOW - timedelta(hours=1),
            next_update=NOW + timedelta(days=1),
            revocation_time=NOW - timedelta(hours=2) if revoked else None,
            revocation_reason=None,
        )
        signed = answer.responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
        return signed.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def serving(
        self, folder: Path, *, at_most: ssl.TLSVersion | None = None, ciphers: str = ""
    ) -> ssl.SSLContext:
        """A server's context; with everything allowed where it is to be weak."""
        pem = folder / f"{self.sha256}.pem"
        pem.write_text(self.key_pem + self.chain_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
        context.load_cert_chain(pem)
        if at_most is not None:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = at_most
        return context


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _build(
    names: Sequence[str], public: Any, issuer: x509.Name, begins: float, days: float, is_authority: bool
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder(issuer, named(names[0] if names else "nameless"), public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    general = [x509.IPAddress(ip_address(n)) if n[-1].isdigit() else x509.DNSName(n) for n in names]
    if general and not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder


def root(name: str = "Upbeat Test Root") -> Identity:
    """An authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    built = _build([name], key.public_key(), named(name), -10, 3650, is_authority=True)
    return Identity(built.sign(key, hashes.SHA256()), key)


def self_signed(*names: str) -> Identity:
    """A leaf that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    built = _build(names, key.public_key(), named(names[0]), -1, 365, is_authority=False)
    return Identity(built.sign(key, hashes.SHA256()), key)
