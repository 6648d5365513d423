"""Episodes, actions and incidents: what `evaluators.review` commands, and what people say, written in one transaction.

Whoever touches an episode's actions holds its row lock first, so that an approval and a recovery cannot pass each other.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from engine.store import incidents
from engine.store.audit import POLICY, Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, new_id, show
from engine.store.objects import Stored
from engine.store.wording import wording
from evaluators import review
from evaluators.facts import EpisodeClosed, EpisodeOpened, Of, StepProposed
from evaluators.model import Severity
from rules.owner import OwnerRule
from rules.subject import rule_of

REPORTED: Final = "report"
"""The source of signals that are no trigger's."""
_SPEAKERS: Final = (
    f"SELECT source::uuid FROM signals WHERE subject_id = ANY ({{}}) AND source <> '{REPORTED}'"
)
"""Whose signals are open on some subjects, but for those that are reported."""
RESOLVE_DRAFT_LIFE_S = 86400.0
"""How long a draft waits once its episode is over; before, it escalates rather than expires."""

_STOPS = {
    "removed": "it was removed",
    "left": "what was bad was taken away",
    "inactive": "nothing is known of it any more",
}


class ActionGoneError(Exception):
    """The action can no longer be decided; `status` says why."""

    def __init__(self, status: str, by: str | None) -> None:
        super().__init__(f"the action is {status}" + (f" by {by}" if by else ""))
        self.status = status
        self.by = by


class StaleRevisionError(Exception):
    """The action was revised since it was read; `current` is its revision now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the action says something else now: it is at revision {current}; read it again")
        self.current = current


def episode_id(owner_id: UUID, number: int) -> UUID:
    """The id of an owner's n-th episode: the same wherever it is computed, so that it can only be opened once."""
    return derived_id("episode", owner_id, number)


def evidence_of(row: Row) -> dict[str, Any]:
    """What a draft shows of one region's newest run."""
    failed = row["failure_type"] is not None
    return {
        "region": row["region"],
        "verdict": row["verdict"],
        "at": row["at"].isoformat(),
        "run": show("run", row["run_id"]),
        "error": {"type": row["failure_type"], "message": row["failure_message"]} if failed else None,
    }


def signal_evidence(row: Row) -> dict[str, Any]:
    """What a draft shows of an open signal; of a trigger's, its id, its slug and the event."""
    said = {"trigger_id": row["source"], **(row["evidence"] or {})} if row["source"] != REPORTED else {}
    return said | {
        "region": row["by"] if said else row["source"],
        "verdict": row["severity"],
        "at": row["at"].isoformat(),
        "error": {"type": row["fingerprint"], "message": row["message"]},
    }


async def open_episode(connection: Connection, owner: Stored, effect: EpisodeOpened) -> None:
    """Remember a new episode with its owner as it is now; one that goes on keeps the owner it had."""
    if effect.reopened:
        await connection.execute(
            "UPDATE episodes SET closed_at = NULL, cause = NULL, reopened = reopened + 1, severity = $2 WHERE id = $1",
            episode_id(owner.id, effect.number),
            effect.severity,
        )
        return
    await connection.execute(
        "INSERT INTO episodes (id, owner_id, number, severity, peak, opened_at, spec) "
        "VALUES ($1, $2, $3, $4, $4, to_timestamp($5), $6)",
        episode_id(owner.id, effect.number),
        owner.id,
        effect.number,
        effect.severity,
        effect.at,
        owner.spec,
    )


async def close_episode(connection: Connection, owner_id: UUID, effect: EpisodeClosed) -> list[UUID]:
    """Remember how an episode ended. Where nothing recovered nothing more is said by itself: drafts go, the end is a draft.

    Returns the actions a person must now look at.
    """
    episode = episode_id(owner_id, effect.number)
    await connection.execute(
        "UPDATE episodes SET closed_at = to_timestamp($2), cause = $3, frozen = false, flapping = false WHERE id = $1",
        episode,
        effect.at,
        effect.cause,
    )
    if effect.cause == "recovered":
        return []
    return await stop_speaking(connection, episode, effect.at, _STOPS[effect.cause])


async def mark_flapping(connection: Connection, owner_id: UUID, number: int, *, is_flapping: bool) -> None:
    """Remember that an open episode flaps, or no longer."""
    await connection.execute(
        "UPDATE episodes SET flapping = $2 WHERE id = $1", episode_id(owner_id, number), is_flapping
    )


async def freeze_episode(connection: Connection, owner_id: UUID, number: int, at: float) -> list[UUID]:
    """The owner was paused: the episode stays as it is, drafts go, a published incident is left with a resolve draft.

    Returns the actions a person must now look at.
    """
    episode = episode_id(owner_id, number)
    await connection.execute("UPDATE episodes SET frozen = true WHERE id = $1", episode)
    return await stop_speaking(connection, episode, at, "it was paused")


async def renew_evidence(
    connection: Connection, owner_id: UUID, number: int, evidence: Sequence[Mapping[str, Any]]
) -> None:
    """Show what is seen now with whatever waits for a person: no reason to read its words again."""
    await connection.execute(
        "UPDATE actions SET evidence = $2 WHERE episode_id = $1 AND status = 'pending'",
        episode_id(owner_id, number),
        [dict(item) for item in evidence],
    )


async def stop_speaking(connection: Connection, episode: UUID, at: float, why: str) -> list[UUID]:
    """Withdraw what waits; where customers were told of an opening, leave a draft of its end: returned."""
    held = await _locked(connection, episode)
    if await incidents.is_taken_over(connection, episode):
        return []
    actions = await _actions(connection, episode)
    commands: list[review.Command] = list(review.withdraw_pending(actions, why))
    if review.is_owed_resolve(actions):
        commands.append(review.Propose("resolve", held["severity"], "draft"))
    done = [await _obey(connection, held, command, at) for command in commands]
    return [action for action in done if action is not None]


async def propose(
    connection: Connection,
    owner_id: UUID,
    number: int,
    effect: StepProposed,
    evidence: Sequence[Mapping[str, Any]],
    members: Sequence[UUID] = (),
) -> list[UUID]:
    """Apply what `evaluators.review` decides about a proposed step; returns the actions a person must now look at.

    `evidence` is per region, or member, what was seen; a pending action shows it until newer is known. It rests on the
    signals on the owner and its `members`.
    """
    episode = episode_id(owner_id, number)
    held = await _locked(connection, episode)
    await connection.execute(
        "UPDATE episodes SET severity = $2, frozen = false, "
        "peak = CASE WHEN 'critical' IN ($2, peak) THEN 'critical' ELSE $2 END WHERE id = $1",
        episode,
        effect.severity,
    )
    if await incidents.is_taken_over(connection, episode):
        return []
    policy = _rule(held).incidents
    actions = await _actions(connection, episode)
    waiting = []
    for command in review.propose(
        actions, policy, effect.step, effect.severity, most=effect.most, of=effect.of
    ):
        action = await _obey(connection, held, command, effect.at, evidence, [owner_id, *members])
        if action is not None:
            waiting.append(action)
    return waiting


async def _locked(connection: Connection, episode: UUID) -> Row:
    row: Row | None = await connection.fetchrow(
        "SELECT e.*, o.kind, o.slug, o.page_id FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE e.id = $1 "
        "FOR UPDATE OF e",
        episode,
    )
    if row is None:
        raise LookupError(f"episode {episode} is not there")
    return row


async def _actions(connection: Connection, episode: UUID) -> list[review.Action]:
    rows = await connection.fetch(
        "SELECT id, step, status, severity, of FROM actions WHERE episode_id = $1 ORDER BY created_at, id",
        episode,
    )
    return [
        review.Action(str(row["id"]), row["step"], review.Status(row["status"]), row["severity"], row["of"])
        for row in rows
    ]


def _rule(episode: Row) -> OwnerRule:
    # The owner as it was when the episode opened: an episode keeps its policy.
    return rule_of(episode["kind"], episode["spec"])


async def _obey(
    connection: Connection,
    episode: Row,
    command: review.Command,
    at: float,
    evidence: Sequence[Mapping[str, Any]] = (),
    subjects: Sequence[UUID] = (),
) -> UUID | None:
    """Carry out one command; returns the action when a person must look at it."""
    if isinstance(command, review.Withdraw):
        await connection.execute(
            "UPDATE actions SET status = 'withdrawn', reason = $2, decided_at = to_timestamp($3), decided_by = 'policy' "
            "WHERE id = $1",
            UUID(command.action),
            command.why,
            at,
        )
        return None
    if isinstance(command, review.Approve):
        await publish(connection, UUID(command.action), POLICY, at)
        return None
    if isinstance(command, review.Revise):
        return await _revise(connection, episode, UUID(command.action), command.severity, subjects)
    said = await wording(connection, episode, _rule(episode), command.step, command.severity, command.of)
    action: UUID = await connection.fetchval(
        "INSERT INTO actions (id, episode_id, owner_id, page_id, step, status, severity, title, text, components, "
        "evidence, created_at, expires_at, of, reopened, is_markdown, warnings, triggers) VALUES ($1, $2, $3, $4, $5, 'pending', "
        "$6, $7, $8, $9, $10, to_timestamp($11), CASE WHEN $5 = 'resolve' THEN now() + make_interval(secs => $12) END, $13, "
        "$14, $16, $17, "
        f"ARRAY({_SPEAKERS.format('$15')} UNION SELECT unnest(triggers) FROM actions WHERE episode_id = $2)) "
        "RETURNING id",
        new_id(),
        episode["id"],
        episode["owner_id"],
        episode["page_id"],
        command.step,
        command.severity,
        said.title,
        said.text,
        said.components,
        [dict(item) for item in evidence],
        at,
        RESOLVE_DRAFT_LIFE_S,
        command.of,
        episode["reopened"],
        subjects,
        said.is_markdown,
        said.warnings,
    )
    if command.mode == "draft":
        return action
    await publish(connection, action, POLICY, at)
    return None


async def _revise(
    connection: Connection, episode: Row, action: UUID, severity: Severity, subjects: Sequence[UUID]
) -> UUID:
    row = await connection.fetchrow("SELECT step, of FROM actions WHERE id = $1", action)
    assert row is not None
    said = await wording(connection, episode, _rule(episode), row["step"], severity, row["of"])
    await connection.execute(
        "UPDATE actions SET revision = revision + 1, severity = $2, title = $3, text = $4, components = $5, "
        "is_markdown = $7, warnings = $8, "
        f"triggers = ARRAY(SELECT unnest(triggers) UNION {_SPEAKERS.format('$6')}) WHERE id = $1",
        action,
        severity,
        said.title,
        said.text,
        said.components,
        subjects,
        said.is_markdown,
        said.warnings,
    )
    return action


async def publish(connection: Connection, action_id: UUID, actor: Actor, at: float) -> UUID:
    """Approve a pending action and put it on its own page, in this transaction; publishers follow. Returns the incident."""
    action = await connection.fetchrow("SELECT * FROM actions WHERE id = $1 FOR UPDATE", action_id)
    assert action is not None
    said = incidents.Said(
        action["step"],
        action["public"] or _status_after(action["step"], action["of"]),
        action["title"],
        action["text"],
        action["components"],
        at,
        actor.name,
        severity=action["severity"] if action["episode_id"] else None,
        impact=action["impact"],
        notify=action["notify"],
        is_markdown=action["is_markdown"],
        publishers=action["publishers"],
        is_by_hand=action["episode_id"] is None,
        action_id=action_id,
    )
    incident: UUID = action["incident_id"] or derived_id("incident", action["episode_id"] or action_id)
    if action["step"] == "open":
        await incidents.begin(connection, incident, action["page_id"], said, action["episode_id"])
    else:
        await incidents.say(connection, incident, said)
    await connection.execute(
        "UPDATE actions SET status = CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE update_id = $5) THEN 'approved' "
        "ELSE 'done' END, decided_at = to_timestamp($2), decided_by = $3, incident_id = $4 WHERE id = $1",
        action_id,
        at,
        actor.name,
        incident,
        incidents.update_id(said),
    )
    await record(connection, actor, f"action.approve.{action['step']}", str(action_id), action["page_id"])
    return incident


def _status_after(step: str, of: Of) -> str | None:
    if step == "resolve":
        return "resolved"
    return "investigating" if step == "open" or of == "reopened" else None


async def approve(connection: Connection, actor: Actor, action_id: UUID, revision: int, at: float) -> Row:
    """A person says yes to this revision. A second yes changes nothing and shows who said the first.

    Raises `LookupError`, `ActionGoneError` (rejected, withdrawn, expired), `StaleRevisionError`.
    """
    action = await _held(connection, action_id)
    if action["status"] in ("approved", "done", "failed"):
        return action
    _refuse_gone_or_stale(action, revision)
    await publish(connection, action_id, actor, at)
    return await one(connection, action_id)


async def reject(connection: Connection, actor: Actor, action_id: UUID, reason: str, at: float) -> Row:
    """A person says no. Raises as `approve`."""
    action = await _held(connection, action_id)
    if action["status"] == "rejected":
        return action
    if action["status"] != "pending":
        raise ActionGoneError(action["status"], action["decided_by"])
    await connection.execute(
        "UPDATE actions SET status = 'rejected', reason = $2, decided_at = to_timestamp($3), decided_by = $4 "
        "WHERE id = $1",
        action_id,
        reason,
        at,
        actor.name,
    )
    await record(
        connection, actor, "action.reject", str(action_id), action["page_id"], None, {"reason": reason}
    )
    return await one(connection, action_id)


async def edit(
    connection: Connection,
    actor: Actor,
    action_id: UUID,
    revision: int,
    *,
    title: str | None,
    text: str | None,
) -> Row:
    """A person changes a pending action's words: a new revision. Raises as `approve`."""
    action = await _held(connection, action_id)
    if action["status"] != "pending":
        raise ActionGoneError(action["status"], action["decided_by"])
    _refuse_gone_or_stale(action, revision)
    await connection.execute(
        "UPDATE actions SET revision = revision + 1, edited = true, title = coalesce($2, title), text = coalesce($3, text) WHERE id = $1",
        action_id,
        title,
        text,
    )
    before = {"title": action["title"], "text": action["text"]}
    await record(
        connection,
        actor,
        "action.edit",
        str(action_id),
        action["page_id"],
        before,
        {"title": title, "text": text},
    )
    return await one(connection, action_id)


def _refuse_gone_or_stale(action: Row, revision: int) -> None:
    if action["status"] != "pending":
        raise ActionGoneError(action["status"], action["decided_by"])
    if action["revision"] != revision:
        raise StaleRevisionError(action["revision"])


async def _held(connection: Connection, action_id: UUID) -> Row:
    episode = await connection.fetchval("SELECT episode_id FROM actions WHERE id = $1", action_id)
    if episode is None:
        raise LookupError(f"there is no action {action_id}")
    await _locked(connection, episode)
    return await one(connection, action_id)


async def expire(connection: Connection, *_: object) -> int:
    """Expire drafts whose time is over, those of a paused beat's open episode never; returns how many."""
    rows = await connection.fetch(
        "WITH due AS (SELECT a.id FROM actions a JOIN episodes e ON e.id = a.episode_id WHERE a.status = 'pending' "
        " AND a.expires_at < now() AND e.closed_at IS NOT NULL FOR UPDATE OF e, a) "
        "UPDATE actions a SET status = 'expired', decided_at = now(), decided_by = 'policy', "
        "reason = 'nobody looked in time' FROM due WHERE a.id = due.id AND a.status = 'pending' RETURNING a.id"
    )
    return len(rows)


_ACTIONS = (
    "SELECT a.*, o.kind AS owner_kind, o.slug AS owner, o.spec->>'name' AS owner_name, p.slug AS page FROM actions a "
    "JOIN objects o ON o.id = a.owner_id JOIN objects p ON p.id = a.page_id "
)


async def one(connection: Connection, action_id: UUID) -> Row:
    """An action with the slugs of its owner and page. Raises `LookupError`."""
    row: Row | None = await connection.fetchrow(f"{_ACTIONS} WHERE a.id = $1", action_id)
    if row is None:
        raise LookupError(f"there is no action {action_id}")
    return row


async def actions(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    status: str | None = None,
    owner: UUID | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Actions, newest first."""
    return await connection.fetch(
        f"{_ACTIONS} WHERE ($1::uuid[] IS NULL OR a.page_id = ANY ($1)) AND ($2::text IS NULL OR a.status = $2) "
        "AND ($3::uuid IS NULL OR a.owner_id = $3) "
        "AND ($4::timestamptz IS NULL OR (a.created_at, a.id) < ($4, $5)) ORDER BY a.created_at DESC, a.id DESC LIMIT $6",
        pages,
        status,
        owner,
        before[0] if before else None,
        before[1] if before else None,
        limit,
    )


async def episodes(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    is_open: bool | None = None,
    owner: UUID | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Episodes with the slug of their owner, newest first."""
    return await connection.fetch(
        "SELECT e.*, o.kind AS owner_kind, o.slug AS owner, o.spec->>'name' AS owner_name, o.page_id, p.slug AS page FROM episodes e "
        "JOIN objects o ON o.id = e.owner_id JOIN objects p ON p.id = o.page_id "
        "WHERE ($1::uuid[] IS NULL OR o.page_id = ANY ($1)) AND ($2::bool IS NULL OR (e.closed_at IS NULL) = $2) "
        "AND ($3::uuid IS NULL OR e.owner_id = $3) "
        "AND ($4::timestamptz IS NULL OR (e.opened_at, e.id) < ($4, $5)) ORDER BY e.opened_at DESC, e.id DESC LIMIT $6",
        pages,
        is_open,
        owner,
        before[0] if before else None,
        before[1] if before else None,
        limit,
    )
