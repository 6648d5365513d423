"""Whom a check trusts: the system's authorities or its own, and whether a chain leads to one of them. Knows no names.

OpenSSL verifies in every handshake, whatever it is told; without authorities it finds no path and is done. The path is
sought here instead, once per chain and ten minutes: a chain seldom changes, and its signatures cost 70 us and more.
What was found bad is sought again after a minute.
"""

import os
import ssl
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from OpenSSL import crypto

from engine.probes.trouble import TroubleError
from evaluators.model import Failure
from evaluators.observation import Certificate

_GOOD_S: Final = 600.0
_BAD_S: Final = 60.0
_KEPT: Final = 4096  # chains
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, Alpine, the BSDs
)
_SERVER_AUTH: Final = ("1.3.6.1.5.5.7.3.1", "2.5.29.37.0")  # serverAuth, anyExtendedKeyUsage

# OpenSSL's X509_V_ERR codes.
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_SELF_SIGNED: Final = 18
_NO_ISSUER: Final = frozenset({2, 20, 21})


class Trust:
    """The authorities of one `ca`, or the system's where it is empty."""

    def __init__(self, ca: str = "") -> None:
        self._store = crypto.X509Store()
        self._store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # who is named is trusted, root or not
        self._known: dict[
            bytes, tuple[Failure | None, float | None, float]
        ] = {}  # what is said, and until when
        self._has_any = True
        if ca:
            for pem in _split(ca):
                self._store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pem))
        else:
            self._has_any = _load_system(self._store)

    def judge(
        self, sent: Sequence[bytes], certificates: Sequence[Certificate], at: float
    ) -> tuple[Failure | None, float | None]:
        """Why the chain `sent` (DER, leaf first, read as `certificates`) leads to no authority, or when that way ends.

        Seconds since the epoch. Raises `TroubleError` where this machine has no authorities at all.
        """
        if not self._has_any:
            raise TroubleError(
                "probe.config", "no certificate authorities; install ca-certificates or set SSL_CERT_FILE"
            )
        chain = sha256(b"".join(sent)).digest()
        fault, ends, until = self._known.get(chain, (None, None, 0.0))
        if until <= at:
            fault, ends = self._sought(sent, certificates)
            until = min(at + _GOOD_S, ends) if ends is not None else at + _BAD_S
            if len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[chain] = fault, ends, until
        return fault, ends

    def _sought(
        self, sent: Sequence[bytes], certificates: Sequence[Certificate]
    ) -> tuple[Failure | None, float | None]:
        try:
            loaded = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in sent]
            path = crypto.X509StoreContext(self._store, loaded[0], loaded[1:]).get_verified_chain()
        except crypto.X509StoreContextError as refused:
            return _explained(refused, certificates), None
        way = [certificate.to_cryptography() for certificate in path]
        for certificate in way[:-1] or way:
            if not _may_serve(certificate):
                said = f"{certificate.subject.rfc4514_string()[:200]} is not for TLS servers"
                return Failure("tls.untrusted", said), None
        return None, min(certificate.not_valid_after_utc.timestamp() for certificate in way)


def _explained(refused: crypto.X509StoreContextError, certificates: Sequence[Certificate]) -> Failure:
    code, _, said = refused.errors
    name = _name(refused.certificate)
    if code == _EXPIRED:
        return Failure("tls.expired", f"{name} has expired")
    if code == _NOT_YET_VALID:
        return Failure("tls.not_yet_valid", f"{name} is not valid yet")
    if code == _SELF_SIGNED:
        return Failure("tls.self_signed", f"{name} is signed by itself")
    leaf = certificates[0]
    if code in _NO_ISSUER and all(above.subject != leaf.issuer for above in certificates[1:]):
        return Failure(
            "tls.incomplete_chain",
            f"{leaf.issuer}, who issued {leaf.subject}, was not sent and is no authority known here; "
            "the server must send it, or `ca` must name it",
        )
    return Failure("tls.untrusted", f"{name}: {said}")


def _name(certificate: crypto.X509) -> str:
    return certificate.to_cryptography().subject.rfc4514_string()[:200]


def _may_serve(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return any(use.dotted_string in _SERVER_AUTH for use in usage)


def _split(pem: str) -> list[bytes]:
    end = "-----END CERTIFICATE-----"
    return [(part + end).encode() for part in pem.split(end)[:-1]]


def _load_system(store: crypto.X509Store) -> bool:
    """Whether there were any. SSL_CERT_FILE and SSL_CERT_DIR name others than the system's."""
    paths = ssl.get_default_verify_paths()  # heeds both variables
    file: str | None = paths.cafile  # None where there is no such file, whatever typeshed says
    folder: str | None = paths.capath
    if file is None and not os.environ.get("SSL_CERT_DIR"):
        file = next((bundle for bundle in _BUNDLES if Path(bundle).is_file()), None)
        folder = None if file else folder
    if file is None and (folder is None or not any(Path(folder).iterdir())):
        return False
    store.load_locations(file, folder)
    return True
