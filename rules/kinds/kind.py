"""What every kind of beat has: its name and page, its pace, what it asserts, who decides and who is told."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from rules.assertion import Assertion
from rules.duration import Duration, format_duration
from rules.otlp import Otlp
from rules.owner import OwnerRule
from rules.quorum import Quorum
from rules.secret import Sources, hidden_forms, references, value_of
from rules.shape import Rule, Slug

MIN_INTERVAL_S = 1.0


def _without_port(host: str) -> str:
    if ":" in host and not any(references(host)):
        try:
            ip_address(host.partition("%")[0].strip("[]"))
        except ValueError:
            raise ValueError(f"{host!r} has a colon in it; write the port under `port`") from None
    return host


Host = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s/@?#]+$"),
    AfterValidator(_without_port),
]
Ip = Literal["any", 4, 6]
"""The family of addresses that is connected to; `any` is IPv4 where the name has it, else IPv6."""


class BeatRule(OwnerRule):
    """What every beat has, run by us or not."""

    group: Slug | None = Field(
        default=None,
        description="Slug of the group of its page that it is a member of: that owns episodes, channels and components then.",
    )
    otlp: Otlp | None = Field(
        default=None, description="Where its measurements are exported to, instead of its page's."
    )
    public: bool = Field(
        default=False, description="Whether its latency is shown on the pages of its components."
    )

    waits_for: ClassVar[str] = ""
    """What moves a beat that no probe runs."""

    @property
    def target(self) -> str:
        """What is measured, in a line for people; empty where nobody is asked."""
        return ""

    def not_run(self) -> str:
        """Why it cannot be run now, where no probe runs it."""
        return f"no probe runs the beat {self.slug}: it waits for {self.waits_for}"


Limit = Annotated[Duration, Field(gt=0)] | None


class DegradedAfter(Rule):
    """What a run may take before it is a warning. A duration alone is short for `total`."""

    total: Limit = Field(default=None, description="The whole of the last attempt.")
    dns: Limit = Field(default=None, description="Looking the name up.")
    connect: Limit = Field(default=None, description="Connecting.")
    tls: Limit = Field(default=None, description="The TLS handshake.")
    ttfb: Limit = Field(default=None, description="From the request to the first byte of the answer.")
    transfer: Limit = Field(default=None, description="The rest of the answer.")

    @model_serializer(mode="wrap")
    def _short(self, dump: SerializerFunctionWrapHandler) -> Any:
        written = {phase: limit for phase, limit in dump(self).items() if limit is not None}
        return written["total"] if list(written) == ["total"] else written

    @property
    def limits_s(self) -> tuple[tuple[str, float], ...]:
        """The phases that have a limit, and their seconds."""
        return tuple((phase, limit_s) for phase, limit_s in self if limit_s is not None)


def _degraded_after(value: object) -> object:
    if value is None:
        return {}
    return value if isinstance(value, dict | DegradedAfter) else {"total": value}


class ProbedRule(BeatRule):
    """What a beat has that probes run: a pace, assertions, regions and their quorum."""

    interval: Duration = Field(
        default=60.0, ge=MIN_INTERVAL_S, le=86400.0, description="Between two runs in one region."
    )
    timeout: Duration = Field(
        default=10.0, gt=0, le=300.0, description="Per attempt; not longer than the interval."
    )
    retries: int = Field(default=1, ge=0, le=5, description="Attempts after the first, in the same run.")
    retry_on: Literal["failure", "network"] = Field(
        default="failure",
        description="What is worth another attempt: any failure, or only what kept the target's answer from us.",
    )
    degraded_after: Annotated[
        DegradedAfter,
        BeforeValidator(_degraded_after, json_schema_input_type=Duration | DegradedAfter | None),
    ] = Field(default=DegradedAfter(), description="Slower than this is a warning: in all, or per phase.")
    assertions: list[Assertion] = Field(
        default=[], max_length=100, description="What a run must show; all of them."
    )
    regions: list[Slug] | None = Field(
        default=None, description="Where it runs; all regions when not given.", min_length=1
    )
    quorum: Quorum = Field(default=Quorum(), description="How votes of regions become its stage.")

    @model_validator(mode="after")
    def _fits_in_its_interval(self) -> Self:
        if self.timeout > self.interval:
            raise ValueError(
                f"timeout {format_duration(self.timeout)} is longer than the interval "
                f"{format_duration(self.interval)}; a run must end before the next begins"
            )
        for phase, limit_s in self.degraded_after.limits_s:
            if limit_s > self.timeout:
                raise ValueError(
                    f"degraded_after {format_duration(limit_s)}{'' if phase == 'total' else f' of {phase}'} is longer "
                    f"than the timeout {format_duration(self.timeout)} and could never be seen; "
                    "write a unit, such as 800ms"
                )
        if self.regions is not None and len(set(self.regions)) != len(self.regions):
            raise ValueError("regions names a region twice")
        return self


def expect_subjects(assertions: Iterable[Assertion], subjects: frozenset[str], kind: str) -> None:
    """Raises `ValueError` for an assertion of something that a `kind` beat never sees."""
    for assertion in assertions:
        if assertion.of not in subjects:
            families = sorted({f"{of.split('.')[0]}.*" if "." in of else of for of in subjects})
            raise ValueError(f"{_a(kind)} beat has no {assertion.of}; assert one of {', '.join(families)}")


def expect_phases(degraded_after: DegradedAfter, subjects: frozenset[str], kind: str) -> None:
    """Raises `ValueError` for a limit of a phase that a `kind` beat never has."""
    for phase, _ in degraded_after.limits_s:
        if f"timing.{phase}" not in subjects:
            raise ValueError(f"degraded_after has {phase}, which {_a(kind)} beat has not")


def _a(kind: str) -> str:
    return f"{'an' if kind in ('http', 'icmp') else 'a'} {kind}"


def secrets_of(texts: Iterable[str], sources: Sources) -> tuple[str, ...]:
    """What the references in `texts` stand for, in every form that is to be hidden."""
    return hidden_forms({value_of(name, sources) for text in texts for name in references(text)})
