"""Incidents and announced maintenance, as customers see them: begun, spoken of, listed. Who may say what is not decided here.

Whatever changes what customers see goes to the publishers of the page in the same transaction: see `engine.store.posts`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from engine.store import broadcasts, posts, telling
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, new_id, show
from engine.store.objects import MissingError
from evaluators.lifecycle import ENDED, Life, impact_of, refusal
from evaluators.model import Impact, Notice, Severity, Stage
from rules.duration import format_duration
from rules.incident import Step
from rules.page import Page

_NAMED: Final = "ARRAY(SELECT DISTINCT unnest(named || {}::uuid[]))"
_OVER: Final = f"ARRAY[{', '.join(map(repr, ENDED))}]"


@dataclass(frozen=True, slots=True, kw_only=False)
class Said:
    """One step in public. `status` None: it stays what it is. `components`: id to status, all that are affected from now on."""

    step: Step
    status: str | None
    title: str
    text: str
    components: Mapping[str, str]
    at: float  # seconds since the epoch
    by: str
    severity: Severity | None = None
    impact: Impact | None = None  # set by a person
    notify: bool = True
    is_markdown: bool = False
    is_backfilled: bool = False
    publishers: Sequence[UUID] | None = None  # it goes to; a new one remembers them. None: to all of its page
    is_by_hand: bool = False  # no beat or group said it: operators are told
    public_url: str = ""  # of this installation, for who is told
    action_id: UUID | None = None
    update_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When something is told without being said in public, and by whom."""

    at: float
    public_url: str
    by: str | None = None


def update_id(said: Said) -> UUID:
    """Of the update that says it: the same for the same action, so that it is said once."""
    if said.update_id is not None:
        return said.update_id
    return derived_id("update", said.action_id) if said.action_id else new_id()


class NotNowError(ValueError):
    """It cannot be done as things are."""


async def hold(connection: Connection, *ids: UUID) -> dict[UUID, Row]:
    """Those of these incidents that are there; nobody else changes them, or what waits of them, until the transaction ends."""
    await connection.fetch(
        "SELECT 1 FROM episodes WHERE id IN (SELECT episode_id FROM incidents WHERE id = ANY ($1)) ORDER BY id FOR UPDATE",
        ids,
    )
    rows = await connection.fetch(
        "SELECT i.*, p.slug AS page, p.spec AS page_spec FROM incidents i JOIN objects p ON p.id = i.page_id "
        "WHERE i.id = ANY ($1) AND i.kind = 'incident' AND i.removed_at IS NULL ORDER BY i.id FOR UPDATE OF i",
        ids,
    )
    return {row["id"]: row for row in rows}


async def held(connection: Connection, *ids: UUID) -> list[Row]:
    """`hold` all of these. Raises `MissingError`."""
    found = await hold(connection, *ids)
    if len(found) < len(set(ids)):
        raise MissingError("there is no such incident")
    return [found[one] for one in ids]


def life_of(row: Row) -> Life:
    """Where it stands."""
    ended_at = row["resolved_at"].timestamp() if row["resolved_at"] else None
    was_over = row["is_backfilled"] and bool(row["resolved_at"]) and row["resolved_at"] <= row["entered_at"]
    return Life(row["status"], ended_at, row["merged_into"] is not None, was_over)


def refuse(row: Row, status: str | None, at: float) -> None:
    """Raises `NotNowError` where people may not say this of one that is held."""
    within_s = Page.model_validate(row["page_spec"]).reopen_within
    if refused := refusal(life_of(row), status, at, within_s):
        raise NotNowError(refused)


async def begin(
    connection: Connection,
    incident: UUID,
    page_id: UUID,
    said: Said,
    episode_id: UUID | None = None,
    *,
    window: tuple[UUID, datetime, datetime] | None = None,
) -> list[str]:
    """A new incident with its first update. Returns the publishers that tell their subscribers, as `say` does.

    With a `window` it is announced maintenance, from then until then.
    """
    await enter(connection, incident, page_id, said, episode_id, window=window)
    return await _write(connection, incident, said)


async def enter(
    connection: Connection,
    incident: UUID,
    page_id: UUID,
    said: Said,
    episode_id: UUID | None = None,
    *,
    window: tuple[UUID, datetime, datetime] | None = None,
    acknowledged: float | None = None,
    resolved: float | None = None,
) -> None:
    """A new incident of which nothing is said yet. Times are seconds since the epoch."""
    await connection.execute(
        "INSERT INTO incidents (id, page_id, episode_id, title, status, components, created_at, severity, impact, by, "
        "is_backfilled, publishers, named, kind, window_id, starts_at, ends_at, acknowledged_at, resolved_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, to_timestamp($7), $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, "
        "to_timestamp($18), to_timestamp($19))",
        incident,
        page_id,
        episode_id,
        said.title,
        said.status,
        said.components,
        said.at,
        said.severity,
        said.impact,
        said.by,
        said.is_backfilled,
        said.publishers,
        [*map(UUID, said.components)],
        "maintenance" if window else "incident",
        *(window or (None, None, None)),
        acknowledged,
        resolved,
    )


async def say(connection: Connection, incident: UUID, said: Said) -> list[str]:
    """An update of an incident. Resolved by hand, its episode says nothing more of it."""
    await connection.execute(
        "UPDATE incidents SET status = coalesce($2, status), components = $3, severity = coalesce($5, severity), "
        "impact = coalesce($6, impact), revision = revision + 1, silence_told_at = NULL, "
        f"named = {_NAMED.format('$8')}, "
        "resolved_at = CASE WHEN $2 = ANY ($7) THEN coalesce(resolved_at, to_timestamp($4)) "
        "WHEN $2 IS NULL THEN resolved_at END WHERE id = $1",
        incident,
        said.status,
        said.components,
        said.at,
        said.severity,
        said.impact,
        ENDED,
        [*map(UUID, said.components)],
    )
    if said.status in ENDED:
        await withdraw(connection, incident, "the incident is over", said.at, said.by, but=said.action_id)
        if said.is_by_hand:
            await take_over(connection, incident, said.by, said.at)
    return await _write(connection, incident, said)


async def withdraw(
    connection: Connection, incident: UUID, why: str, at: float, by: str, *, but: UUID | None = None
) -> None:
    """Take back what people drafted of it."""
    await connection.execute(
        "UPDATE actions SET status = 'withdrawn', reason = $2, decided_at = to_timestamp($3), decided_by = $4 "
        "WHERE incident_id = $1 AND status = 'pending' AND id IS DISTINCT FROM $5",
        incident,
        why,
        at,
        by,
        but,
    )


async def _write(connection: Connection, incident: UUID, said: Said) -> list[str]:
    update = await add_update(connection, incident, said)
    told = await posts.queue(connection, incident, said.step, said.at, update, only=said.publishers)
    if said.notify and not said.is_backfilled:
        await broadcasts.queue(connection, incident, update, said.by)
    if said.is_by_hand:
        verb = {"open": "opened", "update": "updated", "resolve": "resolved"}[said.step]
        await tell(connection, incident, "incident", f"Incident {verb}", said.text, said, str(update))
    return told


async def add_update(connection: Connection, incident: UUID, said: Said) -> UUID:
    """What is said, with the incident; nobody is told of it. Returns its id."""
    update = update_id(said)
    await connection.execute(
        "INSERT INTO updates (id, incident_id, action_id, status, text, components, at, by, notify, is_markdown) "
        "SELECT $1, $2, $3, coalesce($10, status), $4, $5, to_timestamp($6), $7, $8, $9 FROM incidents WHERE id = $2",
        update,
        incident,
        said.action_id,
        said.text,
        said.components,
        said.at,
        said.by,
        said.notify,
        said.is_markdown,
        said.status,
    )
    return update


async def tell(
    connection: Connection,
    incident: UUID,
    told: Literal["incident", "silence"],
    headline: str,
    text: str,
    said: Said | Moment,
    key: str,
) -> None:
    """Tell operators of what customers were told, or of their silence: every channel of the page that wants such news."""
    row = await connection.fetchrow(
        "SELECT i.*, p.slug AS page FROM incidents i JOIN objects p ON p.id = i.page_id WHERE i.id = $1",
        incident,
    )
    assert row is not None
    shown = show("incident", incident)
    impact = impact_of(row["severity"], row["components"].values(), row["impact"])
    severity: Severity = "critical" if impact in ("major", "critical") else "warning"
    is_over = row["status"] in ENDED or row["removed_at"] is not None
    notice = Notice(
        id=str(derived_id("notice", told, incident, key)),
        told=told,
        title=f"{headline}: {row['title']}",
        at=said.at,
        page=row["page"],
        stage=Stage.OK if is_over else Stage(severity),
        severity=severity,
        why=(text,) if text else (),
        episode=show("episode", row["episode_id"]) if row["episode_id"] else None,
        since=row["created_at"].timestamp(),
        incident=shown,
        by=said.by,
        link=f"{said.public_url}/console/incidents/{shown}",
    )
    await telling.tell_all(connection, [telling.Telling(row["page_id"], None, shown, notice)])


async def take_over(connection: Connection, incident: UUID, by: str, at: float) -> None:
    """From now on only people speak of it: its episode says nothing more by itself, and what waits of that is withdrawn."""
    episode = await connection.fetchval(
        "UPDATE incidents SET taken_over_by = $2, revision = revision + 1 WHERE id = $1 AND episode_id IS NOT NULL "
        "RETURNING episode_id",
        incident,
        by,
    )
    await connection.execute(
        "UPDATE actions SET status = 'withdrawn', reason = 'a person took the incident over', "
        "decided_at = to_timestamp($2), decided_by = $3 WHERE episode_id = $1 AND status = 'pending'",
        episode,
        at,
        by,
    )


async def taken_over(connection: Connection, episodes: Collection[UUID]) -> set[UUID]:
    """Those for which a person speaks in public, or of which one took the incident away."""
    rows = await connection.fetch(
        "SELECT episode_id FROM incidents WHERE episode_id = ANY ($1) AND taken_over_by IS NOT NULL", episodes
    )
    return {row["episode_id"] for row in rows}


async def speaking_for_others(connection: Connection, episodes: Collection[UUID]) -> set[UUID]:
    """Those whose incident took in another whose episode is still open."""
    rows = await connection.fetch(
        "WITH RECURSIVE took AS (SELECT episode_id AS first, id, episode_id FROM incidents WHERE episode_id = ANY ($1) UNION "
        "SELECT t.first, i.id, i.episode_id FROM incidents i JOIN took t ON i.merged_into = t.id) "
        "SELECT DISTINCT first FROM took t JOIN episodes e ON e.id = t.episode_id WHERE e.id <> t.first AND e.closed_at IS NULL",
        episodes,
    )
    return {row["first"] for row in rows}


async def break_silence(connection: Connection, now_s: float, public_url: str) -> int:
    """Tell operators, once each, of open incidents of which customers heard nothing for too long; returns how many."""
    lasting = f"i.kind = 'incident' AND i.removed_at IS NULL AND i.silence_told_at IS NULL AND i.status <> ALL ({_OVER})"
    pages = await connection.fetch(
        f"SELECT DISTINCT p.id, p.spec FROM incidents i JOIN objects p ON p.id = i.page_id WHERE {lasting}"
    )
    most = {row["id"]: limit for row in pages if (limit := Page.model_validate(row["spec"]).speak_every)}
    rows = await connection.fetch(
        "SELECT i.id, s.at, m.limit_s FROM incidents i JOIN unnest($1::uuid[], $2::float8[]) AS m (page_id, limit_s) "
        "ON m.page_id = i.page_id, LATERAL (SELECT max(u.at) AS at FROM updates u WHERE u.incident_id = i.id) s "
        f"WHERE {lasting} AND CASE WHEN i.is_backfilled THEN greatest(s.at, i.entered_at) ELSE s.at END "
        "<= to_timestamp($3) - make_interval(secs => m.limit_s) LIMIT 200 FOR UPDATE OF i SKIP LOCKED",
        list(most),
        list(most.values()),
        now_s,
    )
    for row in rows:
        headline = f"Customers heard nothing for {format_duration(row['limit_s'])}"
        key = f"{row['at'].timestamp():.6f}"
        await tell(connection, row["id"], "silence", headline, "", Moment(now_s, public_url), key)
        await connection.execute(
            "UPDATE incidents SET silence_told_at = to_timestamp($2) WHERE id = $1", row["id"], now_s
        )
    return len(rows)


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    status: str | None = None,
    kind: str | None = None,
    incident: UUID | None = None,
    owner: UUID | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Incidents and announced maintenance, newest first; `status` `open` is every one that has not ended."""
    return await connection.fetch(
        "SELECT i.*, p.slug AS page, o.slug AS owner, o.kind AS owner_kind FROM incidents i "
        "JOIN objects p ON p.id = i.page_id "
        "LEFT JOIN episodes e ON e.id = i.episode_id LEFT JOIN objects o ON o.id = e.owner_id "
        "WHERE i.removed_at IS NULL AND ($1::uuid[] IS NULL OR i.page_id = ANY ($1)) AND ($8::text IS NULL OR i.kind = $8) "
        "AND ($2::text IS NULL OR CASE $2 WHEN 'open' THEN i.status <> ALL ($9) ELSE i.status = $2 END) "
        "AND ($3::uuid IS NULL OR i.id = $3) AND ($7::uuid IS NULL OR e.owner_id = $7) "
        "AND ($4::timestamptz IS NULL OR (i.created_at, i.id) < ($4, $5)) "
        "ORDER BY i.created_at DESC, i.id DESC LIMIT $6",
        pages,
        status,
        incident,
        before[0] if before else None,
        before[1] if before else None,
        limit,
        owner,
        kind,
        ENDED,
    )


async def updates(connection: Connection, incident_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """Updates of these incidents, newest first."""
    rows = await connection.fetch(
        "SELECT * FROM updates WHERE incident_id = ANY ($1) ORDER BY at DESC, position DESC",
        list(incident_ids),
    )
    found: dict[UUID, list[Row]] = {incident: [] for incident in incident_ids}
    for row in rows:
        found[row["incident_id"]].append(row)
    return found


async def component_names(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """(page slug, slug, name) of components by id, removed ones too."""
    rows = await connection.fetch(
        "SELECT c.id, p.slug AS page, c.slug, c.spec->>'name' AS name FROM objects c "
        "JOIN objects p ON p.id = c.page_id WHERE c.id = ANY ($1::uuid[])",
        list(ids),
    )
    return {str(row["id"]): (row["page"], row["slug"], row["name"]) for row in rows}
