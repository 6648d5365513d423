"""The `tcp` beat: what operators write of a connection and what is said over it, and the check compiled of it."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

import re2
from pydantic import Field, StringConstraints, model_validator

from rules.assertion import BODY, CERTIFICATE, TIMINGS
from rules.capture import Captures, Publishing, compile_captures, expect_captured, places
from rules.dialogue import Exchange, Preset, StartTls, after_starttls
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, Ip, ProbedRule, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.pattern import compile_pattern
from rules.secret import Sources, expand
from rules.shape import Rule
from rules.target import host_of
from rules.tls import TlsOptions, TlsRule, compile_tls

TCP_SUBJECTS: Final = BODY | CERTIFICATE | TIMINGS | {"size"}
_ANYTHING: Final = Exchange(answers=compile_pattern("(?s)."), wanted="anything")

Said = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


class TcpStep(Rule):
    """Something that is sent, and what must come back before the next step."""

    send: Said | None = Field(
        default=None,
        description="Sent as UTF-8, with no line end of its own; may hold references and `${capture:name}`.",
    )
    send_base64: Said | None = Field(default=None, description="Sent as the bytes it stands for.")
    expect: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Text that must come."
    )
    matches: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = Field(
        default=None, description="RE2 regular expression that must match what comes, instead of `expect`."
    )
    capture: Captures = Field(
        default={}, max_length=20, description="Values taken from what came, by `json` or `matches`."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.send is not None and self.send_base64 is not None:
            raise ValueError("a step sends one thing: send or send_base64")
        if self.expect is not None and self.matches is not None:
            raise ValueError("a step waits for one thing: expect or matches")
        waits = self.expect is not None or self.matches is not None
        if not waits and self.send is None and self.send_base64 is None:
            raise ValueError("a step needs send, send_base64, expect or matches")
        if self.capture and not waits:
            raise ValueError("capture needs `expect` or `matches`: nothing is read without them")
        if any(one.header or one.cookie for one in self.capture.values()):
            raise ValueError("capture takes json or matches; a connection has neither headers nor cookies")
        if self.matches is not None:
            compile_pattern(self.matches)
        if self.send_base64 is not None:
            _bytes(self.send_base64)
        return self


class TcpBeat(TlsRule, Publishing, ProbedRule):
    """A TCP connection, with or without TLS, and what is said over it."""

    type: Literal["tcp"] = Field(description="The kind of beat.")
    host: Host = Field(description="Name or address.")
    port: int = Field(ge=1, le=65535, description="TCP port.")
    ip: Ip = Field(default="any", description="The family of addresses that is connected to.")
    tls: bool = Field(default=False, description="Whether TLS is spoken from the first byte.")
    starttls: StartTls | None = Field(default=None, description="The protocol that is asked to go on in TLS.")
    preset: Preset | None = Field(
        default=None, description="The service that must answer as itself; it need not let us in."
    )
    steps: list[TcpStep] = Field(
        default=[], max_length=50, description="What is said and must be answered, in order."
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        return f"tcp {self.host}:{self.port}"

    @model_validator(mode="after")
    def _asserts_tcp(self) -> Self:
        expect_subjects(self.assertions, TCP_SUBJECTS, "tcp")
        if self.tls and self.starttls:
            raise ValueError("starttls begins without TLS; write it or `tls: true`")
        if self.preset and self.steps:
            raise ValueError("steps and preset both say what is said; write one of them")
        if not self.tls and not self.starttls:
            for name in TlsRule.model_fields:
                if getattr(self, name) != TlsRule.model_fields[name].default:
                    raise ValueError(f"{name} needs `tls: true` or `starttls`")
        self.expect_published(step.capture for step in self.steps)
        known: set[str] = set()
        for step in self.steps:
            expect_captured(places(step.send or ""), known)
            known |= step.capture.keys()
        return self


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A compiled `tcp` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    port: int
    ip: Ip
    starttls: StartTls | None
    tls: TlsOptions | None
    exchanges: tuple[Exchange, ...]
    secrets: tuple[str, ...] = ()


def compile_tcp(beat: TcpBeat, sources: Sources) -> TcpCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    expectations = compile_assertions(beat.assertions)
    exchanges = tuple(_exchange(step, sources, beat.publish) for step in beat.steps)
    if beat.preset:
        exchanges = after_starttls(beat.preset, beat.starttls)
    elif not exchanges and any(e.of in BODY or e.of == "size" for e in expectations):
        exchanges = (_ANYTHING,)
    return TcpCheck(
        compile_pace(beat),
        expectations,
        host_of(beat.host, sources),
        beat.port,
        beat.ip,
        beat.starttls,
        compile_tls(beat, sources) if beat.tls or beat.starttls else None,
        exchanges,
        secrets_of((beat.host, beat.key or "", *(step.send or "" for step in beat.steps)), sources),
    )


def _exchange(step: TcpStep, sources: Sources, publish: Sequence[str]) -> Exchange:
    text = expand(step.send or "", sources)
    wanted = step.expect or step.matches
    pattern = re2.escape(step.expect) if step.expect else step.matches
    return Exchange(
        _bytes(step.send_base64) if step.send_base64 else text.encode(),
        compile_pattern(pattern) if pattern else None,
        draft=text if any(places(text)) else None,
        takings=compile_captures(step.capture, publish),
        wanted=wanted or "",
    )


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("send_base64 is not base64") from None
