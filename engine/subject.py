"""A beat as the evaluator needs it: its policy compiled, and a digest of what it measures."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from engine.store.objects import Stored
from evaluators.policy import Policy, compile_policy
from rules.beat import BEAT

MEASURED = frozenset(
    {"type", "url", "method", "headers", "body", "redirects", "verify", "host", "port", "record", "resolver"}
    | {"assertions", "degraded_after"}
)
"""Keys of a beat that say what is measured: a change of one makes old votes worthless."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the evaluator holds per beat. `is_paused` includes beats that are not enabled."""

    beat_id: UUID
    page_id: UUID
    slug: str
    revision: int
    measures: str
    policy: Policy
    is_paused: bool
    is_removed: bool


def compile_subject(stored: Stored, regions: Sequence[str], *, is_paused: bool) -> Subject:
    """`stored` (a beat) compiled, in an installation with these `regions`."""
    rule = BEAT.validate_python(stored.spec)
    assert stored.page_id is not None
    return Subject(
        stored.id,
        stored.page_id,
        stored.slug,
        stored.revision,
        measures_digest(stored.spec),
        compile_policy(rule, regions),
        is_paused or not rule.enabled,
        stored.removed_at is not None,
    )


def measures_digest(spec: dict[str, object]) -> str:
    """Equal for two specs that measure the same."""
    measured = {key: value for key, value in sorted(spec.items()) if key in MEASURED}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
