"""Episodes as operators work on them: acknowledged, commented, assigned, escalated, snoozed; each told, noted and audited.

When one begins and ends is not decided here: `engine.store.reviews` writes what the evaluators say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from engine.store import objects, outbox
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, new_id, show
from engine.store.states import moment
from engine.store.telling import Telling, tell_all
from evaluators.model import Notice, Stage
from evaluators.routing import Place, Standing, place
from rules.channel import CHANNEL
from rules.channels.channel import Told
from rules.duration import format_duration

REMINDED_AT_ONCE: Final = 2000
State = Literal["open", "acknowledged", "unacknowledged", "snoozed", "closed"]
_STATES: Final[Mapping[State, str]] = {
    "open": "e.closed_at IS NULL",
    "acknowledged": "e.closed_at IS NULL AND e.acknowledged_at IS NOT NULL",
    "unacknowledged": "e.closed_at IS NULL AND e.acknowledged_at IS NULL",
    "snoozed": "e.closed_at IS NULL AND e.snoozed_until > now()",
    "closed": "e.closed_at IS NOT NULL",
}
_DEEDS: Final[Mapping[str, tuple[str, Told | None]]] = {
    "acknowledge": ("acknowledged", "acknowledged"),
    "unacknowledge": ("unacknowledged", None),
    "comment": ("comment", "comment"),
    "assign": ("assigned", "assigned"),
    "escalate": ("escalated", "escalation"),
    "snooze": ("snoozed", "snoozed"),
}
"""What people may do: how it is noted, and told."""
_EPISODES: Final = (
    "SELECT e.*, o.kind AS owner_kind, o.slug AS owner, o.spec->>'name' AS owner_name, o.page_id, p.slug AS page, "
    "o.spec->'channels' AS channels, o.spec->'tags' AS tags FROM episodes e "
    "JOIN objects o ON o.id = e.owner_id JOIN objects p ON p.id = o.page_id "
)


@dataclass(frozen=True, slots=True)
class By:
    """Who does something, when, and where this installation is."""

    actor: Actor
    at: float
    public_url: str


class EpisodeOverError(Exception):
    """It ended; there is nothing to acknowledge, assign, escalate or snooze any more."""

    def __init__(self) -> None:
        super().__init__("the episode is over")


class NoSuchUserError(Exception):
    """Nobody who may look at it has that e-mail."""

    def __init__(self, email: str) -> None:
        super().__init__(f"there is no user {email!r} of this page; name one by e-mail, or null for nobody")


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    state: State | None = None,
    owner: UUID | None = None,
    assignee: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Episodes with the slug of their owner, newest first."""
    return await connection.fetch(
        _EPISODES + "WHERE ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) "
        f"AND {_STATES[state] if state else 'true'} "
        "AND ($2::uuid IS NULL OR e.owner_id = $2) AND ($3::text IS NULL OR e.assignee = $3) "
        "AND ($4::timestamptz IS NULL OR (e.opened_at, e.id) < ($4, $5)) ORDER BY e.opened_at DESC, e.id DESC LIMIT $6",
        pages,
        owner,
        assignee,
        before[0] if before else None,
        before[1] if before else None,
        limit,
    )


async def one(connection: Connection, episode: UUID, *, lock: bool = False) -> Row:
    """An episode with the slug of its owner. Raises `LookupError`."""
    row: Row | None = await connection.fetchrow(
        f"{_EPISODES} WHERE e.id = $1{' FOR UPDATE OF e' if lock else ''}", episode
    )
    if row is None:
        raise LookupError(f"there is no episode {episode}")
    return row


async def notes(connection: Connection, episode: UUID) -> list[Row]:
    """What people did with it and said of it, oldest first."""
    return await connection.fetch("SELECT * FROM notes WHERE episode_id = $1 ORDER BY at, id", episode)


async def notices(connection: Connection, episode: Row, limit: int = 200) -> list[Row]:
    """What channels were told of it, or are about to be, oldest first."""
    return await connection.fetch(
        "SELECT n.*, t.slug FROM objects t JOIN outbox n ON n.target_id = t.id AND n.line = $1 "
        "WHERE t.kind = 'channel' AND t.page_id = $2 ORDER BY n.id LIMIT $3",
        show("episode", episode["id"]),
        episode["page_id"],
        limit,
    )


async def newest_began_at(connection: Connection, owners: Sequence[UUID]) -> dict[UUID, float]:
    """When the newest episode of each began; seconds since the epoch."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (owner_id) owner_id, extract(epoch FROM opened_at)::float8 AS began_at FROM episodes "
        "WHERE owner_id = ANY ($1) ORDER BY owner_id, number DESC",
        list(owners),
    )
    return {row["owner_id"]: row["began_at"] for row in rows}


async def acknowledge(connection: Connection, by: By, episode: UUID) -> Row:
    """Somebody looks at it: nobody is reminded of it, and who would be told later is not. The first one stays."""
    row = await one(connection, episode, lock=True)
    if row["acknowledged_at"] is not None:
        return row
    changed = {"acknowledged_at": moment(by.at), "acknowledged_by": by.actor.name}
    return await _done(connection, by, row, "acknowledge", changed, f"{by.actor.name} acknowledged")


async def unacknowledge(connection: Connection, by: By, episode: UUID) -> Row:
    """Nobody looks at it any more."""
    row = await one(connection, episode, lock=True)
    if row["acknowledged_at"] is None:
        return row
    return await _done(
        connection, by, row, "unacknowledge", {"acknowledged_at": None, "acknowledged_by": None}
    )


async def comment(connection: Connection, by: By, episode: UUID, text: str) -> Row:
    """Say something of it to the others; also once it is over."""
    row = await one(connection, episode, lock=True)
    return await _done(connection, by, row, "comment", {}, f"{by.actor.name} on", text)


async def assignable(connection: Connection, page_id: UUID) -> list[str]:
    """E-mails of the users who may look at what is of this page."""
    rows = await connection.fetch(
        "SELECT email FROM users u WHERE NOT disabled AND EXISTS (SELECT FROM roles r WHERE r.user_id = u.id "
        "AND (r.page_id IS NULL OR r.page_id = $1)) ORDER BY lower(email)",
        page_id,
    )
    return [row["email"] for row in rows]


async def assign(connection: Connection, by: By, episode: UUID, email: str | None) -> Row:
    """It is theirs from now on; None: nobody's. Raises `NoSuchUserError`."""
    row = await one(connection, episode, lock=True)
    found = await assignable(connection, row["page_id"]) if email else []
    whose = next((one for one in found if one.lower() == (email or "").lower()), None)
    if email and whose is None:
        raise NoSuchUserError(email)
    if whose == row["assignee"]:
        return row
    said = f"{whose} was given" if whose else f"{row['assignee']} no longer has"
    return await _done(connection, by, row, "assign", {"assignee": whose}, said, whose or "")


async def escalate(connection: Connection, by: By, episode: UUID, text: str = "") -> Row:
    """Tell everybody who may be told of it now, also who would be told later."""
    row, changed = await one(connection, episode, lock=True), {"escalated_at": moment(by.at)}
    return await _done(connection, by, row, "escalate", changed, f"{by.actor.name} escalated", text)


async def snooze(connection: Connection, by: By, episode: UUID, for_s: float | None) -> Row:
    """Nobody is reminded of it for so long, unless it becomes worse; None: they are again."""
    row = await one(connection, episode, lock=True)
    until = moment(by.at + for_s) if for_s else None
    if until is None and row["snoozed_until"] is None:
        return row
    said = f"{by.actor.name} snoozed" if for_s else f"{by.actor.name} ended the snooze of"
    text = f"for {format_duration(for_s)}" if for_s else ""
    return await _done(connection, by, row, "snooze", {"snoozed_until": until}, said, text)


async def wake(connection: Connection, episode: UUID) -> None:
    """It became worse: it is snoozed no longer."""
    await connection.execute(
        "UPDATE episodes SET snoozed_until = NULL WHERE id = $1 AND snoozed_until IS NOT NULL", episode
    )


async def _done(
    connection: Connection,
    by: By,
    row: Row,
    verb: str,
    changed: Mapping[str, Any],
    said: str = "",
    text: str = "",
) -> Row:
    """Write it, note it, audit it and tell it, in the caller's transaction; the episode as it is now. Raises `EpisodeOverError`."""
    if row["closed_at"] is not None and verb != "comment":
        raise EpisodeOverError
    kind, told = _DEEDS[verb]
    if changed:
        places = ", ".join(f"{name} = ${n}" for n, name in enumerate(changed, 2))
        await connection.execute(f"UPDATE episodes SET {places} WHERE id = $1", row["id"], *changed.values())
    note = new_id()
    await connection.execute(
        "INSERT INTO notes (id, episode_id, at, by, kind, text) VALUES ($1, $2, to_timestamp($3), $4, $5, $6)",
        note,
        row["id"],
        by.at,
        by.actor.name,
        kind,
        text,
    )
    before = {name: _plain(row[name]) for name in changed}
    after = {name: _plain(value) for name, value in changed.items()} | ({"text": text} if text else {})
    shown = show("episode", row["id"])
    await record(connection, by.actor, f"episode.{verb}", shown, row["page_id"], before, after)
    if told is not None:
        title = f"{said} {row['owner_name'] or row['owner']}"
        notice = notice_of(row, told, title, by.at, by.public_url, str(note), why=text, by=by.actor.name)
        await tell_all(connection, [Telling(row["page_id"], row["channels"] or (), shown, notice)])
    return await one(connection, row["id"])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def notice_of(
    row: Row,
    told: Told,
    title: str,
    at: float,
    public_url: str,
    key: str,
    *,
    why: str = "",
    by: str | None = None,
) -> Notice:
    """What operators are told of an episode beside how it begins, changes and ends."""
    shown, is_group = show("episode", row["id"]), row["owner_kind"] == "group"
    name = row["owner_name"] or row["owner"]
    return Notice(
        id=str(derived_id("notice", told, row["id"], key)),
        told=told,
        title=title,
        at=at,
        beat=None if is_group else row["owner"],
        beat_title=None if is_group else name,
        group=row["owner"] if is_group else None,
        group_title=name if is_group else None,
        page=row["page"],
        stage=Stage(row["severity"]) if row["closed_at"] is None else Stage.OK,
        severity=row["severity"],
        why=(why,) if why else (),
        episode=shown,
        since=row["opened_at"].timestamp(),
        by=by,
        tags=tuple(row["tags"] or ()),
        link=f"{public_url}/console/episodes/{shown}",
    )


async def remind(connection: Connection, now: float, public_url: str) -> int:
    """Tell channels again of what nobody acknowledged, so long after they were last told as each asks for; how many were told."""
    entries: list[outbox.Entry] = []
    for stored in await objects.listing(connection, "channel"):
        rule = CHANNEL.validate_python(stored.spec)
        if rule.remind is None or not rule.enabled or "reminder" not in rule.on:
            continue
        rows = await connection.fetch(
            "SELECT e.*, n.told_at, (SELECT stage FROM states WHERE subject_id = e.owner_id) AS stage "
            f"FROM ({_EPISODES} WHERE o.page_id = $1 AND e.closed_at IS NULL AND e.acknowledged_at IS NULL "
            "AND NOT e.frozen AND e.severity = ANY ($5) AND coalesce(e.snoozed_until, to_timestamp(0)) <= to_timestamp($6)) e "
            "CROSS JOIN LATERAL (SELECT max(greatest((n.item->>'at')::float8, extract(epoch FROM n.due_at))) AS told_at, "
            "bool_or(n.status = 'pending') AS waits FROM outbox n WHERE n.target_id = $2 AND n.status <> 'dropped' "
            "AND n.line = 'epi_' || replace(e.id::text, '-', '') AND n.item->>'told' IN ('open', 'change', 'reminder', 'escalation')) n "
            "WHERE n.told_at <= $3 AND NOT n.waits ORDER BY n.told_at LIMIT $4",
            stored.page_id,
            stored.id,
            now - rule.remind,
            REMINDED_AT_ONCE,
            rule.severities,
            now,
        )
        for row in rows:
            lasting = format_duration(round((now - row["opened_at"].timestamp()) / 60) * 60)
            state = (
                "flapping" if row["flapping"] else "unknown" if row["stage"] == "unknown" else row["severity"]
            )
            title = f"{row['owner_name'] or row['owner']} is still {state} after {lasting}, and nobody acknowledged it"
            notice = notice_of(row, "reminder", title, now, public_url, f"{row['told_at']:.3f}")
            # Outside of its hours there is nothing to keep: it is reminded once they begin.
            if place(rule, notice, Standing(is_told=True)) == Place():
                entries.append(outbox.Entry(stored.id, notice.episode or "", notice, Place()))
    await outbox.put_all(connection, entries)
    return len(entries)
