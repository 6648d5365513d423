"""Which channel is told what, and when: pictures of rules, notices and what was told before."""

from datetime import UTC, datetime
from typing import Any

import pytest

from evaluators.digest import EVERY_S, Pace, digest
from evaluators.followup import due
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


def test_they_are_reminded_after_so_long_and_not_while_it_is_snoozed() -> None:
    assert [due(60.0, 0.0, now) for now in (59.0, 60.0)] == [False, True]
    assert [due(60.0, 0.0, now, snoozed_until=90.0) for now in (60.0, 90.0)] == [False, True]


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
