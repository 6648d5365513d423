"""Running totals of every result, per beat and region, and the stage of every beat. It knows no wire format and sends nothing.

Own totals because an SDK's instruments cost 24 to 27 us per result where this costs about one.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from evaluators.model import PHASES, Kind, Result, Stage, Verdict

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper, inclusive bounds of the duration buckets in seconds; one more bucket holds what is above."""

STAGE_VALUE = {Stage.OK: 0, Stage.WARNING: 1, Stage.CRITICAL: 2, Stage.UNKNOWN: 3}

Labels = tuple[str, str, str]
"""Slug of a beat, slug of its page, type of its check."""
Run = tuple[str, str, str]
"""Verdict, kind and error type ("" for none) that runs are counted by."""

_SLOTS = len(BOUNDS_S) + 1
_CONNECT, _TLS, _TTFB, _TRANSFER, _TOTAL = (_SLOTS * place for place in range(1, len(PHASES)))
_OK: Run = (Verdict.OK.value, Kind.SCHEDULED.value, "")


class Series:
    """Totals of one beat in one region since `began_ns`."""

    __slots__ = ("began_ns", "counts", "encoded", "runs", "sums_s")

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.runs: dict[Run, int] = {}
        self.encoded: tuple[Labels, bytes, bytes] | None = None  # the OTLP encoder's memory of constant parts
        # The buckets of each phase, one phase after another: 32 bits, as what stays in the processor's cache is fast.
        self.counts = array("I", [0] * (_SLOTS * len(PHASES)))
        self.sums_s = [0.0] * len(PHASES)

    def durations(self) -> Iterator[tuple[str, "array[int]", int, float]]:
        """(phase, its bucket counts, how often, sum in seconds) of every phase that happened at all."""
        for place, phase in enumerate(PHASES):
            counts = self.counts[place * _SLOTS : (place + 1) * _SLOTS]
            if often := sum(counts):
                yield phase, counts, often, self.sums_s[place]


class BeatTotals:
    """What is known of one beat."""

    __slots__ = ("labels", "regions", "stage")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.regions: dict[str, Series] = {}
        self.stage: Stage | None = None


class Totals:
    """`labels` names a beat by id, or says None for one that is not there: its results are not counted."""

    def __init__(
        self, labels: Callable[[str], Labels | None], *, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._labels, self._now_ns = labels, now_ns
        self._beats: dict[str, BeatTotals] = {}

    def observe(self, results: Sequence[Result]) -> None:
        """Count runs. A dropped confirm run is an answer, but not a run.

        Unrolled, and in one function: it runs for every result there is, and calls would cost as much as the work.
        """
        beats, bucket = self._beats, bisect_left
        for result in results:
            beat = beats.get(result.beat_id)
            series = beat.regions.get(result.region) if beat is not None else None
            if series is None:
                series = self._begin(result.beat_id, result.region)
            if series is None or not result.stored:
                continue
            counts, sums_s, timings = series.counts, series.sums_s, result.timings
            if (took_s := timings.dns) is not None:
                counts[bucket(BOUNDS_S, took_s)] += 1
                sums_s[0] += took_s
            if (took_s := timings.connect) is not None:
                counts[_CONNECT + bucket(BOUNDS_S, took_s)] += 1
                sums_s[1] += took_s
            if (took_s := timings.tls) is not None:
                counts[_TLS + bucket(BOUNDS_S, took_s)] += 1
                sums_s[2] += took_s
            if (took_s := timings.ttfb) is not None:
                counts[_TTFB + bucket(BOUNDS_S, took_s)] += 1
                sums_s[3] += took_s
            if (took_s := timings.transfer) is not None:
                counts[_TRANSFER + bucket(BOUNDS_S, took_s)] += 1
                sums_s[4] += took_s
            if (took_s := timings.total) is not None:
                counts[_TOTAL + bucket(BOUNDS_S, took_s)] += 1
                sums_s[5] += took_s
            # Hashing an Enum member runs Python code: the common case does without.
            failure = result.failure
            if failure is None and result.verdict is Verdict.OK and result.kind is Kind.SCHEDULED:
                run = _OK
            else:
                run = (result.verdict.value, result.kind.value, failure.type if failure else "")
            series.runs[run] = series.runs.get(run, 0) + 1

    def stage(self, beat_id: str, stage: Stage) -> None:
        """Set what Upbeat says of a beat, at each transition and once at start."""
        if beat := self._beat(beat_id):
            beat.stage = stage

    def forget(self, beat_id: str) -> None:
        """Drop all totals of a removed beat."""
        self._beats.pop(beat_id, None)

    def beats(self) -> Iterator[BeatTotals]:
        """Every beat, newly labelled; may be suspended while results are counted. Beats that are gone are dropped."""
        for beat_id, beat in list(self._beats.items()):
            labels = self._labels(beat_id)
            if labels is None:
                self.forget(beat_id)
                continue
            beat.labels = labels
            yield beat

    def _beat(self, beat_id: str) -> BeatTotals | None:
        beat = self._beats.get(beat_id)
        if beat is None and (labels := self._labels(beat_id)) is not None:
            beat = self._beats[beat_id] = BeatTotals(labels)
        return beat

    def _begin(self, beat_id: str, region: str) -> Series | None:
        beat = self._beat(beat_id)
        return beat.regions.setdefault(region, Series(self._now_ns())) if beat else None
