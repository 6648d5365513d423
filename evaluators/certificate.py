"""What is wrong with a certificate as it was shown: dates, names, strength. Whether an authority vouches for it is `engine.probes.trust`."""

from ipaddress import ip_address
from typing import Final

from evaluators.model import Failure
from evaluators.observation import Certificate

NAMES_TOLD: Final = 5
_WEAK_HASHES: Final = ("md2", "md4", "md5", "sha1")
_LEAST_BITS: Final = {"RSA": 2048, "DSA": 2048}
_LEAST_EC_BITS: Final = 224


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, which has no place in SNI."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def date_fault(certificate: Certificate, at: float) -> Failure | None:
    """Whether `at` (seconds since the epoch) lies outside its validity."""
    if at > certificate.not_after:
        return Failure("tls.expired", f"{certificate.subject} expired {_ago(at - certificate.not_after)} ago")
    if at < certificate.not_before:
        return Failure(
            "tls.not_yet_valid",
            f"{certificate.subject} is not valid for another {_ago(certificate.not_before - at)}",
        )
    return None


def name_fault(leaf: Certificate, host: str) -> Failure | None:
    """Whether `leaf` is for another name or address than `host` (ASCII). The common name counts for nothing (RFC 9525)."""
    wanted = host.lower().removesuffix(".")
    try:
        wanted = str(ip_address(wanted))
        matches = wanted in leaf.names
    except ValueError:
        matches = any(_covers(name.lower(), wanted) for name in leaf.names)
    if matches:
        return None
    told = ", ".join(leaf.names[:NAMES_TOLD]) or "no name"
    if (more := len(leaf.names) - NAMES_TOLD) > 0:
        told += f" and {more} more"
    return Failure("tls.wrong_host", f"the certificate is for {told}, not for {host}")


def strength_fault(certificates: tuple[Certificate, ...]) -> Failure | None:
    """The first key or signature that can be forged. What signs itself is trusted or not, but not for its signature."""
    for one in certificates:
        kind, _, bits = one.key.partition(" ")
        if bits.isdecimal() and int(bits) < _LEAST_BITS.get(kind, 0):
            return Failure("tls.weak_key", f"{one.subject} has a key of {one.key}")
        if kind == "EC" and _ec_bits(bits) < _LEAST_EC_BITS:
            return Failure("tls.weak_key", f"{one.subject} has a key of {one.key}")
        signature = one.signature.lower().replace("-", "")
        if one.subject != one.issuer and any(weak in signature for weak in _WEAK_HASHES):
            return Failure("tls.weak_signature", f"{one.subject} is signed with {one.signature}")
    return None


def _covers(pattern: str, host: str) -> bool:
    """Whether a certificate's DNS name covers `host`: itself, or one label for `*` as the whole first label."""
    if pattern == host:
        return True
    label, _, rest = host.partition(".")
    return bool(label) and pattern[:2] == "*." and pattern[2:] == rest and "." in rest


def _ec_bits(curve: str) -> int:
    digits = "".join(c if c.isdigit() else " " for c in curve).split()
    return int(digits[0]) if digits else _LEAST_EC_BITS


def _ago(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:.0f} days" if days >= 2 else f"{seconds / 3600:.1f} hours"
