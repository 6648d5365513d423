"""Telling operators: which channels a notice goes to, and their places in the outbox. What is said is decided where it happens."""

from collections.abc import Collection, Sequence
from uuid import UUID

from engine.store import objects, outbox
from engine.store.database import Connection
from engine.store.objects import Stored
from evaluators.model import Notice
from evaluators.routing import wants
from rules.channel import CHANNEL
from rules.channels.channel import Told


def routed(
    channels: Sequence[Stored], listed: Collection[str] | None, notice: Notice, also: Told | None = None
) -> list[UUID]:
    """Those of a page's `channels` that want this notice; `listed` are the slugs that its beat or group names; None: it is about neither.

    `also`: what else it tells, for who wants either.
    """
    return [
        stored.id
        for stored in channels
        if wants(
            CHANNEL.validate_python(stored.spec),
            notice,
            is_listed=listed is None or stored.slug in listed,
            also=also,
        )
    ]


async def tell(
    connection: Connection,
    page_id: UUID,
    listed: Collection[str] | None,
    line: str,
    notice: Notice,
    also: Told | None = None,
) -> None:
    """Queue `notice` for the channels of this page that want it, once. `line` stays in order: the episode, beat or draft."""
    channels = await objects.listing(connection, "channel", pages=[page_id])
    if targets := routed(channels, listed, notice, also):
        await outbox.put(connection, targets, line, notice.id, notice)
