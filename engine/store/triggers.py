"""What triggers remember, saved by compare-and-swap; the beats their signals are about; and signals on their way to those. What is made of events is `evaluators.trigger`'s."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from engine.store import objects, pushed
from engine.store.audit import POLICY, Actor, record
from engine.store.database import Connection
from engine.store.objects import Stored
from engine.store.pushed import Report
from engine.store.states import ConflictError
from evaluators.modes import Modes
from evaluators.trigger import ABSENCE, Course, Head, Key, Signalled
from rules.incident import Mode, Step
from rules.redaction import hidden_text
from rules.shape import spec_of
from rules.trigger import Target, Trigger

_IDENTITY: Final = ("inbox", "unwrap", "each", "values", "fingerprint", "target")
"""What of a rule its keys mean something by: of another one they say nothing."""
_NAME_MOST: Final = 200
_UNREADABLE: Final = re.compile(r"[^a-z0-9]+")


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a trigger did since it decides as it does now. Seconds since the epoch."""

    rule: str = ""  # digest
    since: float = 0.0
    matches: int = 0
    opened: int = 0
    resolved: int = 0
    errors: int = 0
    real_firings: int = 0  # opened, and not by what somebody fired by hand
    real_recoveries: int = 0
    matched_at: float = 0.0


class Held(NamedTuple):
    """A trigger as it stands, and what it remembers as it was saved last. `targets` are those of open signals that have one of
    their own; `hidden` paths of the body are shown to nobody.
    """

    trigger_id: UUID
    page_id: UUID
    slug: str
    spec: dict[str, Any]
    revision: int
    is_removed: bool
    inbox_id: UUID | None
    target_id: UUID | None
    version: int
    seen_revision: int
    identity: str
    promoted: dict[str, Any] | None
    hidden: Sequence[str]
    head: Head
    tally: Tally
    keys: dict[str, Key]
    targets: dict[str, UUID]


class Change(NamedTuple):
    """What is new of one trigger: `held` is what it is to be, but for its version. A key that is None is gone."""

    held: Held
    keys: Mapping[str, Key | None]


class Said(NamedTuple):
    """Something for the target of a trigger. `event_at`: when it happened, as its sender says.

    What somebody fired by hand (`is_test`) is a draft at most, however bold the trigger is.
    """

    trigger_id: UUID
    target_id: UUID
    signalled: Signalled
    event_at: float
    careful: bool = False
    is_test: bool = False


def identity_of(rule: Trigger) -> str:
    """Digest of what of `rule` its keys mean something by."""
    spec = spec_of(rule)
    wanted = json.dumps([spec.get(name) for name in _IDENTITY])
    return hashlib.sha256(wanted.encode()).hexdigest()[:16]


def modes_of(rule: Trigger, promoted: Mapping[str, Any] | None) -> Modes:
    """What `rule` may do: `auto` only where somebody has promoted that step of what it decides by now.

    `promoted` has the digest of the `rule` and the `steps`.
    """
    steps = promoted["steps"] if promoted and promoted["rule"] == rule.digest else ()

    def mode(step: Step) -> Mode:
        wanted: Mode = getattr(rule.incidents, step)
        return "draft" if wanted == "auto" and step not in steps else wanted

    return Modes(mode("open"), mode("update"), mode("resolve"))


# ---- what is remembered


async def stamp(connection: Connection) -> int:
    """Another number whenever an inbox or trigger was made, changed or removed."""
    found: int = await connection.fetchval(
        "SELECT coalesce(sum(revision), 0)::int8 FROM objects WHERE kind IN ('inbox', 'trigger')"
    )
    return found


class Declared(NamedTuple):
    """Where a trigger belongs, and its revision and the inbox's."""

    inbox_id: UUID
    revision: int
    of_inbox: int


async def declared(connection: Connection) -> dict[UUID, Declared]:
    """All triggers, of the removed ones those that do not know it yet."""
    rows = await connection.fetch(
        "SELECT t.id, i.id AS inbox_id, t.revision, i.revision AS of_inbox FROM objects t JOIN objects i ON i.kind = 'inbox' "
        " AND i.page_id = t.page_id AND i.slug = t.spec->>'inbox' AND i.removed_at IS NULL "
        "WHERE t.kind = 'trigger' AND t.removed_at IS NULL UNION ALL "
        "SELECT t.id, s.inbox_id, t.revision, 0 FROM trigger_states s JOIN objects t ON t.id = s.trigger_id "
        "WHERE t.removed_at IS NOT NULL AND s.inbox_id IS NOT NULL"
    )
    return {row["id"]: Declared(*row[1:]) for row in rows}


class Named(NamedTuple):
    """An inbox by the page it is on."""

    page_id: UUID
    page: str
    slug: str


async def inboxes(connection: Connection) -> dict[UUID, Named]:
    """What all inboxes are called."""
    rows = await connection.fetch(
        "SELECT o.id, p.id AS page_id, p.slug AS page, o.slug FROM objects o JOIN objects p ON p.id = o.page_id "
        "WHERE o.kind = 'inbox' AND o.removed_at IS NULL"
    )
    return {row["id"]: Named(*row[1:]) for row in rows}


async def load(connection: Connection, triggers: Collection[UUID]) -> list[Held]:
    """These triggers, with what they remember."""
    rows = await connection.fetch(
        "SELECT o.id, o.page_id, o.slug, o.spec, o.revision, o.removed_at IS NOT NULL, s.inbox_id, s.target_id, s.version, "
        "s.revision, s.identity, s.promoted, coalesce((SELECT i.spec->'redact' FROM objects i WHERE i.kind = 'inbox' "
        " AND i.page_id = o.page_id AND i.slug = o.spec->>'inbox' AND i.removed_at IS NULL), '[]'), s.head::text, s.tally::text "
        "FROM trigger_states s JOIN objects o ON o.id = s.trigger_id WHERE s.trigger_id = ANY ($1) ORDER BY o.id",
        list(triggers),
    )
    keys: dict[UUID, dict[str, Key]] = {row["id"]: {} for row in rows}
    targets: dict[UUID, dict[str, UUID]] = {row["id"]: {} for row in rows}
    for key in await connection.fetch(
        "SELECT trigger_id, fingerprint, state::text, target_id FROM trigger_keys WHERE trigger_id = ANY ($1)",
        list(keys),
    ):
        keys[key["trigger_id"]][key["fingerprint"]] = msgspec.json.decode(key["state"], type=Key)
        if key["target_id"] is not None:
            targets[key["trigger_id"]][key["fingerprint"]] = key["target_id"]
    decode = msgspec.json.decode
    return [
        Held._make(
            (*found, decode(head, type=Head), decode(tally, type=Tally), keys[found[0]], targets[found[0]])
        )
        for *found, head, tally in rows
    ]


async def save(connection: Connection, changes: Sequence[Change]) -> dict[UUID, dict[str, Any] | None]:
    """Write what is new, each only if its version is still the stored one; then that is version + 1. Returns what is `promoted`.

    Raises `ConflictError` when any was not: the transaction must be rolled back.
    """
    if not changes:
        return {}
    held = [one.held for one in changes]
    rows = await connection.fetch(
        "UPDATE trigger_states s SET version = s.version + 1, inbox_id = n.inbox_id, target_id = n.target_id, "
        " revision = n.revision, identity = n.identity, head = n.head::json, tally = n.tally::json "
        "FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::uuid[], $5::int8[], $6::text[], $7::text[], $8::text[]) "
        "AS n (trigger_id, version, inbox_id, target_id, revision, identity, head, tally) "
        "WHERE s.trigger_id = n.trigger_id AND s.version = n.version RETURNING s.trigger_id, s.promoted",
        [one.trigger_id for one in held],
        [one.version for one in held],
        [one.inbox_id for one in held],
        [one.target_id for one in held],
        [one.seen_revision for one in held],
        [one.identity for one in held],
        [msgspec.json.encode(one.head).decode() for one in held],
        [msgspec.json.encode(one.tally).decode() for one in held],
    )
    if len(rows) != len(changes):
        raise ConflictError
    new = [(one.held, name, key) for one in changes for name, key in one.keys.items()]
    if gone := [(one.trigger_id, name) for one, name, key in new if key is None]:
        await connection.execute(
            "DELETE FROM trigger_keys k USING unnest($1::uuid[], $2::text[]) AS g (trigger_id, fingerprint) "
            "WHERE k.trigger_id = g.trigger_id AND k.fingerprint = g.fingerprint",
            *zip(*gone, strict=True),
        )
    if kept := [(one, name, key) for one, name, key in new if key is not None]:
        await connection.execute(
            "INSERT INTO trigger_keys (trigger_id, fingerprint, state, target_id) SELECT trigger_id, fingerprint, "
            "state::json, target_id FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) "
            "AS k (trigger_id, fingerprint, state, target_id) ON CONFLICT (trigger_id, fingerprint) "
            "DO UPDATE SET state = excluded.state, target_id = excluded.target_id",
            [one.trigger_id for one, _, _ in kept],
            [name for _, name, _ in kept],
            [msgspec.json.encode(key).decode() for _, _, key in kept],
            [one.targets.get(name) for one, name, _ in kept],
        )
    return {row["trigger_id"]: row["promoted"] for row in rows}


async def promote(connection: Connection, actor: Actor, trigger: Stored, promoted: Mapping[str, Any]) -> None:
    """Let the steps of `promoted` be taken without review, as far as the rule it names is the trigger's. See `modes_of`.

    Open signals are as bold as when they were last told of.
    """
    await connection.execute(
        "UPDATE trigger_states SET promoted = $2, version = version + 1 WHERE trigger_id = $1",
        trigger.id,
        promoted,
    )
    await record(connection, actor, "trigger.promote", trigger.slug, trigger.page_id, None, promoted)


async def end(connection: Connection, actor: Actor, trigger: Stored, fingerprint: str, at: float) -> set[int]:
    """A person ends the open signal of `fingerprint`. Returns the partitions to announce; none where it was not open.

    Raises `ConflictError` when an event came at the same moment: try again.
    """
    (held,) = await load(connection, [trigger.id])
    rule = Trigger.model_validate(held.spec)
    if held.target_id is None or held.identity != identity_of(rule):
        return set()
    course = Course(rule, held.head, held.keys)
    said = [
        Said(trigger.id, held.targets.get(one.fingerprint, held.target_id), one, at)
        for one in course.end(at, fingerprint)
    ]
    if not said:
        return set()
    targets = {name: target for name, target in held.targets.items() if name in course.open}
    change = Change(
        held._replace(head=course.head, targets=targets),
        {name: course.keys.get(name) for name in course.changed},
    )
    promoted = await save(connection, [change])
    before = {"fingerprint": fingerprint}
    await record(connection, actor, "trigger.end_signal", trigger.slug, trigger.page_id, before, None)
    return await tell(connection, said, {trigger.id: rule}, promoted, at)


# ---- signals


async def tell(
    connection: Connection,
    said: Sequence[Said],
    rules: Mapping[UUID, Trigger],
    promoted: Mapping[UUID, dict[str, Any] | None],
    now: float,
) -> set[int]:
    """Push signals to the evaluators of their targets. Returns the partitions to announce after the commit."""
    modes = {one: modes_of(rules[one], promoted.get(one)) for one in {one.trigger_id for one in said}}
    reports = [(one.target_id, _report(one, rules[one.trigger_id], modes[one.trigger_id])) for one in said]
    return await pushed.relay(connection, reports, now)


def _report(said: Said, rule: Trigger, modes: Modes) -> Report:
    one = said.signalled
    about = one.fingerprint if one.fingerprint != ABSENCE else "absence"
    return Report(
        source=str(said.trigger_id),
        fingerprint=one.fingerprint,
        severity=one.severity,
        message=hidden_text(one.message) or f"{rule.title}: {about}",
        at=said.event_at,
        by=rule.slug,
        evidence={"event": one.event, "trigger": rule.slug, "cause": one.cause}
        | (
            {"captures": {name: hidden_text(text) for name, text in one.published.items()}}
            if one.published
            else {}
        ),
        modes=modes.at_most("draft") if said.is_test else modes,
        careful=said.careful,
    )


# ---- targets


async def expect_target(
    connection: Connection, actor: Actor | None, page_id: UUID | None, target: Target
) -> None:
    """See that the external beat of a trigger of this page is there, or (no actor) could be made.

    Raises `ValueError` where another beat has its slug.
    """
    if target.external is None or page_id is None:
        return
    spec = await connection.fetchval(
        "SELECT spec FROM objects WHERE kind = 'beat' AND page_id = $1 AND slug = $2 AND removed_at IS NULL",
        page_id,
        target.external,
    )
    if spec is None:
        if actor is not None:
            made = {"slug": target.external, "type": "external"}
            await objects.create(connection, actor, "beat", page_id, made)
    elif spec["type"] != "external":
        raise ValueError(
            f"the beat {target.external!r} is there already and of type {spec['type']}; "
            f"name it as `beat`, or another slug for one that is made"
        )


async def target_of(connection: Connection, page_id: UUID, target: Target) -> UUID | None:
    """What the signals of a trigger of this page are about; None where it is gone."""
    found: UUID | None = await connection.fetchval(
        "SELECT id FROM objects WHERE kind = $1 AND page_id = $2 AND slug = $3 AND removed_at IS NULL",
        "group" if target.group else "beat",
        page_id,
        target.group or target.beat or target.external,
    )
    return found


async def beats_of(
    connection: Connection, trigger_id: UUID, base_id: UUID, fingerprints: Sequence[str], most: int
) -> dict[str, UUID]:
    """The beats of a trigger for these fingerprints, made where there are none, like its base. Those over `most` get none."""
    rows = await connection.fetch(
        "SELECT b.fingerprint, b.beat_id FROM trigger_beats b JOIN objects o ON o.id = b.beat_id "
        "WHERE b.trigger_id = $1 AND o.removed_at IS NULL",
        trigger_id,
    )
    there = {row["fingerprint"]: row["beat_id"] for row in rows}
    found = {name: there[name] for name in fingerprints if name in there}
    base: Stored | None = None
    for name in dict.fromkeys(fingerprints):
        if name in there or len(there) >= most:
            continue
        base = base or await objects.get(connection, base_id)
        if base is None or (beat_id := await _like(connection, base, name)) is None:
            continue
        await connection.execute(
            "INSERT INTO trigger_beats (trigger_id, fingerprint, beat_id) VALUES ($1, $2, $3) "
            "ON CONFLICT (trigger_id, fingerprint) DO UPDATE SET beat_id = excluded.beat_id",
            trigger_id,
            name,
            beat_id,
        )
        there[name] = found[name] = beat_id
    return found


async def _like(connection: Connection, base: Stored, fingerprint: str) -> UUID | None:
    """The external beat of `fingerprint` beside `base`; another trigger's of the same base will do."""
    readable = _UNREADABLE.sub("-", fingerprint.lower())[:20].strip("-")
    digest = hashlib.sha256(fingerprint.encode("utf-8", "replace")).hexdigest()[:8]
    slug = "-".join(part for part in (base.slug[:30].rstrip("-"), readable, digest) if part)
    name = " ".join(fingerprint.split())[:_NAME_MOST].strip()
    spec = base.spec | {"slug": slug, "name": name or slug}
    try:
        made = await objects.create(connection, POLICY, "beat", base.page_id, spec)
    except objects.TakenError:
        there = await objects.find(connection, "beat", slug, pages=[base.page_id] if base.page_id else None)
        return there.id if there.spec["type"] == "external" else None
    return made.id
