"""Who wants to be told by a page: asked, confirmed, changed, ended. Every SQL of subscribers; what they are sent is `letters`'."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from engine.store.database import Connection, Row
from engine.store.ids import new_id
from rules.page import SubscriberKind

Status = Literal["pending", "active", "unsubscribed", "bounced"]
Source = Literal["page", "admin", "import"]
ASK_AGAIN_S: Final = 3600.0
"""So long after a link was mailed no other one is, whoever asks."""
MOST_ASKED: Final = 3
"""Links to one address a day."""
PENDING_DAYS: Final = 7
"""Who did not confirm for so long is forgotten."""
MOST_FAILURES: Final = 3
"""Refusals in a row, each for good, after which nothing more is sent there."""


class Asked(NamedTuple):
    """Whoever asked, and whether to mail them a link now: not too soon after the last one, nor too often."""

    row: Row
    is_new: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody whom an operator adds."""

    kind: SubscriberKind
    address: str
    name: str = ""
    components: Sequence[UUID] | None = None  # None: all of the page
    language: str | None = None


def folded(kind: SubscriberKind, address: str) -> str:
    """The address as it is compared: two ways to write one mailbox or URL are one subscriber."""
    if kind == "email":
        return address.strip().lower()
    parts = urlsplit(address.strip())
    return parts._replace(
        scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), path=parts.path or "/", fragment=""
    ).geturl()


def _token() -> str:
    return secrets.token_urlsafe(24)


async def ask(connection: Connection, page_id: UUID, entry: Entry, source: Source) -> Asked:
    """Somebody is to be told, and has to confirm. Who is told already stays as they are; who ended it has not begun again
    before they confirm, and is asked only where they asked themselves; an address that bounced also where it is given by hand.
    """
    row = await connection.fetchrow(
        "INSERT INTO subscribers AS s (id, page_id, kind, address, folded, components, language, status, token, name, source) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10) ON CONFLICT (page_id, kind, folded) DO UPDATE SET "
        "components = CASE WHEN s.status = 'pending' OR s.status <> 'active' AND $10 = 'page' THEN $6 ELSE s.components END, "
        "language = CASE WHEN s.status = 'pending' OR s.status <> 'active' AND $10 = 'page' THEN $7 ELSE s.language END RETURNING *",
        new_id(),
        page_id,
        entry.kind,
        entry.address.strip(),
        folded(entry.kind, entry.address),
        entry.components,
        entry.language,
        _token(),
        entry.name,
        source,
    )
    assert row is not None
    asked = await connection.fetchrow(
        "UPDATE subscribers SET asked = CASE WHEN asked_at > now() - interval '1 day' THEN asked + 1 ELSE 1 END, "
        "asked_at = now() WHERE id = $1 AND (asked_at IS NULL OR asked_at <= now() - make_interval(secs => $2) "
        "AND (asked < $3 OR asked_at <= now() - interval '1 day')) "
        "AND ($4 = 'page' OR status = 'pending' OR status = 'bounced' AND $4 = 'admin') RETURNING *",
        row["id"],
        ASK_AGAIN_S,
        MOST_ASKED,
        source,
    )
    return Asked(asked or row, asked is not None)


async def by_token(connection: Connection, token: str) -> Row | None:
    """Whose token it is."""
    row: Row | None = await connection.fetchrow("SELECT * FROM subscribers WHERE token = $1", token)
    return row


async def get(connection: Connection, subscriber: UUID) -> Row | None:
    """One of them, of a page that is there."""
    row: Row | None = await connection.fetchrow(
        "SELECT s.* FROM subscribers s JOIN objects p ON p.id = s.page_id AND p.removed_at IS NULL WHERE s.id = $1",
        subscriber,
    )
    return row


async def edit(connection: Connection, subscriber: UUID, changes: Mapping[str, Any]) -> Row | None:
    """Set `name`, `components` (None: all of the page), `language` (None: its first), `status`; returns what holds then.

    Who becomes active is one who confirmed; to who is not, nothing more is sent, nor what waits. Twice is once. None: there is none.
    """
    row: Row | None = await connection.fetchrow(  # locked: what others change meanwhile is not set back
        "SELECT * FROM subscribers WHERE id = $1 FOR NO KEY UPDATE", subscriber
    )
    if row is None:
        return None
    new = {name: changes.get(name, row[name]) for name in ("name", "components", "language", "status")}
    row = await connection.fetchrow(
        "UPDATE subscribers SET name = $2, components = $3, language = $4, status = $5, "
        "confirmed_at = CASE WHEN $5 = 'active' AND status <> 'active' THEN now() ELSE confirmed_at END, "
        "unsubscribed_at = CASE WHEN $5 = 'unsubscribed' THEN coalesce(unsubscribed_at, now()) END, "
        "asked = CASE WHEN $5 = status THEN asked ELSE 0 END, failures = CASE WHEN $5 = status THEN failures ELSE 0 END, "
        "error = CASE WHEN $5 = status THEN error END WHERE id = $1 RETURNING *",
        subscriber,
        *new.values(),
    )
    if new["status"] != "active":
        await _drop(connection, [subscriber], "they are no longer told")
    return row


async def remove(connection: Connection, subscriber: UUID) -> None:
    """Forget one, and what they were sent."""
    await connection.execute("DELETE FROM subscribers WHERE id = $1", subscriber)


async def listing(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    kind: str | None = None,
    status: str | None = None,
    component: UUID | None = None,
    search: str | None = None,
    finds_urls: bool = True,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Those of these pages (None: all), newest first. `component`: who hears of it; `search`: part of an address or a name."""
    return await connection.fetch(
        "SELECT s.* FROM subscribers s JOIN objects p ON p.id = s.page_id AND p.removed_at IS NULL "
        "WHERE ($1::uuid[] IS NULL OR s.page_id = ANY ($1)) AND ($2::text IS NULL OR s.kind = $2) "
        "AND ($3::text IS NULL OR s.status = $3) AND ($4::uuid IS NULL OR s.components IS NULL OR $4 = ANY (s.components)) "
        "AND ($5::text IS NULL OR position(lower($5) IN lower(s.name)) > 0 "
        " OR position(lower($5) IN s.folded) > 0 AND (s.kind = 'email' OR $9)) "
        "AND ($6::timestamptz IS NULL OR (s.created_at, s.id) < ($6, $7)) ORDER BY s.created_at DESC, s.id DESC LIMIT $8",
        pages,
        kind,
        status,
        component,
        search,
        before[0] if before else None,
        before[1] if before else None,
        limit,
        finds_urls,
    )


async def counts(connection: Connection, page_id: UUID) -> dict[str, int]:
    """How many of a page there are of each status."""
    rows = await connection.fetch(
        "SELECT status, count(*) AS n FROM subscribers WHERE page_id = $1 GROUP BY 1", page_id
    )
    return {row["status"]: row["n"] for row in rows}


async def told(connection: Connection) -> tuple[int, int]:
    """How many are told by mail, and in all."""
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE kind = 'email') AS mailed, count(*) AS n FROM subscribers WHERE status = 'active'"
    )
    assert row is not None
    return row["mailed"], row["n"]


async def add(connection: Connection, page_id: UUID, entry: Entry) -> Asked:
    """One whom an operator answers for, told from now on. Not new: they were told before, or had unsubscribed and stay so."""
    key = entry.kind, folded(entry.kind, entry.address)
    added = await import_many(connection, page_id, [entry], source="admin")
    if key in added:
        return Asked(added[key], True)
    row = await connection.fetchrow(
        "SELECT * FROM subscribers WHERE page_id = $1 AND kind = $2 AND folded = $3", page_id, *key
    )
    assert row is not None
    return Asked(row, False)


async def import_many(
    connection: Connection, page_id: UUID, entries: Sequence[Entry], source: Source = "import"
) -> dict[tuple[str, str], Row]:
    """Tell these from now on, each once; returns those that were not told before, by kind and folded address.

    Who unsubscribed is left alone, and so is an address that bounced unless it is given by hand. A dry run is one in a
    transaction that is rolled back.
    """
    each = {(entry.kind, folded(entry.kind, entry.address)): entry for entry in entries}
    rows = await connection.fetch(
        "INSERT INTO subscribers AS s (id, page_id, kind, address, folded, name, components, language, status, token, source, "
        "confirmed_at) SELECT id, $1, kind, address, folded, name, components::uuid[], language, 'active', token, $2, now() "
        "FROM unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) "
        "AS n (id, kind, address, folded, name, components, language, token) ON CONFLICT (page_id, kind, folded) DO UPDATE SET "
        "status = 'active', confirmed_at = now(), failures = 0, error = NULL, components = excluded.components, "
        "name = excluded.name, language = excluded.language "
        "WHERE s.status = 'pending' OR s.status = 'bounced' AND $2 = 'admin' RETURNING *",
        page_id,
        source,
        [new_id() for _ in each],
        [kind for kind, _ in each],
        [entry.address.strip() for entry in each.values()],
        [address for _, address in each],
        [entry.name for entry in each.values()],
        [
            None if one.components is None else f"{{{','.join(map(str, one.components))}}}"
            for one in each.values()
        ],
        [entry.language for entry in each.values()],
        [_token() for _ in each],
    )
    return {(row["kind"], row["folded"]): row for row in rows}


async def _drop(connection: Connection, which: Sequence[UUID], why: str) -> None:
    await connection.execute(
        "UPDATE letters SET status = 'dropped', last_error = $2, finished_at = now() "
        "WHERE subscriber_id = ANY ($1) AND status = 'pending' AND broadcast_id IS NOT NULL",
        which,
        why,
    )


async def delivered(connection: Connection, which: Sequence[UUID]) -> None:
    """These have got something: what was refused before is forgotten."""
    await connection.execute(
        "UPDATE subscribers SET failures = 0, error = NULL WHERE id = ANY ($1) AND failures > 0", which
    )


async def bounced(connection: Connection, refusals: Mapping[UUID, tuple[str, bool]]) -> None:
    """These were refused for good, each with why and whether there is nobody at all: then, or after `MOST_FAILURES` in a row,
    nothing more is sent there.
    """
    rows = await connection.fetch(
        "UPDATE subscribers s SET failures = failures + 1, error = n.why, "
        "status = CASE WHEN s.status = 'active' AND (n.is_gone OR failures + 1 >= $4) THEN 'bounced' ELSE s.status END "
        "FROM unnest($1::uuid[], $2::text[], $3::bool[]) AS n (id, why, is_gone) WHERE s.id = n.id RETURNING s.id, s.status",
        list(refusals),
        [why[:500] for why, _ in refusals.values()],
        [is_gone for _, is_gone in refusals.values()],
        MOST_FAILURES,
    )
    await _drop(
        connection, [row["id"] for row in rows if row["status"] == "bounced"], "their address bounced"
    )
