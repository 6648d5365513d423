"""The `icmp` beat: what operators write of a row of pings, and the check compiled of it."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from rules.assertion import RTT
from rules.duration import Duration, format_duration
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, Ip, ProbedRule, expect_phases, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.secret import Sources
from rules.target import host_of

ICMP_SUBJECTS = RTT | {"loss", "timing.dns", "timing.ttfb", "timing.total"}


class IcmpBeat(ProbedRule):
    """Echo requests (ping); one answer is ok. What may be lost, and how slow they may be, is asserted."""

    type: Literal["icmp"] = Field(description="The kind of beat.")
    host: Host = Field(description="Name or address.")
    ip: Ip = Field(
        default="any", description="Family of addresses; any is IPv4 where the name has it, else IPv6."
    )
    packets: int = Field(default=4, ge=1, le=20, description="Sent in each attempt.")
    spacing: Duration = Field(default=0.2, ge=0.01, le=10.0, description="Between two packets.")
    wait: Duration = Field(
        default=2.0,
        ge=0.01,
        le=60.0,
        description="For answers after the last packet, as far as the timeout allows; then they are lost.",
    )
    size: int = Field(
        default=56,
        ge=16,
        le=8972,
        description="Bytes of data in a packet, besides 8 of ICMP and those of IP.",
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        return f"icmp {self.host}"

    @model_validator(mode="after")
    def _asserts_icmp(self) -> Self:
        expect_subjects(self.assertions, ICMP_SUBJECTS, "icmp")
        expect_phases(self.degraded_after, ICMP_SUBJECTS, "icmp")
        sending_s = (self.packets - 1) * self.spacing
        if sending_s >= self.timeout:
            raise ValueError(
                f"{self.packets} packets {format_duration(self.spacing)} apart take {format_duration(sending_s)}; "
                f"the timeout is {format_duration(self.timeout)}"
            )
        return self


@dataclass(frozen=True, slots=True)
class IcmpCheck:
    """A compiled `icmp` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    ip: Ip
    packets: int
    spacing_s: float
    wait_s: float
    size_bytes: int
    secrets: tuple[str, ...] = ()


def compile_icmp(beat: IcmpBeat, sources: Sources) -> IcmpCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return IcmpCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        host_of(beat.host, sources),
        beat.ip,
        beat.packets,
        beat.spacing,
        beat.wait,
        beat.size,
        secrets_of((beat.host,), sources),
    )
