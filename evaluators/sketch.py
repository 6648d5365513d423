"""Quantiles from counts per logarithmic bucket. Pure; what is counted is `engine.store.rollups`' matter.

This is DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", PVLDB 12, 2019) with buckets of one size for everybody and no limit to their number: bucket i holds the
values up to LEAST_S * GAMMA**i, so that what it tells of any of them is at most ALPHA off, and two sketches are merged
by adding their counts, in whatever order. From a microsecond to an hour there are 1,100 buckets.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

ALPHA: Final = 0.01
GAMMA: Final = (1 + ALPHA) / (1 - ALPHA)
LEAST_S: Final = 1e-6
"""What is shorter counts as this long."""
MOST_S: Final = 1e9
"""What takes as long, or is no number, is not counted."""
BUCKETS: Final = 2048
"""More than there can be, for many sketches in one row of numbers."""

assert LEAST_S * GAMMA ** (BUCKETS - 1) > MOST_S

Sketch = Mapping[int, int]
"""Bucket -> how many values."""


def merged(sketches: Iterable[Sketch]) -> Counter[int]:
    """The sketch of the values of them all."""
    whole: Counter[int] = Counter()
    for sketch in sketches:
        whole.update(sketch)
    return whole


def quantiles_s(sketch: Sketch, wanted: Iterable[float]) -> list[float | None]:
    """For each q of 0 to 1, rising, the value at rank q * (n - 1) from below, at most ALPHA off; None of no values."""
    total = sum(sketch.values())
    if not total:
        return [None for _ in wanted]
    buckets = iter(sorted(sketch.items()))
    found: list[float | None] = []
    bucket, passed = next(buckets)
    for q in wanted:
        while passed <= q * (total - 1):
            bucket, count = next(buckets)
            passed += count
        found.append(LEAST_S * GAMMA**bucket * 2 / (1 + GAMMA))
    return found
