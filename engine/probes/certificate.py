"""Certificates and stapled answers read from what a server sent. Trusts nobody and verifies no signature."""

from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509 import ocsp

from evaluators.certificate import is_address
from evaluators.observation import Certificate

_KEPT: Final = 4096  # certificates; reading one costs some 60 us, finding it again 2
_KEPT_BYTES: Final = 8192  # larger ones are read each time, so that strangers fill no memory

_UNREADABLE: Final = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)

_known: dict[bytes, Certificate] = {}


def read_certificate(der: bytes) -> Certificate:
    """What `der` says. Raises `ValueError` for what cannot be read."""
    digest = sha256(der).digest()
    found = _known.get(digest)
    if found is None:
        try:
            found = _read(der, digest.hex())
        except _UNREADABLE as wrong:  # none of them a ValueError
            raise ValueError(str(wrong)) from None
        if len(der) <= _KEPT_BYTES:
            if len(_known) >= _KEPT:
                del _known[next(iter(_known))]
            _known[digest] = found
    return found


def _read(der: bytes, digest: str) -> Certificate:
    certificate = x509.load_der_x509_certificate(der)
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names: tuple[str, ...] = ()
    else:
        # An address that is written as a name vouches for nothing (RFC 9525, 6.5).
        plain = (name for name in san.get_values_for_type(x509.DNSName) if not is_address(name))
        names = (*plain, *map(str, san.get_values_for_type(x509.IPAddress)))
    return Certificate(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        names,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        f"{certificate.serial_number:x}",
        digest,
        _key(certificate),
        certificate.signature_algorithm_oid._name,
    )


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return certificate.public_key_algorithm_oid._name
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    return certificate.public_key_algorithm_oid._name


def read_staple(staple: bytes, leaf: Certificate, at: float) -> str:
    """What a stapled OCSP answer says of `leaf`: good, revoked or unknown; stale or invalid where it cannot be heeded."""
    try:
        answer = ocsp.load_der_ocsp_response(staple)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return "invalid"
        if f"{answer.serial_number:x}" != leaf.serial:
            return "invalid"
        until: datetime | None = answer.next_update_utc
        if until is not None and until.timestamp() < at:
            return "stale"
        return answer.certificate_status.name.lower()
    except (ValueError, UnsupportedAlgorithm):
        return "invalid"
