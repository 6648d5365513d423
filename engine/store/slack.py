"""Slack workspaces, their linked users, what works once, and where incidents are spoken of there. It calls no Slack."""

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
from engine.store.secrets import Keyring
from evaluators.lifecycle import ENDED
from evaluators.model import Notice, Post
from rules.duration import format_duration
from rules.slack import PageSlack

NONCE_LIFE: Final = timedelta(minutes=10)
_MOST: Final = 200
_STEPS: Final = {"open": "create", "update": "update", "resolve": "resolve", "delete": "resolve"}
_CONNECT: Final = (
    "INSERT INTO slack_workspaces (team_id, name, connected_by) VALUES ($1, $2, $3) "
    "ON CONFLICT (team_id) DO UPDATE SET name = $2, connected_by = $3, connected_at = now()"
)
_LINK: Final = (
    "INSERT INTO slack_users (team_id, slack_user, user_id) VALUES ($1, $2, $3) "
    "ON CONFLICT (team_id, slack_user) DO UPDATE SET user_id = $3, linked_at = now()"
)
_WORKSPACES: Final = (
    "SELECT w.*, (SELECT count(*) FROM slack_users u WHERE u.team_id = w.team_id) AS users "
    "FROM slack_workspaces w ORDER BY w.name, w.team_id"
)
_LINKS: Final = (
    "SELECT s.team_id, w.name AS workspace, s.slack_user, u.email, s.linked_at FROM slack_users s "
    "JOIN slack_workspaces w USING (team_id) JOIN users u ON u.id = s.user_id "
    "WHERE $1::uuid IS NULL OR s.user_id = $1 ORDER BY u.email, s.team_id, s.slack_user"
)
_PLACES: Final = (
    "SELECT o.id, o.spec->>'channel' AS own, l.channel FROM objects o LEFT JOIN slack_links l "
    "ON l.incident_id = $3 AND l.team_id = o.spec->>'workspace' WHERE o.kind = 'channel' AND o.page_id = $1 "
    "AND o.slug = $2 AND o.removed_at IS NULL AND o.spec->>'type' = 'slack_bot' "
    "AND coalesce((o.spec->>'enabled')::bool, true) ORDER BY l.channel"
)
_SPOKEN_OF: Final = (
    "SELECT i.id, i.title FROM slack_links l JOIN incidents i ON i.id = l.incident_id WHERE l.team_id = $1 "
    "AND l.channel = $2 AND i.status <> ALL ($3) AND i.removed_at IS NULL ORDER BY i.created_at DESC LIMIT 50"
)
_WITHDRAWN: Final = (
    "SELECT r.target_id, r.line, a.* FROM remotes r CROSS JOIN LATERAL jsonb_object_keys(r.remote->'drafts') k "
    "JOIN actions a ON a.id = substr(k, 5)::uuid AND a.status = 'withdrawn' WHERE r.remote ? 'drafts' "
    "AND NOT EXISTS (SELECT FROM outbox o WHERE o.target_id = r.target_id AND o.key = 'withdrawn:' || a.id) LIMIT $1"
)
_SILENT: Final = (
    "SELECT i.id, i.title, i.page_id, p.slug AS page, p.spec->'slack' AS slack, extract(epoch FROM s.at)::float8 AS at "
    "FROM incidents i JOIN objects p ON p.id = i.page_id AND p.spec->>'slack' IS NOT NULL, "
    "LATERAL (SELECT greatest(max(u.at), i.entered_at) AS at FROM updates u WHERE u.incident_id = i.id) s "
    "WHERE i.kind = 'incident' AND i.removed_at IS NULL AND i.status <> ALL ($1) "
    "AND s.at < to_timestamp($2) - interval '5 minutes' LIMIT $3"
)


# ---- workspaces


async def connect(
    connection: Connection, actor: Actor, keyring: Keyring, team_id: str, name: str, token: str
) -> None:
    """Keep a workspace and its bot's token, sealed, in the place of what was. Raises `LockedError`."""
    called = f"slack.{team_id}"
    await secrets.put(connection, actor, None, called, keyring.seal(None, called, token))
    await connection.execute(_CONNECT, team_id, name, actor.name)
    await record(connection, actor, "slack.connect", team_id, None, None, {"name": name})


async def disconnect(connection: Connection, actor: Actor, team_id: str) -> None:
    """Forget a workspace, its token and the links of its users."""
    for kept in await secrets.listing(connection, name=f"slack.{team_id}"):
        if kept.page_id is None:
            await secrets.remove(connection, actor, kept, force=True)
    sql = "DELETE FROM slack_workspaces WHERE team_id = $1 RETURNING name"
    if (name := await connection.fetchval(sql, team_id)) is not None:
        await record(connection, actor, "slack.disconnect", team_id, None, {"name": name})


async def is_connected(connection: Connection, team_id: str) -> bool:
    """Whether this workspace is."""
    sql = "SELECT EXISTS (SELECT FROM slack_workspaces WHERE team_id = $1)"
    return bool(await connection.fetchval(sql, team_id))


async def workspaces(connection: Connection) -> list[Row]:
    """Those that are connected, by name, each with how many of its users are linked."""
    return await connection.fetch(_WORKSPACES)


# ---- users


async def link(connection: Connection, actor: Actor, team_id: str, slack_user: str, user_id: UUID) -> None:
    """From now on what this Slack user does there, this user does."""
    await connection.execute(_LINK, team_id, slack_user, user_id)
    await record(connection, actor, "slack.link", f"{team_id}/{slack_user}", None, None, {"user": actor.name})


async def unlink(
    connection: Connection, actor: Actor, team_id: str, slack_user: str, user_id: UUID | None
) -> bool:
    """End a link, `user_id`'s own or (None) anybody's; whether there was one."""
    sql = "DELETE FROM slack_users WHERE team_id = $1 AND slack_user = $2 AND ($3::uuid IS NULL OR user_id = $3)"
    is_there = (await connection.execute(sql, team_id, slack_user, user_id)).endswith(" 1")
    if is_there:
        await record(connection, actor, "slack.unlink", f"{team_id}/{slack_user}", None)
    return is_there


async def links(connection: Connection, user_id: UUID | None = None) -> list[Row]:
    """Linked users, `user_id`'s own or all."""
    return await connection.fetch(_LINKS, user_id)


async def person(connection: Connection, team_id: str, slack_user: str) -> people.Person | None:
    """Who this Slack user is here; None: nobody, or no longer active."""
    sql = "SELECT user_id FROM slack_users WHERE team_id = $1 AND slack_user = $2"
    user_id = await connection.fetchval(sql, team_id, slack_user)
    found = people.person_of(await people.user(connection, user_id)) if user_id else None
    return None if found is None or found.disabled else found


# ---- what works once


async def issue(connection: Connection, **about: str) -> str:
    """A secret that `use` takes once within ten minutes."""
    secret = token_urlsafe(32)
    await _keep(connection, secret, about)
    return secret


async def use(connection: Connection, secret: str) -> dict[str, str]:
    """What a secret is about, nothing where it does not work; from now on it works no more."""
    sql = "DELETE FROM slack_nonces WHERE digest = $1 AND expires_at > now() RETURNING about"
    about: dict[str, str] | None = await connection.fetchval(sql, people.digest_of(secret))
    return about or {}


async def is_first(connection: Connection, request: str) -> bool:
    """Whether a request of Slack's with this id was not taken before."""
    return await _keep(connection, f"request {request}", {})


async def _keep(connection: Connection, secret: str, about: dict[str, str]) -> bool:
    await connection.execute("DELETE FROM slack_nonces WHERE expires_at < now()")
    sql = "INSERT INTO slack_nonces (digest, about, expires_at) VALUES ($1, $2, now() + $3::interval) ON CONFLICT DO NOTHING"
    done = await connection.execute(sql, people.digest_of(secret), about, NONCE_LIFE)
    return done.endswith(" 1")


# ---- where incidents are spoken of


class Place(NamedTuple):
    """A Slack channel that hears of an incident, and through which of our channels."""

    target_id: UUID
    line: str
    channel: str


async def places(connection: Connection, page_id: UUID, slack: PageSlack, incident: UUID) -> list[Place]:
    """Where this incident is spoken of: the page's own channel first, then those that it is linked to."""
    rows = await connection.fetch(_PLACES, page_id, slack.channel, incident)
    shown = show("incident", incident)
    own = [Place(row["id"], shown, row["own"]) for row in rows[:1] if slack.announce]
    return own + [
        Place(row["id"], f"{shown}:{row['channel']}", row["channel"])
        for row in rows
        if row["channel"] and not (own and row["channel"] == row["own"])
    ]


async def announce(
    connection: Connection, found: Sequence[Place], slack: PageSlack, post: Post, only: str | None = None
) -> None:
    """Queue a step for these places, quietly where it is not to be told; `only` one Slack channel."""
    for place in found:
        if only in (None, place.channel):
            is_told = post.notify and slack.tells(_STEPS.get(post.step, ""), place.channel)
            await _put(connection, place, replace(post, id=f"{post.id}:{place.channel}", notify=is_told))


async def _put(connection: Connection, place: Place, item: Notice | Post) -> None:
    """Queue it for this place, which the line remembers from the first on."""
    sql = "INSERT INTO remotes (target_id, line, remote) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    await connection.execute(sql, place.target_id, place.line, {"channel": place.channel})
    await outbox.put(connection, [place.target_id], place.line, item.id, item)


async def spoken_of(connection: Connection, team_id: str, channel: str) -> list[Row]:
    """The open incidents that this Slack channel is linked to, newest first."""
    return await connection.fetch(_SPOKEN_OF, team_id, channel, ENDED)


async def speak_of(connection: Connection, incident: UUID, team_id: str, channel: str) -> None:
    """From now on this channel hears of the incident."""
    sql = "INSERT INTO slack_links (incident_id, team_id, channel) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    await connection.execute(sql, incident, team_id, channel)


# ---- what is owed after some time


async def withdraw(connection: Connection, now_s: float, public_url: str) -> None:
    """Take the buttons from drafts that were withdrawn: nobody is told of that by itself, but they would lead nowhere."""
    for row in await connection.fetch(_WITHDRAWN, _MOST):
        action, reason = show("action", row["id"]), row["reason"]
        notice = Notice(
            id=f"withdrawn:{row['id']}",
            told="draft",
            title=f"Withdrawn: {row['title']}",
            at=now_s,
            why=(reason,) if reason else (),
            action=action,
            by=row["decided_by"],
            link=f"{public_url}/console/actions/{action}",
        )
        await outbox.put(connection, [row["target_id"]], row["line"], notice.id, notice)


async def remind(connection: Connection, now_s: float, public_url: str) -> None:
    """Remind Slack channels of open incidents that nobody spoke of for too long."""
    for row in await connection.fetch(_SILENT, ENDED, now_s, _MOST):
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
