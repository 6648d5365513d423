"""What is kept of a bad run for people to read: small, and without the secrets of the check. Decides nothing."""

from typing import Any, Final

from engine.probes.reply import EXCERPT_BYTES
from evaluators.assess import ACTUAL_MAX
from evaluators.observation import Observation
from rules.check import Check
from rules.kinds.http import HttpCheck
from rules.secret import REDACTED, hide, is_secret_name

HEADERS_KEPT: Final = 50
RECORDS_KEPT: Final = 50


def evidence(check: Check, seen: Observation) -> dict[str, Any]:
    """JSON-like, some 10 KB at the most; only what there is."""
    secrets = check.secrets  # a target may repeat what it was sent; hidden before anything is cut
    found: dict[str, Any] = {
        "address": seen.address,
        "status": seen.status,
        "reason": hide(seen.reason, secrets)[:ACTUAL_MAX],
        "tls": seen.tls.version if seen.tls else None,
        "rcode": seen.rcode,
        "records": [
            hide(f"{record.type} {record.text}", secrets)[:ACTUAL_MAX]
            for record in seen.records[:RECORDS_KEPT]
        ],
        "headers": [
            [
                hide(name, secrets)[:ACTUAL_MAX],
                REDACTED if is_secret_name(name) else hide(value, secrets)[:ACTUAL_MAX],
            ]
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
    text: str = hide(seen.text()[: 2 * EXCERPT_BYTES], check.secrets)
    return text[:EXCERPT_BYTES]
