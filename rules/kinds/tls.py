"""The `tls` beat: what operators write of a certificate that is watched, and the check compiled of it."""

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.assertion import CERTIFICATE
from rules.dialogue import PORTS, StartTls
from rules.duration import Duration
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, Ip, ProbedRule, expect_phases, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.secret import Sources
from rules.shape import Rule
from rules.target import host_of
from rules.tls import TlsOptions, TlsRule, compile_tls

TLS_SUBJECTS: Final = CERTIFICATE | {"timing.dns", "timing.connect", "timing.tls", "timing.total"}
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


def _fingerprint(text: str) -> str:
    plain = text.lower().replace(":", "")
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError(f"{text!r} is not a SHA-256 fingerprint: 64 hex digits, with or without colons")
    return plain


class ExpiresWithin(Rule):
    """How long before a certificate expires a run says so. `0s` says nothing."""

    warning: Duration | None = Field(
        default=None, description="21d, or a quarter of its lifetime where that is less, when not given."
    )
    critical: Duration | None = Field(
        default=None, description="7d, or a twelfth of its lifetime where that is less, when not given."
    )

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warning and self.critical and self.warning < self.critical:
            raise ValueError("warning is shorter than critical and would never be seen")
        return self


class TlsBeat(TlsRule, ProbedRule):
    """A TLS handshake that is made and left: the certificate must be valid, trusted, for the name, strong and not about to expire."""

    type: Literal["tls"] = Field(description="The kind of beat.")
    host: Host = Field(description="Name or address.")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="TCP port; 443, or the usual one of `starttls`."
    )
    ip: Ip = Field(default="any", description="The family of addresses that is connected to.")
    starttls: StartTls | None = Field(default=None, description="The protocol that is asked to go on in TLS.")
    expires_within: ExpiresWithin = Field(
        default=ExpiresWithin(), description="How long before it expires a run is bad."
    )
    pin: list[Annotated[str, StringConstraints(max_length=100), AfterValidator(_fingerprint)]] = Field(
        default=[],
        max_length=20,
        description="SHA-256 fingerprints; the chain must have a certificate with one of them.",
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        return f"tls {self.host}" + (f":{self.port}" if self.port else "")

    @model_validator(mode="after")
    def _asserts_tls(self) -> Self:
        expect_subjects(self.assertions, TLS_SUBJECTS, "tls")
        expect_phases(self.degraded_after, TLS_SUBJECTS, "tls")
        return self


@dataclass(frozen=True, slots=True)
class TlsCheck:
    """A compiled `tls` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    port: int
    ip: Ip
    starttls: StartTls | None
    tls: TlsOptions
    warning_s: float | None  # before it expires
    critical_s: float | None
    pins: tuple[str, ...]
    secrets: tuple[str, ...] = ()


def compile_tls_beat(beat: TlsBeat, sources: Sources) -> TlsCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return TlsCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        host_of(beat.host, sources),
        beat.port or (PORTS[beat.starttls] if beat.starttls else 443),
        beat.ip,
        beat.starttls,
        compile_tls(beat, sources),
        beat.expires_within.warning,
        beat.expires_within.critical,
        tuple(beat.pin),
        secrets_of((beat.host, beat.key or ""), sources),
    )
