"""Components and regions as operators write them. Pages are `rules.page`'s."""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from rules.address import EgressPolicy
from rules.quorum import ZONE
from rules.shape import Name, Rule, Slug, Text

ComponentStatus = Literal[
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"
]
Impact = Literal["operational", "degraded_performance", "partial_outage", "major_outage"]


UptimeBy = Literal["manual", "duration", "requests"]


class Uptime(Rule):
    """`uptime:` of a component: what its public bars and its share of time are computed from."""

    by: UptimeBy = Field(
        default="manual",
        description="manual: approved incidents; duration: measured stages; requests: scheduled runs, (ok + warning) / all.",
    )
    down: list[Literal["critical", "warning"]] = Field(
        default=["critical"], min_length=1, max_length=2, description="By duration: the stages that are down."
    )
    exclude_maintenance: bool = Field(
        default=False, description="Whether time under maintenance is left out: neither up nor down."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if "critical" not in self.down:
            raise ValueError(f"down {', '.join(self.down)} lacks critical, which is worse; add it")
        if self.by != "duration" and set(self.down) != {"critical"}:
            raise ValueError(f"down is for by: duration; by {self.by} what counts as down is fixed")
        return self


def _by(value: object) -> object:
    return {"by": value} if isinstance(value, str) else value


class Component(Rule):
    """A customer-facing part of a page, fed by beats or static."""

    slug: Slug = Field(description="Its name in references; unique per page.")
    name: Name = Field(description="What customers call it.")
    page: Slug | None = Field(default=None, description="Slug of its page; optional while there is one page.")
    description: Text = Field(default="", description="Shown beside it.")
    group: Name | None = Field(default=None, description="Heading it is listed under.")
    status: ComponentStatus | None = Field(
        default=None, description="A manual status, which wins over what feeds it until cleared (null)."
    )
    position: int = Field(default=0, ge=0, le=10_000, description="Order on the page; ties by name.")
    listed: bool = Field(default=True, description="Whether the public page shows it.")
    shows_uptime: bool = Field(
        default=True, description="Whether the public page shows its bars and its share of time."
    )
    uptime: Annotated[Uptime, BeforeValidator(_by, json_schema_input_type=UptimeBy | Uptime)] = Field(
        default=Uptime(),
        description="`manual`, or what publishes measurement, without anybody's approval: `duration` or `requests`.",
    )


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network such as 10.0.0.0/8 or fd00::/8") from None


Network = Annotated[str, AfterValidator(_network)]
"""An address or network in its canonical form."""


class Egress(Rule):
    """`egress:` of an installation or region: which addresses may be reached."""

    allow: list[Network] = Field(
        default=[], max_length=1000, description="Addresses or networks that are reached whatever they are."
    )
    private: Literal["allow", "deny"] = Field(
        default="allow",
        description="Private and loopback addresses for beats, mail relays, the watchdog and OTLP; never for channels.",
    )

    def policy(self) -> EgressPolicy:
        """Itself, compiled."""
        return EgressPolicy(self.allow, denies_private=self.private == "deny")


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def _host_port(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if not match or not 0 < int(match.group(2)) < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return text


class Region(Rule):
    """A named vantage point."""

    slug: Slug = Field(description="Its name in references and metrics.")
    name: Name | None = Field(default=None, description="Shown to people; the slug when not given.")
    zone: Slug | None = Field(default=None, description="The zone it is in, for quorums that count zones.")
    reference: list[Annotated[str, AfterValidator(_host_port)]] = Field(
        default=[],
        description="host:port targets; when all of them fail too, a failed run is `error`.",
        max_length=10,
    )
    egress: Egress | None = Field(
        default=None, description="Which addresses its beats may reach, instead of the installation's."
    )

    @field_validator("zone")
    @classmethod
    def _is_free(cls, zone: str | None) -> str | None:
        if zone == ZONE:
            raise ValueError(f"'{ZONE}' is no name for a zone: in a quorum, {{{ZONE}: n}} is any n zones")
        return zone
