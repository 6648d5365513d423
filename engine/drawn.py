"""What a made-up world does to runs: outages, faults of regions, failures by chance, latencies. Drawn from a seed; it decides nothing.

What is rare is drawn as such, so that nobody has to look at the runs between: the next run that fails by chance comes
from a geometric distribution. What every run needs, its latency, is a hash of its number: skipping runs changes none.
"""

import bisect
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

from evaluators.model import Verdict
from rules.kinds.kind import ProbedRule
from rules.pace import BACKOFF_FIRST_S, BACKOFF_MAX_S, run_deadline_s
from rules.world import MONTH_S, Outage, Spread, World

START: Final = 1.8e9
"""When virtual time begins; seconds since the epoch."""
REFUSED_SHARE: Final = 0.3
"""A refusal takes one round trip, an answer about three."""
SETTLED_S: Final = 600.0
"""Nothing fails on purpose before every beat has had its first runs."""

MOST_TROUBLES: Final = 1_000_000
"""Drawn at the most: an outage is one for each beat and region that it hits."""

_NORMAL: Final = NormalDist()
_Z95: Final = _NORMAL.inv_cdf(0.95)
_STEPS: Final = 1024  # of the tables of latencies
_WORD: Final = (1 << 64) - 1
Kind = Literal["refused", "error", "hanging", "silent"]
Outcome = tuple[Verdict, float]
"""What a run says, and when it ended."""


class TooManyError(ValueError):
    """More beats or outages than are simulated at once, or no beats that probes run."""


class Trouble(NamedTuple):
    """What a beat's runs in a region meet for a while."""

    start: float
    end: float
    kind: Kind


class Happened(NamedTuple):
    """Ground truth. `is_real`: seen everywhere, so that somebody should have been told. `hits`: places of beats."""

    start: float
    end: float
    hits: frozenset[int]
    is_real: bool


class Noise:
    """What happens to a run of `beat` when nothing is wrong."""

    def __init__(self, beat: ProbedRule, world: World) -> None:
        slow_s = beat.degraded_after.total or math.inf
        late, slow = _share_below(world.latency, beat.timeout), _share_below(world.latency, slow_s)
        slow = min(slow, late)
        self.critical = 1 - (1 - world.failures) * (1 - (1 - late) ** (beat.retries + 1))
        self.warning = (1 - self.critical) * (1 - slow / late) if late else 0.0
        self.bad = self.critical + self.warning
        self.ok_s = _table(world.latency, 0.0, slow)
        self.slow_s = _table(world.latency, slow, late)
        self.timeout_s, self.retries = beat.timeout, beat.retries
        self.deadline_s = run_deadline_s(beat.interval, beat.timeout, beat.retries)


class Runs:
    """A beat's runs in one region. Turn n is due at (n + fraction) x interval."""

    def __init__(
        self, noise: Noise, interval_s: float, fraction: float, chance: random.Random, met: Sequence[Trouble]
    ) -> None:
        self._noise, self._interval_s, self._fraction, self._met = noise, interval_s, fraction, met
        self._starts = [trouble.start for trouble in met]
        self._chance, self._key = chance, chance.getrandbits(64)
        self.first = math.ceil(START / interval_s - fraction)
        self._failing = self.first - 1
        self._asked = 0

    def due(self, turn: int) -> float:
        """When a turn begins."""
        return (turn + self._fraction) * self._interval_s

    def last_due_by(self, at: float) -> int:
        """The last turn that is due by then."""
        return math.floor(at / self._interval_s - self._fraction)

    def next_bad(self, turn: int) -> int:
        """The first turn, `turn` or after, that is not simply ok."""
        self._draw_to(turn)
        for trouble in self._met[max(bisect.bisect_right(self._starts, self.due(turn)) - 1, 0) :]:
            met = max(turn, math.ceil(trouble.start / self._interval_s - self._fraction))
            if met >= self._failing:
                break
            if self.due(met) < trouble.end:
                return met
        return self._failing

    def ok_end(self, turn: int) -> float:
        """When a turn that is simply ok ends."""
        return self.due(turn) + self._noise.ok_s[_hashed(self._key + turn) % _STEPS]

    def scheduled(self, turn: int) -> Outcome | None:
        """What a turn says; None when nobody hears of it. Turns are asked for in order."""
        self._draw_to(turn)
        return self._run(self.due(turn), _hashed(self._key + turn), turn == self._failing)

    def confirm(self, begin: float) -> Outcome | None:
        """What a run out of schedule says."""
        self._asked += 1
        word = _hashed(~self._key + self._asked)
        return self._run(begin, word, (word >> 12) / 2**52 < self._noise.bad)

    def _draw_to(self, turn: int) -> None:
        while self._failing < turn:
            share = self._noise.bad
            u = 1.0 - self._chance.random()
            gap = math.log(u) / math.log1p(-share) if 0 < share < 1 else 0.0 if share else sys.maxsize
            self._failing += 1 + int(gap)

    def _run(self, begin: float, word: int, is_bad: bool) -> Outcome | None:
        noise, at = self._noise, begin
        by = begin + noise.deadline_s
        latency_s = noise.ok_s[word % _STEPS]
        for attempt in range(noise.retries + 1):
            if attempt:
                at += min(BACKOFF_FIRST_S * 2 ** (attempt - 1), BACKOFF_MAX_S)
                if at >= by:
                    break
            met = self._meets(at)
            if met == "silent":
                return None
            if met is None and not is_bad:
                return Verdict.OK, min(at + latency_s, by)
            if met is None and (_hashed(word) >> 12) / 2**52 * noise.bad >= noise.critical:
                return Verdict.WARNING, min(at + noise.slow_s[word % _STEPS], by)
            share = REFUSED_SHARE if met == "refused" else 1.0
            at = min(at + (noise.timeout_s if met == "hanging" else share * latency_s), by)
        return Verdict.CRITICAL, at

    def _meets(self, at: float) -> Kind | None:
        place = bisect.bisect_right(self._starts, at) - 1
        return self._met[place].kind if place >= 0 and at < self._met[place].end else None


@dataclass(frozen=True, slots=True)
class Place:
    """A beat among the others, by number: where it runs, who owns its episodes, who fails with it."""

    regions: tuple[str, ...]
    owner: str
    falls_with: frozenset[int]  # itself, and what depends on it


class Drawn:
    """All troubles of a world for these beats, until `end`."""

    def __init__(self, world: World, places: Sequence[Place], end: float) -> None:
        self.happened: list[Happened] = []
        self._struck = 0
        self._met: dict[tuple[int, str], list[Trouble]] = {}
        self._places = places
        for number, outage in enumerate(world.outages):
            chance = drawn_from(world.seed, "outage", number)
            for target, region in self._targets(outage):
                for start, until in _spans(chance, outage.per_month, outage.lasts, end):
                    self._strike(chance, outage, target, region, start, until)

    def met(self, place: int, region: str) -> list[Trouble]:
        """What a beat's runs in a region meet, in order; of what overlaps the one that began first."""
        found: list[Trouble] = []
        for trouble in sorted(self._met.get((place, region), ())):
            start = max(trouble.start, found[-1].end if found else 0.0)
            if start < trouble.end:
                found.append(trouble._replace(start=start))
        return found

    def _targets(self, outage: Outage) -> list[tuple[list[int], str | None]]:
        """What an outage may hit: beats by number, and the region where it is one's."""
        everything = list(range(len(self._places)))
        if outage.of == "all":
            return [(everything, None)]
        if outage.of == "region":
            regions = sorted({region for place in self._places for region in place.regions})
            return [
                ([n for n in everything if region in self._places[n].regions], region) for region in regions
            ]
        owned: dict[str, list[int]] = {}
        for number, place in enumerate(self._places):
            owned.setdefault(place.owner if outage.of == "group" else str(number), []).append(number)
        return [(target, None) for target in owned.values()]

    def _strike(
        self,
        chance: random.Random,
        outage: Outage,
        target: list[int],
        region: str | None,
        start: float,
        end: float,
    ) -> None:
        places = self._places
        if region is not None:
            hits = frozenset(chance.sample(target, max(1, round(outage.share * len(target)))))
        else:
            hits = frozenset[int]().union(*(places[one].falls_with for one in target))
            region = chance.choice(places[target[0]].regions) if outage.where == "one" else None
        alone = all(len(places[one].regions) == 1 for one in hits)
        is_target = outage.of != "region" and outage.kind != "silent"
        self.happened.append(Happened(start, end, hits, is_real=is_target and (region is None or alone)))
        trouble = Trouble(start, end, outage.kind)
        for number in hits:
            struck = places[number].regions if region is None else (region,)
            self._struck += len(struck)
            for where in struck:
                self._met.setdefault((number, where), []).append(trouble)
        if self._struck > MOST_TROUBLES:
            raise TooManyError(
                f"more than {MOST_TROUBLES} outages, beat by beat and region by region; make them rarer, or `time` shorter"
            )


def drawn_from(seed: int, *name: object) -> random.Random:
    """Chance of its own for everything that has a name: what one draws moves no other."""
    return random.Random(" ".join(map(str, (seed, *name))))  # noqa: S311  # it is to be repeatable, not secret


def _spans(
    chance: random.Random, per_month: float, lasts: Spread, end: float
) -> Iterator[tuple[float, float]]:
    """(start, end) of what happens so often, one after the other."""
    at = START + SETTLED_S
    while (at := at + chance.expovariate(per_month / MONTH_S)) < end:
        until = at + _quantile(lasts, chance.uniform(1e-9, 1 - 1e-9))
        yield at, until
        at = until


def _quantile(spread: Spread, q: float) -> float:
    return spread.median * math.exp(math.log(spread.p95 / spread.median) / _Z95 * _NORMAL.inv_cdf(q))


def _share_below(spread: Spread, limit_s: float) -> float:
    """The share of draws that do not exceed the limit."""
    if limit_s == math.inf or spread.p95 == spread.median:
        return float(spread.median <= limit_s)
    sigma = math.log(spread.p95 / spread.median) / _Z95
    return _NORMAL.cdf(math.log(limit_s / spread.median) / sigma) if limit_s > 0 else 0.0


def _table(spread: Spread, low: float, high: float) -> tuple[float, ...]:
    """Durations between two quantiles, evenly likely."""
    places = (low + (high - low) * (step + 0.5) / _STEPS for step in range(_STEPS))
    return tuple(_quantile(spread, min(max(q, 1e-9), 1 - 1e-9)) for q in places)


def _hashed(number: int) -> int:
    """The number-th output of SplitMix64: 64 bits without order (Steele, Lea, Flood: Fast Splittable PRNGs, 2014)."""
    word = number * 0x9E3779B97F4A7C15 & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31
