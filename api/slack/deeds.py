"""What people do in Slack: commands, buttons and forms. Everything goes through REST in their name; nothing is decided here."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from api.auth import Permission
from api.problems import ProblemError
from api.slack import forms
from api.slack.asked import LINK_FIRST, Asked, plain
from engine.store import incidents, objects, posts, slack
from engine.store.database import Row, transaction
from engine.store.ids import read, show
from engine.store.states import moment

HELP: Final = """*Upbeat in Slack*
`/upbeat link`, `unlink`: say who you are in Upbeat, or no longer
`/upbeat status`: what is open; `/upbeat list`: incidents and drafts that wait
`/upbeat create TITLE`: begin an incident
`/upbeat update`, `/upbeat resolve`: say something of one
`/upbeat schedule`: announce maintenance
`/upbeat ack [epi_...]`: take an episode"""
SNOOZE: Final = "1h"
_SHOWN: Final = 20
values = forms.values
Command = Callable[[Asked, str], Awaitable[None]]


def about(text: str) -> dict[str, str]:
    """What a form was opened with."""
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text else {}
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {}


# ---- commands


async def command(asked: Asked, text: str) -> None:
    """`/upbeat ...`, or what is said to the app."""
    name, _, rest = text.strip().partition(" ")
    if name.lower() in FORMS and not asked.trigger:  # of a mention: only a click opens a form
        known = {
            "type": "button",
            "action_id": "form",
            "text": {"type": "plain_text", "text": "Open the form"},
        }
        asked.known()
        value = f"{name.lower()} {rest}"[:2000]
        await asked.say("It takes a form:", [{"type": "actions", "elements": [known | {"value": value}]}])
        return
    await COMMANDS.get(name.lower(), _help)(asked, rest.strip())


async def _help(asked: Asked, _: str) -> None:
    await asked.say(HELP if asked.who else f"{HELP}\n\n{LINK_FIRST}")


async def _link(asked: Asked, _: str) -> None:
    said = await asked.services.slack.call(asked.team, "users.info", {"user": asked.user})
    user = said.get("user", {}) if isinstance(said, dict) else {}
    name = str(user.get("real_name") or user.get("name") or asked.user)[:200]
    async with asked.services.pool.acquire() as db:
        secret = await slack.issue(db, team=asked.team, user=asked.user, name=name)
    url = f"{(asked.services.settings.public_url or '').rstrip('/')}/console/slack/link?secret={secret}"
    await asked.say(
        f"<{url}|Say who you are in Upbeat>. The link works once, for ten minutes, for you alone."
    )


async def _unlink(asked: Asked, _: str) -> None:
    known = asked.known()
    async with transaction(asked.services.pool) as db:
        await slack.unlink(db, known.actor, asked.team, asked.user)
    await asked.say("You are no longer linked.")


async def _status(asked: Asked, _: str) -> None:
    episodes = (await asked.rest("GET", "/episodes", state="open", limit=str(_SHOWN)))["items"]
    lines = [
        f"• {plain(one['owner_name'] or one['owner'])} ({one['page']}): {one['severity']}, `{one['id']}`"
        + (f", {plain(one['acknowledged_by'])} looks at it" if one.get("acknowledged_by") else "")
        for one in episodes
    ]
    await asked.say("\n".join(["*Open episodes*", *(lines or ["none"]), *await _incidents(asked)]))


async def _list(asked: Asked, _: str) -> None:
    drafts = (await asked.rest("GET", "/actions", status="pending", limit=str(_SHOWN)))["items"]
    lines = [f"• {plain(one['title'])} ({one['page']}): {one['step']}, `{one['id']}`" for one in drafts]
    await asked.say("\n".join([*await _incidents(asked), "*Drafts that wait*", *(lines or ["none"])]))


async def _incidents(asked: Asked) -> list[str]:
    found = (await asked.rest("GET", "/incidents", status="open", limit=str(_SHOWN)))["items"]
    lines = [f"• {plain(one['title'])} ({one['page']}): {one['status']}, `{one['id']}`" for one in found]
    return ["*Open incidents*", *(lines or ["none"])]


async def _create(asked: Asked, title: str) -> None:
    pages, groups = await _places(asked, Permission.REVIEW)
    open_here = await _spoken_of(asked)
    warning = f"This channel speaks of {open_here[0]['title']} already." if open_here else ""
    statuses = [(one, one.replace("_", " ")) for one in forms.COMPONENT_STATUSES]
    blocks = [
        forms.note(warning) if warning else {},
        forms.choice("page", "Page", pages, pages[0][0]),
        forms.field("title", "Title", title, most=200),
        forms.field("text", "What customers read", lines=True),
        forms.choices("components", "Affected components", groups),
        forms.choice("as", "They are", statuses, statuses[0][0]) if any(groups.values()) else {},
        forms.tick("notify", "Subscribers", "are notified"),
    ]
    await asked.open(forms.form("incident", "New incident", "Publish", {"channel": asked.channel}, blocks))


async def _update(asked: Asked, ref: str, status: str = "") -> None:
    found = (await asked.rest("GET", "/incidents", status="open", limit="100"))["items"]
    if not found:
        await asked.say("No incident is open.")
        return
    linked = [show("incident", row["id"]) for row in await _spoken_of(asked)]
    first = ref or next((one["id"] for one in found if one["id"] in linked), found[0]["id"])
    titles = [(one["id"], f"{one['title']} ({one['status']})") for one in found]
    blocks = [
        forms.choice("incident", "Incident", titles, first),
        forms.choice("status", "Status", [(one, one) for one in forms.STATUSES], status, needed=bool(status)),
        forms.field("text", "What customers read", lines=True),
        forms.tick("notify", "Subscribers", "are notified"),
    ]
    title = "Resolve an incident" if status else "Update an incident"
    await asked.open(forms.form("update", title, "Publish", {"channel": asked.channel}, blocks))


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
    await asked.open(
        forms.form("maintenance", "Schedule maintenance", "Schedule", {"channel": asked.channel}, blocks)
    )


async def _ack(asked: Asked, ref: str) -> None:
    if not ref:
        found = (await asked.rest("GET", "/episodes", state="open", limit="100"))["items"]
        free = [one for one in found if not one.get("acknowledged_by")]
        if len(free) != 1:
            lines = [f"• `/upbeat ack {one['id']}` {plain(one['owner'])}" for one in free[:_SHOWN]]
            await asked.say("\n".join(["Which one?", *lines]) if free else "Nothing waits for somebody.")
            return
        ref = free[0]["id"]
    await _do(asked, "acknowledge", ref)


async def _places(
    asked: Asked, permission: Permission
) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """Pages on which they may, and the components of each. Raises 403."""
    async with asked.services.pool.acquire() as db:
        pages = await objects.listing(db, "page", pages=asked.known().pages_for(permission))
        components = await objects.listing(db, "component", pages=[page.id for page in pages])
    if not pages:
        raise ProblemError(403, "forbidden", "on no page you may do that: ask an admin of Upbeat for a role")
    groups: dict[str, list[tuple[str, str]]] = {page.slug: [] for page in pages}
    slugs = {page.id: page.slug for page in pages}
    for one in components:
        if one.page_id in slugs:
            page = slugs[one.page_id]
            groups[page].append((f"{page}/{one.slug}", one.spec["name"]))
    return [(page.slug, page.spec["name"]) for page in pages], groups


# ---- buttons

_EPISODE: Final[Mapping[str, tuple[str, Any]]] = {
    "acknowledge": ("acknowledged", None),
    "assign": ("assigned to you", None),
    "snooze": (f"quiet for {SNOOZE}", {"for": SNOOZE}),
    "escalate": ("escalated", {}),
}


async def clicked(asked: Asked, name: str, value: str) -> None:
    """A button of a message; `value` says what it is about."""
    if name == "form":
        await command(asked, value)
    elif name in ("update", "resolve"):
        await _update(asked, value, "resolved" if name == "resolve" else "")
    elif name in ("reject", "comment"):
        asked.known()
        given = {"channel": asked.channel, "of": value}
        title, label = ("Reject a draft", "Why not") if name == "reject" else ("Comment", "What is said")
        block = forms.field("text", label, lines=True, needed=name == "comment")
        await asked.open(forms.form(name, title, name.capitalize(), given, [block]))
    elif name == "approve" or name in _EPISODE:
        if await _is_to_confirm(asked, name, value):
            given = {"channel": asked.channel, "of": value, "do": name}
            said = "Customers read it as soon as you approve." if name == "approve" else f"Really {name}?"
            await asked.open(
                forms.form("confirm", "Are you sure?", name.capitalize(), given, [forms.note(said)])
            )
        else:
            await _do(asked, name, value)


async def _is_to_confirm(asked: Asked, name: str, value: str) -> bool:
    kind = "actions" if name == "approve" else "episodes"
    item = await asked.rest("GET", f"/{kind}/{_ref(value)}")
    settings = await asked.settings(item["page"])
    mode = settings.confirm if settings else "public"
    return mode == "always" or (mode == "public" and name == "approve")


async def _do(asked: Asked, name: str, value: str) -> None:
    if name == "approve":
        revision = value.partition(":")[2]
        body: dict[str, Any] = {
            "revision": int(revision) if revision.isdecimal() and len(revision) < 18 else 0
        }
        item = await asked.rest("POST", f"/actions/{_ref(value)}/approve", body)
        await asked.say(_decided(asked, item))
        return
    said, body = _EPISODE[name]
    if name == "assign":
        body = {"to": asked.known().name}
    item = await asked.rest("POST", f"/episodes/{_ref(value)}/{name}", body)
    by = item.get("acknowledged_by") if name == "acknowledge" else asked.known().name
    await asked.say(
        f"{plain(item['owner'])} is {said}" + (f" by {plain(by)}." if name == "acknowledge" else ".")
    )


def _decided(asked: Asked, item: Mapping[str, Any]) -> str:
    if item["status"] == "pending":
        said = f"{item.get('approvals_needed', 2)} must approve"
        return f"Your yes counts; it still waits, as {said}."
    verb = "approved" if item["status"] in ("approved", "done", "failed") else item["status"]
    return f"“{plain(item['title'])}” is {verb} by {plain(item['decided_by'])}."


def _ref(value: str) -> str:
    """What is named in a button: an id, and nothing that could be another path."""
    ref = value.partition(":")[0]
    if not re.fullmatch(r"[a-z]{3,5}_[0-9a-f]{32}", ref):
        raise ProblemError(400, "malformed", "this button is about nothing")
    return ref


# ---- forms that were sent


async def submitted(
    asked: Asked, called: str, about: Mapping[str, str], given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A form that was sent; what it is to show, when it was refused."""
    deed = SUBMITTED.get(called)
    if deed is None:
        return None
    try:
        await deed(asked, about, given)
    except ProblemError as refused:
        named = {where.strip("/").partition("/")[0]: said for where, said in refused.errors}
        fields = {name: said for name, said in named.items() if name in given}
        if not fields:
            raise
        return {"response_action": "errors", "errors": fields}
    return None


async def _began(asked: Asked, _: Mapping[str, str], given: Mapping[str, Any]) -> None:
    page = str(given.get("page", ""))
    settings = await asked.settings(page)
    linking = settings.linking if settings else "none"
    open_here = await _spoken_of(asked)
    if linking == "hard" and open_here:
        said = f"this channel speaks of {open_here[0]['title']} already: resolve that, or begin another one elsewhere"
        raise ProblemError(409, "linked", said, errors=[("/page", said)])
    components = {path: given.get("as") for path in given.get("components", ())}
    body = {"page": page, "title": given.get("title"), "text": given.get("text"), "components": components}
    item = await asked.rest("POST", "/incidents", body | {"notify": bool(given.get("notify"))})
    if "step" in item:
        await asked.say(f"“{plain(item['title'])}” waits for approval as `{item['id']}`.")
        return
    if linking != "none" and asked.channel[:1] in ("C", "G"):
        await _speak_of(asked, item["id"])
    warned = (
        f" This channel speaks of {plain(open_here[0]['title'])}, too."
        if open_here and linking == "soft"
        else ""
    )
    await asked.say(f"“{plain(item['title'])}” is public as `{item['id']}`.{warned}")


async def _updated(asked: Asked, _: Mapping[str, str], given: Mapping[str, Any]) -> None:
    body: dict[str, Any] = {"text": given.get("text"), "notify": bool(given.get("notify"))}
    body |= {"status": given["status"]} if given.get("status") else {}
    item = await asked.rest("POST", f"/incidents/{_ref(str(given.get('incident')))}/updates", body)
    said = "waits for approval" if "step" in item else f"is {item['status']}"
    await asked.say(f"“{plain(item['title'])}” {said}.")


async def _scheduled(asked: Asked, _: Mapping[str, str], given: Mapping[str, Any]) -> None:
    kept = ("page", "name", "description", "duration", "components")
    body = {name: given[name] for name in kept if given.get(name)}
    item = await asked.rest(
        "POST", "/maintenances", body | {"start": moment(float(given.get("start", 0))).isoformat()}
    )
    await asked.say(f"“{plain(item.get('name') or item['slug'])}” is scheduled.")


async def _rejected(asked: Asked, about: Mapping[str, str], given: Mapping[str, Any]) -> None:
    body = {"reason": given.get("text") or ""}
    item = await asked.rest("POST", f"/actions/{_ref(about.get('of', ''))}/reject", body)
    await asked.say(_decided(asked, item))


async def _commented(asked: Asked, about: Mapping[str, str], given: Mapping[str, Any]) -> None:
    item = await asked.rest(
        "POST", f"/episodes/{_ref(about.get('of', ''))}/comment", {"text": given.get("text")}
    )
    await asked.say(f"Said of {plain(item['owner'])}.")


async def _confirmed(asked: Asked, about: Mapping[str, str], _: Mapping[str, Any]) -> None:
    if about.get("do") in ("approve", *_EPISODE):
        await _do(asked, about["do"], about.get("of", ""))


async def _spoken_of(asked: Asked) -> list[Row]:
    """The open incidents that this channel is linked to."""
    async with asked.services.pool.acquire() as db:
        return await slack.spoken_of(db, asked.team, asked.channel)


async def _speak_of(asked: Asked, shown: str) -> None:
    """Tell this channel what was just begun in it, and all that follows."""
    incident = read("incident", shown)
    assert incident is not None
    async with transaction(asked.services.pool) as db:
        await slack.speak_of(db, incident, asked.team, asked.channel)
        first = (await incidents.updates(db, [incident]))[incident][-1]
        await posts.queue(
            db, incident, "open", first["at"].timestamp(), first["id"], only=[], channel=asked.channel
        )


COMMANDS: Final[Mapping[str, Command]] = {
    "link": _link,
    "unlink": _unlink,
    "status": _status,
    "list": _list,
    "create": _create,
    "update": _update,
    "resolve": partial(_update, status="resolved"),
    "schedule": _schedule,
    "ack": _ack,
}
FORMS: Final = ("create", "update", "resolve", "schedule")
SUBMITTED: Final = {
    "incident": _began,
    "update": _updated,
    "maintenance": _scheduled,
    "reject": _rejected,
    "comment": _commented,
    "confirm": _confirmed,
}
