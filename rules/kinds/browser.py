"""The `browser` beat: a journey on a schedule, and the check compiled of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from rules.auth import compile_auth
from rules.capture import places
from rules.duration import Duration, format_duration
from rules.expectation import Expectation, compile_assertions
from rules.journey import Journey, Keeping, named
from rules.kinds.kind import ProbedRule, expect_phases, expect_subjects
from rules.pace import Pace, compile_pace
from rules.quorum import Confirm, Quorum
from rules.secret import Sources, expanded, hidden_forms, is_secret_name, references, value_of
from rules.target import target_of
from rules.wording import expect_among

EVIDENCE_S: Final = 5.0
TEARDOWN_S: Final = 15.0

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
        return f"{self.begins} ({f'{len(named(self))} steps' if self.steps else 'script'})".strip()

    @model_validator(mode="after")
    def _asserts_a_journey(self) -> Self:
        expect_subjects(self.assertions, BROWSER_SUBJECTS, "browser")
        expect_phases(self.degraded_after, BROWSER_SUBJECTS, "browser")
        names, whole = [], ("the beat's timeout", self.timeout)
        for name, step, _ in named(self):
            names.append(name)
            passes_s = step.wait.duration if step.wait else None
            own = ("its timeout", step.timeout) if step.timeout else ("step_timeout", self.step_timeout)
            end = whole if passes_s and not step.timeout else min(own, whole, key=itemgetter(1))
            for key, limit_s, (most, most_s) in (
                ("timeout", step.timeout, whole),
                ("degraded_after", step.degraded_after, end),
                ("wait", passes_s, end),
            ):
                if limit_s is not None and limit_s > most_s:
                    raise ValueError(
                        f"steps has {name}, whose {key} {format_duration(limit_s)} is longer than {most} "
                        f"{format_duration(most_s)}"
                    )
        if self.script is None:  # whose steps are known when it has run
            asserted = [
                one.name for one in self.assertions if one.name and (one.of == "step" or "vital" in one.of)
            ]
            expect_among("assertions", asserted, names, "step")
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

    @property
    def shares_s(self) -> tuple[float, float]:
        """What of an attempt's time is for the steps and, kept for it, the teardown; the rest is for evidence."""
        usable_s = self.pace.timeout_s - min(self.pace.timeout_s / 5, EVIDENCE_S)
        teardown_s = min(usable_s / 4, TEARDOWN_S) if self.journey.get("teardown") else 0.0
        return usable_s - teardown_s, teardown_s


def compile_browser(beat: BrowserBeat, sources: Sources) -> BrowserCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    spec = beat.model_dump(mode="json", include=set(Journey.model_fields), exclude_defaults=True)
    host = target_of(beat.begins, sources).host if beat.begins else ""
    secrets = {value_of(name, sources) for name in references(spec)}
    spec = expanded(spec, sources)
    try:
        journey = Journey.model_validate(spec)
    except ValidationError as refused:  # said without the value, any part of which may be the secret
        where = ".".join(map(str, refused.errors(include_url=False)[0]["loc"]))
        raise ValueError(f"{where or 'the journey'} is not allowed once its reference is replaced") from None
    slow = [(f"step {name}", step.degraded_after) for name, step, _ in named(journey) if step.degraded_after]
    pace = compile_pace(beat)
    return BrowserCheck(
        replace(pace, degraded_after=(*pace.degraded_after, *slow)),
        compile_assertions(beat.assertions),
        host,
        spec,
        beat.evidence,
        hidden_forms(secrets | set(_in_the_clear(journey))),
    )


def _in_the_clear(journey: Journey) -> Iterator[str]:
    """What is written as it is, and called like a secret."""
    for name, value in (*journey.headers.items(), *journey.values.items()):
        if is_secret_name(name):
            yield from (value, value.rpartition(" ")[2])  # `Bearer x` and x
    if journey.auth is not None:
        yield from compile_auth(journey.auth, {})[2]
    for fill in (one.step.fill for one in named(journey) if one.step.fill):
        if any(map(is_secret_name, fill.words())) and not any(places(fill.value)):
            yield fill.value
