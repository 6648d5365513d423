"""Sketches: what they tell is at most ALPHA off, and the order in which they are merged does not matter."""

from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from evaluators import sketch

SECONDS = st.floats(sketch.LEAST_S, sketch.MOST_S, exclude_max=True)
SKETCHES = st.dictionaries(st.integers(0, sketch.BUCKETS - 1), st.integers(1, 10**6), max_size=20)


def of(values: list[float]) -> Counter[int]:
    """By the definition: bucket i holds the values up to LEAST_S * GAMMA**i."""
    bounds = [sketch.LEAST_S * sketch.GAMMA**place for place in range(sketch.BUCKETS)]
    return Counter(next(place for place, bound in enumerate(bounds) if value <= bound) for value in values)


@given(st.lists(SECONDS, min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_quantile_is_at_most_one_per_cent_off(values: list[float], wanted: list[float]) -> None:
    told = sketch.quantiles_s(of(values), sorted(wanted))
    for q, value in zip(sorted(wanted), told, strict=True):
        true = sorted(values)[int(q * (len(values) - 1))]
        assert value is not None
        assert abs(value - true) <= sketch.ALPHA * true * (1 + 1e-9)


@given(st.lists(SKETCHES, min_size=1, max_size=4))
def test_merging_is_associative_and_commutative(sketches: list[sketch.Sketch]) -> None:
    whole = sketch.merged(sketches)
    for order in permutations(sketches):
        first, *others = order
        assert sketch.merged([first, sketch.merged(others)]) == whole
        assert sketch.merged([sketch.merged(order[:-1]), order[-1]]) == whole


@given(st.lists(SECONDS, max_size=20), st.lists(SECONDS, max_size=20))
def test_the_merged_sketch_is_the_sketch_of_all_values(one: list[float], other: list[float]) -> None:
    assert sketch.merged([of(one), of(other)]) == of(one + other)


def test_of_no_values_nothing_is_told() -> None:
    assert sketch.quantiles_s({}, (0.5, 0.99)) == [None, None]
