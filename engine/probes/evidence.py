"""What is kept of a bad run for people to read: small, and without the secrets of the check. Decides nothing."""

from typing import Any, Final

from engine.probes.reply import EXCERPT_BYTES
from evaluators.assess import ACTUAL_MAX, REDACTED, Observation, is_secret_header
from rules.check import Check, HttpCheck

HEADERS_KEPT: Final = 50
RECORDS_KEPT: Final = 50
_SECRET_MIN: Final = 6  # shorter values would black out ordinary text


def evidence(check: Check, seen: Observation) -> dict[str, Any]:
    """JSON-like, some 10 KB at the most; only what there is."""
    found: dict[str, Any] = {
        "address": seen.address,
        "status": seen.status,
        "reason": seen.reason[:ACTUAL_MAX],
        "tls": seen.tls_version,
        "rcode": seen.rcode,
        "records": [f"{kind} {text}"[:ACTUAL_MAX] for kind, text in seen.records[:RECORDS_KEPT]],
        "headers": [
            [name[:ACTUAL_MAX], REDACTED if is_secret_header(name) else value[:ACTUAL_MAX]]
            for name, value in seen.headers[:HEADERS_KEPT]
        ],
    }
    if isinstance(check, HttpCheck):
        found["body"] = _excerpt(check, seen)
    return {key: value for key, value in found.items() if value}


def _excerpt(check: HttpCheck, seen: Observation) -> str:
    """The beginning of the body as text; nothing where it is still compressed."""
    if seen.header("content-encoding") and (seen.failure is not None or not check.reads_body):
        return ""
    text = seen.text()[:EXCERPT_BYTES]
    for name, value in check.headers:  # a server may echo what it was sent
        if is_secret_header(name):
            for secret in (value, value.rpartition(" ")[2]):
                if len(secret) >= _SECRET_MIN:
                    text = text.replace(secret, REDACTED)
    return text
