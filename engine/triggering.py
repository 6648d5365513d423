"""The evaluator's part in triggers: arrivals in, signals out, both in one transaction. What signals are made is `evaluators.trigger`'s.

Each partition of inboxes is worked by one task: look, fold, commit, announce. Arrivals are read and folded before the
transaction that takes them away. That each counts once rests on two compare-and-swaps in it: how far the partition is
judged, and what each trigger remembers. The lease only keeps two from doing the same work; what is in memory is thrown
away with every rollback. Time is that of receipt, and the database's: see decision 29.
"""

import asyncio
import contextlib
import logging
import math
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from engine import partitions
from engine.bus import LIVE, Bus
from engine.store import dead_letters, events, inboxes, objects, pings, pushed, triggers
from engine.store.audit import POLICY
from engine.store.database import Connection, Pool, follow, transaction
from engine.store.events import Arrival, ByTrigger, Deaf, Judged
from engine.store.ids import partition_of
from engine.store.triggers import Change, Declared, Held, Said, Tally
from evaluators.event import read
from evaluators.matching import NOTHING
from evaluators.trigger import ABSENCE, Course, Head, Key, Outcome, Signalled, Verdict, verdict_of
from rules.redaction import masked_message
from rules.trigger import Trigger

AT_ONCE: Final = 500
AT_ONCE_BYTES: Final = 4_000_000
FOLD_S: Final = 0.25
"""After so long a batch ends where it is: it is to be committed before others wait for long."""
SAID_AT_ONCE: Final = 1000
"""Signals after which a batch ends as well: they are written in the event loop, where others wait."""
LOOK_S: Final = 5.0
"""How often it is looked for arrivals and edits, in case nobody said so."""
SOONEST_S: Final = 0.05
BEHIND_S: Final = 1.0
"""Time passes for triggers so much later than for clocks: what was received before a deadline is judged before it."""
TRIES: Final = 3
RETRY_S: Final = 0.2
SHOWN_MOST: Final = 1000
"""Outcomes of one event that are kept."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Health(partitions.Health):
    """Arrivals too, by page and inbox."""

    verdicts: Counter[tuple[str, str, Verdict]] = field(default_factory=Counter)
    signals: int = 0


class Triggering(partitions.Partitions["Partition"]):
    """All partitions of inboxes that this process holds; `holder` names it."""

    health: Health

    def __init__(self, pool: Pool, bus: Bus, *, holder: str) -> None:
        super().__init__(pool, bus, kind="trigger", subject=inboxes.SUBJECT, holder=holder)
        self.health = Health()

    async def run(self) -> None:
        """Work until cancelled, then give the partitions back."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            await super().run()

    def made(self, number: int, gap_s: float | None) -> "Partition":
        return Partition(number, self._pool, self._bus, self.health)

    def heard(self, number: int, partition: "Partition") -> None:
        partition.woken.set()

    async def _follow(self) -> None:
        """Have all partitions look whenever something declared was changed."""

        async def look(connection: Connection) -> float:
            await connection.execute("SELECT 1")
            for partition in self._partitions.values():
                partition.woken.set()
            return LOOK_S

        await follow(self._pool, [objects.CHANGED], look)


@dataclass(slots=True)
class _Trigger:
    """A trigger in memory: as it was saved last, and what became of it since."""

    held: Held
    rule: Trigger
    declared: Declared
    course: Course
    tally: Tally
    targets: dict[str, UUID]  # of open signals that have one of their own

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to save: that time went on is none."""
        was, now = self.held.head, self.course.head
        is_same = now is was or replace(now, at=was.at) == was
        return not is_same or bool(self.course.changed) or self.tally != self.held.tally

    def change(self, gone: Iterable[str] = ()) -> Change:
        """What is to be saved of it, where a course before this one had the keys that are `gone`."""
        course, held = self.course, self.held
        keys = dict.fromkeys(gone) | {name: course.keys.get(name) for name in course.changed}
        return Change(held._replace(head=course.head, tally=self.tally, targets=self.targets), keys)

    def count(self, outcomes: Sequence[Outcome], at: float, *, is_test: bool) -> None:
        """Add what an event did to the record."""
        was, kinds = self.tally, Counter(outcome.kind for outcome in outcomes)
        matches = len(outcomes) - kinds["error"] - kinds["ignored"]
        self.tally = replace(
            was,
            matches=was.matches + matches,
            errors=was.errors + kinds["error"],
            opened=was.opened + kinds["opened"],
            real_firings=was.real_firings + (0 if is_test else kinds["opened"]),
            matched_at=at if matches else was.matched_at,
        )


@dataclass(slots=True)
class _Spoken:
    """A signal of a trigger before its target is known. `shown` is the outcome that tells of it, if one does."""

    trigger: _Trigger
    signalled: Signalled
    event_at: float
    shown: tuple[list[Outcome], int] | None = None

    @property
    def has_own_beat(self) -> bool:
        """Whether it is about a beat of its fingerprint, which may have to be made."""
        signal, target = self.signalled, self.trigger.rule.target
        return bool(target.per_fingerprint and signal.severity and signal.fingerprint != ABSENCE)

    def note(self, reason: str) -> None:
        """Say more in the outcome that tells of it."""
        if self.shown is not None:
            kept, place = self.shown
            kept[place] = replace(kept[place], reason=reason)


@dataclass(slots=True)
class _Folded:
    """What a batch made: ready to be committed, or thrown away."""

    taken: list[Arrival] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    spoken: list[_Spoken] = field(default_factory=list)
    is_test: dict[str, bool] = field(default_factory=dict)  # by event


class Partition(partitions.Partition):
    """The inboxes of one partition, and their triggers."""

    _health: Health

    def __init__(self, number: int, pool: Pool, bus: Bus, health: Health) -> None:
        super().__init__("inboxes", number, health)
        self.woken = asyncio.Event()
        self._pool, self._bus = pool, bus
        self._stamp = -1  # of what is declared, as it was loaded
        self._version, self._at = 0, 0.0  # how far it is judged
        self._now = self._heard = 0.0  # by the database, at the last look; and until when others were heard
        self._triggers: dict[UUID, _Trigger] = {}
        self._inboxes: dict[UUID, triggers.Named] = {}
        self._alone_until = 0  # arrivals up to this one are taken one by one: one of them is poison
        self._failures: Counter[int] = Counter()
        self._condemned: dict[int, str] = {}  # arrivals that nobody can judge, with the reason

    async def turn(self) -> None:
        """Look, then wait for a deadline, or until something came or was declared."""
        self.woken.clear()
        wait_s = await self._look()
        self._say(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.woken.wait()

    def forget(self) -> None:
        """Load all triggers anew."""
        self._stamp, self._triggers = -1, {}

    async def _look(self) -> float:
        """Bring triggers to what is declared, judge all that waits, then let time pass. Returns how long to wait, in seconds."""
        while True:
            async with self._pool.acquire() as connection:
                if self._stamp < 0:  # before all else: what is read behind it is no older
                    self._version, self._at = await events.turn(connection, self._number)
                most = 1 if self._alone_until else AT_ONCE
                arrivals = await events.waiting_in(connection, self._number, most, AT_ONCE_BYTES)
                if not arrivals or arrivals[0].id > self._alone_until:
                    self._alone_until = 0
                self._now, self._heard = await pings.heard_until(connection)
                # What was declared before an event came is in force when it is judged.
                if (stamp := await triggers.stamp(connection)) != self._stamp:
                    await self._declare(connection, arrivals[0].at if arrivals else math.inf)
                    self._stamp = stamp
                deaf = await self._deafness(connection)
            if not arrivals:
                break
            # That nobody listens now says nothing of what came before.
            if not await self._judge(arrivals, [one for one in deaf if one.ended_at <= self._heard]):
                return RETRY_S
            self._say(None)  # a long queue is no trouble: how long it is is told elsewhere
        await self._pass_time(deaf)
        due = (one.course.next_deadline for one in self._triggers.values())
        soonest = min((at for at in due if at is not None), default=math.inf)
        return min(LOOK_S, max(soonest + BEHIND_S - self._now, SOONEST_S))

    # ---- what is declared

    async def _declare(self, connection: Connection, before: float) -> None:
        """Load triggers that are new, changed or gone, and bring what they remember to it, as of no later than `before`."""
        self._inboxes = await triggers.inboxes(connection)
        mine = {
            trigger_id: declared
            for trigger_id, declared in (await triggers.declared(connection)).items()
            if partition_of(declared.inbox_id) == self._number
        }
        for trigger_id in self._triggers.keys() - mine.keys():
            del self._triggers[trigger_id]
        known = {trigger_id: one.declared for trigger_id, one in self._triggers.items()}
        stale = [trigger_id for trigger_id, declared in mine.items() if known.get(trigger_id) != declared]
        held = await triggers.load(connection, stale)
        for found in await asyncio.to_thread(_compiled, held, mine):
            self._triggers[found.held.trigger_id] = found
        anew = [self._triggers[one] for one in stale if one in self._triggers]
        if behind := [one for one in anew if one.held.seen_revision != one.held.revision]:
            deaf = await self._deafness(connection)
            async with connection.transaction():
                told = await self._reconcile(connection, behind, deaf, before)
            self._remember(behind)
            await self._announce(told, [])

    async def _reconcile(
        self, connection: Connection, behind: Sequence[_Trigger], deaf: Sequence[Deaf], before: float
    ) -> set[int]:
        """New, edited or removed. What is open under another rule ends, carefully; of what stays the target learns what it may do."""
        at = self._at = max(self._at, min(self._now - BEHIND_S, before))
        said, changes = list[Said](), list[Change]()
        for one in behind:
            held, rule, course = one.held, one.rule, one.course
            target_id = None if held.is_removed else await self._target(connection, held.page_id, rule)
            identity = "" if held.is_removed else triggers.identity_of(rule)
            signals, was_open = _hear(course, deaf, at), course.open
            gone = set[str]()
            if held.identity and (held.identity != identity or held.target_id not in (None, target_id)):
                signals += [s for s in course.end_all(at) if s.severity is None and s.fingerprint in was_open]
                gone = course.changed
                course = one.course = Course(rule, Head(at=at), {})
            elif rule.absence is None:
                signals += course.end(at, ABSENCE)
            signals += course.switch(at, enabled=rule.enabled and not held.is_removed)
            for signal in signals:
                target = one.targets.get(signal.fingerprint, held.target_id)
                if target is not None:
                    said.append(Said(held.trigger_id, target, signal, at, careful=True))
            one.targets = {name: target for name, target in one.targets.items() if name in course.open}
            for name, severity in course.open.items():
                if (target := one.targets.get(name, target_id)) is not None:
                    key = course.keys.get(name, Key())
                    still = Signalled(at, name, severity, "event", key.event, key.message)
                    said.append(Said(held.trigger_id, target, still, at))
            if one.tally.rule != rule.digest:
                one.tally = Tally(rule.digest, at)
            one.held = held._replace(
                inbox_id=None if held.is_removed else one.declared.inbox_id,
                target_id=target_id,
                seen_revision=held.revision,
                identity=identity,
            )
            changes.append(one.change(gone))
        await events.take(connection, self._number, self._version, at, [])
        promoted = await triggers.save(connection, changes)
        rules = {one.held.trigger_id: one.rule for one in behind}
        return await triggers.tell(connection, said, rules, promoted, self._now)

    async def _target(self, connection: Connection, page_id: UUID, rule: Trigger) -> UUID | None:
        found = await triggers.target_of(connection, page_id, rule.target)
        if found is None and rule.target.external is not None:
            await triggers.expect_target(connection, POLICY, page_id, rule.target)
            found = await triggers.target_of(connection, page_id, rule.target)
        return found

    # ---- what arrives

    async def _deafness(self, connection: Connection) -> list[Deaf]:
        """When nobody could hear, as far as triggers do not know of it, and as it is now. What was folded a moment ago may be behind its row."""
        since = min((_heard_from(one.course) for one in self._triggers.values()), default=None)
        deaf = [] if since is None else await events.deafness(connection, since)
        return [*deaf, Deaf(self._heard, self._now - BEHIND_S)] if self._heard < self._now else deaf

    async def _judge(self, arrivals: Sequence[Arrival], deaf: Sequence[Deaf]) -> bool:
        """One batch, from folding to the announcement. False where it failed, and is to be tried again in smaller parts."""
        try:
            folded = await asyncio.to_thread(self._fold, arrivals, deaf)
            await self._commit(folded)
        except Exception as bug:
            if partitions.is_passing(bug):
                raise
            self._isolate(arrivals)
            return False
        return True

    def _isolate(self, arrivals: Sequence[Arrival]) -> None:
        """Of several each is tried alone; one that fails alone is a dead letter after TRIES."""
        self.forget()
        if len(arrivals) > 1:
            self._alone_until = arrivals[-1].id
            return
        (one,) = arrivals
        self._failures[one.id] += 1
        _log.exception("event %s cannot be judged", one.event_id)
        if self._failures[one.id] >= TRIES:
            del self._failures[one.id]
            self._condemned[one.id] = traceback.format_exc()

    def _fold(self, arrivals: Sequence[Arrival], deaf: Sequence[Deaf]) -> _Folded:
        """In a thread: nothing else touches these triggers meanwhile."""
        folded = _Folded()
        by_inbox: dict[UUID, list[_Trigger]] = {}
        for one in self._triggers.values():
            by_inbox.setdefault(one.declared.inbox_id, []).append(one)
        ends_s = time.monotonic() + FOLD_S
        for arrival in arrivals:
            folded.taken.append(arrival)
            if arrival.event is None:
                continue
            at = self._at = max(min(arrival.at, self._now), self._at)  # an API node's clock may be ahead
            mine = by_inbox.get(arrival.inbox_id, ())
            folded.is_test[arrival.event.id] = arrival.event.is_test
            if arrival.id in self._condemned:
                failed = Outcome("error", 0, "it cannot be evaluated: see the dead letters")
                outcomes = {str(t.held.trigger_id): ByTrigger(t.held.revision, [failed]) for t in mine}
                folded.judged.append(Judged(arrival, at, "error", outcomes))
            else:
                folded.judged.append(self._see(folded, arrival, at, mine, deaf))
            if time.monotonic() > ends_s or len(folded.spoken) >= SAID_AT_ONCE:
                break
        return folded

    def _see(
        self, folded: _Folded, arrival: Arrival, at: float, mine: Iterable[_Trigger], deaf: Sequence[Deaf]
    ) -> Judged:
        event, shown, seen, left = arrival.event, dict[str, ByTrigger](), list[Outcome](), SHOWN_MOST
        assert event is not None
        document = read(event)
        for one in mine:
            said = _hear(one.course, deaf, at) if deaf else []
            matched, outcomes, more = one.course.see(at, event.id, document, is_repeat=arrival.is_repeat)
            if matched is NOTHING and not said and not more:
                continue
            said += more
            outcomes = [outcome for outcome in outcomes if outcome.reason != "unmatched"]
            seen += outcomes
            kept, left = outcomes[:left], max(left - len(outcomes), 0)
            if kept:
                shown[str(one.held.trigger_id)] = ByTrigger(one.held.revision, kept)
            if outcomes and not arrival.is_repeat:
                one.count(outcomes, at, is_test=event.is_test)
            places = {outcome.fingerprint: n for n, outcome in enumerate(kept) if outcome.kind == "opened"}
            for signal in said:
                key = one.course.keys.get(signal.fingerprint)
                event_at = key.event_at if key is not None and signal.event == event.id else signal.at
                place = places.get(signal.fingerprint) if signal.severity else None
                folded.spoken.append(_Spoken(one, signal, event_at, None if place is None else (kept, place)))
        return Judged(arrival, at, verdict_of(seen), shown)

    # ---- time

    async def _pass_time(self, deaf: Sequence[Deaf]) -> None:
        """Fold the deadlines that are over: nothing waits to be judged. While nobody listens, only silence and absence wait."""
        until, folded, is_due = self._now - BEHIND_S, _Folded(), False
        for one in self._triggers.values():
            due = one.course.next_deadline
            said = _hear(one.course, deaf, until)  # also where nothing is due: nobody needs to tell it again
            if due is not None and due <= until:
                is_due, self._at = True, max(self._at, until)
                said += one.course.pass_time(until)
            folded.spoken += (_Spoken(one, signal, signal.at) for signal in said)
        if is_due:
            await self._commit(folded)

    # ---- the one transaction

    async def _commit(self, folded: _Folded) -> None:
        """Arrivals taken, what became of them, what triggers remember and say. Then announce."""
        buried = [one for one in folded.taken if one.event is not None and one.id in self._condemned]
        async with transaction(self._pool) as connection:
            await events.take(connection, self._number, self._version, self._at, folded.taken)
            real = await self._real(connection, folded)
            said = await self._aimed(connection, folded, real)
            self._count(folded, real)
            changed = [one for one in self._triggers.values() if one.is_changed]
            promoted = await triggers.save(connection, [one.change() for one in changed])
            await events.keep(connection, folded.judged)
            for one in buried:
                assert one.event is not None
                error = f"event {one.event.id}\n{self._condemned[one.id]}"
                await dead_letters.put(connection, f"{inboxes.SUBJECT}.{self._number}", one.event.body, error)
            rules = {one.held.trigger_id: one.rule for one in changed}
            told = await triggers.tell(connection, said, rules, promoted, self._now)
        self._remember(changed)
        self._health.dead_letters += len(buried)
        self._health.signals += len(said)
        for one in buried:
            del self._condemned[one.id]
        await self._announce(told, folded.judged)

    async def _aimed(self, connection: Connection, folded: _Folded, real: set[str]) -> list[Said]:
        """Signals with their targets; where each fingerprint has a beat of its own, those are made."""
        wanted: dict[UUID, list[str]] = {}
        for spoken in folded.spoken:
            if spoken.has_own_beat and spoken.signalled.fingerprint not in spoken.trigger.targets:
                wanted.setdefault(spoken.trigger.held.trigger_id, []).append(spoken.signalled.fingerprint)
        made: dict[UUID, dict[str, UUID]] = {}
        for trigger_id, names in wanted.items():
            one = self._triggers[trigger_id]
            base, most = one.held.target_id, one.rule.target.per_fingerprint or 0
            if base is not None:
                made[trigger_id] = await triggers.beats_of(connection, trigger_id, base, names, most)
        said = []
        for spoken in folded.spoken:
            one, signal = spoken.trigger, spoken.signalled
            base, name = one.held.target_id, signal.fingerprint
            if base is None:  # it is gone
                continue
            if spoken.has_own_beat and name not in one.targets:
                one.targets[name] = made[one.held.trigger_id].get(name, base)
                if one.targets[name] == base:
                    spoken.note(
                        f"on {one.rule.target.external}: as many beats of its own as allowed are there"
                    )
            target, is_test = one.targets.get(name, base), bool(signal.event) and signal.event not in real
            said.append(Said(one.held.trigger_id, target, signal, spoken.event_at, is_test=is_test))
            if signal.severity is None:
                one.targets.pop(name, None)
        return said

    async def _real(self, connection: Connection, folded: _Folded) -> set[str]:
        """Of the events that signals are by, those that nobody fired by hand."""
        by = {spoken.signalled.event for spoken in folded.spoken if spoken.signalled.event}
        real = {event for event in by if folded.is_test.get(event) is False}
        if unknown := by - folded.is_test.keys():
            real |= await events.untested(connection, unknown)
        return real

    def _count(self, folded: _Folded, real: set[str]) -> None:
        """Add what time and recoveries did to the record; what somebody fired by hand is no proof of anything."""
        for spoken in folded.spoken:
            one, signal = spoken.trigger, spoken.signalled
            is_real, tally = not signal.event or signal.event in real, one.tally
            if signal.severity is None:
                recovered = tally.real_recoveries + (is_real and signal.cause not in ("ended", "disabled"))
                one.tally = replace(tally, resolved=tally.resolved + 1, real_recoveries=recovered)
            elif signal.cause != "event":
                fired = tally.real_firings + is_real
                one.tally = replace(tally, opened=tally.opened + 1, real_firings=fired)

    def _remember(self, changed: Iterable[_Trigger]) -> None:
        """The transaction is committed."""
        self._version += 1
        for one in changed:
            one.held = one.held._replace(version=one.held.version + 1, head=one.course.head, tally=one.tally)
            one.course.changed.clear()
            if one.held.is_removed:
                del self._triggers[one.held.trigger_id]

    async def _announce(self, told: Iterable[int], judged: Sequence[Judged]) -> None:
        await self._bus.announce_each(pushed.SUBJECT, told)
        news: dict[UUID, triggers.Named] = {}
        for one in judged:
            if (inbox := self._inboxes.get(one.arrival.inbox_id)) is not None:
                self._health.verdicts[inbox.page, inbox.slug, one.verdict] += 1
                news[one.arrival.inbox_id] = inbox
        if news:
            items = [
                {"event": "received", "page": inbox.page_id, "inbox": inbox.slug} for inbox in news.values()
            ]
            await self._bus.announce(LIVE, msgspec.json.encode(items))


def _compiled(held: Iterable[Held], mine: Mapping[UUID, Declared]) -> list[_Trigger]:
    """In a thread: two hundred rules take a while."""
    found = []
    for one in held:
        try:
            rule = Trigger.model_validate(one.spec)
        except ValidationError as wrong:  # another version's
            _log.error("the trigger %s, revision %d, cannot be used: %s", one.slug, one.revision, wrong)
            continue
        message = masked_message(rule, one.hidden)  # it leaves its event behind
        course = Course(rule.model_copy(update={"message": message}), one.head, one.keys)
        course.matcher  # noqa: B018  # compiled here
        bare = one._replace(keys={}, targets={})
        found.append(_Trigger(bare, rule, mine[one.trigger_id], course, one.tally, dict(one.targets)))
    return found


def _heard_from(course: Course) -> float:
    """What ended before, it knows of. The row of a deafness is written a moment after its end."""
    return max(course.head.heard_from, course.head.at - 10.0)


def _hear(course: Course, deaf: Sequence[Deaf], at: float) -> list[Signalled]:
    """Tell it when nobody could hear, as far as that was over by `at`."""
    said = list[Signalled]()
    if not deaf or deaf[-1].ended_at <= _heard_from(course):  # for each event and trigger
        return said
    for one in deaf:
        if _heard_from(course) < one.ended_at <= at:
            said += course.pass_time(one.began_at)
            course.hear(one.ended_at)
    return said
