"""Inboxes by the tokens that open them, remembered for a second, with what their signatures are verified with. It takes nothing in."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from uuid import UUID

from engine.clock import Clock
from engine.secrets import Secrets
from engine.store.database import Pool
from engine.store.group import GroupCommit
from engine.store.inboxes import Opened, is_token, opened_by
from engine.store.people import digest_of
from evaluators.signature import Verifier
from rules.inbox import Inbox
from rules.secret import UnsetReferenceError, expand

REMEMBERED_S: Final = 1.0
"""How long a token that was revoked may still open its inbox, and a new one not yet."""
WITHIN_S: Final = 3.0
_MOST_REMEMBERED: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """An inbox that a token opens. With a signature but no `verifier`, nobody can tell whether a delivery is good."""

    id: UUID
    rule: Inbox
    allowed: tuple[IPv4Network | IPv6Network, ...]
    verifier: Verifier | None

    def lets_in(self, address: str) -> bool:
        """Whether it takes from this address."""
        if not self.allowed:
            return True
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self.allowed)


class Directory:
    """What is not known is asked of the database, together with what others ask at the time."""

    def __init__(self, pool: Pool, secrets: Secrets, clock: Clock) -> None:
        self._pool, self._secrets, self._clock = pool, secrets, clock
        self._asking: GroupCommit[str, Door | None] = GroupCommit(self._ask, within_s=WITHIN_S)
        self._seen: dict[str, tuple[float, Door | None]] = {}  # when it was asked for, and the answer
        self._doors: dict[UUID, tuple[int, Door]] = {}  # by inbox, with its revision
        secrets.on_change.append(self._doors.clear)

    async def opened_by(self, token: str) -> Door | None:
        """The inbox that `token` opens, None for none. Raises `CrowdedError`, and `DATABASE_AWAY` when nobody knows."""
        seen = self._seen.get(token)
        if seen is not None and self._clock.monotonic_s() - seen[0] < REMEMBERED_S:
            return seen[1]
        return await self._asking.add(token) if is_token(token) else None

    async def _ask(self, tokens: Sequence[str]) -> Sequence[Door | None]:
        now_s = self._clock.monotonic_s()
        digests = {token: digest_of(token) for token in tokens}
        async with self._pool.acquire() as connection:
            opened = await opened_by(connection, digests.values())
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.clear()
        doors = {token: self._door(opened.get(digest)) for token, digest in digests.items()}
        self._seen |= {token: (now_s, door) for token, door in doors.items()}
        return [doors[token] for token in tokens]

    def _door(self, opened: Opened | None) -> Door | None:
        if opened is None:
            return None
        known = self._doors.get(opened.id)
        if known is None or known[0] != opened.revision:
            known = self._doors[opened.id] = opened.revision, self._compiled(opened)
        return known[1]

    def _compiled(self, opened: Opened) -> Door:
        rule = Inbox.model_validate(opened.spec)
        verifier = None
        if rule.signature is not None:
            sources = self._secrets.of(opened.page_id)
            try:
                verifier = Verifier(
                    rule.signature, [expand(secret, sources) for secret in rule.signature.secrets]
                )
            except (UnsetReferenceError, ValueError) as unset:
                _log.error("inbox %s takes nothing: %s", rule.slug, unset)
        allowed = tuple(ip_network(network, strict=False) for network in rule.allow)
        return Door(opened.id, rule, allowed, verifier)
