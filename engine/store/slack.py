"""Slack workspaces, their linked users, what works once, and where incidents are spoken of there. It calls no Slack."""

import re
from collections.abc import Sequence
from datetime import timedelta
from secrets import token_urlsafe
from typing import Final, NamedTuple
from uuid import UUID

from msgspec.structs import replace

from engine.store import outbox, people, secrets
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from engine.store.objects import TakenError
from engine.store.secrets import Keyring
from evaluators.lifecycle import ENDED
from evaluators.model import Item, Notice, Post
from rules.duration import format_duration
from rules.slack import PageSlack, Step

NONCE_LIFE: Final = timedelta(minutes=10)
_MOST: Final = 200
_OTHER: Final = "SELECT true FROM slack_workspaces WHERE alias = $1 AND team_id <> $2"
_STEPS: Final[dict[str, Step]] = {
    "open": "create",
    "update": "update",
    "resolve": "resolve",
    "edit": "edit",
    "delete": "resolve",
}


# ---- workspaces


async def connect(
    connection: Connection, actor: Actor, keyring: Keyring, team_id: str, name: str, token: str
) -> None:
    """Keep a workspace and its bot's token, sealed, in the place of what was. Raises `LockedError`, `TakenError`."""
    alias = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80] or team_id.lower()
    if await connection.fetchval(_OTHER, alias, team_id):
        raise TakenError(f"another workspace called {alias} is connected; give one of them another name")
    await _forget(connection, actor, team_id)
    for called in (team_id, alias):
        sealed = keyring.seal(None, f"slack.{called}", token)
        await secrets.put(connection, actor, None, f"slack.{called}", sealed)
    await connection.execute(
        "INSERT INTO slack_workspaces (team_id, name, alias, connected_by) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (team_id) DO UPDATE SET name = $2, alias = $3, connected_by = $4, connected_at = now()",
        team_id,
        name,
        alias,
        actor.name,
    )
    await record(connection, actor, "slack.connect", team_id, None, None, {"name": name})


async def disconnect(connection: Connection, actor: Actor, team_id: str) -> bool:
    """Forget a workspace, its token and the links of its users; whether it was there."""
    await _forget(connection, actor, team_id)
    name = await connection.fetchval(
        "DELETE FROM slack_workspaces WHERE team_id = $1 RETURNING name", team_id
    )
    if name is not None:
        await record(connection, actor, "slack.disconnect", team_id, None, {"name": name})
    return name is not None


async def _forget(connection: Connection, actor: Actor, team_id: str) -> None:
    alias = await connection.fetchval("SELECT alias FROM slack_workspaces WHERE team_id = $1", team_id)
    for called in (team_id, alias):
        for kept in await secrets.listing(connection, name=f"slack.{called}"):
            if kept.page_id is None:
                await secrets.remove(connection, actor, kept, force=True)


async def workspaces(connection: Connection) -> list[Row]:
    """Those that are connected, by name, each with how many of its users are linked."""
    return await connection.fetch(
        "SELECT w.*, (SELECT count(*) FROM slack_users u WHERE u.team_id = w.team_id) AS users "
        "FROM slack_workspaces w ORDER BY w.name, w.team_id"
    )


# ---- users


async def link(
    connection: Connection, actor: Actor, team_id: str, slack_user: str, name: str, user_id: UUID
) -> None:
    """From now on what this Slack user does there, this user does."""
    await connection.execute(
        "INSERT INTO slack_users (team_id, slack_user, name, user_id) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (team_id, slack_user) DO UPDATE SET name = $3, user_id = $4, linked_at = now()",
        team_id,
        slack_user,
        name,
        user_id,
    )
    await record(connection, actor, "slack.link", f"{team_id}/{slack_user}", None, None, {"name": name})


async def unlink(
    connection: Connection, actor: Actor, team_id: str, slack_user: str, user_id: UUID | None = None
) -> bool:
    """End a link, `user_id`'s own or anybody's; whether there was one."""
    found: str | None = await connection.fetchval(
        "DELETE FROM slack_users WHERE team_id = $1 AND slack_user = $2 AND ($3::uuid IS NULL OR user_id = $3) RETURNING name",
        team_id,
        slack_user,
        user_id,
    )
    if found is not None:
        await record(connection, actor, "slack.unlink", f"{team_id}/{slack_user}", None, {"name": found})
    return found is not None


async def links(connection: Connection, user_id: UUID | None = None) -> list[Row]:
    """Linked users, `user_id`'s own or all."""
    return await connection.fetch(
        "SELECT s.*, w.name AS workspace, u.email FROM slack_users s JOIN slack_workspaces w USING (team_id) "
        "JOIN users u ON u.id = s.user_id WHERE $1::uuid IS NULL OR s.user_id = $1 ORDER BY u.email, s.team_id, s.slack_user",
        user_id,
    )


async def person(connection: Connection, team_id: str, slack_user: str) -> people.Person | None:
    """Who this Slack user is here; None: nobody, or no longer active."""
    user_id = await connection.fetchval(
        "SELECT user_id FROM slack_users WHERE team_id = $1 AND slack_user = $2", team_id, slack_user
    )
    found = people.person_of(await people.user(connection, user_id)) if user_id else None
    return None if found is None or found.disabled else found


# ---- what works once


async def issue(connection: Connection, **about: str) -> str:
    """A secret that `use` takes once within ten minutes."""
    secret = token_urlsafe(32)
    await _keep(connection, secret, about)
    return secret


async def peek(connection: Connection, secret: str) -> dict[str, str] | None:
    """What a secret is about, while it works."""
    about: dict[str, str] | None = await connection.fetchval(
        "SELECT about FROM slack_nonces WHERE digest = $1 AND expires_at > now()", people.digest_of(secret)
    )
    return about


async def use(connection: Connection, secret: str) -> dict[str, str] | None:
    """`peek`, and from now on it works no more."""
    about: dict[str, str] | None = await connection.fetchval(
        "DELETE FROM slack_nonces WHERE digest = $1 AND expires_at > now() RETURNING about",
        people.digest_of(secret),
    )
    return about


async def is_first(connection: Connection, request: str) -> bool:
    """Whether a request of Slack's with this id was not taken before."""
    return await _keep(connection, f"request {request}", {})


async def _keep(connection: Connection, secret: str, about: dict[str, str]) -> bool:
    await connection.execute("DELETE FROM slack_nonces WHERE expires_at < now()")
    done = await connection.execute(
        "INSERT INTO slack_nonces (digest, about, expires_at) VALUES ($1, $2, now() + $3::interval) ON CONFLICT DO NOTHING",
        people.digest_of(secret),
        about,
        NONCE_LIFE,
    )
    return done.endswith(" 1")


# ---- where incidents are spoken of


class Place(NamedTuple):
    """A Slack channel that hears of an incident, and through which of our channels."""

    target_id: UUID
    line: str
    channel: str


async def places(connection: Connection, page_id: UUID, slack: PageSlack, incident: UUID) -> list[Place]:
    """Where this incident is spoken of."""
    carrier = await connection.fetchrow(
        "SELECT id, spec FROM objects WHERE kind = 'channel' AND page_id = $1 AND slug = $2 AND removed_at IS NULL "
        "AND spec->>'type' = 'slack_bot' AND coalesce((spec->>'enabled')::bool, true)",
        page_id,
        slack.channel,
    )
    if carrier is None:
        return []
    own, shown = carrier["spec"]["channel"], show("incident", incident)
    linked = await connection.fetch(
        "SELECT l.channel FROM slack_links l JOIN slack_workspaces w USING (team_id) WHERE l.incident_id = $1 "
        "AND $2 IN (w.team_id, w.alias) ORDER BY 1",
        incident,
        carrier["spec"]["workspace"],
    )
    others = [row["channel"] for row in linked if row["channel"] != own or not slack.announce]
    announced = [Place(carrier["id"], shown, own)] if slack.announce else []
    return announced + [Place(carrier["id"], f"{shown}:{channel}", channel) for channel in others]


async def announce(
    connection: Connection, found: Sequence[Place], slack: PageSlack, post: Post, only: str | None = None
) -> None:
    """Queue a step for these places, quietly where it is not to be told; `only` one Slack channel."""
    for place in found:
        if only in (None, place.channel):
            # What changes without an update is told only where that is wanted; the first message shows it anyway.
            is_told = (post.notify or post.step == "edit") and slack.tells(_STEPS[post.step], place.channel)
            said = replace(post, id=f"{post.id}:{place.channel}", notify=is_told)
            await _put(connection, place, said)


async def _put(connection: Connection, place: Place, item: Item) -> None:
    """Queue it for this place, which the line remembers from the first on."""
    await connection.execute(
        "INSERT INTO remotes (target_id, line, remote) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        place.target_id,
        place.line,
        {"channel": place.channel},
    )
    await outbox.put(connection, [place.target_id], place.line, item.id, item)


async def spoken_of(connection: Connection, team_id: str, channel: str) -> list[Row]:
    """The open incidents that this Slack channel is linked to, newest first."""
    return await connection.fetch(
        "SELECT i.id, i.title, i.page_id FROM slack_links l JOIN incidents i ON i.id = l.incident_id "
        "WHERE l.team_id = $1 AND l.channel = $2 AND i.status <> ALL ($3) AND i.removed_at IS NULL "
        "ORDER BY i.created_at DESC LIMIT 50",
        team_id,
        channel,
        ENDED,
    )


async def speak_of(connection: Connection, incident: UUID, team_id: str, channel: str) -> None:
    """From now on this channel hears of the incident."""
    await connection.execute(
        "INSERT INTO slack_links (incident_id, team_id, channel) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        incident,
        team_id,
        channel,
    )


# ---- what is owed after some time


async def withdraw(connection: Connection, now_s: float, public_url: str) -> int:
    """Take the buttons from drafts that were withdrawn: nobody is told of that by itself, but they would lead nowhere."""
    rows = await connection.fetch(
        "SELECT r.target_id, r.line, a.* FROM remotes r CROSS JOIN LATERAL jsonb_object_keys(r.remote->'drafts') k "
        "JOIN actions a ON a.id = substr(k, 5)::uuid AND a.status = 'withdrawn' WHERE r.remote ? 'drafts' LIMIT $1",
        _MOST,
    )
    for row in rows:
        action = show("action", row["id"])
        notice = Notice(
            id=str(derived_id("slack", "withdrawn", row["id"])),
            told="draft",
            title=f"Withdrawn: {row['title']}",
            at=now_s,
            why=(row["reason"],) if row["reason"] else (),
            action=action,
            by=row["decided_by"],
            link=f"{public_url}/console/actions/{action}",
        )
        await outbox.put(connection, [row["target_id"]], row["line"], notice.id, notice)
    return len(rows)


async def remind(connection: Connection, now_s: float, public_url: str) -> int:
    """Remind Slack channels of open incidents that nobody spoke of for too long; how many."""
    rows = await connection.fetch(
        "SELECT i.id, i.title, i.page_id, p.slug AS page, p.spec->'slack' AS slack, extract(epoch FROM s.at)::float8 AS at "
        "FROM incidents i JOIN objects p ON p.id = i.page_id AND p.spec->>'slack' IS NOT NULL, "
        "LATERAL (SELECT greatest(max(u.at), i.entered_at) AS at FROM updates u WHERE u.incident_id = i.id) s "
        "WHERE i.kind = 'incident' AND i.removed_at IS NULL AND i.status <> ALL ($1) "
        "AND s.at < to_timestamp($2) - interval '5 minutes' LIMIT $3",
        ENDED,
        now_s,
        _MOST,
    )
    count = 0
    for row in rows:
        slack, incident = PageSlack.model_validate(row["slack"]), show("incident", row["id"])
        for place in await places(connection, row["page_id"], slack, row["id"]):
            every = slack.reminds_after(place.channel)
            if every is None or (times := int((now_s - row["at"]) // every)) < 1:
                continue
            notice = Notice(
                id=str(derived_id("slack", "reminder", row["id"], place.channel, row["at"], times)),
                told="reminder",
                title=f"No update for {format_duration(times * every)}: {row['title']}",
                at=now_s,
                page=row["page"],
                incident=incident,
                link=f"{public_url}/console/incidents/{incident}",
            )
            await _put(connection, place, notice)
            count += 1
    return count
