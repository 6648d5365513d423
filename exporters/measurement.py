"""Running totals of every result, per beat and region, and the stage of every beat and group. It knows no wire format and sends nothing.

Own totals because an SDK's instruments cost 24 to 27 us per result where this costs about one.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from evaluators.model import PHASES, Kind, Result, Stage, Timings, Verdict

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper, inclusive bounds of the duration buckets in seconds; one more bucket holds what is above."""
SLOTS = len(BOUNDS_S) + 1

STAGE_VALUE = {Stage.OK: 0, Stage.WARNING: 1, Stage.CRITICAL: 2, Stage.UNKNOWN: 3}

Run = tuple[str, str, str]
"""Verdict, kind and error type ("" for none) that runs are counted by."""
Exemplar = tuple[str, float, float]
"""Trace id of a run, its total in seconds, and when it ended in seconds since the epoch."""

_CONNECT, _TLS, _TTFB, _TRANSFER, _TOTAL = (SLOTS * place for place in range(1, len(PHASES)))
_OK: Run = (Verdict.OK.value, Kind.SCHEDULED.value, "")
_PASSED = (Verdict.OK, Verdict.WARNING)


class Standing(NamedTuple):
    """What is said of a beat or group now."""

    stage: Stage
    flapping: bool = False
    suppressed: bool = False

    def numbers(self) -> tuple[tuple[str, int], ...]:
        """As gauges: the last part of a name, and the value."""
        flags = (("flapping", int(self.flapping)), ("suppressed", int(self.suppressed)))
        return ("stage", STAGE_VALUE[self.stage]), *flags


class Named(NamedTuple):
    """What a beat or group is called, and whose it is. `address` is its target as written, references to secrets unreplaced."""

    slug: str
    page: str
    type: str  # of a beat, or `group`
    address: str = ""
    method: str = ""  # of an http beat
    destination: Hashable = None  # where its measurements go; None: nowhere
    regions: tuple[str, ...] | None = None  # where it runs; None: wherever

    @property
    def kind(self) -> str:
        """`beat` or `group`."""
        return "group" if self.type == "group" else "beat"


class Sent(NamedTuple):
    """What of a series has been sent as differences."""

    at_ns: int
    counts: "array[int]"
    sums_s: "array[float]"
    runs: dict[Run, int]


class Series:
    """Totals of one beat in one region since `began_ns`, and what its newest run showed."""

    __slots__ = (
        "began_ns",
        "certificate_days",
        "counts",
        "encoded",
        "exemplars",
        "newest_at",
        "others",
        "passed",
        "passing",
        "sent",
        "slowest",
        "sums_s",
    )

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.passing = 0  # scheduled runs that were ok: nearly all
        self.others: dict[Run, int] = {}
        # The buckets of each phase, one phase after another, as wide as they are sent.
        self.counts = array("Q", bytes(8 * SLOTS * len(PHASES)))
        self.sums_s = array("d", bytes(8 * len(PHASES)))
        # The first run since they were sent, and each that fell into a higher bucket of `total` than all before it.
        self.exemplars: list[Exemplar] = []
        self.slowest = -1  # the bucket of the last of them
        self.newest_at = float("-inf")
        self.passed: Timings | None = None  # of the newest run, where it was ok or a warning
        self.certificate_days: float | None = None  # as the newest run that saw a certificate found it
        self.encoded: tuple[Named, bytes, bytes] | None = None  # the OTLP encoder's memory of constant parts
        self.sent: Sent | None = None

    @property
    def runs(self) -> dict[Run, int]:
        """All runs by what they are counted by."""
        return {_OK: self.passing} | self.others if self.passing else self.others


class BeatTotals:
    """What is known of one beat, or of a group, which has no runs."""

    __slots__ = ("named", "regions", "standing")

    def __init__(self, named: Named) -> None:
        self.named = named
        self.regions: dict[str, Series] = {}
        self.standing: Standing | None = None


class Totals:
    """`name` names a beat by id, or says None for one that is not there: its results are not counted.

    What `name` says is remembered until `renamed` is called. What not every destination wants is kept when told so,
    at any time: `keeps_exemplars`, and `keeps_newest`, the timings of newest runs.
    """

    def __init__(
        self, name: Callable[[str], Named | None], *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.keeps_exemplars = self.keeps_newest = False
        self._name, self._now_ns = name, now_ns
        self._beats: dict[str, BeatTotals] = {}
        self._by_destination: dict[Hashable, dict[str, BeatTotals]] = {}

    def observe(self, results: Sequence[Result]) -> None:
        """Count runs. A dropped confirm run is an answer, but not a run.

        Unrolled, and in one function: it runs for every result there is, and calls would cost as much as the work.
        """
        beats, bucket = self._beats, bisect_left
        keeps_exemplars, keeps_newest = self.keeps_exemplars, self.keeps_newest
        bounds_s, ok, scheduled = BOUNDS_S, Verdict.OK, Kind.SCHEDULED
        for result in results:
            beat = beats.get(result.beat_id)
            series = beat.regions.get(result.region) if beat is not None else None
            if series is None:
                series = self._begin(result.beat_id, result.region)
            if series is None or not result.stored:
                continue
            counts, sums_s, timings = series.counts, series.sums_s, result.timings
            if (took_s := timings.dns) is not None:
                counts[bucket(bounds_s, took_s)] += 1
                sums_s[0] += took_s
            if (took_s := timings.connect) is not None:
                counts[_CONNECT + bucket(bounds_s, took_s)] += 1
                sums_s[1] += took_s
            if (took_s := timings.tls) is not None:
                counts[_TLS + bucket(bounds_s, took_s)] += 1
                sums_s[2] += took_s
            if (took_s := timings.ttfb) is not None:
                counts[_TTFB + bucket(bounds_s, took_s)] += 1
                sums_s[3] += took_s
            if (took_s := timings.transfer) is not None:
                counts[_TRANSFER + bucket(bounds_s, took_s)] += 1
                sums_s[4] += took_s
            if (took_s := timings.total) is not None:
                slot = bucket(bounds_s, took_s)
                counts[_TOTAL + slot] += 1
                sums_s[5] += took_s
                if keeps_exemplars and slot > series.slowest and result.trace_id is not None:
                    series.slowest = slot
                    series.exemplars.append((result.trace_id, took_s, result.at))
            # Hashing an Enum member runs Python code: the common case does without.
            failure, verdict = result.failure, result.verdict
            if failure is None and verdict is ok and result.kind is scheduled:
                series.passing += 1
            else:
                run = (verdict.value, result.kind.value, failure.type if failure else "")
                series.others[run] = series.others.get(run, 0) + 1
            if (keeps_newest or result.certificate_days is not None) and result.at >= series.newest_at:
                series.newest_at = result.at
                series.passed = timings if verdict in _PASSED else None
                if result.certificate_days is not None:
                    series.certificate_days = result.certificate_days

    def stand(self, subject_id: str, standing: Standing) -> None:
        """Set what Upbeat says of a beat or group, whenever that changes and once at start."""
        if subject := self._beat(subject_id):
            subject.standing = standing

    def named(self, beat_id: str) -> Named | None:
        """What a beat is called now; None for one that is not there."""
        beat = self._beat(beat_id)
        return beat.named if beat is not None else None

    def renamed(self, beat_id: str | None = None) -> None:
        """A beat's name, regions or destination may have changed, or it is gone (None: any beat's)."""
        for each in tuple(self._beats) if beat_id is None else (beat_id,):
            if (beat := self._beats.pop(each, None)) is None:
                continue
            there = self._by_destination[beat.named.destination]
            del there[each]
            if not there:
                del self._by_destination[beat.named.destination]
            if (named := self._name(each)) is not None:
                beat.named = named
                if named.regions is not None:  # else what a region saw last would be told for ever
                    for region in beat.regions.keys() - set(named.regions):
                        del beat.regions[region]
                self._put(each, beat)

    def beats(self) -> Iterator[BeatTotals]:
        """Every beat; may be suspended while results are counted."""
        yield from tuple(self._beats.values())

    def beats_of(self, destination: Hashable) -> Iterator[BeatTotals]:
        """The beats that name this destination. One that goes elsewhere meanwhile is none of them any more."""
        for beat in tuple(self._by_destination.get(destination, {}).values()):
            if beat.named.destination is destination or beat.named.destination == destination:
                yield beat

    def destinations(self) -> frozenset[Hashable]:
        """Where the measurements of any beat go."""
        return frozenset(self._by_destination) - {None}

    def series_count(self) -> int:
        """Series there are: beats times the regions they have results of."""
        return sum(len(beat.regions) for beat in self._beats.values())

    def _beat(self, beat_id: str) -> BeatTotals | None:
        beat = self._beats.get(beat_id)
        if beat is None and (named := self._name(beat_id)) is not None:
            beat = BeatTotals(named)
            self._put(beat_id, beat)
        return beat

    def _put(self, beat_id: str, beat: BeatTotals) -> None:
        self._beats[beat_id] = beat
        self._by_destination.setdefault(beat.named.destination, {})[beat_id] = beat

    def _begin(self, beat_id: str, region: str) -> Series | None:
        beat = self._beat(beat_id)
        return beat.regions.setdefault(region, Series(self._now_ns())) if beat else None
