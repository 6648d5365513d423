"""What is wrong with a handshake and its certificates: dates, names, strength, pins, how soon they expire.

Whether an authority vouches for them is `engine.probes.trust`.
"""

from ipaddress import ip_address
from typing import Final

from evaluators.model import Failure
from evaluators.observation import Certificate, TlsSeen
from rules.kinds.tls import TlsCheck

NAMES_TOLD: Final = 5
_WEAK_HASHES: Final = ("md2", "md4", "md5", "sha1")
_LEAST_BITS: Final = {"RSA": 2048, "DSA": 2048}
_LEAST_EC_BITS: Final = 224
_WEAK_CIPHERS: Final = ("NULL", "EXP", "RC4", "RC2", "DES", "ADH", "AECDH", "IDEA", "SEED", "MD5")
_DAY_S: Final = 86_400.0
# Without a word of the operator's: so long before the end, or this part of a short lifetime.
_WARNING: Final = (21 * _DAY_S, 1 / 4)
_CRITICAL: Final = (7 * _DAY_S, 1 / 12)


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
        is_short = bits.isdecimal() and int(bits) < _LEAST_BITS.get(kind, 0)
        if is_short or (kind == "EC" and _ec_bits(bits) < _LEAST_EC_BITS):
            return Failure("tls.weak_key", f"{one.subject} has a key of {one.key}")
        signature = one.signature.lower().replace("-", "")
        if one.subject != one.issuer and any(weak in signature for weak in _WEAK_HASHES):
            return Failure("tls.weak_signature", f"{one.subject} is signed with {one.signature}")
    return None


def agreed_fault(version: str, cipher: str, min_version: str) -> Failure | None:
    """Whether client and server agreed on something that should not be."""
    if f"{version}.0"[:7] < f"TLSv{min_version}":  # TLSv1 is TLSv1.0; SSLv3 is before T
        return Failure("tls.old_version", f"{version} was agreed on; TLSv{min_version} is the least")
    if any(weak in cipher for weak in _WEAK_CIPHERS):
        return Failure("tls.weak_cipher", f"the cipher {cipher} was agreed on")
    return None


def tls_failures(check: TlsCheck, shown: TlsSeen) -> tuple[Failure | None, Failure | None]:
    """Why a `tls` run is critical, and why it is a warning, whatever its assertions say."""
    for fault in shown.faults:
        if check.tls.verify or fault.type == "tls.old_version":
            return fault, None
    if check.pins and not any(one.sha256 in check.pins for one in shown.certificates):
        sha256 = shown.certificates[0].sha256 if shown.certificates else "nothing"
        return Failure("tls.pin", f"no certificate of the chain is pinned; the first is {sha256}"), None
    critical = _expiring(check, shown, check.critical_s, *_CRITICAL)
    return critical, critical or _expiring(check, shown, check.warning_s, *_WARNING)


def _expiring(
    check: TlsCheck, shown: TlsSeen, within_s: float | None, usual_s: float, part: float
) -> Failure | None:
    if shown.days_left is None or (within_s is None and not check.tls.verify):
        return None
    left_s, leaf = shown.days_left * _DAY_S, shown.certificates[0]
    if within_s is None:
        is_leaf = leaf.not_after - shown.at <= left_s + 1
        within_s = min(usual_s, part * (leaf.not_after - leaf.not_before)) if is_leaf else usual_s
    if left_s >= within_s:
        return None
    return Failure("tls.expiring", f"{leaf.subject} or one above it expires in {_ago(left_s)}")


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
