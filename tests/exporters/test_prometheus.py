"""The text exposition, read back by a strict parser of the format."""

import math
import re
from collections.abc import Iterable

import pytest

from evaluators.model import Failure, Kind, Result, Stage, Timings, Verdict
from exporters.measurement import BOUNDS_S, Named, Standing, Totals
from exporters.prometheus import Family, Sample, families, render

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')

Parsed = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Parsed:
    """Every sample of a text exposition, format 0.0.4; an AssertionError says what breaks the format."""
    samples: Parsed = {}
    described: set[str] = set()
    family = kind = ""
    assert not text or text.endswith("\n")
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in described, f"{family} comes twice"
            described.add(family)
            kind = ""
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family
            assert kind in ("counter", "gauge", "histogram")
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, f"no sample: {line!r}"
            name, labels, value = match.groups()
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert name in {family + suffix for suffix in suffixes}, f"{name} within {family}"
            key = (name, tuple(_parse_labels(labels or "")))
            assert key not in samples, f"{key} comes twice"
            samples[key] = math.inf if value == "+Inf" else float(value)
    return samples


def _parse_labels(text: str) -> Iterable[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _LABEL.match(text, place)
        assert match, f"no label: {text[place:]!r}"
        yield match[1], re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), match[2])
        place = match.end()


def _totals() -> Totals:
    totals = Totals({"bea_1": Named("check out", 'sh"op\\', "http")}.get)
    base = Result(
        "r", "bea_1", "eu", Kind.SCHEDULED, Verdict.OK, 0.0, 0.0, 0, 1, Timings(total=0.2, tls=0.001)
    )
    bad = Result(
        "r",
        "bea_1",
        "eu",
        Kind.CONFIRM,
        Verdict.CRITICAL,
        0,
        0,
        1,
        1,
        Timings(total=99.0),
        (),
        Failure("x", "m"),
    )
    totals.observe([base, base, bad])
    totals.stand("bea_1", Standing(Stage.WARNING))
    return totals


def test_a_group_has_a_stage_of_its_own_name_and_flags_stand_beside() -> None:
    totals = Totals(lambda slug: Named(slug, "p", "group" if slug == "shop" else "tcp"))
    totals.stand("shop", Standing(Stage.CRITICAL, flapping=True))
    totals.stand("db", Standing(Stage.CRITICAL, suppressed=True))
    samples = parse(render(families(totals)))
    group, beat = (("group", "shop"), ("page", "p")), (("beat", "db"), ("page", "p"), ("type", "tcp"))
    assert {name: value for (name, about), value in samples.items() if about == group} == {
        "upbeat_group_stage": 2,
        "upbeat_group_flapping": 1,
        "upbeat_group_suppressed": 0,
    }
    assert {name: value for (name, about), value in samples.items() if about == beat} == {
        "upbeat_beat_stage": 2,
        "upbeat_beat_flapping": 0,
        "upbeat_beat_suppressed": 1,
    }


_OURS = (("beat", "check out"), ("page", 'sh"op\\'), ("type", "http"))


def test_totals_are_rendered_with_their_names_and_values() -> None:
    samples = parse(render(families(_totals(), phases=True)))

    here = (*_OURS, ("region", "eu"))
    assert samples["upbeat_beat_stage", _OURS] == 1
    assert (
        samples[
            "upbeat_runs_total",
            (*here, ("verdict", "ok"), ("kind", "scheduled"), ("error_type", "")),
        ]
        == 2
    )
    assert samples["upbeat_run_duration_seconds_count", here] == 3
    assert samples["upbeat_run_duration_seconds_sum", here] == pytest.approx(99.4)
    assert samples["upbeat_run_phase_duration_seconds_count", (*here, ("phase", "tls"))] == 2


def test_buckets_are_cumulative_and_end_with_infinity() -> None:
    samples = parse(render(families(_totals())))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "upbeat_run_duration_seconds_bucket"
    }
    assert list(buckets) == [*BOUNDS_S, math.inf]
    assert (buckets[0.1], buckets[0.25], buckets[60.0], buckets[math.inf]) == (0, 2, 2, 3)


@pytest.mark.parametrize(
    "value",
    ["plain", 'quo"te', "back\\slash", "new\nline", '\\"', "\\n", "\n\n", '{a="b"} 1', "é☃🔥", "", "a,b"],
)
def test_any_label_value_is_read_back_as_it_was(value: str) -> None:
    text = render([Family("upbeat_x", "gauge", value, [Sample(1, (("of", value), ("then", "z")))])])
    assert list(parse(text)) == [("upbeat_x", (("of", value), ("then", "z")))]


@pytest.mark.parametrize("value", [0, 1, -1.5, 1e-9, 1 << 53, math.inf])
def test_any_number_is_read_back_as_it_was(value: float) -> None:
    assert list(parse(render([Family("upbeat_x", "gauge", "", [Sample(value)])])).values()) == [value]


def test_a_number_that_is_none_is_said() -> None:
    assert render([Family("upbeat_x", "gauge", "", [Sample(math.nan), Sample(-math.inf)])]).endswith(
        "upbeat_x NaN\nupbeat_x -Inf\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        [Family("upbeat_runs", "counter", "", [])],
        [Family("upbeat_runs_total", "gauge", "", [])],
        [Family("upbeat-runs", "gauge", "", [])],
        [Family("upbeat_x", "gauge", "", []), Family("upbeat_x", "gauge", "", [])],
        [Family("upbeat_x", "gauge", "", [Sample(1, (("a-b", "c"),))])],
    ],
)
def test_a_name_prometheus_would_not_take_is_an_error(wrong: list[Family]) -> None:
    with pytest.raises(ValueError, match=r"name|counters"):
        render(wrong)


def test_nothing_is_an_empty_text() -> None:
    assert render([]) == ""
