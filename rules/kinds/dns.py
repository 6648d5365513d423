"""The `dns` beat: what operators write of a question to a name server, and the check compiled of it."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.assertion import RecordType
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Host, ProbedRule, expect_phases, expect_subjects, secrets_of
from rules.pace import Pace, compile_pace
from rules.secret import Sources
from rules.target import host_of

DNS_SUBJECTS = frozenset({"record", "ttl", "rcode", "flags", "timing.dns", "timing.total"})
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.%a-z]+)\](?::(\d{1,5}))?", re.ASCII)
_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?",
    re.ASCII | re.IGNORECASE,
)


def parse_resolver(text: str) -> tuple[str, int]:
    """(host, port) of `9.9.9.9`, `9.9.9.9:5353`, `2620:fe::fe`, `[2620:fe::fe]:53` or `ns1.example`. Raises `ValueError` for the rest."""
    address, port = text, "53"
    if match := _BRACKETED.fullmatch(text):
        address, port = match.group(1), match.group(2) or "53"
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ipaddress.ip_address(address)
        is_host = True
    except ValueError:  # what looks like an address and is none is no name either
        is_host = _NAME.fullmatch(address) is not None and not address.rpartition(".")[2].isdigit()
    if not is_host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(
            f"{text!r} is not a name server, such as 9.9.9.9, [2620:fe::fe]:53 or ns1.example:5353"
        )
    return address, int(port)


def _resolver(text: str) -> str:
    parse_resolver(text)
    return text


Resolver = Annotated[str, StringConstraints(max_length=260), AfterValidator(_resolver)]


class DnsBeat(ProbedRule):
    """A DNS query; NOERROR with a record of the asked type is ok. No search list is followed and no cache is asked."""

    type: Literal["dns"] = Field(description="The kind of beat.")
    host: Host = Field(description="The name that is asked for.")
    record: RecordType = Field(default="A", description="The type that is asked for.")
    resolver: Resolver | None = Field(
        default=None,
        description="address, name, address:port or name:port of the server asked; the system's when not given.",
    )
    resolvers: list[Resolver] | None = Field(
        default=None,
        min_length=2,
        max_length=10,
        description="Several servers, all asked at once in each run; every one must answer and hold.",
    )
    agree: bool = Field(
        default=True, description="Whether all `resolvers` must give the same records, TTL aside."
    )
    protocol: Literal["udp", "tcp"] = Field(
        default="udp", description="udp goes on with TCP where an answer is cut; tcp is used alone."
    )
    dnssec: bool = Field(
        default=False, description="Ask for signatures (DO); a resolver that validated them sets the flag ad."
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        return f"dns {self.record} {self.host}"

    @model_validator(mode="after")
    def _asserts_dns(self) -> Self:
        expect_subjects(self.assertions, DNS_SUBJECTS, "dns")
        expect_phases(self.degraded_after, DNS_SUBJECTS, "dns")
        if self.resolvers is None:
            if not self.agree:
                raise ValueError("`agree` needs `resolvers`, two or more")
        elif self.resolver is not None:
            raise ValueError("name either `resolver` or `resolvers`, not both")
        elif len(set(map(parse_resolver, self.resolvers))) != len(self.resolvers):
            raise ValueError("resolvers names a server twice")
        return self


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """A compiled `dns` beat. `resolvers` are (address or name, port); none stands for the system's."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    record: str
    resolvers: tuple[tuple[str, int], ...]
    agree: bool
    tcp: bool
    dnssec: bool
    secrets: tuple[str, ...] = ()


def compile_dns(beat: DnsBeat, sources: Sources) -> DnsCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return DnsCheck(
        compile_pace(beat),
        compile_assertions(beat.assertions),
        host_of(beat.host, sources),
        beat.record,
        tuple(map(parse_resolver, beat.resolvers or ([beat.resolver] if beat.resolver else []))),
        beat.agree,
        beat.protocol == "tcp",
        beat.dnssec,
        secrets_of((beat.host,), sources),
    )
