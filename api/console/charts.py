"""Charts as numbers that templates draw as SVG: lines, sparklines, bars, stacked phases. Pure; it renders nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WIDTH = 1000.0
HEIGHT = 100.0
_STEPS = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One region's latency: SVG paths of p50 and p95, and their newest values in seconds."""

    region: str
    index: int  # which colour and dash
    p50: str
    p95: str
    newest_p50: float
    newest_p95: float


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency chart; `top` is the value at its upper edge, `ticks` are (place in per cent, moment)."""

    lines: tuple[Line, ...]
    top: float
    ticks: tuple[tuple[float, datetime], ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Part:
    """One phase of a run as a piece of a stacked bar: x and width of 100."""

    phase: str
    x: float
    width: float
    seconds: float


def nice(value: float) -> float:
    """The least 1, 2, 5 or 10 times a power of ten that is not below `value`."""
    if value <= 0:
        return 0.001
    power = 1e-6
    while power * 10 < value:
        power *= 10
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))


def latency(rows: Sequence[Mapping[str, Any]], since: datetime, until: datetime, step_s: float) -> Latency:
    """A chart of rows (at, region, p50, p95), as `api.beats.latency` gives them. A gap breaks the line."""
    known = [row for row in rows if row["p50"] is not None]
    top = nice(max((row["p95"] for row in known), default=0.0) * 1.05)
    span_s = (until - since).total_seconds()
    regions = sorted({row["region"] for row in known})
    lines = []
    for index, region in enumerate(regions):
        mine = [row for row in known if row["region"] == region]
        places = [min(max(((r["at"] - since).total_seconds() + step_s / 2) / span_s, 0.0), 1.0) for r in mine]
        gap = 2.5 * step_s / span_s
        lines.append(
            Line(
                region,
                index % 6,
                path(places, [row["p50"] / top for row in mine], gap),
                path(places, [row["p95"] / top for row in mine], gap),
                mine[-1]["p50"],
                mine[-1]["p95"],
            )
        )
    ticks = tuple((100 * n / 4, since + (until - since) * n / 4) for n in range(5))
    said = "; ".join(
        f"{line.region}: newest p50 {shown(line.newest_p50)}, p95 {shown(line.newest_p95)}" for line in lines
    )
    return Latency(tuple(lines), top, ticks, said or "no runs in this time")


def path(places: Sequence[float], heights: Sequence[float], gap: float) -> str:
    """A line through (place, height), each of 1, in the box; it breaks where more than `gap` lies between two."""
    steps, before = [], -1.0
    for place, height in zip(places, heights, strict=True):
        command = "L" if before >= 0 and place - before <= gap else "M"
        x, y = place * WIDTH, HEIGHT - min(height, 1.0) * HEIGHT
        # A lone point is a short dash: otherwise it would not be seen.
        steps.append(f"{command}{x:.1f} {y:.1f}" + ("h2" if command == "M" else ""))
        before = place
    return "".join(steps)


def sparkline(totals: Sequence[float]) -> str:
    """Points of a polyline in a box of 100 x 20."""
    if len(totals) < 2:
        return ""
    low, high = min(totals), max(totals)
    span = (high - low) or 1.0
    step = 100 / (len(totals) - 1)
    return " ".join(f"{n * step:.1f},{18 - 16 * (t - low) / span:.1f}" for n, t in enumerate(totals))


def stacked(timings: Mapping[str, float | None], scale_s: float, begins_s: float = 0.0) -> tuple[Part, ...]:
    """The phases of one run beside each other from `begins_s` on, `scale_s` seconds being the whole width."""
    parts, x = [], min(100 * begins_s / scale_s, 100.0) if scale_s > 0 else 0.0
    for phase in ("dns", "connect", "tls", "ttfb", "transfer"):
        seconds = timings[phase]
        if seconds is not None and seconds > 0 and scale_s > 0:
            width = min(100 * seconds / scale_s, 100 - x)
            parts.append(Part(phase, x, width, seconds))
            x += width
    return tuple(parts)


def percent(share: float | None) -> str:
    """`99.98 %`; never rounded up to 100."""
    if share is None:
        return "no data"
    hundredths = int(share * 10_000 + 1e-6)
    return "100 %" if hundredths == 10_000 else f"{hundredths / 100:.2f} %"


def shown(seconds: float | None) -> str:
    """`84 ms`, `1.24 s`."""
    if seconds is None:
        return "–"
    if 0 < seconds < 1e-4:
        return f"{seconds * 1000:.3f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
