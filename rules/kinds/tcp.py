"""The `tcp` beat: what operators write of a connection, and the check compiled of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, ProbedRule, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.secret import expand
from rules.target import ascii_host

TCP_SUBJECTS = frozenset({"timing.dns", "timing.connect", "timing.total"})


class TcpBeat(ProbedRule):
    """A TCP connection that is made and closed."""

    type: Literal["tcp"] = Field(description="The kind of beat.")
    host: Host = Field(description="Name or address.")
    port: int = Field(ge=1, le=65535, description="TCP port.")

    @model_validator(mode="after")
    def _asserts_tcp(self) -> Self:
        expect_subjects(self.assertions, TCP_SUBJECTS, "tcp")
        return self


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A compiled `tcp` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    port: int
    secrets: tuple[str, ...] = ()


def compile_tcp(beat: TcpBeat, environment: Mapping[str, str]) -> TcpCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return TcpCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        ascii_host(expand(beat.host, environment)),
        beat.port,
        secrets_of((beat.host,), environment),
    )
