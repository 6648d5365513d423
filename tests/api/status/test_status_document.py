"""Public time: what approved incidents said of a component, cut into pieces that do not overlap."""

from itertools import pairwise

import pytest

from api.status.document import disjoint
from evaluators.public import Span

LETTERS = {"o": "operational", "d": "degraded_performance", "p": "partial_outage", "m": "major_outage"}


def _spans(*pictures: str) -> list[Span]:
    """One impact per picture: a letter per second, blanks around; `>` at the end lasts."""
    spans = []
    for picture in pictures:
        text = picture.rstrip(">")
        start = len(text) - len(text.lstrip())
        end = None if picture.endswith(">") else float(len(text))
        spans.append(Span(float(start), end, LETTERS[text.strip()[0]]))
    return spans


@pytest.mark.parametrize(
    ("impacts", "expected"),
    [
        pytest.param([], "oooooooo", id="nothing was said: operational"),
        pytest.param(["  mmm"], "oommmooo", id="an incident and its end"),
        pytest.param(["  mmm>"], "oommmmmm", id="an open incident lasts until now"),
        pytest.param([" ddddd", "  mm"], "odmmddoo", id="of two at once the worse is shown"),
        pytest.param(["  mm", "    dd"], "oommddoo", id="one after the other"),
    ],
)
def test_public_time(impacts: list[str], expected: str) -> None:
    pieces = disjoint(_spans(*impacts), 0.0, 8.0)
    assert all(left.end == right.start for left, right in pairwise(pieces))
    shown = "".join(
        next(letter for letter, name in LETTERS.items() if name == piece.value)
        * round((piece.end or 0.0) - piece.start)
        for piece in pieces
    )
    assert shown == expected


def test_what_was_before_the_component_existed_is_unknown() -> None:
    (first, *_) = disjoint(_spans("mmmm"), 3.0, 8.0)
    assert (first.start, first.value) == (3.0, "major_outage")
