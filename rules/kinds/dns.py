"""The `dns` beat: what operators write of a question to a name server, and the check compiled of it."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.assertion import RecordType
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, ProbedRule, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.secret import expand
from rules.target import ascii_host

DNS_SUBJECTS = frozenset({"record", "rcode", "timing.dns", "timing.total"})
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.%a-z]+)\](?::(\d{1,5}))?", re.ASCII)


def parse_resolver(text: str | None) -> tuple[str, int] | None:
    """(address, port) of `9.9.9.9`, `9.9.9.9:5353`, `2620:fe::fe` or `[2620:fe::fe]:53`. Raises `ValueError` for the rest."""
    if text is None:
        return None
    address, port = text, "53"
    if match := _BRACKETED.fullmatch(text):
        address, port = match.group(1), match.group(2) or "53"
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        server = ipaddress.ip_address(address)
    except ValueError:
        server = None
    if server is None or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(
            f"{text!r} is not address or address:port of a name server, such as 9.9.9.9 or [2620:fe::fe]:53"
        )
    return address, int(port)


def _resolver(text: str) -> str:
    parse_resolver(text)
    return text


class DnsBeat(ProbedRule):
    """A DNS query; NOERROR with a record of the asked type is ok."""

    type: Literal["dns"] = Field(description="The kind of beat.")
    host: Host = Field(description="The name that is asked for.")
    record: RecordType = Field(default="A", description="The type that is asked for.")
    resolver: Annotated[str, StringConstraints(max_length=260), AfterValidator(_resolver)] | None = Field(
        default=None, description="address or address:port of the server asked; the system's when not given."
    )

    @model_validator(mode="after")
    def _asserts_dns(self) -> Self:
        expect_subjects(self.assertions, DNS_SUBJECTS, "dns")
        return self


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """A compiled `dns` beat. `resolver` is (address, port), or None for the system's."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    record: str
    resolver: tuple[str, int] | None
    secrets: tuple[str, ...] = ()


def compile_dns(beat: DnsBeat, environment: Mapping[str, str]) -> DnsCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return DnsCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        ascii_host(expand(beat.host, environment)),
        beat.record,
        parse_resolver(beat.resolver),
        secrets_of((beat.host,), environment),
    )
