"""The `browser` beat: a journey on a schedule, and the check compiled of it."""

from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from rules.duration import Duration
from rules.expectation import Expectation, compile_assertions
from rules.journey import Journey, Keeping, named
from rules.kinds.kind import ProbedRule, expect_phases, expect_subjects
from rules.pace import Pace, compile_pace
from rules.quorum import Confirm, Quorum
from rules.secret import Sources, expand, hidden_forms, references, value_of
from rules.target import parse_target

BROWSER_SUBJECTS: Final = frozenset(
    {
        "timing.total",
        "step",
        "vital.ttfb",
        "vital.fcp",
        "vital.lcp",
        "vital.cls",
        "console_errors",
        "failed_requests",
        "requests",
        "weight",
    }
)


class BrowserBeat(Journey, ProbedRule):
    """What a customer does, done by a real browser."""

    type: Literal["browser"] = Field(description="The kind of beat.")
    interval: Duration = Field(
        default=300.0, ge=10.0, le=86400.0, description="Between two runs in one region."
    )
    timeout: Duration = Field(
        default=60.0,
        ge=1.0,
        le=300.0,
        description="Per attempt, evidence included; not longer than the interval.",
    )
    evidence: Keeping = Field(default=Keeping(), description="What is kept of its runs.")
    quorum: Quorum = Field(
        default=Quorum(confirm=Confirm(wait=60.0)), description="How votes of regions become its stage."
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        if self.script is not None:
            return f"script {self.url or ''}".strip()
        return f"{self.url or next((s.goto for s in self.steps if s.goto), '')} ({len(named(self))} steps)"

    @model_validator(mode="after")
    def _asserts_a_journey(self) -> Self:
        expect_subjects(self.assertions, BROWSER_SUBJECTS, "browser")
        expect_phases(self.degraded_after, BROWSER_SUBJECTS, "browser")
        return self


@dataclass(frozen=True, slots=True)
class BrowserCheck:
    """A compiled `browser` beat. `journey` is a `Journey` as JSON, its references replaced."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str  # of where it begins; empty for a script without one
    journey: dict[str, Any]
    keeping: Keeping
    secrets: tuple[str, ...] = ()

    @property
    def is_script(self) -> bool:
        """Whether it runs what an operator programmed."""
        return "script" in self.journey


def compile_browser(beat: BrowserBeat, sources: Sources) -> BrowserCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    spec = beat.model_dump(mode="json", include=set(Journey.model_fields), exclude_defaults=True)
    journey = _expanded(spec, sources)
    first = journey.get("url") or next(
        (step["goto"] for step in journey.get("steps", ()) if "goto" in step), ""
    )
    return BrowserCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        parse_target(first).host if first else "",
        journey,
        beat.evidence,
        hidden_forms(value_of(name, sources) for name in references(spec)),
    )


def _expanded(value: Any, sources: Sources) -> Any:
    if isinstance(value, str):
        return expand(value, sources)
    if isinstance(value, dict):
        return {key: _expanded(inner, sources) for key, inner in value.items()}
    return [_expanded(inner, sources) for inner in value] if isinstance(value, list) else value
