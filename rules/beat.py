"""Beats as operators write them: what is measured, how it is judged, who is told."""

import ipaddress
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, TypeAdapter, model_validator

from rules.assertion import Assertion, HeaderName, RecordType
from rules.component import Impact
from rules.duration import Duration, format_duration
from rules.incident import IncidentPolicy
from rules.quorum import Quorum
from rules.shape import Name, Rule, Slug, Tag, Text

MIN_INTERVAL_S = 1.0
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.%a-z]+)\](?::(\d{1,5}))?", re.ASCII)
DNS_SUBJECTS = frozenset({"record", "rcode", "timing.dns", "timing.total"})
TCP_SUBJECTS = frozenset({"timing.dns", "timing.connect", "timing.total"})
HTTP_SUBJECTS = frozenset(
    {"status", "body", "json", "header", "size"}
    | {f"timing.{phase}" for phase in ("dns", "connect", "tls", "ttfb", "transfer", "total")}
)

ComponentPath = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
]
"""A component's slug, or page/slug for one of another page."""
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[^\s/@?#]+$")]
Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3,10}$")]
HeaderValue = Annotated[str, StringConstraints(max_length=8000, pattern=r"^[^\r\n\x00]*$")]


class ComponentImpact(Rule):
    """What a component is shown as while an approved incident of this beat is open."""

    warning: Impact = Field(default="degraded_performance", description="While it is a warning.")
    critical: Impact = Field(default="major_outage", description="While it is critical.")


def _impacts(value: object) -> object:
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, str):
                said = f"{item!r} is not a component; write its slug, or page/slug"
                raise ValueError(said)  # noqa: TRY004  # pydantic reports no TypeError
        return {item: {} for item in value}
    return value


class _Beat(Rule):
    slug: Slug = Field(description="Its name in URLs, metrics and references; unique per page.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    page: Slug | None = Field(
        default=None, description="Slug of its home page; optional while there is one page."
    )
    description: Text = Field(default="", description="For operators.")
    enabled: bool = Field(default=True, description="Whether it runs; false pauses it.")
    tags: list[Tag] = Field(default=[], max_length=50, description="For filters and metrics.")
    interval: Duration = Field(
        default=60.0, ge=MIN_INTERVAL_S, le=86400.0, description="Between two runs in one region."
    )
    timeout: Duration = Field(
        default=10.0, gt=0, le=300.0, description="Per attempt; not longer than the interval."
    )
    retries: int = Field(default=1, ge=0, le=5, description="Attempts after the first, in the same run.")
    degraded_after: Duration | None = Field(default=None, gt=0, description="Slower than this is a warning.")
    assertions: list[Assertion] = Field(
        default=[], max_length=100, description="What a run must show; all of them."
    )
    regions: list[Slug] | None = Field(
        default=None, description="Where it runs; all regions when not given.", min_length=1
    )
    quorum: Quorum = Field(default=Quorum(), description="How votes of regions become its stage.")
    incidents: IncidentPolicy = Field(
        default=IncidentPolicy(), description="What may be said in public by itself."
    )
    components: Annotated[
        dict[ComponentPath, ComponentImpact],
        BeforeValidator(
            _impacts, json_schema_input_type=dict[ComponentPath, ComponentImpact] | list[ComponentPath]
        ),
    ] = Field(
        default={},
        max_length=100,
        description="What it feeds: slugs (page/slug of another page), alone or with what they are shown as.",
    )
    channels: list[Slug] = Field(
        default=[], max_length=50, description="Slugs of the channels of its page that are told."
    )

    @model_validator(mode="after")
    def _fits_in_its_interval(self) -> Self:
        if self.timeout > self.interval:
            raise ValueError(
                f"timeout {format_duration(self.timeout)} is longer than the interval "
                f"{format_duration(self.interval)}; a run must end before the next begins"
            )
        if self.degraded_after is not None and self.degraded_after > self.timeout:
            raise ValueError(
                f"degraded_after {format_duration(self.degraded_after)} is longer than the timeout "
                f"{format_duration(self.timeout)} and could never be seen; write a unit, such as 800ms"
            )
        if self.regions is not None and len(set(self.regions)) != len(self.regions):
            raise ValueError("regions names a region twice")
        return self

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.slug


def _fits(assertions: list[Assertion], subjects: frozenset[str], kind: str) -> None:
    for assertion in assertions:
        if assertion.of not in subjects:
            raise ValueError(
                f"a {kind} beat has no {assertion.of}; assert one of {', '.join(sorted(subjects))}"
            )


def _http_url(url: str) -> str:
    if "${env:" in url:
        return url  # judged when it is expanded
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ValueError(f"{url!r} is not a URL: {wrong}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not an http or https URL")
    if any(c <= " " for c in url):
        raise ValueError(f"{url!r} has a space or control character in it; write it percent-encoded")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials; use an Authorization header with ${env:NAME}")
    return url


class HttpBeat(_Beat):
    """A fresh HTTP/1.1 request: no reused connection, so that every phase is measured."""

    type: Literal["http"] = Field(description="The kind of beat.")
    url: Annotated[str, StringConstraints(max_length=4000), AfterValidator(_http_url)] = Field(
        description="http or https, without credentials; may hold `${env:NAME}`."
    )
    method: Method = Field(default="GET", description="In capital letters.")
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=100, description="Sent with every attempt; values may hold `${env:NAME}`."
    )
    body: Annotated[str, StringConstraints(max_length=262_144)] | None = Field(
        default=None, description="Sent as UTF-8; may hold `${env:NAME}`."
    )
    redirects: int = Field(default=5, ge=0, le=10, description="Redirects followed.")
    verify: bool = Field(default=True, description="Whether the certificate is checked.")

    @model_validator(mode="after")
    def _asserts_http(self) -> Self:
        _fits(self.assertions, HTTP_SUBJECTS, "http")
        for name in self.headers:
            if name.lower() in ("content-length", "transfer-encoding", "connection"):
                raise ValueError(f"the header {name} is written by Upbeat itself")
        return self


class TcpBeat(_Beat):
    """A TCP connection that is made and closed."""

    type: Literal["tcp"] = Field(description="The kind of beat.")
    host: Host = Field(description="Name or address.")
    port: int = Field(ge=1, le=65535, description="TCP port.")

    @model_validator(mode="after")
    def _asserts_tcp(self) -> Self:
        _fits(self.assertions, TCP_SUBJECTS, "tcp")
        return self


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


class DnsBeat(_Beat):
    """A DNS query; NOERROR with a record of the asked type is ok."""

    type: Literal["dns"] = Field(description="The kind of beat.")
    host: Host = Field(description="The name that is asked for.")
    record: RecordType = Field(default="A", description="The type that is asked for.")
    resolver: Annotated[str, StringConstraints(max_length=260), AfterValidator(_resolver)] | None = Field(
        default=None, description="address or address:port of the server asked; the system's when not given."
    )

    @model_validator(mode="after")
    def _asserts_dns(self) -> Self:
        _fits(self.assertions, DNS_SUBJECTS, "dns")
        return self


AnyBeat = HttpBeat | TcpBeat | DnsBeat
Beat = Annotated[AnyBeat, Field(discriminator="type")]
BEAT: TypeAdapter[AnyBeat] = TypeAdapter(Beat)
