"""Episodes: read, and worked on by operators. When one begins and ends is decided by evaluators, what it says in public in drafts."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.objects import PageRef
from api.origin import base_url
from api.owned import OfBeat, OfGroup, listed
from api.paging import Cursor, Limit
from api.problems import ProblemError, invalid, missing
from api.shapes import gives
from api.shown_episodes import ShownEpisode, ShownEpisodeWhole
from engine.bus import LIVE
from engine.store import episodes
from engine.store.database import Connection, Row, transaction
from engine.store.episodes import By, State
from engine.store.ids import read, show
from rules.duration import Duration
from rules.shape import Rule, Text

router = Router(prefix="/api/v1", tags=["episodes"])

Verb = Literal["acknowledge", "unacknowledge", "comment", "assign", "escalate", "snooze"]
Open = Annotated[bool | None, Query(alias="open", description="The same as `state=open` or `state=closed`.")]
Assignee = Annotated[str | None, Query(max_length=254, description="E-mail of a user, or `me`.")]


class Comment(Rule):
    """What is said of it."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]


class Assignment(Rule):
    """Whose it is: a user's e-mail, or null for nobody."""

    to: Annotated[str, Field(min_length=1, max_length=254)] | None


class Escalation(Rule):
    """Why everybody should know."""

    text: Text = ""


class Snooze(Rule):
    """How long nobody is reminded; null ends it."""

    duration: Annotated[Duration, Field(gt=0, le=7 * 86400.0)] | None = Field(alias="for")


@router.get("/episodes")
@permits(Permission.READ)
@gives(ShownEpisode, listed=True)
async def list_episodes(
    request: Request,
    asking: Asking,
    page_ref: PageRef = None,
    is_open: Open = None,
    state: State | None = None,
    assignee: Assignee = None,
    beat: OfBeat = None,
    group: OfGroup = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first."""
    if is_open is not None:
        state = state or ("open" if is_open else "closed")
    whose = asking.name if assignee == "me" else assignee
    query = partial(episodes.listing, state=state, assignee=whose)
    return await listed(
        request, asking, page_ref, limit, cursor, (beat, group), query, _shown_all, "opened_at"
    )


async def _shown_all(_: Connection, rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [_shown(row) for row in rows]


def _shown(row: Row) -> dict[str, Any]:
    kept = [name for name in ShownEpisode.__struct_fields__ if name != "id"]
    return {"id": show("episode", row["id"])} | {name: row[name] for name in kept}


async def find(db: Connection, asking: Principal, ref: str, permission: Permission = Permission.READ) -> Row:
    """The episode that a path names, if they may do that to it. Raises 403, 404."""
    gone = missing(f"there is no episode {ref!r}")
    episode = read("episode", ref)
    if episode is None:
        raise gone
    try:
        row = await episodes.one(db, episode)
    except LookupError:
        raise gone from None
    if not asking.may(Permission.READ, row["page_id"]):
        raise gone
    asking.require(permission, row["page_id"])
    return row


async def whole(db: Connection, row: Row) -> dict[str, Any]:
    """An episode as JSON, with its notes."""
    kept = ("at", "by", "kind", "text")
    notes = await episodes.notes(db, row["id"])
    return _shown(row) | {"notes": [{name: note[name] for name in kept} for note in notes]}


@router.get("/episodes/{ref}")
@permits(Permission.READ)
@gives(ShownEpisodeWhole)
async def read_episode(request: Request, asking: Asking, ref: str) -> Response:
    """One episode, with what people did with it."""
    async with services_of(request).pool.acquire() as db:
        return reply(await whole(db, await find(db, asking, ref)))


Deed = Callable[[Connection, By, UUID], Coroutine[Any, Any, Row]]


async def do(request: Request, asking: Principal, ref: str, deed: Deed) -> dict[str, Any]:
    """Carry out what somebody does with the episode `ref`, tell live viewers, and show what it is now. Raises 404, 409, 422."""
    services = services_of(request)
    by = By(asking.actor, services.clock.epoch_s(), base_url(request))
    async with transaction(services.pool) as db:
        row = await find(db, asking, ref, Permission.REVIEW)
        try:
            row = await deed(db, by, row["id"])
        except episodes.EpisodeOverError as over:
            raise ProblemError(409, "over", str(over)) from None
        except episodes.NoSuchUserError as nobody:
            raise invalid([("/to", str(nobody))]) from None
        item = await whole(db, row)
    news = {"event": "episode", "page": str(row["page_id"]), "beat": row["owner"]}
    await services.bus.announce(LIVE, msgspec.json.encode([news]))
    return item


async def deed_of(verb: Verb, request: Request) -> Deed:
    """What the body of a request asks to be done. Raises 422."""
    if verb == "comment":
        text = (await read_body(request, Comment)).text
        return lambda db, by, episode: episodes.comment(db, by, episode, text)
    if verb == "assign":
        to = (await read_body(request, Assignment)).to
        return lambda db, by, episode: episodes.assign(db, by, episode, to)
    if verb == "escalate":
        why = (await read_body(request, Escalation)).text
        return lambda db, by, episode: episodes.escalate(db, by, episode, why)
    if verb == "snooze":
        for_s = (await read_body(request, Snooze)).duration
        return lambda db, by, episode: episodes.snooze(db, by, episode, for_s)
    return episodes.acknowledge if verb == "acknowledge" else episodes.unacknowledge


def _deed(verb: Verb, said: str, body: type[Rule] | None = None) -> None:
    async def act(request: Request, asking: Asking, ref: str) -> Response:
        return reply(await do(request, asking, ref, await deed_of(verb, request)))

    act.__doc__ = said
    endpoint = gives(ShownEpisodeWhole)(permits(Permission.REVIEW)(act))
    path = f"/episodes/{{ref}}/{verb}"
    router.post(path, name=f"{verb.capitalize()} an episode", operation_id=f"{verb}_episode")(
        takes(body)(endpoint) if body else endpoint
    )


_deed("acknowledge", "Say that you look at it. A second time is harmless, and shows who was first.")
_deed("unacknowledge", "Say that nobody looks at it any more.")
_deed("comment", "Say something of it to the other operators.", Comment)
_deed("assign", "Give it to a user of this installation, or to nobody.", Assignment)
_deed("escalate", "Tell everybody who may be told now, also who would be told later.", Escalation)
_deed("snooze", "Let nobody be reminded of it for so long; it ends when it becomes worse.", Snooze)
