"""When pings are due: intervals, crontabs, and the days on which clocks change."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from rules.kinds.heartbeat import HeartbeatBeat, Schedule, examples

BERLIN = ZoneInfo("Europe/Berlin")


def due(cron: str, after: str, count: int) -> list[str]:
    """`count` times after a local time of Berlin (a `+01:00` behind it tells the second of a doubled hour)."""
    schedule = Schedule(None, cron, BERLIN)
    at = datetime.fromisoformat(after)
    at_s = (at if at.tzinfo else at.replace(tzinfo=BERLIN)).timestamp()
    found = []
    for _ in range(count):
        at_s = schedule.due_after(at_s)
        found.append(f"{datetime.fromtimestamp(at_s, BERLIN):%d %H:%M %Z}")
    return found


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "2026-03-28T12:00",
            ["29 03:00 CEST", "30 02:30 CEST"],
            id="a time that the clocks skip comes right after the gap",
        ),
        pytest.param(
            "*/30 * * * *",
            "2026-03-29T01:00",
            ["29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"],
            id="every half hour goes on as time does",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-24T12:00",
            ["25 02:30 CEST", "26 02:30 CET"],
            id="a time that comes twice counts once",
        ),
        pytest.param(
            "30 2 * * *",
            "2026-10-25T02:10+01:00",
            ["26 02:30 CET"],
            id="and is over in the second of the two hours",
        ),
        pytest.param(
            "*/30 * * * *",
            "2026-10-25T02:00+02:00",
            ["25 02:30 CEST", "25 02:00 CET", "25 02:30 CET", "25 03:00 CET"],
            id="every half hour counts both hours",
        ),
        pytest.param("0 9 * * 1-5", "2026-11-20T12:00", ["23 09:00 CET"], id="a weekend is skipped"),
    ],
)
def test_a_crontab_is_read_as_cron_does(cron: str, after: str, expected: list[str]) -> None:
    assert due(cron, after, len(expected)) == expected


def test_a_ping_a_little_before_its_time_is_that_ones() -> None:
    assert due("0 3 * * *", "2026-11-20T02:59:57", 1) == ["21 03:00 CET"]
    assert due("0 3 * * *", "2026-11-20T02:59:50", 1) == ["20 03:00 CET"]


def test_an_interval_counts_from_the_ping() -> None:
    assert Schedule(300.0, None, ZoneInfo("UTC")).due_after(1000.0) == 1300.0


def test_it_says_its_schedule() -> None:
    assert HeartbeatBeat(slug="a", type="heartbeat", every=300.0).target == "a ping every 5m"
    cron = HeartbeatBeat(slug="a", type="heartbeat", cron="0  3 * * *", timezone="Europe/Berlin")
    assert cron.target == "a ping at 0 3 * * * (Europe/Berlin)"


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "@daily", "* * * * * *", "61 * * * *", "a b c d e", ""])
def test_what_is_no_crontab_is_refused(cron: str) -> None:
    with pytest.raises(ValidationError, match="is no cron expression"):
        HeartbeatBeat(slug="a", type="heartbeat", cron=cron)


@pytest.mark.parametrize(
    ("every", "cron", "line"),
    [
        (60, None, "* * * * *"),
        (7 * 60, None, "*/6 * * * *"),
        (3600, None, "0 * * * *"),
        (5 * 3600, None, "0 */4 * * *"),
        (86400, None, "0 0 * * *"),
        (None, "30 2 * * *", "30 2 * * *"),
    ],
)
def test_the_crontab_to_copy_pings_often_enough(every: float | None, cron: str | None, line: str) -> None:
    assert (
        f"{line} /path/to/job" in dict(examples(every, cron, "https://x"))["In a crontab, with the exit code"]
    )
