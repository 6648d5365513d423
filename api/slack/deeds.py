"""What people do in Slack: commands, buttons and forms. Everything goes through REST in their name; nothing is decided here."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from api.auth import Permission
from api.problems import ProblemError
from api.slack import forms
from api.slack.asked import LINK_FIRST, Asked, plain
from engine.store import incidents, objects, posts, slack
from engine.store.audit import Actor
from engine.store.database import Row, transaction
from engine.store.ids import read, show
from engine.store.states import moment

Given = Mapping[str, Any]
HELP: Final = """*Upbeat in Slack*
`/upbeat link CODE`: say who you are in Upbeat, with a code from its page Slack
`/upbeat list`: open episodes and incidents, and drafts that wait
`/upbeat create TITLE`: begin an incident
`/upbeat update`, `/upbeat resolve`: say something of one
`/upbeat schedule`: announce maintenance"""
_LISTS: Final = (
    ("Open episodes", "/episodes", {"state": "open"}),
    ("Open incidents", "/incidents", {"status": "open"}),
    ("Drafts that wait", "/actions", {"status": "pending"}),
)
_SHOWN: Final = 20
_DEEDS: Final = ("acknowledge", "approve", "assign", "comment", "escalate", "reject", "snooze")

# ---- commands


async def command(asked: Asked, text: str) -> None:
    """`/upbeat ...`, or what is said to the app."""
    name, _, rest = text.strip().partition(" ")
    name = name.lower()
    if name in FORMS and not asked.trigger:  # of a mention: only a click opens a form
        asked.known()
        said = {"type": "plain_text", "text": "Open the form"}
        button = {"type": "button", "action_id": "form", "text": said, "value": f"{name} {rest}"[:2000]}
        await asked.say("It takes a form:", [{"type": "actions", "elements": [button]}])
    else:
        await COMMANDS.get(name, _help)(asked, rest.strip())


async def _help(asked: Asked, _: str) -> None:
    await asked.say(HELP if asked.who else f"{HELP}\n\n{LINK_FIRST}")


async def _link(asked: Asked, code: str) -> None:
    async with transaction(asked.services.pool) as db:
        about = await slack.use(db, code)  # of a mention, which others can read, it is used up as well
        if is_theirs := bool(asked.trigger and "user" in about):
            actor = Actor(about["name"], "slack")
            await slack.link(db, actor, asked.team, asked.user, UUID(about["user"]))
    if not is_theirs:
        raise ProblemError(403, "forbidden", LINK_FIRST)
    await asked.say(f"From now on what you do here is done as {plain(about['name'])}.")


async def _list(asked: Asked, _: str) -> None:
    lines: list[str] = []
    for heading, path, query in _LISTS:
        found = (await asked.rest("GET", path, limit=str(_SHOWN), **query))["items"]
        lines += [f"*{heading}*", *([f"• {_titled(one)}, `{one['id']}`" for one in found] or ["none"])]
    await asked.say("\n".join(lines))


def _titled(item: Mapping[str, Any]) -> str:
    """An episode, incident, draft or window as one reads it."""
    title = next(item[key] for key in ("title", "owner_name", "owner", "name", "slug") if item.get(key))
    state = item.get("status") or item.get("severity") or "scheduled"
    state = "approved" if state in ("done", "failed") else state
    by = item.get("decided_by") if "step" in item else item.get("acknowledged_by") if "peak" in item else None
    return f"“{plain(title)}” ({item['page']}): {state}" + (f" by {plain(by)}" if by else "")


async def _create(asked: Asked, title: str) -> None:
    pages, groups = await _places(asked, Permission.REVIEW)
    said = [forms.note(f"This channel speaks of {row['title']}.") for row in await _spoken_of(asked)]
    statuses = [(one, one.replace("_", " ")) for one in forms.COMPONENT_STATUSES]
    blocks = [
        *said[:1],
        forms.choice("page", "Page", pages, pages[0][0]),
        forms.field("title", "Title", title, most=200),
        forms.field("text", "What customers read", lines=True),
        forms.choices("components", "Affected components", groups),
        forms.choice("as", "They are", statuses, statuses[0][0]),
        forms.tick("notify", "Subscribers", "are notified"),
    ]
    await asked.open("incident", "New incident", "Publish", blocks)


async def _update(asked: Asked, ref: str, status: str = "") -> None:
    found = (await asked.rest("GET", "/incidents", status="open", limit="100"))["items"]
    if not found:
        raise ProblemError(404, "missing", "no incident is open")
    linked = [show("incident", row["id"]) for row in await _spoken_of(asked)]
    first = ref or next((one["id"] for one in found if one["id"] in linked), found[0]["id"])
    blocks = [
        forms.choice("incident", "Incident", [(one["id"], one["title"]) for one in found], first),
        forms.choice("status", "Status", [(one, one) for one in forms.STATUSES], status, needed=bool(status)),
        forms.field("text", "What customers read", lines=True),
        forms.tick("notify", "Subscribers", "are notified"),
    ]
    await asked.open("update", "Resolve an incident" if status else "Update an incident", "Publish", blocks)


async def _schedule(asked: Asked, name: str) -> None:
    pages, groups = await _places(asked, Permission.WRITE)
    blocks = [
        forms.choice("page", "Page", pages, pages[0][0]),
        forms.field("name", "Title", name, most=200),
        forms.field("description", "What is done", lines=True, needed=False),
        forms.moment("start", "Begins"),
        forms.field("duration", "Lasts, such as 90m or 2h", "1h", most=20),
        forms.choices("components", "Components", groups),
    ]
    await asked.open("maintenance", "Schedule maintenance", "Schedule", blocks)


Options = list[tuple[str, str]]


async def _places(asked: Asked, permission: Permission) -> tuple[Options, dict[str, Options]]:
    """Pages on which they may, and the components of each. Raises 403."""
    async with asked.services.pool.acquire() as db:
        pages = await objects.listing(db, "page", pages=asked.known().pages_for(permission))
        components = await objects.listing(db, "component", pages=[page.id for page in pages])
    if not pages:
        raise ProblemError(403, "forbidden", "on no page you may do that: ask an admin of Upbeat for a role")
    groups: dict[str, Options] = {page.slug: [] for page in pages}
    for page, one in ((p, c) for p in pages for c in components if c.page_id == p.id):
        groups[page.slug].append((f"{page.slug}/{one.slug}", one.spec["name"]))
    return [(page.slug, page.spec["name"]) for page in pages], groups


# ---- buttons


async def clicked(asked: Asked, name: str, value: str) -> None:
    """A button of a message; `value` says what it is about."""
    if name == "form":
        await command(asked, value)
    elif name in ("update", "resolve"):
        await _update(asked, value, "resolved" if name == "resolve" else "")
    elif name in ("reject", "comment") or (name in _DEEDS and await _is_to_confirm(asked, name, value)):
        asked.known()
        label = name.capitalize()
        said = "Customers read it as soon as you approve." if name == "approve" else "Are you sure?"
        field = forms.field("text", "What is said", lines=True, needed=name == "comment")
        block = field if name in ("reject", "comment") else forms.note(said)
        await asked.open("deed", label, label, [block], of=value, do=name)
    elif name in _DEEDS:
        await _do(asked, name, value)


async def _is_to_confirm(asked: Asked, name: str, value: str) -> bool:
    item = await asked.rest("GET", _path(name, value).rpartition("/")[0])
    settings = await asked.settings(item["page"])
    mode = settings.confirm if settings else "public"
    return mode == "always" or (mode == "public" and name == "approve")


async def _do(asked: Asked, name: str, value: str, text: object = "") -> None:
    revision = value.partition(":")[2]
    bodies: dict[str, Any] = {
        "approve": {"revision": int(revision) if re.fullmatch(r"\d{1,9}", revision, re.ASCII) else 0},
        "reject": {"reason": text},
        "comment": {"text": text},
        "assign": {"to": asked.known().name},
        "snooze": {"for": "1h"},
        "escalate": {},
    }
    item = await asked.rest("POST", _path(name, value), bodies.get(name))
    await asked.say(_titled(item) if "step" in item else f"{_titled(item)}. Done: {name}.")


def _path(name: str, value: str) -> str:
    """Where a deed is done: what is named is an id, and nothing that could be another path."""
    ref = value.partition(":")[0]
    if not re.fullmatch(r"[a-z]{3}_[0-9a-f]{32}", ref):
        raise ProblemError(400, "malformed", "this is about nothing")
    return f"/{'actions' if name in ('approve', 'reject') else 'episodes'}/{ref}/{name}"


# ---- forms that were sent


async def submitted(asked: Asked, called: str, about: Given, given: Given) -> dict[str, Any] | None:
    """A form that was sent; what it is to show, when it was refused."""
    try:
        if called in SUBMITTED:
            await SUBMITTED[called](asked, given)
        elif about.get("do") in _DEEDS:
            await _do(asked, about["do"], str(about.get("of")), given.get("text") or "")
    except ProblemError as refused:
        named = {where.strip("/").partition("/")[0]: said for where, said in refused.errors}
        errors = {name: said for name, said in named.items() if name in given}
        if asked.is_late or not errors:
            raise
        return {"response_action": "errors", "errors": errors}
    return None


async def _began(asked: Asked, given: Given) -> None:
    page = str(given.get("page", ""))
    settings = await asked.settings(page)
    linking, spoken_of = settings.linking if settings else "none", await _spoken_of(asked)
    also = f"this channel speaks of {spoken_of[0]['title']}, too" if spoken_of and linking != "none" else ""
    if linking == "hard" and also:
        said = f"{also}: resolve that, or begin another one elsewhere"
        raise ProblemError(409, "linked", said, errors=[("/page", said)])
    body = {"page": page, "title": given.get("title"), "text": given.get("text")}
    body |= {"components": {path: given.get("as") for path in given.get("components", ())}}
    item = await asked.rest("POST", "/incidents", body | {"notify": bool(given.get("notify"))})
    begun = read("incident", item["id"])  # None: a draft of it
    if begun and linking != "none" and asked.channel[:1] in ("C", "G"):
        await _speak_of(asked, begun)
    await asked.say(f"{_titled(item)}, `{item['id']}`" + (f". Mind: {plain(also)}." if also else ""))


async def _updated(asked: Asked, given: Given) -> None:
    said = {name: given[name] for name in ("text", "status") if given.get(name)}
    path = "/incidents/" + _path("updates", str(given.get("incident"))).split("/", 2)[2]
    await asked.say(_titled(await asked.rest("POST", path, said | {"notify": bool(given.get("notify"))})))


async def _scheduled(asked: Asked, given: Given) -> None:
    start = moment(float(given.get("start", 0))).isoformat()
    body = {**given, "start": start, "announce": {}}
    await asked.say(_titled(await asked.rest("POST", "/maintenances", body)))


async def _spoken_of(asked: Asked) -> list[Row]:
    """The open incidents that this channel is linked to."""
    async with asked.services.pool.acquire() as db:
        return await slack.spoken_of(db, asked.team, asked.channel)


async def _speak_of(asked: Asked, incident: UUID) -> None:
    """Tell this channel what was just begun in it, and all that follows."""
    async with transaction(asked.services.pool) as db:
        await slack.speak_of(db, incident, asked.team, asked.channel)
        first = (await incidents.updates(db, [incident]))[incident][-1]
        at, channel = first["at"].timestamp(), asked.channel
        await posts.queue(db, incident, "open", at, first["id"], only=[], channel=channel)


Command = Callable[[Asked, str], Awaitable[None]]
FORMS: Final[dict[str, Command]] = {"create": _create, "update": _update, "schedule": _schedule}
FORMS["resolve"] = partial(_update, status="resolved")
COMMANDS: Final = {"link": _link, "list": _list} | FORMS
SUBMITTED: Final = {"incident": _began, "update": _updated, "maintenance": _scheduled}
