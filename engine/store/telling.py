"""Telling operators: which channels a notice goes to, and their places in the outbox. What is said is decided where it happens."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from msgspec.structs import replace

from engine.store import objects, outbox
from engine.store.audit import Actor
from engine.store.database import Connection
from engine.store.ids import derived_id
from engine.store.objects import Stored
from evaluators.model import Notice
from evaluators.routing import Place, Standing, place, wants
from rules.channel import CHANNEL
from rules.channels.channel import Told


@dataclass(frozen=True, slots=True)
class Telling:
    """A notice on its way. `listed`: slugs of channels that what it is about names; None: it is about the page, and all are named.

    `line` stays in order: the episode (as the notice names it), beat, draft or incident. `also`: what else it tells, for who wants either. `ends`:
    nothing more comes of its episode. `but`: who is not told.
    """

    page_id: UUID
    listed: Collection[str] | None
    line: str
    notice: Notice
    also: Told | None = None
    ends: bool = False
    but: UUID | None = None


async def tell_all(
    connection: Connection, tellings: Sequence[Telling], channels: Sequence[Stored] | None = None
) -> None:
    """Queue these for whoever wants them, in a few queries however many they are. `channels`: of their pages, where known."""
    if not tellings:
        return
    if channels is None:
        pages = list({telling.page_id for telling in tellings})
        channels = await objects.listing(connection, "channel", pages=pages)
    rules = [(stored, CHANNEL.validate_python(stored.spec)) for stored in channels]
    wanted = [
        (telling, stored.id, rule)
        for telling in tellings
        for stored, rule in rules
        if stored.page_id == telling.page_id and stored.id != telling.but
        if wants(
            rule,
            telling.notice,
            is_listed=telling.listed is None or stored.slug in telling.listed,
            also=telling.also,
        )
    ]
    asked = {
        (target, told.line)
        for told, target, rule in wanted
        if rule.is_particular and told.line == told.notice.episode
    }
    standings = await outbox.standings(connection, asked)
    entries: list[outbox.Entry] = []
    waiting: dict[tuple[UUID, str], list[int]] = {}  # places in `entries`
    drops: list[tuple[UUID, str, str]] = []
    for telling, target, rule in wanted:
        key, notice = (target, telling.line), telling.notice
        standing = standings.get(key, Standing()) if key in asked else None
        found = place(rule, notice, standing, ends=telling.ends)
        if found is None:
            continue
        if found.drops:
            drops.append((*key, found.drops))
            for number in waiting.pop(key, ()):
                entries[number] = entries[number]._replace(place=Place(dropped=found.drops))
        if standing is not None:
            if found.drops:
                standing = Standing(standing.is_told)
            standings[key] = standing if found.dropped else standing.then(notice.told, found.waits)
        if found.waits:
            waiting.setdefault(key, []).append(len(entries))
        entries.append(outbox.Entry(*key, notice, found))
    await outbox.drop(connection, drops)
    await outbox.put_all(connection, entries)


async def tell_of_beats(
    connection: Connection,
    actor: Actor,
    changes: Iterable[tuple[str, Stored]],
    at: float,
    public_url: str | None = None,
) -> None:
    """Tell who wants to know that beats were created, updated, paused, unpaused or deleted by `actor`."""
    changed = [(verb, beat) for verb, beat in changes if beat.kind == "beat" and beat.page_id]
    pages = list({beat.page_id for _, beat in changed if beat.page_id})
    found = await objects.listing(connection, "channel", pages=pages) if pages else []
    channels = [stored for stored in found if "beat" in stored.spec.get("on", ())]
    if not channels:
        return
    slugs = {one.id: one.slug for one in await objects.several(connection, pages)}
    tellings = []
    for verb, beat in changed:
        assert beat.page_id is not None
        title = beat.spec.get("name") or beat.slug
        notice = Notice(
            id=str(derived_id("notice", "beat", beat.id, verb, f"{at:.6f}")),
            told="beat",
            title=f"{title} was {verb} by {actor.name}",
            at=at,
            beat=beat.slug,
            beat_title=title,
            page=slugs[beat.page_id],
            why=(verb,),
            by=actor.name,
            tags=tuple(beat.spec.get("tags", ())),
        )
        if verb != "deleted" and public_url:
            notice = replace(notice, link=f"{public_url}/console/beats/{beat.slug}?page={notice.page}")
        tellings.append(Telling(beat.page_id, beat.spec.get("channels", ()), str(beat.id), notice))
    await tell_all(connection, tellings, channels)
