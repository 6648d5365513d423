"""Months of virtual time through the same `decide`: how soon a policy sees outages, and how often it sees what is none.

Discrete events over `evaluators.replay.fold` and `evaluators.relay.heard`, in the places of `engine.schedule`'s grid. No bus, no
database, no sleeping. While a beat is calm nothing that could happen but the next bad run changes what it says: the
turns until then are not run, and the votes they leave are written down (`forwarded`). docs/decisions/0025 says what is
an estimate here.
"""

import bisect
import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from engine.catalog import Declared
from engine.drawn import START, Drawn, Noise, Outcome, Place, Runs, TooManyError, closure, drawn_from
from engine.relations import Relations
from engine.schedule import fraction_of
from engine.scheduler import EXTRA_SHARE
from engine.store.ids import derived_id
from engine.subject import Subject, compile_subject
from evaluators import facts, quorum, relay, replay, vote
from evaluators.facts import Effect
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy
from evaluators.state import State
from rules.component import Region
from rules.declared import Document
from rules.group import Group
from rules.kinds.kind import ProbedRule
from rules.shape import spec_of
from rules.world import MOST_BEATS, World

RESULT_S: Final = 0.12
"""From the end of a run that somebody waits for to its commit: the spool's flush, the bus, one transaction."""
ORDER_S: Final = 0.02
"""From the commit to the begin of a run that was ordered; as long takes what one subject says to another."""
LATE_S: Final = 60.0
"""An episode that opens so soon after an outage ended was opened by it."""
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


@dataclass(slots=True)
class Lived:
    """An episode. `owner` is a beat's or group's slug."""

    owner: str
    opened: float
    closed: float = math.inf


@dataclass(slots=True)
class _Actor:
    """A beat or group. Only beats have lanes, one for each region."""

    subject: Subject
    state: State
    lanes: list[Runs] = field(default_factory=list)
    cursors: list[int] = field(default_factory=list)  # the first turn of each lane that is not folded in
    can_rest: bool = False
    is_calm: bool = False
    generation: int = 0  # of what waits for its turns
    out: int = 0  # confirm runs that have not answered
    tick_at: float = math.inf  # when time is let pass, at the latest


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it: the figures, as JSON shows them, and what they were counted from."""

    figures: dict[str, Any]
    delays_s: list[float]  # of outages that were seen, sorted
    episodes: list[Lived]


class Simulation:
    """One policy in one world. Without `skips` every single run is folded: slower, and the same to the last bit."""

    def __init__(self, document: Document, world: World, *, skips: bool = True) -> None:
        self.end = START + world.time
        self._world, self._skips = world, skips
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._pushed = 0
        self._relations = Relations()
        self._actors: dict[UUID, _Actor] = {}
        self._extra: dict[str, list[float]] = {}  # by region, when its runs out of schedule end
        self._lived: dict[tuple[UUID, int], Lived] = {}
        self._messages, self._drafts, self._folded, self._dropped = Counter[str](), 0, 0, 0
        self._places = self._declare(document)
        self._drawn = Drawn(world, self._places, self.end)
        self._furnish()

    def run(self, on_progress: Callable[[float], None] = lambda _: None) -> Report:
        """Until the end of virtual time; `on_progress` hears the share that is done, now and then."""
        for actor in self._actors.values():
            self._fold(START, actor, facts.PolicyChanged(START))
            self._arm(actor)
        seen = 0
        while self._heap and self._heap[0][0] < self.end:
            at, _, act, arguments = heapq.heappop(self._heap)
            act(at, *arguments)
            seen += 1
            if seen % 20_000 == 0:
                on_progress((at - START) / self._world.time)
        for actor in self._actors.values():
            self._rouse(actor, self.end)
        return self._report()

    def states(self) -> dict[str, State]:
        """What every beat and group remembers, by slug."""
        return {actor.subject.slug: actor.state for actor in self._actors.values()}

    # ---- who is there

    def _declare(self, document: Document) -> list[Place]:
        """Subjects of the document's beats and groups, as the catalog would make them."""
        regions = [one.spec for one in document.objects if isinstance(one.spec, Region)]
        everywhere = Bound(
            regions=tuple(sorted(region.slug for region in regions)),
            zones={region.slug: region.zone for region in regions if region.zone},
        )
        rows: list[Declared] = []
        for one in document.objects:
            page_id = derived_id("page", one.page) if one.page else None
            row_id = derived_id(one.kind, one.page, one.slug)
            if one.kind == "page":
                self._relations.put(derived_id("page", one.slug), "page", None, one.slug, {})
            elif isinstance(one.spec, ProbedRule | Group) and one.spec.enabled:
                rows.append(Declared(row_id, one.kind, page_id, one.slug, spec_of(one.spec), 1, None))
                self._relations.put(row_id, one.kind, page_id, one.slug, rows[-1].spec)
        self._relations.settle(START)
        for row in rows:
            theirs = self._relations.bound(row.id)
            bound = replace(everywhere, group=theirs.group, parents=theirs.parents)
            subject = compile_subject(row, bound)
            self._actors[row.id] = _Actor(subject, quorum.newborn(subject.policy, START))
        specs = [(derived_id(one.kind, one.page, one.slug), one.spec) for one in document.objects]
        beats = [(one, spec) for one, spec in specs if one in self._actors and isinstance(spec, ProbedRule)]
        if not 0 < len(beats) <= MOST_BEATS:
            raise TooManyError(f"{len(beats)} beats that probes run; 1 to {MOST_BEATS} can be simulated")
        numbers = {one: number for number, (one, _) in enumerate(beats)}
        needed_by: dict[int, list[int]] = {}
        for parent, children in self._relations.children.items():
            for up in self._beats_of(parent, numbers):
                needed_by.setdefault(up, []).extend(
                    n for child in children for n in self._beats_of(child, numbers)
                )
        return [
            Place(
                spec,
                self._actors[one].subject.bound.regions,
                self._owner(one),
                closure(numbers[one], needed_by),
            )
            for one, spec in beats
        ]

    def _owner(self, beat: UUID) -> str:
        return self._actors[beat].subject.policy.group or str(beat)

    def _beats_of(self, one: UUID, numbers: dict[UUID, int]) -> list[int]:
        """The number of a beat, or of all members of a group."""
        return [number for beat, number in numbers.items() if beat == one or self._owner(beat) == str(one)]

    def _furnish(self) -> None:
        """Lanes for the beats."""
        beats = [actor for actor in self._actors.values() if actor.subject.type != "group"]
        for number, (actor, place) in enumerate(zip(beats, self._places, strict=True)):
            rule, policy = place.rule, actor.subject.policy
            noise = Noise(rule, self._world)
            for index, region in enumerate(place.regions):
                fraction = fraction_of(actor.subject.subject_id, index, len(place.regions))
                chance = drawn_from(self._world.seed, "runs", number, index)
                met = self._drawn.met(number, region)
                actor.lanes.append(Runs(noise, rule.interval, fraction, chance, met))
            actor.cursors = [lane.first for lane in actor.lanes]
            actor.can_rest = self._skips and policy.max_age_s > rule.interval + noise.deadline_s + RESULT_S

    # ---- events

    def _push(self, at: float, act: Callable[..., None], *arguments: object) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, act, arguments))

    def _arm(self, actor: _Actor) -> None:
        actor.generation += 1
        for place in range(len(actor.lanes)):
            self._await_turn(actor, place)

    def _await_turn(self, actor: _Actor, place: int) -> None:
        lane, turn = actor.lanes[place], actor.cursors[place]
        outcome = lane.scheduled(turn)
        at = outcome[1] + RESULT_S if outcome else lane.due(turn)
        self._push(at, self._arrived, actor, actor.generation, place, outcome)

    def _arrived(
        self, at: float, actor: _Actor, generation: int, place: int, outcome: Outcome | None
    ) -> None:
        """A scheduled run's result, or the time of one that nobody hears of."""
        if generation != actor.generation:
            return
        turn = actor.cursors[place]
        actor.cursors[place] += 1
        if outcome is not None:
            self._result(at, actor, place, outcome, str(turn))
            if outcome[0] is Verdict.OK and self._rest(actor):
                return
        self._await_turn(actor, place)

    def _rest(self, actor: _Actor) -> bool:
        """Let it be until something bad happens, if it is as calm as can be."""
        if not actor.can_rest or actor.out or not is_calm(actor.subject.policy, actor.state):
            return False
        actor.is_calm, wake_at = True, math.inf
        actor.generation += 1
        for lane, turn in zip(actor.lanes, actor.cursors, strict=True):
            bad = lane.next_bad(turn)
            if lane.due(bad) < min(wake_at, self.end):
                outcome = lane.scheduled(bad)
                wake_at = min(wake_at, outcome[1] + RESULT_S if outcome else lane.due(bad))
        self._push(wake_at, self._woken, actor, actor.generation)
        return True

    def _woken(self, at: float, actor: _Actor, generation: int) -> None:
        if generation == actor.generation:
            self._rouse(actor, at)

    def _rouse(self, actor: _Actor, at: float) -> None:
        """Bring a calm beat to `at` as if each of its runs had been folded in, and run it again turn by turn."""
        if not actor.is_calm:
            return
        actor.is_calm = False
        policy = actor.subject.policy
        regions, newest = dict(actor.state.regions), actor.state.at
        for place, lane in enumerate(actor.lanes):
            first = actor.cursors[place]
            last = min(lane.last_due_by(at), lane.next_bad(first) - 1)
            while last >= first and lane.ok_end(last) + RESULT_S >= at:
                last -= 1
            if last >= first:
                slug = actor.subject.bound.regions[place]
                regions[slug] = forwarded(policy, regions[slug], lane, range(first, last + 1), slug)
                newest = max(newest, lane.ok_end(last) + RESULT_S)
                actor.cursors[place] = last + 1
        actor.state = replace(actor.state, regions=regions, at=newest)
        self._await_tick(actor)
        self._arm(actor)

    def _order(self, at: float, actor: _Actor, place: int, request: str, n: int) -> None:
        """A run out of schedule begins, if there is a slot for it."""
        running = self._extra.setdefault(actor.subject.bound.regions[place], [])
        del running[: bisect.bisect_right(running, at)]
        if self._world.slots is not None and len(running) >= max(1, self._world.slots // EXTRA_SHARE):
            self._dropped += 1
            self._push(at + RESULT_S, self._answered, actor, place, (Verdict.ERROR, at), request, n)
            return
        outcome = actor.lanes[place].confirm(at)
        if outcome is None:
            actor.out -= 1
            return
        bisect.insort(running, outcome[1])
        self._push(outcome[1] + RESULT_S, self._answered, actor, place, outcome, request, n)

    def _answered(self, at: float, actor: _Actor, place: int, outcome: Outcome, request: str, n: int) -> None:
        actor.out -= 1
        self._result(at, actor, place, outcome, f"{request} {n}", request, n)

    def _result(
        self,
        at: float,
        actor: _Actor,
        place: int,
        outcome: Outcome,
        run: str,
        request: str | None = None,
        n: int = 0,
    ) -> None:
        subject, (verdict, ended) = actor.subject, outcome
        region = subject.bound.regions[place]
        kind = Kind.SCHEDULED if request is None else Kind.CONFIRM
        stored = verdict is not Verdict.ERROR
        result = Result(
            f"{region} {run}", subject.slug, region, kind, verdict, ended, ended, _seq(ended), 1, Timings(),
            request=request, n=n, check_version=1, stored=stored,
        )  # fmt: skip
        self._folded += 1
        self._fold(at, actor, facts.ResultSeen(at, result, region, ended))

    def _told(self, at: float, subject_id: UUID, fact: relay.Heard) -> None:
        """One subject says something to another."""
        actor = self._actors[subject_id]
        self._rouse(actor, at)
        self._fold(at, actor, replace(fact, at=at))

    def _await_tick(self, actor: _Actor) -> None:
        deadline = quorum.next_deadline(actor.subject.policy, actor.state)
        if deadline is not None and deadline < actor.tick_at:
            actor.tick_at = deadline
            self._push(deadline, self._tick, actor)

    def _tick(self, at: float, actor: _Actor) -> None:
        if at != actor.tick_at:
            return
        actor.tick_at = math.inf
        if not actor.is_calm:
            self._fold(at, actor, facts.Tick(at))

    def _fold(self, at: float, actor: _Actor, fact: facts.Fact) -> None:
        """One fact, and all that comes of it."""
        subject = actor.subject
        actor.state, steps = replay.fold(subject.policy, actor.state, fact)
        me = str(subject.subject_id)
        children = [str(one) for one in self._relations.children.get(subject.subject_id, ())] if steps else []
        for state, effects in steps:
            for effect in effects:
                self._note(subject, effect, state, effects)
                if isinstance(effect, facts.ConfirmWanted):
                    self._confirm(actor, at, effect)
                for other, heard in relay.heard(effect, me, children):
                    self._push(at + ORDER_S, self._told, UUID(other), heard)
        self._await_tick(actor)

    def _confirm(self, actor: _Actor, at: float, wanted: facts.ConfirmWanted) -> None:
        regions = actor.subject.bound.regions
        for region in wanted.regions:
            for n in range(wanted.runs):
                actor.out += 1
                begin = at + ORDER_S + n * wanted.spacing_s
                self._push(begin, self._order, actor, regions.index(region), wanted.request, n)

    # ---- what is counted

    def _note(self, subject: Subject, effect: Effect, state: State, same: Sequence[Effect]) -> None:
        if isinstance(effect, facts.EpisodeOpened):
            lived = self._lived.setdefault(
                (subject.subject_id, effect.number), Lived(subject.slug, effect.at)
            )
            lived.closed = math.inf
        elif isinstance(effect, facts.EpisodeClosed):
            self._lived[subject.subject_id, effect.number].closed = effect.at
        elif isinstance(effect, facts.StepProposed):
            self._drafts += getattr(subject.policy.incidents, effect.step) == "draft"
        if (told := replay.told(effect, state, same)) is not None:
            self._messages[told] += 1

    def _report(self) -> Report:
        delays, missed, already = list[float](), list[float](), 0
        owners = [place.owner for place in self._places]
        by_owner: dict[str, list[Lived]] = {}
        for (subject_id, _), lived in sorted(self._lived.items(), key=lambda item: _opened(item[1])):
            by_owner.setdefault(str(subject_id), []).append(lived)
        caused, regional = set[int](), set[int]()
        first = set[int]()
        for event in self._drawn.happened:
            new, is_open = list[Lived](), False
            for lived_of in (by_owner.get(owner, []) for owner in {owners[hit] for hit in event.hits}):
                first_new = bisect.bisect_left(lived_of, event.start, key=_opened)
                new += lived_of[first_new : bisect.bisect_left(lived_of, event.end + LATE_S, key=_opened)]
                is_open |= first_new > 0 and lived_of[first_new - 1].closed > event.start
            new.sort(key=_opened)
            if not event.is_real:
                regional |= set(map(id, new))
                continue
            caused |= set(map(id, new))
            if is_open:
                already += 1
            elif new:
                delays.append(new[0].opened - event.start)
                first.add(id(new[0]))
            elif event.end <= self.end:
                missed.append(event.end - event.start)
        episodes = [one for lived in by_owner.values() for one in lived]
        hours = len(self._places) * self._world.time / 3600
        per_10k = 10_000 / hours
        spurious = len(set(map(id, episodes)) - caused - regional)
        delays.sort()
        shown = {
            name: delays[min(int(q * len(delays)), len(delays) - 1)]
            for name, q in QUANTILES.items()
            if delays
        }
        figures = {
            "beat_hours": round(hours),
            "outages": len(delays) + already + len(missed),
            "detection_delay_s": {name: round(delay, 2) for name, delay in shown.items()},
            "missed": len(missed),
            "longest_missed_s": round(max(missed), 1) if missed else None,
            "already_open": already,  # outages that began while an episode was open
            "episodes": len(episodes),
            "repeated_episodes": len(caused - first),  # of an outage that had one
            "false_episodes": spurious,
            "false_per_10000_beat_hours": round(spurious * per_10k, 3),
            "regional_per_10000_beat_hours": round(len(regional - caused) * per_10k, 3),
            "messages": self._messages.total(),
            "messages_by_kind": dict(sorted(self._messages.items())),
            "drafts": self._drafts,
            "results_folded": self._folded,
            "confirm_runs_dropped": self._dropped,
        }
        return Report(figures, delays, episodes)


def is_calm(policy: Policy, state: State) -> bool:
    """Whether ok results alone change nothing but the age of its votes, however many come."""
    if state.stage is not Stage.OK or state.severity is not None or state.round is not None or state.wake_at:
        return False
    if state.dissent_since or state.clear_after or state.askers or state.between or state.held_until:
        return False
    if state.group != policy.group or len(state.regions) < len(policy.regions):
        return False
    return all(one.vote.verdict is Verdict.OK and not one.vote.bad for one in state.regions.values())


def forwarded(policy: Policy, region: vote.Region, lane: Runs, turns: range, slug: str) -> vote.Region:
    """`region` after all these ok turns, as `vote.see` leaves it one by one; only the last few are looked at."""
    ends = [lane.ok_end(turn) for turn in turns[-policy.window - 1 :]]
    seen = [vote.Seen(Verdict.OK, Kind.SCHEDULED, ended, slug, _seq(ended)) for ended in ends]
    if len(turns) > policy.window:  # nothing is left of what came before but how many were ok
        old, count = region.vote, len(turns)
        left = count - policy.window
        base = vote.Vote(Verdict.OK, ends[0], 0, 0, old.better + left, old.good + left)
        last = vote.Vote(Verdict.OK, ends[-1], 0, 0, old.better + count, old.good + count)
        return vote.Region(base, tuple(seen[1:]), last, True)
    for one in seen:
        recent, base, full = (*region.recent, one), region.base, region.full
        if len(recent) > policy.window:
            recent, base, full = recent[1:], vote.step(policy, base, recent[0]), True
        region = vote.Region(base, recent, vote.step(policy, region.vote, one), full)
    return region


def _opened(lived: Lived) -> float:
    return lived.opened


def _seq(ended: float) -> int:
    """A number that orders the results of a region by their end."""
    return round((ended - START) * 1e6)
