"""Steps of incidents for the publishers of their pages: put together, and queued in the transaction that takes them."""

from collections.abc import Sequence
from typing import Final, Literal
from uuid import UUID

from engine.store import outbox, slack
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from evaluators.fitting import tells
from evaluators.lifecycle import ENDED, impact_of
from evaluators.model import Post
from evaluators.public import component_status
from rules.publisher import PUBLISHER
from rules.slack import PageSlack

MOST_SETTLED: Final = 500
_ALL_WORDS: Final = (
    "(SELECT string_agg(text, E'\n\n' ORDER BY at, position) FROM updates WHERE incident_id = $1)"
)
_SAID_LAST: Final = "SELECT item->>'status' FROM outbox WHERE target_id = objects.id AND incident_id = $5 ORDER BY id DESC LIMIT 1"
_TELLS_ALL: Final = "item->>'step' = 'open' AND coalesce((item->>'is_backfilled')::bool, false)"
Step = Literal["open", "update", "resolve", "edit", "delete"]


async def queue(
    connection: Connection,
    incident: UUID,
    step: Step,
    at: float,
    update: UUID | None = None,
    *,
    only: Sequence[UUID] | None = None,
    channel: str | None = None,
) -> list[str]:
    """Queue this step for every publisher that the incident goes to, or for `only` some. `update`: what is said with it.

    An edit is not for those that were left out of its end: there it is still open.
    Slack hears of it where the page says so, whichever publishers do; of what goes to none only in channels that asked for
    it, and with a `channel` there only.

    Returns the slugs of those that tell their subscribers.
    """
    row = await _row(connection, incident, update)
    publishers = await connection.fetch(
        "SELECT id, slug, spec FROM objects WHERE kind = 'publisher' AND removed_at IS NULL AND page_id = $1 "
        "AND coalesce((spec->>'enabled')::bool, true) AND ($2::uuid[] IS NULL OR id = ANY ($2)) "
        "AND ($3::uuid[] IS NULL OR id = ANY ($3)) AND ($4 = 'incident' OR coalesce((spec->>'maintenance')::bool, true)) "
        "AND NOT EXISTS (SELECT FROM outbox WHERE target_id = objects.id AND incident_id = $5 AND item->>'step' = 'delete') "
        f"AND ($6 <> 'edit' OR $7 <> ALL ($8) OR coalesce(({_SAID_LAST}), $7) = ANY ($8)) "
        "ORDER BY slug",
        row["page_id"],
        row["publishers"],
        only,
        row["kind"],
        incident,
        step,
        row["status"],
        ENDED,
    )
    said = PageSlack.model_validate(row["slack"]) if row["slack"] else None
    goes_to = row["publishers"] if only is None else only
    if said and not channel and goes_to is not None and not goes_to:
        said = said.model_copy(update={"announce": False})
    places = []
    if said and not row["is_backfilled"] and (only is None or step != "delete"):
        places = await slack.places(connection, row["page_id"], said, incident)
    if not publishers and not places:
        return []
    post = await _picture(connection, row, step, at, update)
    if said:
        await slack.announce(connection, places, said, post, channel)
    if not publishers:
        return []
    ids = [one["id"] for one in publishers]
    await outbox.put(
        connection, ids, show("incident", incident), post.id, post, incident=incident, update=update
    )
    await connection.execute("UPDATE incidents SET posted = $2 WHERE id = $1", incident, post.components)
    return [one["slug"] for one in publishers if tells(post, PUBLISHER.validate_python(one["spec"]))]


async def picture(connection: Connection, incident: UUID, step: Step, at: float) -> Post:
    """The incident as a publisher would be shown it now, with what was said of it last."""
    newest = "SELECT id FROM updates WHERE incident_id = $1 ORDER BY at DESC, position DESC LIMIT 1"
    update = await connection.fetchval(newest, incident)
    return await _picture(connection, await _row(connection, incident, update), step, at, update)


async def _row(connection: Connection, incident: UUID, update: UUID | None) -> Row:
    row: Row | None = await connection.fetchrow(
        "SELECT i.*, p.slug AS page, p.spec->'slack' AS slack, u.text, u.is_markdown, u.notify FROM incidents i "
        "JOIN objects p ON p.id = i.page_id LEFT JOIN updates u ON u.id = $2 WHERE i.id = $1",
        incident,
        update,
    )
    assert row is not None
    return row


async def _picture(connection: Connection, row: Row, step: Step, at: float, update: UUID | None) -> Post:
    incident = row["id"]
    components = (await _components(connection, [incident]))[incident]
    page = (await _components(connection, [incident], "c.page_id = i.page_id"))[incident]
    text = row["text"] or ""
    if row["is_backfilled"] and step == "open":  # one post tells all of it
        text = await connection.fetchval(f"SELECT {_ALL_WORDS}", incident)
    return Post(
        id=str(derived_id("post", incident, step, update or row["revision"])),
        step=step,
        incident=show("incident", incident),
        kind=row["kind"],
        page=row["page"],
        title=row["title"],
        status=row["status"],
        impact=impact_of(row["severity"], row["components"].values(), row["impact"]),
        at=at,
        began_at=row["created_at"].timestamp(),
        components=components,
        others={path: s for path, s in page.items() if s != "operational" and path not in components},
        text=text,
        is_markdown=row["is_markdown"] or False,
        notify=row["notify"] or False,
        is_backfilled=row["is_backfilled"],
        starts_at=row["starts_at"].timestamp() if row["starts_at"] else None,
        ends_at=row["ends_at"].timestamp() if row["ends_at"] else None,
    )


async def reword(connection: Connection, incident: UUID, update: UUID | None) -> None:
    """Let steps that have not left say what the update says now."""
    await connection.execute(
        "UPDATE outbox o SET item = jsonb_set(item, '{text}', to_jsonb(CASE WHEN "
        f"{_TELLS_ALL} THEN {_ALL_WORDS} ELSE (SELECT text FROM updates WHERE id = $2) END)) "
        f"WHERE incident_id = $1 AND (update_id = $2 OR {_TELLS_ALL}) AND status = 'pending' AND begun_at IS NULL",
        incident,
        update,
    )


async def settle(connection: Connection, now_s: float, _: str) -> int:
    """Tell publishers of components of which a step said something else than what holds: another incident went on meanwhile.

    Every step is looked at once more after it was committed, so that the last of several sees them all, and again where it
    arrived late. What one incident sets right needs no other. Returns how many had to.
    """
    rows = await connection.fetch(
        "SELECT id, page_id, publishers, posted, removed_at FROM incidents WHERE posted IS NOT NULL ORDER BY id LIMIT $1 "
        "FOR UPDATE SKIP LOCKED",
        MOST_SETTLED,
    )
    await connection.execute(
        "UPDATE incidents SET posted = NULL WHERE id = ANY ($1)", ids := [row["id"] for row in rows]
    )
    shown = await _components(connection, ids)
    right: set[object] = set()
    told = 0
    for row in rows:
        goes_to = (row["page_id"], tuple(row["publishers"] or ()))
        wrong = {(goes_to, *said) for said in shown[row["id"]].items() - row["posted"].items()}
        if row["removed_at"] is None and not wrong <= right:
            await connection.execute("UPDATE incidents SET revision = revision + 1 WHERE id = $1", row["id"])
            await queue(connection, row["id"], "edit", now_s)
            right |= {(goes_to, *said) for said in shown[row["id"]].items()}
            told += 1
    return told


async def _components(
    connection: Connection, incidents: Sequence[UUID], which: str = "c.id = ANY (i.named)"
) -> dict[UUID, dict[str, str]]:
    """What each component that these incidents ever named is shown as now: other open incidents have their say."""
    named = await connection.fetch(
        "SELECT i.id AS incident, c.id::text AS id, p.slug || '/' || c.slug AS path, c.spec->>'status' AS manual "
        f"FROM incidents i JOIN objects c ON {which} JOIN objects p ON p.id = c.page_id "
        "WHERE i.id = ANY ($1) AND c.kind = 'component' AND c.removed_at IS NULL",
        list(incidents),
    )
    said = await connection.fetch(
        "SELECT key AS id, array_agg(DISTINCT CASE WHEN kind = 'incident' THEN value ELSE 'under_maintenance' END) AS statuses "
        "FROM incidents, jsonb_each_text(components) WHERE components ?| $1 AND removed_at IS NULL "
        "AND status <> ALL ($2) AND (kind = 'incident' OR status <> 'scheduled') GROUP BY key",
        list({row["id"] for row in named}),
        ENDED,
    )
    statuses = {row["id"]: row["statuses"] for row in said}
    shown: dict[UUID, dict[str, str]] = {incident: {} for incident in incidents}
    for row in named:
        shown[row["incident"]][row["path"]] = component_status(row["manual"], statuses.get(row["id"], ()))
    return shown
