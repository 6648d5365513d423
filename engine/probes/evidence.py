"""What is kept of a run for people to read: small, and without the secrets of the check. Decides nothing."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import json, structs, to_builtins

from engine.probes.reply import EXCERPT_BYTES
from evaluators.assess import ACTUAL_MAX
from evaluators.observation import Observation, Record, TlsSeen
from rules.check import Check
from rules.kinds.http import HttpCheck
from rules.kinds.tcp import TcpCheck
from rules.kinds.tls import TlsCheck
from rules.markdown import one_line
from rules.secret import REDACTED, hide, is_secret_name
from rules.tls import TlsOptions
from rules.wording import MAX_PUBLISHED

HEADERS_KEPT: Final = 50
RECORDS_KEPT: Final = 50
CERTIFICATES_KEPT: Final = 8
NAMES_KEPT: Final = 20
HOPS_KEPT: Final = 10
JOURNEY_BYTES: Final = 14_000
JOURNEY_LINES: Final = 50
_STEP_LEAST: Final = ("name", "state", "after_s", "took_s", "picture")
_MOST_FAILED: Final = 10


def evidence(check: Check, seen: Observation) -> dict[str, Any]:
    """All there is to show of a run: JSON-like, some 10 KB at the most."""
    secrets = check.secrets + seen.secrets  # a target may repeat them; hidden before anything is cut
    found: dict[str, Any] = _steps(seen, secrets) | {
        "unverified": _is_unverified(check, seen),
        "address": seen.address,
        "status": seen.status,
        "reason": hide(seen.reason, secrets)[:ACTUAL_MAX],
        "protocol": seen.protocol,
        "hops": [
            {
                "url": hide(hop.url, secrets)[:ACTUAL_MAX],
                "status": hop.status,
                "address": hop.address,
                "timings": structs.asdict(hop.timings),
            }
            for hop in seen.hops[:HOPS_KEPT]
        ],
        "tls": _tls(seen.tls) if seen.tls else None,
        "packets": list(seen.packets),
        "addresses": list(seen.addresses[:RECORDS_KEPT]) if len(seen.addresses) > 1 else None,
        "rcode": seen.rcode,
        "flags": list(seen.flags),
        "records": _records(seen.records, secrets),
        "answers": [
            {
                "server": answered.server,
                "rcode": answered.rcode,
                "flags": list(answered.flags),
                "records": _records(answered.records, secrets),
                "error": hide(answered.failure.message, secrets)[:ACTUAL_MAX] if answered.failure else None,
            }
            for answered in seen.answers
        ],
        "published": {
            name: one_line(hide(value, secrets))[:MAX_PUBLISHED] for name, value in seen.captured.items()
        },
        "headers": [
            [
                hide(name, secrets)[:ACTUAL_MAX],
                REDACTED if is_secret_name(name) else hide(value, secrets)[:ACTUAL_MAX],
            ]
            for name, value in seen.headers[:HEADERS_KEPT]
        ],
    }
    if isinstance(check, HttpCheck | TcpCheck):
        found["body"] = _excerpt(check, seen, secrets)
    return _there(found)


def course(check: Check, seen: Observation) -> dict[str, Any] | None:
    """Of a good run of several requests where its time went; of others nothing."""
    return _there(_steps(seen, check.secrets + seen.secrets)) or None


def standing(seen: Observation) -> int:
    """Equal for two runs that were shown the same certificates and told the same records, whatever their order and age."""
    certificates = tuple(one.sha256 for one in seen.tls.certificates) if seen.tls else ()
    records = frozenset((record.type, record.text) for record in seen.records)
    answers = tuple(frozenset((r.type, r.text) for r in answered.records) for answered in seen.answers)
    return hash((certificates, records, answers))


def _steps(seen: Observation, secrets: tuple[str, ...]) -> dict[str, Any]:
    return {
        "journey": _journey(hide(to_builtins(seen.journey), secrets)) if seen.journey else None,
        "artifacts": [  # whether or not they come through
            {"name": one.name, "type": one.type, "size_bytes": len(one.data)} for one in seen.artifacts
        ],
        "token_s": seen.token_s,
        "steps": [
            {
                "name": step.name,
                "status": step.status,
                "timings": structs.asdict(step.timings),
                "error": hide(step.failure.message, secrets)[:ACTUAL_MAX] if step.failure else None,
            }
            for step in (() if seen.journey else seen.steps)  # which has them itself
        ],
    }


def _journey(told: dict[str, Any]) -> dict[str, Any]:
    """As much as there is room for: of what went well the least, then of lines and pages, never of the step that failed."""
    steps = told.get("steps", [])
    for most in (JOURNEY_LINES, 10, 3):
        told |= {key: told.get(key, [])[:most] for key in ("documents", "console", "failures", "notes")}
        if len(json.encode(told)) <= JOURNEY_BYTES:
            break
        told["steps"] = [
            step if step["state"] == "failed" else {key: step[key] for key in _STEP_LEAST if key in step}
            for step in steps
        ]
    failed = [step for step in steps if step["state"] == "failed"]
    if len(json.encode(told)) > JOURNEY_BYTES:  # dozens failed softly
        told["steps"] = sorted(failed, key=lambda step: step.get("is_soft", False))[:_MOST_FAILED]
    return _there(told)


def _there(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value}


def _is_unverified(check: Check, seen: Observation) -> bool:
    """Whether TLS was spoken with somebody who may have been anybody."""
    if isinstance(check, HttpCheck):
        options: TlsOptions | None = check.way.tls
    else:
        options = check.tls if isinstance(check, TcpCheck | TlsCheck) else None
    return seen.tls is not None and options is not None and not options.verify


def _tls(shown: TlsSeen) -> dict[str, Any]:
    """The certificates' moments are seconds since the epoch."""
    return {
        "version": shown.version,
        "cipher": shown.cipher,
        "ocsp": shown.ocsp,
        "faults": [f"{fault.type}: {fault.message}"[:ACTUAL_MAX] for fault in shown.faults],
        "certificates": [
            {
                "subject": one.subject[:ACTUAL_MAX],
                "issuer": one.issuer[:ACTUAL_MAX],
                "names": [name[:ACTUAL_MAX] for name in one.names[:NAMES_KEPT]],
                "not_before": one.not_before,
                "not_after": one.not_after,
                "serial": one.serial[:ACTUAL_MAX],
                "sha256": one.sha256,
                "key": one.key,
                "signature": one.signature,
            }
            for one in shown.certificates[:CERTIFICATES_KEPT]
        ],
    }


def _records(records: Sequence[Record], secrets: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"type": record.type, "text": hide(record.text, secrets)[:ACTUAL_MAX], "ttl_s": record.ttl_s}
        for record in records[:RECORDS_KEPT]
    ]


def _excerpt(check: Check, seen: Observation, secrets: tuple[str, ...]) -> str:
    """The beginning of the body as text; nothing where it is still compressed."""
    is_decoded = seen.failure is None and isinstance(check, HttpCheck) and check.reads_body
    if seen.header("content-encoding") and not is_decoded:
        return ""
    text: str = hide(seen.text()[: 2 * EXCERPT_BYTES], secrets)
    return text[:EXCERPT_BYTES]
