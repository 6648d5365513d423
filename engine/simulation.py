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

from engine.drawn import START, Drawn, Noise, Outcome, Place, Runs, TooManyError, drawn_from
from engine.relations import Relations, bind
from engine.schedule import fraction_of
from engine.store.ids import derived_id
from evaluators import facts, quorum, relay, replay, vote
from evaluators.facts import Effect
from evaluators.lane import after_oks
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Policy, compile_policy
from evaluators.state import State
from rules.beat import AnyBeat
from rules.component import Region
from rules.declared import Document
from rules.group import Group
from rules.kinds.kind import ProbedRule
from rules.shape import spec_of
from rules.subject import rule_of
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

    id: UUID
    slug: str
    policy: Policy
    state: State
    regions: tuple[str, ...]
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
        self._lived: dict[tuple[UUID, int], Lived] = {}
        self._messages, self._drafts, self._folded = Counter[str](), 0, 0
        self._places: list[Place] = []
        self._drawn = self._declare(document)

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
        return {actor.slug: actor.state for actor in self._actors.values()}

    # ---- who is there

    def _declare(self, document: Document) -> Drawn:
        """The beats and groups of the document, as the catalog would make them, and what happens to them."""
        zones: dict[str, str | None] = {}
        rules: dict[UUID, AnyBeat | Group] = {}
        for one in document.objects:
            row_id, spec = derived_id(one.kind, one.page, one.slug), spec_of(one.spec)
            if isinstance(one.spec, Region):
                zones[one.slug] = one.spec.zone
            elif one.kind == "page":
                self._relations.put(derived_id("page", one.slug), "page", None, one.slug, {})
            elif isinstance(one.spec, ProbedRule | Group) and one.spec.enabled:
                rules[row_id] = rule_of(one.kind, spec)
                self._relations.put(row_id, one.kind, derived_id("page", one.page), one.slug, spec)
        self._relations.settle(START)
        regions, zoned = tuple(sorted(zones)), {slug: zone for slug, zone in zones.items() if zone}
        for row_id, rule in rules.items():
            bound = bind(rule, replace(self._relations.bound(row_id), regions=regions, zones=zoned))
            policy = compile_policy(rule, bound)
            state = quorum.newborn(policy, START)
            self._actors[row_id] = _Actor(row_id, rule.slug, policy, state, bound.regions)
        beats = [(self._actors[one], rule) for one, rule in rules.items() if isinstance(rule, ProbedRule)]
        if not 0 < len(beats) <= MOST_BEATS:
            raise TooManyError(f"{len(beats)} beats that probes run; 1 to {MOST_BEATS} can be simulated")
        numbers = {actor.id: number for number, (actor, _) in enumerate(beats)}
        for actor, _ in beats:
            hits = frozenset(numbers[one] for one in self._falls_with(actor.id) if one in numbers)
            self._places.append(Place(actor.regions, str(self._owner(actor.id)), hits))
        drawn = Drawn(self._world, self._places, self.end)
        for number, (actor, rule) in enumerate(beats):
            noise = Noise(rule, self._world)
            for index, region in enumerate(actor.regions):
                fraction = fraction_of(actor.id, index, len(actor.regions))
                chance = drawn_from(self._world.seed, "runs", number, index)
                actor.lanes.append(Runs(noise, rule.interval, fraction, chance, drawn.met(number, region)))
            actor.cursors = [runs.first for runs in actor.lanes]
            actor.can_rest = (
                self._skips and actor.policy.max_age_s > rule.interval + noise.deadline_s + RESULT_S
            )
        return drawn

    def _owner(self, one: UUID) -> UUID:
        return UUID(self._actors[one].policy.group or str(one))

    def _falls_with(self, beat: UUID) -> list[UUID]:
        """`beat`, and all that cannot work without it, however many steps away: of a group all members."""
        found = [beat]
        for one in found:
            children = self._relations.children
            below = {*children.get(one, ()), *children.get(self._owner(one), ())}
            found += (
                each for each in self._actors if each not in found and {each, self._owner(each)} & below
            )
        return found

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
        if not actor.can_rest or actor.out or not is_calm(actor.policy, actor.state):
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
        regions, newest = dict(actor.state.regions), actor.state.at
        for place, (slug, runs) in enumerate(zip(actor.regions, actor.lanes, strict=True)):
            first = actor.cursors[place]
            last = min(runs.last_due_by(at), runs.next_bad(first) - 1)
            while last >= first and runs.ok_end(last) + RESULT_S >= at:
                last -= 1
            if last >= first:
                turns = range(first, last + 1)
                regions[slug] = forwarded(
                    actor.policy, regions[slug], runs, turns, slug, actor.state.returned_at
                )
                newest = max(newest, runs.ok_end(last) + RESULT_S)
                actor.cursors[place] = last + 1
        actor.state = replace(actor.state, regions=regions, at=newest)
        self._await_tick(actor)
        self._arm(actor)

    def _order(self, at: float, actor: _Actor, place: int, request: str, n: int) -> None:
        """A run out of schedule begins."""
        outcome = actor.lanes[place].confirm(at)
        if outcome is None:
            actor.out -= 1
        else:
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
        region, (verdict, ended) = actor.regions[place], outcome
        kind = Kind.SCHEDULED if request is None else Kind.CONFIRM
        result = Result(
            f"{region} {run}", actor.slug, region, kind, verdict, ended, ended, _seq(ended), 1, Timings(),
            request=request, n=n, check_version=1,
        )  # fmt: skip
        self._folded += 1
        self._fold(at, actor, facts.ResultSeen(at, result, region, ended))

    def _told(self, at: float, subject_id: UUID, fact: relay.Heard) -> None:
        """One subject says something to another."""
        actor = self._actors[subject_id]
        self._rouse(actor, at)
        self._fold(at, actor, replace(fact, at=at))

    def _await_tick(self, actor: _Actor) -> None:
        deadline = quorum.next_deadline(actor.policy, actor.state)
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
        actor.state, steps = replay.fold(actor.policy, actor.state, fact)
        children = [str(one) for one in self._relations.children.get(actor.id, ())] if steps else []
        for state, effects in steps:
            for effect in effects:
                self._note(actor, effect, state, effects)
                if isinstance(effect, facts.ConfirmWanted):
                    self._confirm(actor, at, effect)
                for other, heard in relay.heard(effect, str(actor.id), children):
                    self._push(at + ORDER_S, self._told, UUID(other), heard)
        self._await_tick(actor)

    def _confirm(self, actor: _Actor, at: float, wanted: facts.ConfirmWanted) -> None:
        for region in wanted.regions:
            for n in range(wanted.runs):
                actor.out += 1
                begin = at + ORDER_S + n * wanted.spacing_s
                self._push(begin, self._order, actor, actor.regions.index(region), wanted.request, n)

    # ---- what is counted

    def _note(self, actor: _Actor, effect: Effect, state: State, same: Sequence[Effect]) -> None:
        if isinstance(effect, facts.EpisodeOpened):
            lived = self._lived.setdefault((actor.id, effect.number), Lived(actor.slug, effect.at))
            lived.closed = math.inf
        elif isinstance(effect, facts.EpisodeClosed):
            self._lived[actor.id, effect.number].closed = effect.at
        elif isinstance(effect, facts.StepProposed):
            self._drafts += getattr(actor.policy.incidents, effect.step) == "draft"
        if (told := replay.told(effect, state, same)) is not None:
            self._messages[told] += 1

    def _report(self) -> Report:
        delays, missed, already = list[float](), list[float](), 0
        by_owner: dict[str, list[Lived]] = {}
        for (subject_id, _), lived in sorted(self._lived.items(), key=lambda item: _opened(item[1])):
            by_owner.setdefault(str(subject_id), []).append(lived)
        caused, regional, first = set[int](), set[int](), set[int]()  # episodes, by their ids in memory
        for event in self._drawn.happened:
            new, is_open = list[Lived](), False
            for lived_of in (
                by_owner.get(one, []) for one in {self._places[hit].owner for hit in event.hits}
            ):
                first_new = bisect.bisect_left(lived_of, event.start, key=_opened)
                new += lived_of[first_new : bisect.bisect_left(lived_of, event.end + LATE_S, key=_opened)]
                is_open |= first_new > 0 and lived_of[first_new - 1].closed > event.start
            (caused if event.is_real else regional).update(map(id, new))
            if not event.is_real:
                continue
            if is_open:
                already += 1
            elif new:
                soonest = min(new, key=_opened)
                delays.append(soonest.opened - event.start)
                first.add(id(soonest))
            elif event.end <= self.end:
                missed.append(event.end - event.start)
        episodes = [one for lived in by_owner.values() for one in lived]
        hours = len(self._places) * self._world.time / 3600
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
            "false_per_10000_beat_hours": round(spurious * 10_000 / hours, 3),
            "regional_per_10000_beat_hours": round(len(regional - caused) * 10_000 / hours, 3),
            "messages": self._messages.total(),
            "messages_by_kind": dict(sorted(self._messages.items())),
            "drafts": self._drafts,
            "results_folded": self._folded,
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
    fresh_from = state.at - policy.max_age_s
    return all(
        one.vote.verdict is Verdict.OK and not one.vote.bad and one.vote.at > fresh_from
        for one in state.regions.values()
    )


def forwarded(
    policy: Policy, region: vote.Region, runs: Runs, turns: range, slug: str, returned_at: float
) -> vote.Region:
    """`region` after all these ok turns; only the last few are looked at."""
    ends = [runs.ok_end(turn) for turn in turns[-policy.window - 1 :]]
    newest = [(end, slug, _seq(end)) for end in ends]
    return after_oks(policy, region, len(turns), newest, returned_at)


def _opened(lived: Lived) -> float:
    return lived.opened


def _seq(ended: float) -> int:
    """A number that orders the results of a region by their end."""
    return round((ended - START) * 1e6)
