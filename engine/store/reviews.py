"""Episodes, actions and incidents: what `evaluators.review` commands, and what people say, written in one transaction.

Whoever touches an episode's actions holds its row lock first, so that an approval and a recovery cannot pass each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from engine.store import drafts, incidents
from engine.store.audit import POLICY, Actor, record
from engine.store.database import Connection, Row
from engine.store.evidence import published
from engine.store.ids import derived_id, new_id, show
from engine.store.objects import Stored
from engine.store.telling import tell_all
from engine.store.wording import Named, named, wording
from evaluators import review
from evaluators.facts import EpisodeClosed, EpisodeOpened, Of, StepProposed
from evaluators.lifecycle import impact_of
from evaluators.modes import least
from rules.incident import Review
from rules.owner import OwnerRule
from rules.subject import rule_of

REPORTED: Final = "report"
"""The source of signals that are no trigger's."""
_SPEAKERS: Final = (
    f"SELECT source::uuid FROM signals WHERE subject_id = ANY ({{}}) AND source <> '{REPORTED}'"
)
"""Whose signals are open on some subjects, but for those that are reported."""
LONGEST_WAIT_S: Final = 86400.0
"""A draft that still waits is told of again after so long at most."""
_DECIDED: Final = "status IN ('approved', 'done', 'failed') AND decided_by <> 'policy'"

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


async def shown_runs(connection: Connection, rows: Sequence[Row]) -> list[tuple[UUID, dict[str, Any]]]:
    """Of each run its beat, and what a draft shows of it."""
    public = await published(connection, rows)
    return [
        (
            row["beat_id"],
            evidence_of(row) | ({"captures": found} if (found := public.get(row["run_id"])) else {}),
        )
        for row in rows
    ]


async def open_episodes(connection: Connection, opened: Sequence[tuple[Stored, EpisodeOpened]]) -> None:
    """Remember new episodes with their owners as they are now; one that goes on keeps the owner it had."""
    rows = [
        {
            "id": str(episode_id(owner.id, e.number)),
            "owner": str(owner.id),
            "number": e.number,
            "severity": e.severity,
        }
        | {"at": e.at, "spec": owner.spec, "again": e.reopened}
        for owner, e in opened
    ]
    given = "jsonb_to_recordset($1) AS n (id uuid, owner uuid, number bigint, severity text, at float8, spec jsonb, again boolean)"
    await connection.execute(
        "UPDATE episodes e SET closed_at = NULL, cause = NULL, reopened = reopened + 1, severity = n.severity, "
        f"acknowledged_at = NULL, acknowledged_by = NULL, snoozed_until = NULL FROM {given} WHERE e.id = n.id AND n.again",
        rows,
    )
    await connection.execute(
        "INSERT INTO episodes (id, owner_id, number, severity, peak, opened_at, spec) "
        f"SELECT id, owner, number, severity, severity, to_timestamp(at), spec FROM {given} WHERE NOT again",
        rows,
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


async def templated(connection: Connection, owners: Sequence[UUID]) -> set[UUID]:
    """Those of which something waits for a person that may be worded by a template, and as it was rendered."""
    rows = await connection.fetch(
        "SELECT DISTINCT a.owner_id FROM actions a JOIN episodes e ON e.id = a.episode_id "
        "JOIN objects p ON p.id = a.page_id WHERE a.owner_id = ANY ($1) AND a.status = 'pending' AND a.original IS NULL "
        "AND (e.spec ? 'templates' OR p.spec ? 'templates' OR EXISTS (SELECT FROM objects t WHERE t.id = ANY (a.triggers) "
        "AND t.spec ? 'templates'))",
        owners,
    )
    return {row["owner_id"] for row in rows}


async def renew_evidence(
    connection: Connection,
    owner_id: UUID,
    number: int,
    evidence: Sequence[Mapping[str, Any]],
    subjects: Sequence[UUID],
    *,
    is_templated: bool,
) -> list[UUID]:
    """Show what is seen now with whatever waits for a person: no reason to read its words again, unless a template says others.

    Returns the actions a person must look at again.
    """
    episode = episode_id(owner_id, number)
    held = (await _locked(connection, [episode]))[episode] if is_templated else None
    rows = await connection.fetch(
        "UPDATE actions SET evidence = $2 WHERE episode_id = $1 AND status = 'pending' RETURNING id, severity, original",
        episode,
        [dict(item) for item in evidence],
    )
    if held is None:
        return []
    rule = _rule(held)
    known = await named(connection, [(held["page_id"], rule)])
    return [
        row["id"]
        for row in rows
        if row["original"] is None
        and await _revise(
            connection,
            known,
            _Order(held, rule, review.Revise(str(row["id"]), row["severity"]), 0.0, evidence, subjects),
            is_new=False,
        )
    ]


async def stop_speaking(connection: Connection, episode: UUID, at: float, why: str) -> list[UUID]:
    """Withdraw what waits; where customers were told of an opening, leave a draft of its end: returned."""
    held = (await _locked(connection, [episode]))[episode]
    if await incidents.taken_over(connection, [episode]):
        return []
    actions = (await _actions(connection, [episode]))[episode]
    commands: list[review.Command] = list(review.withdraw_pending(actions, why))
    if review.is_owed_resolve(actions):
        commands.append(review.Propose("resolve", held["severity"], "draft"))
    return await _obey(connection, [_Order(held, _rule(held), command, at) for command in commands])


@dataclass(frozen=True, slots=True)
class Proposal:
    """A step that an episode wants. `evidence`: per region, or member, what was seen; it is shown until newer is known.

    It rests on the signals on the owner and its `members`.
    """

    owner_id: UUID
    number: int
    effect: StepProposed
    evidence: Sequence[Mapping[str, Any]] = ()
    members: Sequence[UUID] = ()

    @property
    def episode(self) -> UUID:
        """Its id."""
        return episode_id(self.owner_id, self.number)


async def propose(connection: Connection, proposals: Sequence[Proposal]) -> list[UUID]:
    """Apply what `evaluators.review` decides about steps, one an episode at most; returns the actions a person must now look at.

    Ten thousand beats may fail at once: what is asked of the database is asked for all.
    """
    if not proposals:
        return []
    held = await _locked(connection, [asked.episode for asked in proposals])
    changed = []
    for asked in proposals:
        row, severity = held[asked.episode], asked.effect.severity
        peak = "critical" if "critical" in (severity, row["peak"]) else severity
        if (row["frozen"], row["severity"], row["peak"]) != (False, severity, peak):
            changed.append((asked.episode, severity, peak))
    if changed:
        await connection.execute(
            "UPDATE episodes e SET severity = n.severity, frozen = false, peak = n.peak "
            "FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n (id, severity, peak) WHERE e.id = n.id",
            *map(list, zip(*changed, strict=True)),
        )
    silent = await incidents.taken_over(connection, list(held))
    ends = [asked.episode for asked in proposals if asked.effect.step == "resolve"]
    speaking = await incidents.speaking_for_others(connection, ends) if ends else set()
    actions = await _actions(connection, list(held))
    orders = []
    for asked in proposals:
        if asked.episode in silent:
            continue
        effect, rule = asked.effect, _rule(held[asked.episode])
        most = least(effect.most, "draft") if asked.episode in speaking else effect.most
        orders += [
            _Order(
                held[asked.episode],
                rule,
                command,
                effect.at,
                asked.evidence,
                [asked.owner_id, *asked.members],
            )
            for command in review.propose(
                actions[asked.episode], rule.incidents, effect.step, effect.severity, most=most, of=effect.of
            )
        ]
    return await _obey(connection, orders)


async def _locked(connection: Connection, episodes: Sequence[UUID]) -> dict[UUID, Row]:
    rows = await connection.fetch(
        "SELECT e.*, o.kind, o.slug, o.page_id FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE e.id = ANY ($1) "
        "ORDER BY e.id FOR UPDATE OF e",
        episodes,
    )
    return {row["id"]: row for row in rows}


async def _actions(connection: Connection, episodes: Sequence[UUID]) -> dict[UUID, list[review.Action]]:
    rows = await connection.fetch(
        "SELECT id, episode_id, step, status, severity, of FROM actions WHERE episode_id = ANY ($1) ORDER BY created_at, id",
        episodes,
    )
    found: dict[UUID, list[review.Action]] = {episode: [] for episode in episodes}
    for row in rows:
        status = review.Status(row["status"])
        found[row["episode_id"]].append(
            review.Action(str(row["id"]), row["step"], status, row["severity"], row["of"])
        )
    return found


def _rule(episode: Row) -> OwnerRule:
    # The owner as it was when the episode opened: an episode keeps its policy.
    return rule_of(episode["kind"], episode["spec"])


@dataclass(frozen=True, slots=True)
class _Order:
    """A command about an episode, and what its words rest on."""

    episode: Row
    rule: OwnerRule
    command: review.Command
    at: float
    evidence: Sequence[Mapping[str, Any]] = ()
    subjects: Sequence[UUID] = ()


async def _obey(connection: Connection, orders: Sequence[_Order]) -> list[UUID]:
    """Carry out commands; returns the actions a person must look at."""
    withdrawn = [
        (UUID(o.command.action), o.command.why, o.at)
        for o in orders
        if isinstance(o.command, review.Withdraw)
    ]
    if withdrawn:
        await connection.execute(
            "UPDATE actions a SET status = 'withdrawn', reason = n.why, decided_at = to_timestamp(n.at), decided_by = 'policy' "
            "FROM unnest($1::uuid[], $2::text[], $3::float8[]) AS n (id, why, at) WHERE a.id = n.id",
            *map(list, zip(*withdrawn, strict=True)),
        )
    asked = [
        (o.episode["page_id"], o.rule)
        for o in orders
        if isinstance(o.command, review.Propose | review.Revise)
    ]
    known = await named(connection, asked) if asked else Named({}, {})
    waiting: list[UUID] = []
    made: list[dict[str, Any]] = []
    by_policy: list[tuple[UUID, float]] = []
    for order in orders:
        command = order.command
        if isinstance(command, review.Approve):
            approved = UUID(command.action)
            await publish(connection, approved, POLICY, order.at)
            await drafts.follow(
                connection, await one(connection, approved), "Approved by policy", order.at, "policy"
            )
        elif isinstance(command, review.Revise):
            await _revise(connection, known, order)
            waiting.append(UUID(command.action))
        elif isinstance(command, review.Propose):
            action = new_id()
            made.append(await _made(connection, known, order, command, action))
            if command.mode == "draft":
                waiting.append(action)
            else:
                by_policy.append((action, order.at))
    if made:
        await connection.execute(
            "INSERT INTO actions (id, episode_id, owner_id, page_id, step, status, severity, title, text, components, evidence, "
            "created_at, expires_at, of, reopened, is_markdown, warnings, triggers) SELECT n.id, e.id, e.owner_id, o.page_id, "
            "n.step, 'pending', n.severity, n.title, n.text, n.components, n.evidence, to_timestamp(n.at), "
            "to_timestamp(n.at + n.expires), n.of, e.reopened, n.is_markdown, n.warnings, "
            f"ARRAY({_SPEAKERS.format('n.subjects')} UNION SELECT unnest(triggers) FROM actions WHERE episode_id = e.id) "
            "FROM jsonb_to_recordset($1) AS n (id uuid, episode uuid, step text, severity text, title text, text text, "
            "components jsonb, evidence jsonb, at float8, expires float8, of text, is_markdown boolean, warnings jsonb, "
            "subjects uuid[]) JOIN episodes e ON e.id = n.episode JOIN objects o ON o.id = e.owner_id",
            made,
        )
    for action, at in by_policy:
        await publish(connection, action, POLICY, at)
    return waiting


async def _made(
    connection: Connection, known: Named, order: _Order, command: review.Propose, action: UUID
) -> dict[str, Any]:
    page = order.episode["page_id"]
    said = await wording(
        connection,
        known,
        order.episode,
        order.rule,
        command.step,
        command.severity,
        command.of,
        order.evidence,
    )
    return {
        "id": str(action),
        "episode": str(order.episode["id"]),
        "step": command.step,
        "severity": command.severity,
        "title": said.title,
        "text": said.text,
        "components": said.components,
        "evidence": order.evidence,
        "at": order.at,
        "expires": (await review_of(connection, page)).expire_after if command.step == "resolve" else None,
        "of": command.of,
        "is_markdown": said.is_markdown,
        "warnings": said.warnings,
        "subjects": [str(subject) for subject in order.subjects],
    }


async def _revise(connection: Connection, known: Named, order: _Order, *, is_new: bool = True) -> bool:
    """Put it in words anew; false where it says the same as before, and nothing but that is new."""
    assert isinstance(order.command, review.Revise)
    action, severity = UUID(order.command.action), order.command.severity
    row = await connection.fetchrow(
        "SELECT step, of, title, text, components, is_markdown FROM actions WHERE id = $1", action
    )
    assert row is not None
    said = await wording(
        connection, known, order.episode, order.rule, row["step"], severity, row["of"], order.evidence
    )
    now = (said.title, said.text, said.components, said.is_markdown)
    if not is_new and now == (row["title"], row["text"], row["components"], row["is_markdown"]):
        return False
    await connection.execute(
        "UPDATE actions SET revision = revision + 1, severity = $2, title = $3, text = $4, components = $5, "
        "is_markdown = $7, warnings = $8, edited = false, original = NULL, "
        f"triggers = ARRAY(SELECT unnest(triggers) UNION {_SPEAKERS.format('$6')}) WHERE id = $1",
        action,
        severity,
        said.title,
        said.text,
        said.components,
        order.subjects,
        said.is_markdown,
        said.warnings,
    )
    return True


async def review_of(connection: Connection, page_id: UUID) -> Review:
    """How this page reviews what customers are told."""
    spec = await connection.fetchval("SELECT spec->'review' FROM objects WHERE id = $1", page_id)
    return Review.model_validate(spec or {})


async def draft(
    connection: Connection, page_id: UUID, said: incidents.Said, incident: UUID | None = None
) -> UUID:
    """What a person wants to say, to be reviewed: an action without an episode, of which operators are told. Returns its id."""
    impact = impact_of(said.severity, said.components.values(), said.impact)
    action: UUID = await connection.fetchval(
        "INSERT INTO actions (id, page_id, incident_id, step, status, severity, title, text, components, created_at, "
        "asked_by, public, impact, notify, is_markdown, publishers, expires_at) VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, "
        "to_timestamp($9), $10, $11, $12, $13, $14, $15, "
        "to_timestamp($9 + $16)) RETURNING id",
        new_id(),
        page_id,
        incident,
        said.step,
        "critical" if impact in ("major", "critical") else "warning",
        said.title,
        said.text,
        said.components,
        said.at,
        said.by,
        said.status,
        said.impact,
        said.notify,
        said.is_markdown,
        said.publishers,
        (await review_of(connection, page_id)).expire_after,
    )
    await tell_all(connection, [drafts.waiting(await one(connection, action), said.at, said.public_url)])
    return action


async def publish(
    connection: Connection, action_id: UUID, actor: Actor, at: float, *, by: str = "", public_url: str = ""
) -> UUID:
    """Approve a pending action and put it on its own page, in this transaction; publishers follow. Returns the incident.

    `by`: all who approved it, where several did.
    """
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
        public_url=public_url,
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
        by or actor.name,
        incident,
        incidents.update_id(said),
    )
    verb, after = f"action.approve.{action['step']}", action["reason"] and {"comment": action["reason"]}
    await record(connection, actor, verb, str(action_id), action["page_id"], None, after)
    return incident


def _status_after(step: str, of: Of) -> str | None:
    if step == "resolve":
        return "resolved"
    return "investigating" if step == "open" or of == "reopened" else None


async def approve(
    connection: Connection,
    actor: Actor,
    action_id: UUID,
    revision: int,
    at: float,
    *,
    publishers: Sequence[UUID] | None = None,
    comment: str = "",
    public_url: str = "",
) -> Row:
    """A person says yes to this revision; it is published once as many did as its page asks for. One more yes changes nothing.

    `publishers`: to these and its own page only; who approved others before approved something else.
    Raises `LookupError`, `ActionGoneError` (rejected, withdrawn, expired), `StaleRevisionError`, `NotNowError`.
    """
    action = await _held(connection, action_id)
    if action["status"] in ("approved", "done", "failed"):
        return action
    _refuse_gone_or_stale(action, revision)
    if action["episode_id"] is None and action["incident_id"]:
        (row,) = await incidents.held(connection, action["incident_id"])
        incidents.refuse(row, action["public"], at)
    before = action["publishers"]
    if publishers is not None and (before is None or sorted(publishers) != sorted(before)):
        await connection.execute("DELETE FROM approvals WHERE action_id = $1", action_id)
    await connection.execute(
        "UPDATE actions SET publishers = coalesce($2, publishers), reason = coalesce(nullif($3, ''), reason) WHERE id = $1",
        action_id,
        publishers,
        comment,
    )
    await connection.execute(
        "INSERT INTO approvals (action_id, by, revision, at) VALUES ($1, $2, $3, to_timestamp($4)) "
        "ON CONFLICT (action_id, by) DO UPDATE SET revision = $3, at = to_timestamp($4)",
        action_id,
        actor.name,
        revision,
        at,
    )
    people = [row["by"] for row in (await approvals(connection, [action_id]))[action_id]]
    if (lacking := (await review_of(connection, action["page_id"])).approvals - len(people)) > 0:
        await record(connection, actor, "action.approve", str(action_id), action["page_id"])
        said = f"Approved by {actor.name}, {lacking} more has to"
        await drafts.follow(connection, await one(connection, action_id), said, at)
        return await one(connection, action_id)
    by = " and ".join(people)
    await publish(connection, action_id, actor, at, by=by, public_url=public_url)
    await drafts.follow(connection, await one(connection, action_id), f"Approved by {by}", at, by)
    return await one(connection, action_id)


async def approvals(connection: Connection, action_ids: Sequence[UUID]) -> dict[UUID, list[Row]]:
    """Who approved these as they are now (`by`, `at`), the first one first."""
    rows = await connection.fetch(
        "SELECT p.action_id, p.by, p.at FROM approvals p JOIN actions a ON a.id = p.action_id AND a.revision = p.revision "
        "WHERE a.id = ANY ($1) ORDER BY p.at, p.by",
        list(action_ids),
    )
    return {action: [row for row in rows if row["action_id"] == action] for action in action_ids}


async def reject(
    connection: Connection,
    actor: Actor,
    action_id: UUID,
    reason: str,
    at: float,
    revision: int | None = None,
) -> Row:
    """A person says no, to this revision where one is named: what is worse by now they have not read. Raises as `approve`."""
    action = await _held(connection, action_id)
    if action["status"] == "rejected":
        return action
    _refuse_gone_or_stale(action, revision or action["revision"])
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
    action = await one(connection, action_id)
    await drafts.follow(connection, action, f"Rejected by {actor.name}", at, actor.name)
    return action


async def edit(
    connection: Connection,
    actor: Actor,
    action_id: UUID,
    revision: int,
    at: float,
    *,
    title: str | None = None,
    text: str | None = None,
    components: Mapping[str, str] | None = None,
    is_markdown: bool | None = None,
) -> Row:
    """A person changes what a pending action says: a new revision, which nobody has approved. What it said first is kept.

    `components`: id to status, all of them. Raises as `approve`.
    """
    action = await _held(connection, action_id)
    _refuse_gone_or_stale(action, revision)
    given = {"title": title, "text": text, "components": components, "is_markdown": is_markdown}
    before = {name: action[name] for name in given}
    after = before | {name: value for name, value in given.items() if value is not None}
    if after == before:
        return action
    await connection.execute(
        "UPDATE actions SET revision = revision + 1, edited = true, title = $2, text = $3, components = $4, "
        "is_markdown = $5, original = coalesce(original, $6) WHERE id = $1",
        action_id,
        *after.values(),
        before,
    )
    await record(connection, actor, "action.edit", str(action_id), action["page_id"], before, after)
    action = await one(connection, action_id)
    await drafts.follow(connection, action, f"Edited by {actor.name}", at)
    return action


def _refuse_gone_or_stale(action: Row, revision: int) -> None:
    if action["status"] != "pending":
        raise ActionGoneError(action["status"], action["decided_by"])
    if action["revision"] != revision:
        raise StaleRevisionError(action["revision"])


async def _held(connection: Connection, action_id: UUID) -> Row:
    row = await connection.fetchrow("SELECT episode_id, incident_id FROM actions WHERE id = $1", action_id)
    if row is None:
        raise LookupError(f"there is no action {action_id}")
    if row["episode_id"]:
        await _locked(connection, [row["episode_id"]])
    elif row["incident_id"]:  # in the order of `engine.store.by_hand`: it may be taken away at this moment
        await incidents.hold(connection, row["incident_id"])
    await connection.execute("SELECT FROM actions WHERE id = $1 FOR UPDATE", action_id)
    return await one(connection, action_id)


async def expire(connection: Connection, now_s: float, _: str = "") -> int:
    """Expire drafts whose time is over, those of an open episode never; returns how many."""
    rows = await connection.fetch(
        "WITH due AS (SELECT a.id FROM actions a LEFT JOIN episodes e ON e.id = a.episode_id WHERE a.status = 'pending' "
        " AND a.expires_at < to_timestamp($1) AND (e.id IS NULL OR e.closed_at IS NOT NULL) LIMIT 200 FOR UPDATE OF a SKIP LOCKED) "
        "UPDATE actions a SET status = 'expired', decided_at = to_timestamp($1), decided_by = 'policy', "
        "reason = 'nobody looked in time' FROM due WHERE a.id = due.id RETURNING a.id",
        now_s,
    )
    for row in rows:
        await drafts.follow(connection, await one(connection, row["id"]), "Expired", now_s, "policy")
    return len(rows)


async def escalate(connection: Connection, now_s: float, public_url: str) -> int:
    """Tell again of drafts that nobody decided, each time after twice as long; returns of how many."""
    pages = await connection.fetch("SELECT id, spec FROM objects WHERE kind = 'page' AND removed_at IS NULL")
    after = {row["id"]: Review.model_validate(row["spec"].get("review", {})).escalate_after for row in pages}
    limits = {page: limit for page, limit in after.items() if limit}
    rows = await connection.fetch(
        "SELECT a.id FROM actions a JOIN unnest($1::uuid[], $2::float8[]) AS p (id, limit_s) ON p.id = a.page_id "
        "LEFT JOIN episodes e ON e.id = a.episode_id WHERE a.status = 'pending' AND e.closed_at IS NULL "
        "AND coalesce(e.snoozed_until, to_timestamp(0)) <= to_timestamp($3) AND coalesce(a.escalated_at, a.created_at) "
        "<= to_timestamp($3 - least(p.limit_s * 2 ^ least(a.escalations, 30), greatest(p.limit_s, $4))) "
        "ORDER BY a.created_at LIMIT 200 FOR UPDATE OF a SKIP LOCKED",
        [*limits],
        [*limits.values()],
        now_s,
        LONGEST_WAIT_S,
    )
    found = await several(connection, [row["id"] for row in rows])
    await tell_all(
        connection,
        [drafts.waiting(action, now_s, public_url, again=action["escalations"] + 1) for action in found],
    )
    await connection.execute(
        "UPDATE actions SET escalations = escalations + 1, escalated_at = to_timestamp($2) WHERE id = ANY ($1)",
        [row["id"] for row in rows],
        now_s,
    )
    return len(rows)


async def tally(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    owner: UUID | None = None,
    trigger: UUID | None = None,
    since: float = 0.0,
) -> dict[str, int]:
    """What people made of what was proposed: by this beat or group, or resting on this trigger."""
    of = (
        "owner_id = $1"
        if owner
        else "triggers @> ARRAY[$1::uuid] AND triggers <> '{}'"
        if trigger
        else "$1::uuid IS NULL"
    )
    row = await connection.fetchrow(
        f"SELECT count(*) AS proposed, count(*) FILTER (WHERE {_DECIDED} AND NOT edited) AS approved_unedited, "
        f"count(*) FILTER (WHERE {_DECIDED} AND edited) AS approved_edited, "
        "count(*) FILTER (WHERE status = 'rejected') AS rejected, count(*) FILTER (WHERE status = 'expired') AS expired "
        f"FROM actions WHERE {of} AND created_at >= to_timestamp($2) "
        "AND ($3::uuid[] IS NULL OR page_id = ANY ($3))",
        owner or trigger,
        since,
        pages,
    )
    assert row is not None
    return dict(row)


_ACTIONS = (
    "SELECT a.*, o.kind AS owner_kind, o.slug AS owner, o.spec->>'name' AS owner_name, o.spec->'channels' AS channels, "
    "o.spec->'tags' AS tags, e.opened_at, e.closed_at, p.slug AS page, p.spec->'review' AS review, i.id AS of_incident, i.publishers AS goes_to FROM actions a "
    "JOIN objects p ON p.id = a.page_id LEFT JOIN objects o ON o.id = a.owner_id LEFT JOIN episodes e ON e.id = a.episode_id "
    "LEFT JOIN incidents i ON i.id = coalesce(a.incident_id, (SELECT id FROM incidents WHERE episode_id = a.episode_id)) "
)


async def one(connection: Connection, action_id: UUID) -> Row:
    """An action with the slugs of its owner and page. Raises `LookupError`."""
    for row in await several(connection, [action_id]):
        return row
    raise LookupError(f"there is no action {action_id}")


async def several(connection: Connection, ids: Sequence[UUID]) -> list[Row]:
    """Those of these actions that are there, in this order."""
    rows = (
        {row["id"]: row for row in await connection.fetch(f"{_ACTIONS} WHERE a.id = ANY ($1)", ids)}
        if ids
        else {}
    )
    return [rows[action] for action in ids if action in rows]


async def actions(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    status: str | None = None,
    owner: UUID | None = None,
    trigger: UUID | None = None,
    step: str | None = None,
    by: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 100,
) -> list[Row]:
    """Actions, newest first; `by`: this person wrote or decided them, or has their episode."""
    return await connection.fetch(
        f"{_ACTIONS} WHERE ($1::uuid[] IS NULL OR a.page_id = ANY ($1)) AND ($2::text IS NULL OR a.status = $2) "
        "AND ($3::uuid IS NULL OR a.owner_id = $3) AND ($7::uuid IS NULL OR a.triggers @> ARRAY[$7]) "
        "AND ($8::text IS NULL OR a.step = $8) AND ($9::text IS NULL OR $9 IN (a.asked_by, a.decided_by, e.assignee) "
        " OR EXISTS (SELECT 1 FROM approvals v WHERE v.action_id = a.id AND v.by = $9)) "
        "AND ($4::timestamptz IS NULL OR (a.created_at, a.id) < ($4, $5)) ORDER BY a.created_at DESC, a.id DESC LIMIT $6",
        pages,
        status,
        owner,
        before[0] if before else None,
        before[1] if before else None,
        limit,
        trigger,
        step,
        by,
    )
