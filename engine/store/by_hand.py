"""What people do with incidents: begin, say, edit, merge, take over, remove, report. Each in the caller's transaction, and audited.

What may be done is `evaluators.lifecycle`'s. An episode is held before its incident, as `engine.store.reviews` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from engine.store import drafts, incidents, posts, reviews
from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import new_id, show
from engine.store.incidents import Moment, NotNowError, Said, held, life_of, refuse
from engine.store.objects import MissingError
from engine.store.telling import tell_all
from evaluators import lifecycle
from evaluators.lifecycle import ENDED, Dated
from evaluators.model import Impact, Severity
from rules.page import Page


async def begin(connection: Connection, actor: Actor, page_id: UUID, said: Said) -> tuple[UUID, list[str]]:
    """A new incident, and the publishers that tell their subscribers of it."""
    incident = new_id()
    told = await incidents.begin(connection, incident, page_id, said)
    await _record(connection, actor, "create", incident, page_id, None, {"title": said.title})
    return incident, told


async def backfill(
    connection: Connection,
    actor: Actor,
    page_id: UUID,
    said: Said,
    updates: Sequence[Dated],
    acknowledged: float | None,
    resolved: float | None,
) -> UUID:
    """An incident that is entered after it began, `said.at`: nobody is notified, and publishers get all of it as one step."""
    incident = new_id()
    said = replace(said, status=updates[-1].status, notify=False, is_backfilled=True)
    await incidents.enter(connection, incident, page_id, said, acknowledged=acknowledged, resolved=resolved)
    told = [replace(said, status=one.status, text=one.text, at=one.at) for one in updates]
    ids = [await incidents.add_update(connection, incident, one) for one in told]
    await posts.queue(connection, incident, "open", updates[-1].at, ids[-1])
    await _record(connection, actor, "backfill", incident, page_id, None, {"title": said.title})
    return incident


async def update_of(
    connection: Connection,
    actor: Actor,
    incident: UUID,
    moment: Moment,
    *,
    status: str | None,
    text: str,
    components: Mapping[str, str] | None,
    impact: Impact | None,
    notify: bool,
    is_markdown: bool,
) -> tuple[Row, Said]:
    """What it would be to say this of an incident now: status None stays, components None too. Raises `NotNowError`."""
    (row,) = await held(connection, incident)
    refuse(row, status, moment.at)
    said = Said(
        lifecycle.step_of(life_of(row), status),
        None if status == row["status"] else status,
        row["title"],
        text,
        row["components"] if components is None else components,
        moment.at,
        actor.name,
        impact=impact,
        notify=notify,
        is_markdown=is_markdown,
        is_by_hand=True,
        public_url=moment.public_url,
    )
    return row, said


async def say(connection: Connection, actor: Actor, row: Row, said: Said) -> list[str]:
    """Say what `update_of` made; returns the publishers that tell their subscribers."""
    told = await incidents.say(connection, row["id"], said)
    verb = "reopen" if row["status"] in ENDED and said.status not in (None, *ENDED) else said.step
    after = {"status": said.status or row["status"], "text": said.text}
    await _record(connection, actor, verb, row["id"], row["page_id"], {"status": row["status"]}, after)
    return told


async def edit(
    connection: Connection, actor: Actor, incident: UUID, moment: Moment, changes: Mapping[str, Any]
) -> None:
    """Change title, components (all of them) or impact without a word: what was last said of components is corrected with it.

    Raises `NotNowError`.
    """
    (row,) = await held(connection, incident)
    before = {key: row[key] for key in changes}
    if before == changes:
        return
    _refuse_alone(row)
    after = {key: changes.get(key, row[key]) for key in ("title", "components", "impact")}
    await connection.execute(
        "UPDATE incidents SET title = $2, components = $3, impact = $4, revision = revision + 1, "
        "named = ARRAY(SELECT DISTINCT unnest(named || $5::uuid[])) WHERE id = $1",
        incident,
        *after.values(),
        [*map(UUID, after["components"])],
    )
    if "components" in changes:
        await connection.execute(
            "UPDATE updates SET components = $2 WHERE incident_id = $1 AND at >= "
            "coalesce((SELECT max(at) FROM updates WHERE incident_id = $1 AND status <> ALL ($3)), '-infinity')",
            incident,
            changes["components"],
            ENDED,
        )
    await posts.queue(connection, incident, "edit", moment.at)
    await _record(connection, actor, "edit", incident, row["page_id"], before, dict(changes))


async def reword(
    connection: Connection, actor: Actor, incident: UUID, moment: Moment, update: UUID | None, text: str
) -> None:
    """Correct an update's text here, and where it has not left yet. Raises `MissingError`, `NotNowError`."""
    (row,) = await held(connection, incident)
    _refuse_alone(row)
    before = await connection.fetchval(
        "SELECT text FROM updates WHERE id = $1 AND incident_id = $2", update, incident
    )
    if before is None:
        raise MissingError("it has no such update")
    await connection.execute(
        "UPDATE updates SET text = $2, edited_at = to_timestamp($3), edited_by = $4 WHERE id = $1",
        update,
        text,
        moment.at,
        actor.name,
    )
    await connection.execute("UPDATE incidents SET revision = revision + 1 WHERE id = $1", incident)
    await posts.reword(connection, incident, update)
    await _record(connection, actor, "reword", incident, row["page_id"], {"text": before}, {"text": text})


async def remove(connection: Connection, actor: Actor, incident: UUID, moment: Moment) -> None:
    """Take it away from everybody's sight; it is kept, and its episode says nothing more."""
    (row,) = await held(connection, incident)
    await connection.execute(
        "UPDATE incidents SET removed_at = to_timestamp($2), revision = revision + 1 WHERE id = $1",
        incident,
        moment.at,
    )
    await _stop_drafts(connection, row, actor, moment.at, "the incident was deleted")
    await posts.queue(connection, incident, "delete", moment.at)
    if row["status"] not in ENDED:
        await incidents.tell(
            connection, incident, "incident", "Incident deleted", "", moment, str(row["revision"])
        )
    await _record(connection, actor, "delete", incident, row["page_id"], {"title": row["title"]})


async def merge(connection: Connection, actor: Actor, incident: UUID, moment: Moment, into: UUID) -> None:
    """End `incident`; what it said of components, and how bad it was, `into` says from now on. Raises `NotNowError`.

    Where nothing of it was posted yet it is taken away, elsewhere it ends with a pointer. Nobody is notified.
    """
    rows = await held(connection, incident, into)
    row, other = rows
    is_same_page = row["page_id"] == other["page_id"]
    if refused := lifecycle.merge_refusal(
        life_of(row), life_of(other), is_same=incident == into, is_same_page=is_same_page
    ):
        raise NotNowError(refused)
    worst: list[Severity] = [one["severity"] for one in rows if one["severity"]]
    joined = Said(
        "update",
        None,
        other["title"],
        f"This now includes “{row['title']}”.",
        lifecycle.merged(other["components"], row["components"]),
        moment.at,
        actor.name,
        severity="critical" if "critical" in worst else "warning" if worst else None,
        notify=False,
        is_by_hand=True,
        public_url=moment.public_url,
    )
    await connection.execute(
        "UPDATE incidents SET status = 'resolved', resolved_at = to_timestamp($2), merged_into = $3, "
        "revision = revision + 1 WHERE id = $1",
        incident,
        moment.at,
        into,
    )
    text = f"This goes on as “{other['title']}”."
    end = replace(joined, status="resolved", text=text, components=row["components"])
    pointer = await incidents.add_update(connection, incident, end)
    await _stop_drafts(connection, row, actor, moment.at, "the incident was merged")
    await incidents.say(connection, into, joined)
    never = await connection.fetch(
        "SELECT id FROM objects WHERE kind = 'publisher' AND page_id = $2 AND id NOT IN "
        "(SELECT target_id FROM outbox WHERE incident_id = $1 AND status = 'done')",
        incident,
        row["page_id"],
    )
    await posts.queue(connection, incident, "delete", moment.at, only=[one["id"] for one in never])
    await posts.queue(connection, incident, "resolve", moment.at, pointer)
    if row["episode_id"] is None:  # an alert of its own, which ends
        await incidents.tell(connection, incident, "incident", "Incident merged", "", moment, str(pointer))
    after = {"into": show("incident", into)}
    await _record(connection, actor, "merge", incident, row["page_id"], {"status": row["status"]}, after)


async def take_over(connection: Connection, actor: Actor, incident: UUID, moment: Moment) -> None:
    """Only people speak of it from now on. Raises `NotNowError` where no beat or group would."""
    (row,) = await held(connection, incident)
    if row["episode_id"] is None:
        raise NotNowError("no beat or group speaks of it: it is in people's hands")
    await incidents.take_over(connection, incident, actor.name, moment.at)
    await _record(connection, actor, "take_over", incident, row["page_id"])


async def hand_back(connection: Connection, actor: Actor, incident: UUID, moment: Moment) -> None:
    """Its episode speaks of it again; where that is over, its end is a draft. Raises `NotNowError`."""
    (row,) = await held(connection, incident)
    if row["taken_over_by"] is None:
        raise NotNowError("nobody took it over")
    if row["status"] in ENDED:
        raise NotNowError("it is over; open it again first")
    await connection.execute(
        "UPDATE incidents SET taken_over_by = NULL, revision = revision + 1 WHERE id = $1", incident
    )
    await _record(connection, actor, "hand_back", incident, row["page_id"])
    if await connection.fetchval("SELECT closed_at FROM episodes WHERE id = $1", row["episode_id"]):
        waiting = await reviews.stop_speaking(connection, row["episode_id"], moment.at, "it was handed back")
        rows = await reviews.several(connection, waiting)
        await tell_all(connection, [drafts.waiting(one, moment.at, moment.public_url) for one in rows])


async def report(
    connection: Connection,
    actor: Actor,
    incident: UUID,
    moment: Moment,
    *,
    text: str | None = None,
    is_public: bool | None = None,
) -> None:
    """Write what was learnt of it (`text`), publish or hide that (`is_public`), or take it away (neither).

    Raises `NotNowError`: what is not written, and what is not over, is not published. Where a page wants two approvals,
    one writes and another publishes.
    """
    (row,) = await held(connection, incident)
    was_public, by = row["report_status"] == "published" and not _wants_two(row), actor.name
    if is_public is not None:
        text = row["report"]
        if text is None:
            raise NotNowError("it has no report; write one first")
        if is_public and row["status"] not in ENDED:
            raise NotNowError("it is not over: its report is published once it is resolved")
        if is_public and row["report_by"] == by and _wants_two(row):
            raise NotNowError("its page wants two approvals: you wrote it, somebody else publishes it")
        by = row["report_by"]
    status = (
        None if text is None else "published" if (was_public if is_public is None else is_public) else "draft"
    )
    await connection.execute(
        "UPDATE incidents SET report = $2, report_status = $3, report_by = $5, revision = revision + 1, "
        "report_at = CASE WHEN $3 = 'published' THEN coalesce(report_at, to_timestamp($4)) END WHERE id = $1",
        incident,
        text,
        status,
        moment.at,
        by,
    )
    before = {"report": row["report"], "status": row["report_status"]}
    await _record(
        connection, actor, "report", incident, row["page_id"], before, {"report": text, "status": status}
    )


def _wants_two(row: Row) -> bool:
    return Page.model_validate(row["page_spec"]).review.approvals > 1


def _refuse_alone(row: Row) -> None:
    """Nobody changes alone what customers read where two have to approve it."""
    if _wants_two(row):
        raise NotNowError("its page wants two approvals: say it as an update, which is reviewed")


async def _stop_drafts(connection: Connection, row: Row, actor: Actor, at: float, why: str) -> None:
    """Nothing more is said of it: neither by its episode nor by what people drafted."""
    await incidents.take_over(connection, row["id"], actor.name, at)
    await incidents.withdraw(connection, row["id"], why, at, actor.name)


async def _record(
    connection: Connection,
    actor: Actor,
    verb: str,
    incident: UUID,
    page_id: UUID,
    before: object = None,
    after: object = None,
) -> None:
    await record(connection, actor, f"incident.{verb}", show("incident", incident), page_id, before, after)
