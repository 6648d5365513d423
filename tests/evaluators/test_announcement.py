"""What customers are told of announced maintenance, as pictures of a life that somebody looks at now and then."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from evaluators.announcement import Step, Told, due, text, title
from rules.language import language
from rules.maintenance import Maintenance

H = 3600.0
BEGIN = datetime(2026, 1, 4, 2, tzinfo=UTC).timestamp()
SPAN = (BEGIN, BEGIN + 2 * H)


def window(**more: Any) -> Maintenance:
    spec = {"slug": "m", "start": "2026-01-04T02:00Z", "duration": "2h", "announce": {}}
    return Maintenance.model_validate(spec | more)


def live(rule: Maintenance, hours: Sequence[float], told: list[Told] | None = None) -> str:
    """What is said at each of these hours after its begin, as `does@hour`."""
    told, said = list(told or ()), []
    for hour in hours:
        for step in due(rule, told, BEGIN + hour * H):
            said.append(f"{step.does}@{hour:g}")
            if step.told is None:
                told.append(Told(str(len(told)), step.status, *step.span, BEGIN + hour * H))
            else:
                place = next(n for n, one in enumerate(told) if one.id == step.told)
                told[place] = Told(step.told, step.status, *step.span, BEGIN + hour * H)
    return " ".join(said)


@pytest.mark.parametrize(
    ("announce", "hours", "said"),
    [
        pytest.param(
            {},
            [-30, -24, -23, -1, -0.5, 0, 1, 2, 3],
            "announce@-24 remind@-1 begin@0 complete@2",
            id="a whole life, each once",
        ),
        pytest.param({"before": "1h"}, [-24, -1, -0.9, 0, 2], "announce@-1 begin@0 complete@2", id="late, it needs no reminder"),
        pytest.param({"remind": "off"}, [-24, -1, 0, 2], "announce@-24 begin@0 complete@2", id="no reminder"),
        pytest.param({"start": "off"}, [-24, -1, 0, 2], "announce@-24 remind@-1 complete@2", id="people say that it began"),
        pytest.param({"complete": "off"}, [-24, -1, 0, 2, 9], "announce@-24 remind@-1 begin@0", id="people say that it is over"),
        pytest.param({}, [-24, 1], "announce@-24 begin@1", id="down at the reminder and the start: what is over is not told"),
        pytest.param({}, [-24, 5], "announce@-24 complete@5", id="down for all of it: only the end is told"),
        pytest.param({}, [1], "announce@1", id="begun already, it is announced as that"),
        pytest.param({}, [5], "", id="of what is over nothing is said"),
    ],
)  # fmt: skip
def test_it_is_told_in_order_and_never_of_what_is_over(
    announce: dict[str, Any], hours: list[float], said: str
) -> None:
    assert live(window(announce=announce), hours) == said


def one(start: float = 0.0, end: float = 2.0, status: str = "scheduled", said: float = -24.0) -> Told:
    return Told("0", status, BEGIN + start * H, BEGIN + end * H, BEGIN + said * H)


def steps(rule: Maintenance, told: Told, hour: float, *, is_removed: bool = False) -> list[tuple[str, str]]:
    return [(s.does, s.status) for s in due(rule, [told], BEGIN + hour * H, is_removed=is_removed)]


def test_a_window_that_is_moved_is_told_of_once_and_reminded_of_anew() -> None:
    later = window(start="2026-01-06T02:00Z")  # beyond the time in which it would be announced
    assert steps(later, one(), -3) == [("move", "scheduled")]
    moved = one(48, 50, said=-3)
    assert live(later, [40, 46.9, 47, 48, 50], [moved]) == "remind@47 begin@48 complete@50"


def test_what_runs_is_extended_and_what_was_begun_may_be_put_off() -> None:
    longer = window(extended=[{"start": "2026-01-04T02:00Z", "end": "2026-01-04T06:00Z"}])
    assert steps(longer, one(status="in_progress"), 1) == [("move", "in_progress")]
    assert steps(longer, one(end=4, status="in_progress"), 3) == []
    assert steps(longer, one(end=4, status="verifying"), 4) == [("complete", "completed")]
    assert steps(window(start="2026-01-04T12:00Z"), one(status="in_progress"), 1) == [("move", "scheduled")]


def test_a_time_that_is_left_out_is_cancelled_and_what_runs_is_over_early() -> None:
    assert steps(window(ended=["2026-01-04T02:00Z"]), one(), -3) == [("cancel", "cancelled")]
    assert steps(window(ended=["2026-01-04T03:00Z"]), one(status="in_progress"), 1) == [
        ("complete", "completed")
    ]
    assert steps(window(), one(), -3, is_removed=True) == [("cancel", "cancelled")]
    assert steps(window(), one(status="in_progress"), 1, is_removed=True) == [("complete", "completed")]
    by_hand = window(announce={"complete": "off"}, ended=["2026-01-04T03:00Z"])
    assert steps(by_hand, one(status="in_progress"), 1) == [("complete", "completed")]


def test_what_is_no_longer_announced_goes_on_as_it_was_told_and_nothing_new_is() -> None:
    assert steps(window(announce=None), one(), 0) == [("begin", "in_progress")]
    assert due(window(announce=None), [], BEGIN) == []


def test_each_time_of_a_recurrence_is_told_of_by_itself() -> None:
    daily = window(rrule="FREQ=DAILY", announce={"before": "12h", "remind": "off"})
    hours = [hour / 2 for hour in range(-30, 60)]
    assert live(daily, hours) == "announce@-12 begin@0 complete@2 announce@12 begin@24 complete@26"
    skips = window(rrule="FREQ=DAILY", announce={"before": "30h"}, **{"except": ["2026-01-04"]})
    assert [(s.does, s.told) for s in due(skips, [one()], BEGIN - 3 * H)] == [
        ("cancel", "0"),
        ("announce", None),
    ]
    later = window(rrule="FREQ=DAILY", start="2026-01-03T04:00Z")
    assert steps(later, one(), -3) == [("move", "scheduled")]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_it_begins_by_the_clocks_of_its_zone_when_they_change(day: str) -> None:
    nights = window(start="2026-01-04T03:30", timezone="Europe/Berlin", rrule="FREQ=DAILY")
    begin = datetime.fromisoformat(f"{day}T03:30").replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    (step,) = due(nights, [], begin - 10 * H)
    assert step.span == (begin, begin + 2 * H)


@pytest.mark.parametrize(
    ("code", "names", "said"),
    [
        ("en", ["Site", "Shop"], "Maintenance of Site and Shop is planned from Jan 4, 2026, 03:00 CET to Jan 4, 2026, 05:00 CET."),
        ("en", [], "Maintenance is planned from Jan 4, 2026, 03:00 CET to Jan 4, 2026, 05:00 CET."),
        ("de", ["Site"], "Die Wartung von Site ist von 04.01.2026, 03:00 CET bis 04.01.2026, 05:00 CET geplant."),
        ("fr", ["Site"], "La maintenance (Site) est prévue du 4 janv. 2026, 03:00 CET au 4 janv. 2026, 05:00 CET."),
        ("tr", ["Site", "Shop"], "Site ve Shop bakımı şu zaman için planlandı: 4 Oca 2026, 03:00 CET – 4 Oca 2026, 05:00 CET."),
    ],
)  # fmt: skip
def test_the_words_are_of_the_page_and_by_its_clocks(code: str, names: list[str], said: str) -> None:
    step = Step("announce", None, SPAN, "scheduled")
    rule = window(timezone="America/New_York")
    assert text(rule, step, names, language(code), ZoneInfo("Europe/Berlin")) == said


def test_each_step_has_its_words_and_what_was_written_stays_as_it_is() -> None:
    rule, en = window(name="Database"), language("en")
    begins, ends = "Jan 4, 2026, 02:00 UTC", "Jan 4, 2026, 04:00 UTC"
    steps: list[tuple[Step, str]] = [
        (Step("announce", None, SPAN, "in_progress"), f"Maintenance has begun. It is expected to last until {ends}."),
        (Step("begin", "0", SPAN, "in_progress"), f"Maintenance has begun. It is expected to last until {ends}."),
        (Step("remind", "0", SPAN, "scheduled"), f"Maintenance begins soon: it is planned from {begins} to {ends}."),
        (Step("move", "0", SPAN, "scheduled"), f"The maintenance was moved: it is now planned from {begins} to {ends}."),
        (Step("move", "0", SPAN, "in_progress"), f"The maintenance is now expected to last until {ends}."),
        (Step("complete", "0", SPAN, "completed"), "The maintenance is over."),
        (Step("cancel", "0", SPAN, "cancelled"), "The maintenance was cancelled."),
    ]  # fmt: skip
    assert [text(rule, step, [], en, UTC) for step, _ in steps] == [said for _, said in steps]
    assert title(rule, en) == "Database"
    told = window(announce={"title": "New disks", "text": "We swap disks."})
    assert title(told, language("de")) == "New disks"
    assert text(told, Step("announce", None, SPAN, "scheduled"), [], language("de"), UTC) == "We swap disks."
    assert title(window(), language("de")) == "Geplante Wartung"
