"""When it happened, as other systems write it: 2026-05-27T22:00:00 UTC in every form, and what is none."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.event import Event, read
from evaluators.matching import Matcher
from evaluators.moment import moment_of
from rules.trigger import Trigger

UTC_ZONE = ZoneInfo("UTC")
THEN = 1_779_919_200


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("2026-05-27T22:00:00Z", id="RFC 3339"),
        pytest.param("2026-05-27t22:00:00z", id="in lower case"),
        pytest.param("2026-05-28T00:00:00+02:00", id="with an offset"),
        pytest.param("2026-05-27T22:00:00.0000000Z", id="seven digits (Azure)"),
        pytest.param("2026-05-27T22:00:00.000000000Z", id="nine digits (Go)"),
        pytest.param("2026-05-27T22:00:00.0+0000", id="an offset without a colon (SNS)"),
        pytest.param("2026-05-27 22:00:00 +0000", id="with spaces"),
        pytest.param("2026-05-27 22:00:00.000000000 +0000 UTC", id="as Go prints it"),
        pytest.param("2026-05-27 22:00:00 UTC", id="with the name of the zone"),
        pytest.param("2026-05-27 22:00", id="without seconds and zone"),
        pytest.param(" 2026-05-27 22:00:00\n", id="with spaces around"),
        pytest.param("Wed, 27 May 2026 22:00:00 +0000", id="RFC 2822"),
        pytest.param("Wed, 27 May 2026 22:00:00 GMT", id="as HTTP has it"),
        pytest.param(THEN, id="seconds"),
        pytest.param(float(THEN), id="seconds with a fraction"),
        pytest.param(str(THEN), id="seconds as text"),
        pytest.param(THEN * 1000, id="milliseconds"),
        pytest.param(f"{THEN}000", id="milliseconds as text"),
        pytest.param(THEN * 1_000_000, id="microseconds"),
        pytest.param(THEN * 1_000_000_000, id="nanoseconds"),
    ],
)
def test_auto_reads(value: Any) -> None:
    assert moment_of(value, "auto", UTC_ZONE) == THEN


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("27/05/2026 22:00", "%d/%m/%Y %H:%M"),
        ("27.05.26 22:00 +0000", "%d.%m.%y %H:%M %z"),
        (20260527, "%Y%m%d"),
    ],
)
def test_other_formats_are_declared(text: Any, format_: str) -> None:
    assert moment_of(text, format_, UTC_ZONE) == THEN - (79200 if isinstance(text, int) else 0)


def test_a_time_without_its_zone_is_of_the_declared_one() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert moment_of("2026-05-28 00:00:00", "auto", berlin) == THEN
    assert moment_of("2026-05-27 22:00:00Z", "auto", berlin) == THEN


@pytest.mark.parametrize("value", [None, "", "  ", 0, 0.0, "0", -1, "-1", "0001-01-01T00:00:00Z", "0001-01-01 00:00:00"])  # fmt: skip
def test_what_says_that_there_is_none(value: Any) -> None:
    assert moment_of(value, "auto", UTC_ZONE) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("yesterday", "'yesterday' is not a time"),
        (True, "it is not a time"),
        (["2026"], "it is not a time"),
        ("x" * 101, "it has 101 characters and is not a time"),
        ("1985-01-01T00:00:00Z", "it is before 1990"),
        (12, "it is before 1990"),
        ("20261002101320", "is not a time before 2200"),
        ("2026-13-01T00:00:00Z", "is not a time"),
        (10**40, "is not a time"),
    ],
)
def test_what_is_no_time_says_so(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        moment_of(value, "auto", UTC_ZONE)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=40),
    st.text(alphabet="0123456789-:. TZ+,WedMay", max_size=40), st.lists(st.integers(), max_size=1),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    ODD,
    st.sampled_from(["auto", "%Y-%m-%d", "%s", "%", "%Q", "%d %b %Y %z"]),
    st.sampled_from(["UTC", "Asia/Kathmandu"]),
)
def test_it_is_a_time_none_or_a_value_error(value: Any, format_: str, zone: str) -> None:
    try:
        moment = moment_of(value, format_, ZoneInfo(zone))
    except ValueError as wrong:
        assert "time" in str(wrong) or "1990" in str(wrong)  # noqa: PT017
        return
    assert moment is None or moment >= 631_152_000


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime(1991, 1, 1), datetime(2200, 1, 1)))
def test_what_was_written_is_read(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    assert moment_of(aware.isoformat(), "auto", UTC_ZONE) == aware.timestamp()


NOW = 1_780_000_000.0


@pytest.mark.parametrize(
    ("body", "at", "note"),
    [
        pytest.param('{"ends": "0001-01-01T00:00:00Z", "starts": "2026-05-27T22:00:00Z"}', THEN, "", id="the first that holds a time"),
        pytest.param('{"ends": null}', NOW, "none of them holds a time: it is when the event was received", id="none does"),
        pytest.param('{"ends": "soon", "starts": "2026-05-27T22:00:00Z"}', THEN, "", id="one that cannot be read is none"),
        pytest.param('{"ends": "soon"}', NOW, "'soon' is not a time: it is when the event was received", id="none can be read"),
        pytest.param('{"ends": "2099-01-01T00:00:00Z"}', NOW, "it is in the future: it is when the event was received", id="nothing happens after it was received"),
    ],
)  # fmt: skip
def test_the_time_of_an_event(body: str, at: float, note: str) -> None:
    spec = {"slug": "t", "inbox": "i", "target": {"beat": "b"}, "critical": True, "recovery": False}
    rule = Trigger.model_validate({**spec, "fingerprint": "single", "time": ["$.ends", "$.starts"]})
    document = read(Event("evt", NOW, (), "", body.encode()))
    (item,) = Matcher(rule).match(document, NOW, lambda _: {}, is_traced=True).items
    assert (item.at, [one.note for one in item.trace if one.part == "time"]) == (at, [note])
