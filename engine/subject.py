"""A beat or group as the evaluator needs it: its policy compiled, and a digest of what it measures."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engine.catalog import Declared
from engine.relations import bind
from engine.store.objects import Stored
from evaluators.policy import Bound, Policy, compile_policy
from rules.beat import AnyBeat
from rules.group import Group
from rules.kinds.http import HttpBeat, Step
from rules.kinds.kind import BeatRule
from rules.otlp import Otlp
from rules.secret import REDACTED, is_secret_name
from rules.subject import rule_of

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
    "late_members",
    "publish",
    "evidence",
}
"""Keys of a beat that do not say what is measured. A change of any other makes old votes worthless."""

_PARAMETER: Final = re.compile(r"(?<=[?&])([^=&#]+)=[^&#]+")


@dataclass(frozen=True, slots=True)
class Subject:
    """What the evaluator holds per beat or group. `paused_until_s`: seconds since the epoch, inf for a beat that is not enabled."""

    subject_id: UUID
    page_id: UUID
    slug: str
    type: str  # of a beat, or `group`
    revision: int
    measures: str
    bound: Bound
    policy: Policy
    paused_until_s: float
    is_removed: bool
    otlp: Otlp | None = None
    address: str = ""  # URL, or host and port: no secrets, and references to them are not replaced
    method: str = ""  # of an http beat

    def is_paused(self, now: float) -> bool:
        """Whether it is not to run at `now`."""
        return now < self.paused_until_s


def compile_subject(declared: Declared | Stored, bound: Bound) -> Subject:
    """`declared` compiled; what `bound` says of regions it does not run in is nothing to it. A `Stored` one is removed."""
    rule = rule_of(declared.kind, declared.spec)
    assert declared.page_id is not None
    bound = bind(rule, bound)
    paused_until_s = 0.0 if isinstance(declared, Stored) else declared.paused_until_s or 0.0
    address = method = ""
    if not isinstance(rule, Group):
        first = rule.steps[0] if isinstance(rule, HttpBeat) and rule.steps else rule
        address, method = _address(first), getattr(first, "sent_method", "")
    return Subject(
        declared.id,
        declared.page_id,
        declared.slug,
        "group" if isinstance(rule, Group) else rule.type,
        declared.revision,
        measures_digest(declared.spec),
        bound,
        compile_policy(rule, bound),
        paused_until_s if rule.enabled else math.inf,
        isinstance(declared, Stored),
        None if isinstance(rule, Group) else rule.otlp,
        address,
        method,
    )


def _address(rule: AnyBeat | Step) -> str:
    """The URL, or host and port, of what has one; of several steps the first one's."""
    host, port = getattr(rule, "host", ""), getattr(rule, "port", None)
    if port and host:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return _PARAMETER.sub(
        _without_secret, str(getattr(rule, "begins", None) or getattr(rule, "url", None) or host)
    )


def _without_secret(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}={REDACTED}" if is_secret_name(parameter[1]) else parameter[0]


def measures_digest(spec: Mapping[str, object]) -> str:
    """Equal for two specs that measure the same."""
    measured = {key: value for key, value in sorted(spec.items()) if key not in _UNMEASURED}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
