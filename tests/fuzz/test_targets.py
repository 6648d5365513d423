"""Every parser of what strangers send: no input of any kind raises, nor does what was found before."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import SEEDS, inputs
from tests.fuzz.targets import TARGETS


@st.composite
def mutations(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few places changed, doubled, cut, or joined with another."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 12)))
        put = draw(st.one_of(st.binary(max_size=4), st.sampled_from([data[at:end] * 3, b"", *seeds])))
        data = data[:at] + put + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_came_by_raises_nothing(name: str) -> None:
    for data in inputs(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises(name: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(mutations(SEEDS[name]), st.binary(max_size=40)))
    def law(data: bytes) -> None:
        TARGETS[name](data)

    law()
