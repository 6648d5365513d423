"""Prometheus text exposition (format 0.0.4, OpenMetrics names) of totals and self-metrics: a pure rendering, no server."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from evaluators.model import PHASES
from exporters.measurement import BOUNDS_S, SLOTS, Series, Totals

LabelPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. `suffix` is `_bucket`, `_sum` or `_count` in a histogram."""

    value: float
    labels: LabelPairs = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its samples. A counter's name ends in `_total`; a time's in `_seconds`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    samples: Iterable[Sample]


def render(families: Iterable[Family]) -> str:
    """The text of `families`, each named once. Raises `ValueError` for a name Prometheus would not take."""
    lines: list[str] = []
    seen: set[str] = set()
    for family in families:
        if not _NAME.fullmatch(family.name) or family.name in seen:
            raise ValueError(f"{family.name!r} is no metric name or is given twice")
        if (family.kind == "counter") != family.name.endswith("_total"):
            raise ValueError(f"{family.name!r}: counters, and only they, end in _total")
        seen.add(family.name)
        text = family.description.replace("\\", r"\\").replace("\n", r"\n")
        lines += (f"# HELP {family.name} {text}", f"# TYPE {family.name} {family.kind}")
        lines += (
            f"{family.name}{one.suffix}{_labels(one.labels)} {_number(one.value)}" for one in family.samples
        )
    return "\n".join(lines) + "\n" if lines else ""


def families(totals: Totals, *, phases: bool = False) -> tuple[Family, ...]:
    """The metrics of `totals`. With `phases` also each phase's durations: six times the text."""
    beats = list(totals.beats())
    named = [
        ((("beat", slug), ("page", page), ("type", kind), ("region", region)), series)
        for beat in beats
        for slug, page, kind, *_ in (beat.named,)
        for region, series in beat.regions.items()
    ]
    runs = (
        Sample(count, (*labels, ("verdict", verdict), ("kind", kind), ("error_type", error)))
        for labels, series in named
        for (verdict, kind, error), count in series.runs.items()
    )
    standing: dict[str, list[Sample]] = {
        f"{kind}_{name}": [] for kind in ("beat", "group") for name in _STANDING
    }
    for subject in beats:
        if subject.standing is not None:
            slug, page, type_, *_ = subject.named
            kind = subject.named.kind
            about = ((kind, slug), ("page", page), *((("type", type_),) if kind == "beat" else ()))
            for name, value in subject.standing.numbers():
                standing[f"{kind}_{name}"].append(Sample(value, about))
    certificates = (
        Sample(series.certificate_days, labels)
        for labels, series in named
        if series.certificate_days is not None
    )
    durations = (one for labels, series in named for one in _durations(labels, series, total=True))
    by_phase = (one for labels, series in named for one in _durations(labels, series, total=False))
    told = (
        Family("upbeat_runs_total", "counter", "Finished runs.", runs),
        *(
            Family(f"upbeat_{name}", "gauge", _STANDING[name.partition("_")[2]], samples)
            for name, samples in standing.items()
        ),
        Family(
            "upbeat_certificate_days", "gauge", "Days until a certificate of the chain expires.", certificates
        ),
        Family("upbeat_run_duration_seconds", "histogram", "Wall time of a run's last attempt.", durations),
    )
    split = Family("upbeat_run_phase_duration_seconds", "histogram", "Time in one phase of a run.", by_phase)
    return (*told, split) if phases else told


_STANDING = {
    "stage": "0 ok, 1 warning, 2 critical, 3 unknown.",
    "flapping": "1 while it changes so often that nothing is said.",
    "suppressed": "1 while it is bad and something suppresses its episode.",
}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _durations(labels: LabelPairs, series: Series, *, total: bool) -> Iterator[Sample]:
    for place, phase in enumerate(PHASES):
        counts = series.counts[place * SLOTS : (place + 1) * SLOTS]
        often = sum(counts)
        if not often or (phase == "total") is not total:
            continue
        pairs = labels if total else (*labels, ("phase", phase))
        below = 0
        for bound_s, count in zip((*BOUNDS_S, math.inf), counts, strict=True):
            below += count
            yield Sample(below, (*pairs, ("le", _number(float(bound_s)))), "_bucket")
        yield Sample(series.sums_s[place], pairs, "_sum")
        yield Sample(often, pairs, "_count")


def _labels(pairs: LabelPairs) -> str:
    if not pairs:
        return ""
    for name, _ in pairs:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name!r} is no label name")
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs) + "}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
