"""What exporters of channels and publishers are built with: the guarded session of their time, secrets, turns. Not which there are."""

import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from engine.egress import connect
from exporters.outcome import Memory, Outcome, Rejected
from exporters.publishing import Api, Pace, R, Site, SitePublisher
from exporters.static import Rendered
from rules.address import EgressPolicy
from rules.publishers.static import StaticPublisher as StaticRule


class Exporter(Protocol):
    """What every target's exporter does."""

    async def export(self, item: Any, memory: Memory) -> Outcome:
        """Deliver once."""
        ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """Of one target. `expanded` replaces references to secrets, and raises `UnsetReferenceError`; `render` makes files of its page."""

    session: aiohttp.ClientSession
    policy: EgressPolicy
    public_url: str
    expanded: Callable[[str], str]
    paces: MutableMapping[str, Pace]
    slack_api: str
    render: Callable[[StaticRule], Awaitable[Rendered | Rejected]]

    def given(self, text: str | None) -> str | None:
        """`expanded`, of what may be left out."""
        return self.expanded(text) if text else None

    async def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A guarded connection to a relay."""
        return await connect(self.policy, "relay", host, port, timeout_s)

    def site(
        self,
        site: Callable[[Api, R], Site],
        rule: R,
        base: str,
        headers: Mapping[str, str],
        every_s: float = 0.0,
    ) -> Exporter:
        """The publisher of a `Site`. All who use the same headers there share turns, one every `every_s` seconds."""
        base = self.expanded(base)
        pace = self.paces.setdefault(repr((base, sorted(headers.items()))), Pace(every_s))
        return SitePublisher(site, Api(self.session, base, headers, pace), rule)


Builders = Mapping[type[Any], Callable[[Any, Wiring], Exporter]]
"""By the model of what operators wrote."""
