"""Digests: what is due for one channel leaves as one notice, and ends as one where alerts must be ended."""

from collections import Counter
from collections.abc import Collection
from typing import Final
from uuid import UUID

from msgspec import to_builtins

from engine.store import outbox
from engine.store.database import Connection
from engine.store.ids import derived_id
from evaluators.digest import SHOWN, digest
from evaluators.model import Notice, Stage
from evaluators.routing import BEGINS, Place
from rules.models import TYPED

_OWN: Final = (
    "SELECT FROM outbox p WHERE p.target_id = o.target_id AND p.line = o.line AND p.id < o.id "
    "AND (p.status = 'done' AND (p.digest_id IS NULL OR o.item->>'told' <> ALL ($5)) OR p.status = 'pending' AND p.begun_at IS NOT NULL)"
)
"""What was told of a line by itself, and so must be ended by itself; or all of it in a digest, but for what begins anew ($5)."""


def paired() -> list[str]:
    """Kinds of channels where alerts are opened and ended."""
    return [name for name, rule in TYPED["channel"].items() if getattr(rule, "pairs", False)]


async def fold(connection: Connection, target_id: UUID, now: float) -> int:
    """What is due of lines that a digest told is part of it, and not told by itself; how many there were."""
    said = await connection.execute(
        "UPDATE outbox o SET status = 'done', digest_id = f.digest_id, last_error = 'told in a digest', finished_at = now() "
        "FROM (SELECT p.id, b.digest_id FROM outbox p CROSS JOIN LATERAL (SELECT b.digest_id FROM outbox b "
        " WHERE b.target_id = p.target_id AND b.line = p.line AND b.id < p.id "
        " AND b.status IN ('done', 'pending') ORDER BY b.id DESC LIMIT 1) b "
        " WHERE p.target_id = $1 AND p.status = 'pending' AND p.due_at <= to_timestamp($2) AND b.digest_id IS NOT NULL "
        " AND p.item->>'told' <> ALL ($3) ORDER BY p.id FOR UPDATE OF p) f WHERE o.id = f.id",
        target_id,
        now,
        BEGINS,
    )
    return int(said.rpartition(" ")[2])


async def gather(
    connection: Connection,
    target_id: UUID,
    now: float,
    public_url: str,
    *,
    is_paired: bool,
    busy: Collection[str] = (),
) -> int:
    """Make one of all that is due for a channel, but for lines that are `busy`; how many there were, 0 for fewer than two."""
    # Of a line all that is before goes with it, or nothing; what may have arrived alone stays alone where alerts are ended.
    rows = await connection.fetch(
        "SELECT id, item->>'told' AS told, item->>'title' AS title, item->>'severity' AS severity, (SELECT p.slug FROM objects t "
        "JOIN objects p ON p.id = t.page_id WHERE t.id = $1) AS page FROM outbox o WHERE target_id = $1 AND status = 'pending' "
        "AND due_at <= to_timestamp($2) AND incident_id IS NULL AND item->>'type' <> 'post' AND line <> ALL ($3) "
        "AND line NOT LIKE 'digest\\_%' AND NOT EXISTS (SELECT FROM outbox e WHERE e.target_id = o.target_id AND e.line = o.line "
        " AND e.id < o.id AND e.status = 'pending' AND e.due_at > to_timestamp($2)) "
        f"AND ($4 = false OR o.begun_at IS NULL AND NOT EXISTS ({_OWN})) ORDER BY id FOR UPDATE",
        target_id,
        now,
        list(busy),
        is_paired,
        BEGINS,
    )
    if len(rows) < 2:  # one alone is told as what it is
        return 0
    identity = derived_id("notice", "digest", target_id, rows[0]["id"], rows[-1]["id"])
    severities = {row["severity"] for row in rows}
    notice = digest(
        f"digest_{identity.hex}",
        str(identity),
        Counter(row["told"] for row in rows),
        [row["title"] for row in rows[:SHOWN]],
        "critical" if "critical" in severities else "warning" if "warning" in severities else None,
        now,
        rows[0]["page"],
        f"{public_url}/console/episodes?state=open",
    )
    digest_id = await connection.fetchval(
        # Before whatever came after it, or it would wait behind that for its turn.
        "INSERT INTO outbox (target_id, line, key, item, due_at) VALUES ($1, $2, $3, $4, now() - interval '1 hour') RETURNING id",
        target_id,
        notice.episode,
        notice.id,
        to_builtins(notice),
    )
    await connection.execute(
        "UPDATE outbox SET status = 'done', digest_id = $2, last_error = 'told in a digest', finished_at = now() "
        "WHERE id = ANY ($1)",
        [row["id"] for row in rows],
        digest_id,
    )
    return len(rows)


async def end(connection: Connection, now: float, _: str) -> None:
    """End the alert of each digest once every episode in it has ended: none of them ends by itself there."""
    rows = await connection.fetch(
        "SELECT d.target_id, d.line, d.item FROM outbox d JOIN objects t ON t.id = d.target_id "
        "WHERE d.item->>'told' = 'digest' AND d.status IN ('pending', 'done') AND t.spec->>'type' = ANY ($1) "
        "AND NOT EXISTS (SELECT FROM outbox r WHERE r.line = d.line AND r.target_id = d.target_id AND r.id > d.id) "
        "AND NOT EXISTS (SELECT FROM outbox m JOIN episodes e ON e.id = "
        " CASE WHEN m.line LIKE 'epi\\_%' THEN substr(m.line, 5)::uuid END WHERE m.digest_id = d.id AND e.closed_at IS NULL)",
        paired(),
    )
    for row in rows:
        item = row["item"]
        notice = Notice(
            id=str(derived_id("notice", "recovery", item["id"])),
            told="recovery",
            title=f"All of it is over: {item['title']}",
            at=now,
            page=item.get("page"),
            stage=Stage.OK,
            episode=row["line"],
            since=item["at"],
            link=item.get("link"),
        )
        await outbox.put_all(connection, [outbox.Entry(row["target_id"], row["line"], notice, Place())])
