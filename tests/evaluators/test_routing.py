"""Which channel is told what, and when: pictures of rules, notices and what was told before."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.digest import EVERY_S, Pace, digest
from evaluators.model import Notice, Severity, Stage
from evaluators.routing import Place, Standing, place, wants
from rules.channels.channel import ChannelRule
from rules.channels.webhook import WebhookChannel

MONDAY_NOON = datetime(2026, 11, 16, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = {"from": "08:00", "to": "18:00", "days": ["mon", "tue", "wed", "thu", "fri"]}
NEW, TOLD = Standing(), Standing(is_told=True)


def channel(**spec: Any) -> ChannelRule:
    return WebhookChannel.model_validate({"slug": "c", "type": "webhook", "url": "http://x.example/"} | spec)


def notice(
    told: Any = "open", severity: Severity | None = "critical", at: float = MONDAY_NOON, **more: Any
) -> Notice:
    about = {"beat": "api", "tags": ("prod",), "episode": "epi_1"} | more
    return Notice(id="n", told=told, title="t", at=at, severity=severity, **about)


class Paired(WebhookChannel):
    pairs = True


@pytest.mark.parametrize(
    ("spec", "said", "is_wanted"),
    [
        pytest.param({}, {}, True, id="by default everything that names it"),
        pytest.param({"enabled": False}, {}, False, id="a channel that is off is told nothing"),
        pytest.param({"on": ["recovery"]}, {}, False, id="news it did not ask for"),
        pytest.param({"severities": ["critical"]}, {"severity": "warning"}, False, id="not bad enough"),
        pytest.param(
            {"severities": ["critical"]},
            {"told": "change", "severity": "warning", "was": Stage.CRITICAL},
            True,
            id="that it is less bad is news for who knew of worse",
        ),
        pytest.param(
            {"severities": ["critical"]},
            {"told": "recovery", "severity": None},
            True,
            id="whether an end is told depends on the opening, not on how bad it is now",
        ),
        pytest.param({"severities": ["critical"]}, {"told": "unknown", "severity": None}, True, id="unknown"),
        pytest.param({"beats": ["api"]}, {}, True, id="one of its beats"),
        pytest.param({"beats": ["web"]}, {}, False, id="none of its beats"),
        pytest.param({"groups": ["shop"]}, {"group": "shop"}, True, id="a member of one of its groups"),
        pytest.param({"tags": ["prod"]}, {}, True, id="one of its tags"),
        pytest.param({"beats": ["web"], "tags": ["prod"]}, {}, True, id="either is enough"),
        pytest.param({"beats": ["web"]}, {"told": "region", "beat": None}, True, id="what is nobody's"),
    ],
)
def test_what_a_channel_wants(spec: dict[str, Any], said: dict[str, Any], is_wanted: bool) -> None:
    assert wants(channel(**spec), notice(**said), is_listed=True) is is_wanted


def test_one_for_everything_need_not_be_named() -> None:
    assert not wants(channel(), notice(), is_listed=False)
    assert wants(channel(everything=True), notice(), is_listed=False)


@pytest.mark.parametrize(
    ("spec", "said", "standing", "placed"),
    [
        pytest.param({}, {}, NEW, Place(), id="at once"),
        pytest.param(
            {"after": "15m"}, {}, NEW, Place(MONDAY_NOON + 900, "after"), id="an opening, when nobody looks"
        ),
        pytest.param(
            {"after": "15m"},
            {"told": "acknowledged", "by": "ada"},
            Standing(held="after"),
            Place(dropped="ada acknowledged it before", drops="ada acknowledged it before"),
            id="somebody looks: it is taken back",
        ),
        pytest.param(
            {"after": "15m"}, {"told": "change"}, Standing(held="after"), Place(waits="after"), id="in order"
        ),
        pytest.param(
            {"after": "15m"},
            {"told": "change"},
            NEW,
            None,
            id="who was not told of the opening hears nothing",
        ),
        pytest.param({"after": "15m"}, {"told": "comment"}, TOLD, Place(), id="who was told hears it"),
        pytest.param(
            {"after": "15m"},
            {"told": "escalation"},
            Standing(held="after"),
            Place(drops="it was escalated before"),
            id="an escalation does not wait",
        ),
        pytest.param(
            {"severities": ["critical"]}, {"told": "change"}, NEW, Place(), id="it became bad enough"
        ),
        pytest.param({"hours": DAY}, {}, NEW, Place(), id="within its hours"),
        pytest.param(
            {"hours": DAY},
            {"at": MONDAY_NOON + 10 * HOUR},
            NEW,
            Place(MONDAY_NOON + 20 * HOUR, "hours"),
            id="at night: when they begin",
        ),
        pytest.param(
            {"hours": DAY},
            {"at": MONDAY_NOON + 4 * 24 * HOUR + 8 * HOUR},
            NEW,
            Place(MONDAY_NOON + 6 * 24 * HOUR + 20 * HOUR, "hours"),
            id="on Friday evening: on Monday",
        ),
        pytest.param(
            {"hours": DAY | {"outside": "drop"}},
            {"at": MONDAY_NOON + 10 * HOUR},
            NEW,
            Place(dropped="it came outside of the channel's hours"),
            id="at night: never",
        ),
        pytest.param(
            {"hours": {"from": "22:00", "to": "06:00", "timezone": "Europe/Berlin"}},
            {"at": MONDAY_NOON + 16 * HOUR},
            NEW,
            Place(),
            id="hours that end on the next day, by other clocks",
        ),
        pytest.param(
            {"hours": DAY, "after": "8h"},
            {},
            NEW,
            Place(MONDAY_NOON + 20 * HOUR, "after"),
            id="an escalation that falls due at night",
        ),
    ],
)
def test_when_it_leaves(
    spec: dict[str, Any], said: dict[str, Any], standing: Standing, placed: Place | None
) -> None:
    assert place(channel(**spec), notice(**said), standing) == placed


def test_what_is_over_before_its_opening_was_told_is_dropped_with_it() -> None:
    found = place(channel(after="15m"), notice("recovery", None), Standing(held="after"), ends=True)
    assert found == Place(dropped=(why := "it was over before its opening was told"), drops=why)
    assert place(channel(severities=["critical"]), notice("recovery", None), NEW, ends=True) is None


def test_the_end_of_what_was_told_is_never_dropped_and_ends_an_alert_at_any_hour() -> None:
    spec, night = {"hours": DAY | {"outside": "drop"}}, MONDAY_NOON + 10 * HOUR
    over = notice("recovery", None, at=night)
    assert place(channel(**spec), over, TOLD, ends=True) == Place(MONDAY_NOON + 20 * HOUR, "hours")
    paired = Paired.model_validate({"slug": "c", "type": "webhook", "url": "http://x.example/"} | spec)
    assert place(paired, over, TOLD, ends=True) == Place()


def test_the_end_of_what_was_told_is_told_although_news_of_it_wait() -> None:
    night = MONDAY_NOON + 10 * HOUR
    over = place(
        channel(hours=DAY),
        notice("recovery", None, at=night),
        Standing(is_told=True, held="hours"),
        ends=True,
    )
    assert over == Place(MONDAY_NOON + 20 * HOUR, "hours", drops="it was over before")


class Line:
    """The news of one episode on their way to one channel, as the outbox keeps them: a small model."""

    def __init__(self, rule: ChannelRule) -> None:
        self.rule, self.now, self.severity = rule, MONDAY_NOON, "critical"
        self.rows: list[list[Any]] = []  # what, when it is due, why it may be taken back, what became of it

    def wait(self, hours: float) -> None:
        self.now += hours * HOUR
        for row in self.rows:
            if row[3] == "pending":
                if row[1] > self.now:
                    break
                row[3] = "done"

    def tell(self, told: str, *, ends: bool = False) -> None:
        self.wait(0.0)
        standing = Standing()
        for what, _, held, status in self.rows:
            if status != "dropped":
                standing = standing.then(what, held if status == "pending" else None)
        found = place(self.rule, notice(told, None if ends else "critical", at=self.now), standing, ends=ends)
        if found is None:
            return
        for row in self.rows if found.drops else ():
            if row[3] == "pending" and row[2]:
                row[3] = "dropped"
        self.rows.append(
            [told, found.due_at or self.now, found.waits, "dropped" if found.dropped else "pending"]
        )


RULES = st.sampled_from(
    [
        {"after": "2h"},
        {"hours": DAY},
        {"hours": DAY | {"outside": "drop"}},
        {"hours": DAY, "after": "2h"},
        {"severities": ["critical"]},
    ]
)
DEEDS = st.lists(
    st.sampled_from(["acknowledged", "comment", "escalation", "change", "reopen", 1.0, 5.0, 14.0]),
    max_size=10,
)


@given(RULES, st.booleans(), st.integers(0, 23), DEEDS)
def test_whatever_people_do_every_opening_that_was_told_has_its_end_and_no_other_begins_with_one(
    spec: dict[str, Any], pairs: bool, hour: int, deeds: list[str | float]
) -> None:
    kind = Paired if pairs else WebhookChannel
    line = Line(kind.model_validate({"slug": "c", "type": "webhook", "url": "http://x.example/"} | spec))
    line.wait(hour)
    line.tell("open")
    for deed in deeds:
        if isinstance(deed, float):
            line.wait(deed)
        elif deed == "reopen":
            line.tell("recovery", ends=True)
            line.tell("open")
        else:
            line.tell(deed)
    line.tell("recovery", ends=True)
    line.wait(200.0)
    told = [row[0] for row in line.rows if row[3] == "done"]
    assert not told or told[0] != "recovery"
    assert not told or told[-1] == "recovery"
    assert all(row[3] != "pending" for row in line.rows)


@pytest.mark.parametrize(
    ("day", "begins"),
    [
        pytest.param(
            datetime(2026, 3, 29, tzinfo=UTC), "2026-03-29T00:30:00+00:00", id="spring: 01:30 in winter time"
        ),
        pytest.param(
            datetime(2026, 10, 25, tzinfo=UTC), "2026-10-24T23:30:00+00:00", id="autumn: 01:30 in summer time"
        ),
    ],
)
def test_hours_begin_once_on_the_days_on_which_clocks_change(day: datetime, begins: str) -> None:
    rule = channel(hours={"from": "01:30", "to": "05:00", "timezone": "Europe/Berlin"})
    found = place(rule, notice(at=day.timestamp() - 4 * HOUR), NEW)
    assert found is not None
    assert found.due_at is not None
    assert datetime.fromtimestamp(found.due_at, UTC).isoformat() == begins
    ends = datetime(day.year, day.month, day.day, 3 if day.month == 3 else 4, tzinfo=UTC).timestamp()
    assert place(rule, notice(at=ends - 1), NEW) == Place()
    assert place(rule, notice(at=ends), NEW) != Place()


def test_a_storm_is_more_than_so_much_within_a_minute() -> None:
    pace = Pace()
    assert not pace.is_storm(10, 10, 0.0)
    assert pace.is_storm(11, 10, 0.0)
    for second in range(10):
        pace.told(float(second))
    assert pace.is_storm(1, 10, 20.0)
    assert not pace.is_storm(1, 10, 60.0)
    pace.told(100.0, 500, together=True)
    assert [pace.may_gather(at) for at in (100.0, 100.0 + EVERY_S)] == [False, True]


def test_a_digest_counts_by_kind_and_shows_the_first() -> None:
    titles = [f"b{n} is down" for n in range(20)]
    made = digest("key", "id", {"recovery": 2, "open": 30}, titles, "critical", 1.0, "shop", "http://x/")
    assert made.title == "32 news at once: 30 open, 2 recovery"
    assert made.why == (*titles, "and 12 more")
    assert (made.told, made.episode, made.severity) == ("digest", "key", "critical")
