"""What the delivery loop and the API hand a target to. Which exporter serves it is `upbeat.channels`' and `upbeat.publishers`'."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import aiohttp

from engine.delivery import Target
from engine.egress import open_session
from engine.secrets import Secrets
from engine.store.objects import Stored
from evaluators.model import Item, Post
from exporters.outcome import FIRST, Memory, Outcome, Rejected, Report
from exporters.publishing import Pace
from exporters.static import Rendered
from rules.address import EgressPolicy
from rules.channel import CHANNEL
from rules.publisher import PUBLISHER
from rules.publishers.static import StaticPublisher
from rules.secret import UnsetReferenceError, expand, references, value_of
from rules.slack import SLACK_API
from upbeat.channels import CHANNELS
from upbeat.publishers import PUBLISHERS
from upbeat.slack import token_of
from upbeat.wiring import Builders, Exporter, Wiring

TIMEOUT_S = 15.0
KEPT = 500
"""Exporters, by the specs of their targets: an edited one has another exporter, the old one goes in its time."""
_BUILDERS: Builders = {**CHANNELS, **PUBLISHERS}
T = TypeVar("T")
Render = Callable[[UUID | None, StaticPublisher], Awaitable[Rendered | Rejected]]
"""Makes files of the page with this id, as one of its publishers wants them."""


async def _no_page(_: UUID | None, __: StaticPublisher) -> Rejected:
    return Rejected("pages are not known here")


@dataclass(slots=True, eq=False)
class _Era:
    """What is shared under one policy, until its last delivery has ended."""

    policy: EgressPolicy
    exporters: OrderedDict[str, Exporter] = field(default_factory=OrderedDict)
    session: aiohttp.ClientSession | None = None
    deliveries: int = 0  # under way

    def web(self) -> aiohttp.ClientSession:
        if self.session is None:
            self.session = open_session(self.policy, "channel", timeout_s=TIMEOUT_S)
        return self.session

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()


class Targets:
    """Delivers to channels and publishers by their specs. Exporters are kept: an smtp one remembers who already has a notice."""

    def __init__(
        self,
        policy: EgressPolicy,
        secrets: Secrets,
        public_url: Callable[[], str] = str,
        render: Render = _no_page,
    ) -> None:
        self._secrets, self._public_url, self.slack_api = secrets, public_url, SLACK_API
        self._render = render
        self._era = _Era(policy)
        self._retired: set[_Era] = set()
        self._paces: MutableMapping[str, Pace] = WeakValueDictionary()  # for as long as an exporter has it

    async def judge_by(self, policy: EgressPolicy) -> None:
        """Send under another policy from now on; what is under way is brought to its end."""
        old, self._era = self._era, _Era(policy)
        if old.deliveries:
            self._retired.add(old)
        else:
            await old.close()

    async def send(self, target: Target, item: Item, memory: Memory = FIRST) -> Outcome:
        """Deliver `item` to this target, once."""
        return await self._asked(target, lambda exporter: exporter.export(item, memory), lambda no: no)

    async def rehearse(self, target: Target | Stored, post: Post, memory: Memory = FIRST) -> Report:
        """What `send` of this step to a publisher would send. Nothing there is changed."""
        return await self._asked(target, lambda publisher: publisher.rehearse(post, memory), Report)

    async def check(self, target: Target | Stored) -> Report:
        """Whether a publisher can be used. Nothing there is changed."""
        return await self._asked(target, lambda publisher: publisher.check(), Report)

    async def differences(self, target: Target | Stored, post: Post, memory: Memory) -> Report:
        """What at a publisher is otherwise than its newest step says."""
        return await self._asked(target, lambda publisher: publisher.differences(post, memory), Report)

    async def _asked(
        self,
        target: Target | Stored,
        ask: Callable[[Any], Awaitable[T]],
        refused: Callable[[Rejected], T],
    ) -> T:
        era = self._era
        try:
            exporter = self._exporter(era, target)
        except (UnsetReferenceError, ValueError) as wrong:
            return refused(Rejected(str(wrong)))
        era.deliveries += 1
        try:
            return await ask(exporter)
        finally:
            era.deliveries -= 1
            if era in self._retired and not era.deliveries:
                self._retired.discard(era)
                await era.close()

    def _exporter(self, era: _Era, target: Target | Stored) -> Exporter:
        sources = self._secrets.of(target.page_id)
        # With what its references stand for now: a secret that changed makes another exporter.
        values = [value_of(reference, sources) for reference in references(target.spec)]
        values += (
            [token_of(spec["workspace"], sources)] if (spec := target.spec).get("type") == "slack_bot" else []
        )
        key = repr((target.kind, target.page_id, sorted(target.spec.items()), values, self.slack_api))
        if key not in era.exporters:
            model: Any = CHANNEL if target.kind == "channel" else PUBLISHER
            rule = model.validate_python(dict(target.spec))
            expanded = partial(expand, sources=sources)
            wiring = Wiring(
                era.web(),
                era.policy,
                self._public_url(),
                expanded,
                self._paces,
                self.slack_api,
                partial(self._render, target.page_id),
            )
            era.exporters[key] = _BUILDERS[type(rule)](rule, wiring)
        era.exporters.move_to_end(key)
        if len(era.exporters) > KEPT:
            era.exporters.popitem(last=False)
        return era.exporters[key]

    async def close(self) -> None:
        """Close the sessions that all share."""
        for era in (*self._retired, self._era):
            await era.close()
