"""Uptime by hand-computed cases, and as laws: nothing is lost, nothing is counted twice, what is unknown is never up."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.public import PRECEDENCE
from evaluators.uptime import (
    INCIDENTS_DOWN,
    MAINTENANCE,
    PAUSED,
    Bar,
    Parts,
    Span,
    Windows,
    bars,
    covered,
    edges,
    incident_line,
    lasting,
    merged,
    of_incidents,
    of_runs,
    ranked,
    worst,
)

LETTERS = {"o": "ok", "w": "warning", "c": "critical", "u": "unknown", "p": PAUSED, "m": MAINTENANCE}
PUBLIC = {"o": "operational", "d": "degraded_performance", "p": "partial_outage", "m": "major_outage"}
CRITICAL = frozenset({"critical"})
BOTH = frozenset({"critical", "warning"})


def line(picture: str, letters: dict[str, str] = LETTERS) -> list[Span]:
    """A letter per second; a blank is no time at all."""
    spans, at = [], 0.0
    for letter, run in groupby(picture):
        length = float(len(list(run)))
        if letter != " ":
            spans.append(Span(at, at + length, letters[letter]))
        at += length
    return spans


def picture(spans: Sequence[Span], letters: dict[str, str] = LETTERS) -> str:
    """The other way round."""
    names = {name: letter for letter, name in letters.items()}
    drawn, at = "", 0.0
    for span in spans:
        drawn += " " * round(span.start - at) + names[span.value] * round(span.end - span.start)
        at = span.end
    return drawn


def whole(drawn: str, down: frozenset[str] = CRITICAL, windows: Windows = ()) -> Parts:
    """The parts of a picture, windows left out."""
    (bar,) = bars(covered(line(drawn), windows, MAINTENANCE), [0.0, float(len(drawn))], down)
    return bar.parts


@pytest.mark.parametrize(
    ("drawn", "down", "windows", "parts", "uptime"),
    [
        pytest.param("oooooooooo", CRITICAL, [], Parts(10), 1.0, id="always ok is always up"),
        pytest.param("ooooocoooo", CRITICAL, [], Parts(9, 1), 0.9, id="a tenth critical is 90 %"),
        pytest.param(
            "ooooowwwoc", CRITICAL, [], Parts(9, 1), 0.9, id="a warning is up unless said otherwise"
        ),
        pytest.param("ooooowwwoc", BOTH, [], Parts(6, 4), 0.6, id="a warning is down where it is said"),
        pytest.param("uuuuuooooc", CRITICAL, [], Parts(4, 1, 5), 0.8, id="unknown is neither up nor down"),
        pytest.param(
            "uuuuuuuuuu", CRITICAL, [], Parts(0, 0, 10), None, id="of nothing known there is no share"
        ),
        pytest.param("ppppppppcc", CRITICAL, [], Parts(0, 2, 8), 0.0, id="a paused beat is not up"),
        pytest.param("     oooco", CRITICAL, [], Parts(4, 1), 0.8, id="before birth is no time at all"),
        pytest.param("ooooc     ", CRITICAL, [], Parts(4, 1), 0.8, id="after removal is no time at all"),
        pytest.param("cccccccccc", CRITICAL, [], Parts(0, 10), 0.0, id="always critical is never up"),
        pytest.param("          ", CRITICAL, [], Parts(), None, id="what never was has no share"),
        pytest.param(
            "oooccccooo",
            CRITICAL,
            [(3, 7)],
            Parts(6, 0, 0, 4),
            1.0,
            id="an outage under maintenance is left out",
        ),
        pytest.param(
            "oooccccooo", CRITICAL, [(2, 5)], Parts(5, 2, 0, 3), 5 / 7, id="what outlives its window is down"
        ),
        pytest.param(
            "oooccccooo",
            CRITICAL,
            [(4, 6), (2, 5), (5, 6)],
            Parts(5, 1, 0, 4),
            5 / 6,
            id="windows over each other count once",
        ),
        pytest.param(
            "uuooppoooo",
            CRITICAL,
            [(0, 6)],
            Parts(4, 0, 0, 6),
            1.0,
            id="unknown under maintenance is maintenance",
        ),
        pytest.param(
            "     ooooo",
            CRITICAL,
            [(0, 7)],
            Parts(3, 0, 0, 2),
            1.0,
            id="a window before birth leaves nothing out",
        ),
    ],
)
def test_uptime_of(
    drawn: str, down: frozenset[str], windows: Windows, parts: Parts, uptime: float | None
) -> None:
    found = whole(drawn, down, windows)
    assert found == parts
    assert found.uptime == uptime


@pytest.mark.parametrize(
    ("ok", "warning", "critical", "error", "uptime"),
    [
        pytest.param(998, 1, 1, 0, 0.999, id="(ok + warning) / all"),
        pytest.param(50, 0, 50, 900, 0.5, id="errors of the probe are not counted"),
        pytest.param(0, 0, 0, 10, None, id="errors alone say nothing"),
        pytest.param(0, 0, 3, 0, 0.0, id="all failed"),
    ],
)
def test_uptime_by_runs(ok: int, warning: int, critical: int, error: int, uptime: float | None) -> None:
    assert of_runs(ok, warning, critical, error).uptime == uptime


@pytest.mark.parametrize(
    ("lines", "down", "expected"),
    [
        pytest.param(["ooccoo", "ooooco"], CRITICAL, "ooccco", id="one that is down is enough"),
        pytest.param(["oouuoo", "occooo"], CRITICAL, "occuoo", id="what nobody knows is not up"),
        pytest.param(
            ["ooppoo", "ooooco"], CRITICAL, "ooooco", id="a paused one does not count beside another"
        ),
        pytest.param(["pppp", "pppp"], CRITICAL, "pppp", id="all paused: nothing is known"),
        pytest.param(["oomm", "ooco"], CRITICAL, "ooco", id="one under maintenance rests; the others count"),
        pytest.param(["  oc", "oo"], CRITICAL, "oooc", id="each counts from its birth to its end"),
        pytest.param(["ww", "uu"], CRITICAL, "uu", id="a warning that is up hides nothing unknown"),
        pytest.param(["ww", "uu"], BOTH, "ww", id="a warning that is down does"),
        pytest.param([], CRITICAL, "", id="what nothing feeds has no time"),
    ],
)
def test_of_several_the_worst_counts_at_each_moment(
    lines: list[str], down: frozenset[str], expected: str
) -> None:
    assert picture(worst([line(drawn) for drawn in lines], ranked(down))) == expected


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        pytest.param([], "oooooooo", id="nothing was said: operational"),
        pytest.param([(1, 2, "m"), (1, 5, "")], "oommmooo", id="an incident and its end"),
        pytest.param([(1, 2, "m")], "oommmmmm", id="an open incident lasts until now"),
        pytest.param([(1, 1, "d"), (2, 2, "m"), (2, 4, ""), (1, 6, "")], "odmmddoo", id="of two the worse"),
        pytest.param(
            [(1, 2, "m"), (1, 4, "d"), (1, 6, "")], "oommddoo", id="an update that says it is better"
        ),
        pytest.param([(1, 2, "m"), (1, 2, "")], "oooooooo", id="over in the same moment"),
    ],
)
def test_public_time_is_what_approved_incidents_said(
    updates: list[tuple[int, int, str]], expected: str
) -> None:
    said = of_incidents(
        [(one, float(at), PUBLIC[letter] if letter else None) for one, at, letter in updates], 8.0
    )
    assert picture(incident_line(said, 0.0, 8.0), PUBLIC) == expected


def test_what_was_before_a_component_existed_is_no_time() -> None:
    found = incident_line([Span(0.0, 4.0, "major_outage")], 3.0, 8.0)
    assert picture(found, PUBLIC) == "   moooo"
    (bar,) = bars(found, [0.0, 8.0], INCIDENTS_DOWN)
    assert bar == Bar(0.0, 8.0, Parts(4, 1), "major_outage")


def test_a_degraded_component_is_not_down() -> None:
    (bar,) = bars(line("dddd", PUBLIC), [0.0, 4.0], INCIDENTS_DOWN)
    assert (bar.parts.uptime, bar.worst) == (1.0, "degraded_performance")


def test_a_bar_says_the_worst_that_is_known_in_it() -> None:
    found = bars(line("ooccuuwwuummoo"), [0.0, 4.0, 8.0, 10.0, 12.0, 14.0, 16.0], CRITICAL)
    assert [bar.worst for bar in found] == ["critical", "warning", None, None, "ok", None]
    assert [bar.parts.uptime for bar in found] == [0.5, 1.0, None, None, 1.0, None]


def test_stages_last_from_their_transition_to_the_next_and_are_unknown_before_the_first() -> None:
    assert picture(lasting([(2, "ok"), (5, "critical")], 0, 8)) == "uuoooccc"
    assert picture(lasting([(-5, "ok"), (5, "critical")], 0, 8)) == "oooooccc"
    assert picture(lasting([], 3, 8)) == "   uuuuu"
    assert lasting([(2, "ok")], 9, 8) == []


def test_bars_begin_at_whole_steps() -> None:
    day = 86400.0
    assert edges(0.5 * day, 2.5 * day, day) == [0.5 * day, day, 2 * day, 2.5 * day]
    assert edges(day, 2 * day, day) == [day, 2 * day]
    assert edges(day, 5 * day, None) == [day, 5 * day]


PICTURES = st.text("owcup ", max_size=40)
TIMES = st.integers(0, 40).map(float)
WINDOWS = st.lists(st.tuples(TIMES, TIMES), max_size=5)
DOWN = st.sampled_from([CRITICAL, BOTH])


@given(PICTURES, WINDOWS, DOWN, st.lists(TIMES))
def test_the_parts_are_all_the_time_there_was_however_it_is_cut(
    drawn: str, windows: Windows, down: frozenset[str], cuts: list[float]
) -> None:
    spans = covered(line(drawn), windows, MAINTENANCE)
    (all_of_it,) = bars(spans, [0.0, 40.0], down)
    parts = all_of_it.parts
    lived = len(drawn) - drawn.count(" ")
    assert parts.up + parts.down + parts.unknown + parts.maintenance == lived
    pieces = bars(spans, [0.0, *sorted(cuts), 40.0], down)
    assert sum((piece.parts for piece in pieces), Parts()) == parts
    assert all(left.end == right.start for left, right in pairwise(pieces))
    known = [piece.parts.uptime for piece in pieces if piece.parts.uptime is not None]
    if parts.uptime is not None:
        assert min(known) <= parts.uptime <= max(known)


@given(PICTURES, WINDOWS, DOWN)
def test_leaving_maintenance_out_only_takes_away(drawn: str, windows: Windows, down: frozenset[str]) -> None:
    before, after = whole(drawn, down), whole(drawn, down, windows)
    taken = [before.up - after.up, before.down - after.down, before.unknown - after.unknown]
    assert min(taken) >= 0
    assert sum(taken) == after.maintenance
    inside = sum(end - start for start, end in merged(windows))
    assert after.maintenance <= inside


@given(PICTURES, DOWN)
def test_what_is_unknown_is_never_up(drawn: str, down: frozenset[str]) -> None:
    known = drawn.replace("u", " ").replace("p", " ")
    assert whole(drawn, down).up == whole(known, down).up
    assert whole(drawn, down).uptime == whole(known, down).uptime


@given(st.lists(PICTURES, max_size=4), DOWN)
def test_a_component_is_up_only_while_all_that_feeds_it_is(drawn: list[str], down: frozenset[str]) -> None:
    rank = ranked(down)
    found = picture(worst([line(one) for one in drawn], rank)).ljust(40)
    for at in range(40):
        there = [one[at] for one in drawn if at < len(one) and one[at] != " "]
        assert found[at] == max(there, key=lambda letter: rank[LETTERS[letter]], default=" ")
        if found[at] in "ow" and LETTERS[found[at]] not in down:
            assert all(LETTERS[letter] not in {*down, "unknown"} for letter in there)


@given(WINDOWS)
def test_merged_windows_are_the_same_time_in_order_and_apart(windows: Windows) -> None:
    found = merged(windows)
    assert all(start < end for start, end in found)
    assert all(left[1] < right[0] for left, right in pairwise(found))
    for moment in range(80):
        at = moment / 2
        assert any(a <= at < b for a, b in windows) == any(a <= at < b for a, b in found)


@given(st.lists(st.tuples(TIMES, st.sampled_from(sorted(PRECEDENCE))), max_size=8), TIMES)
def test_public_time_has_no_holes(points: list[tuple[float, str]], born: float) -> None:
    said = of_incidents([(at, at, status) for at, status in sorted(points)], 40.0)
    found = incident_line(said, born, 40.0)
    assert sum(span.end - span.start for span in found) == 40.0 - born
    assert all(left.end == right.start for left, right in pairwise(found))
