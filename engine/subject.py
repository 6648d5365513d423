"""A beat as the evaluator needs it: its policy compiled, and a digest of what it measures."""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engine.catalog import Declared
from engine.store.objects import Stored
from evaluators.policy import Policy, compile_policy
from rules.beat import BEAT, AnyBeat
from rules.kinds.http import HttpBeat, Step
from rules.kinds.kind import BeatRule
from rules.otlp import Otlp
from rules.secret import REDACTED, is_secret_name

_UNMEASURED: Final = frozenset(BeatRule.model_fields) | {
    "interval",
    "timeout",
    "retries",
    "retry_on",
    "regions",
    "quorum",
    "every",
    "cron",
    "timezone",
    "grace",
    "max_duration",
    "severity",
}
"""Keys of a beat that do not say what is measured. A change of any other makes old votes worthless."""

_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#]+)=[^&#]+")


@dataclass(frozen=True, slots=True)
class Subject:
    """What the evaluator holds per beat. `paused_until_s`: seconds since the epoch, inf for a beat that is not enabled."""

    beat_id: UUID
    page_id: UUID
    slug: str
    type: str
    revision: int
    measures: str
    policy: Policy
    paused_until_s: float
    is_removed: bool
    otlp: Otlp | None = None
    address: str = ""  # URL, or host and port: no secrets, and references to them are not replaced
    method: str = ""  # of an http beat

    def is_paused(self, now: float) -> bool:
        """Whether it is not to run at `now`."""
        return now < self.paused_until_s


def compile_subject(beat: Declared | Stored, regions: Sequence[str]) -> Subject:
    """`beat` compiled, in an installation with these `regions`. A `Stored` one is taken as removed."""
    rule = BEAT.validate_python(beat.spec)
    assert beat.page_id is not None
    first = rule.steps[0] if isinstance(rule, HttpBeat) and rule.steps else rule
    paused_until_s = 0.0 if isinstance(beat, Stored) else beat.paused_until_s or 0.0
    return Subject(
        beat.id,
        beat.page_id,
        beat.slug,
        rule.type,
        beat.revision,
        measures_digest(beat.spec),
        compile_policy(rule, regions),
        paused_until_s if rule.enabled else math.inf,
        isinstance(beat, Stored),
        rule.otlp,
        _address(first),
        getattr(first, "sent_method", ""),
    )


def _address(rule: AnyBeat | Step) -> str:
    """The URL, or host and port, of what has one; of several steps the first one's."""
    host, port = getattr(rule, "host", ""), getattr(rule, "port", None)
    if port and host:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _PARAMETER.sub(_without_secret, str(getattr(rule, "url", None) or host or ""))


def _without_secret(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}={REDACTED}" if is_secret_name(parameter[1]) else parameter[0]


def measures_digest(spec: dict[str, object]) -> str:
    """Equal for two specs that measure the same."""
    measured = {key: value for key, value in sorted(spec.items()) if key not in _UNMEASURED}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
