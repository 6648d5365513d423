"""Two policies on one line of time, as SVG: a lane of stages and episodes for each. Pure; the console and the command line show it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 1000.0
LANE: Final = 34.0
LEFT: Final = 46.0
_RANK: Final = {"ok": 0, "unknown": 1, "warning": 2, "critical": 3}
# What the console's style sheet says by the same classes, for a file that stands alone.
_STYLE: Final = (
    "<style>svg{color-scheme:light dark;background:#fff;font:12px system-ui,sans-serif;fill:#191c22}.lane{fill:#e3f4ea}"
    ".is-warning{fill:#d68a12}.is-critical{fill:#d93848}.is-unknown{fill:#c9ced7}.episode{fill:none;stroke:#191c22}"
    ".range{fill:#3f86cc;opacity:.45}@media(prefers-color-scheme:dark){svg{background:#15181e;fill:#e7e9ee}"
    ".lane{fill:#12291d}.is-unknown{fill:#3a414d}.episode{stroke:#e7e9ee}}</style>"
)


def timeline(one: Mapping[str, Any], since: datetime, until: datetime, *, alone: bool = False) -> str:
    """The plot of one `replayed` of the API, its times as texts or not, from `since` to `until`; `alone`: with its own style."""
    begins = [_time(turn["at"]) for name in ("old", "new") for turn in one[name]["turns"][:1]]
    if (
        begins and since < min(begins) < until
    ):  # before, it was not there: a short life is not drawn as a speck
        since = min(begins)
    parts = []
    for number, name in enumerate(("old", "new")):
        y, outcome = 8 + number * LANE, one[name]
        parts.append(f'<text x="0" y="{y + 15}">{name}</text>')
        parts.append(f'<rect class="lane" x="{LEFT}" y="{y}" width="{WIDTH - LEFT}" height="20"/>')
        parts += _stages(outcome["turns"], since, until, y)
        parts += _episodes(outcome["episodes"], since, until, y)
    for share in (0.0, 0.5, 1.0):
        at, anchor = since + (until - since) * share, {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        x = LEFT + (WIDTH - LEFT) * share
        parts.append(
            f'<text x="{x:.0f}" y="92" text-anchor="{anchor}">{at.astimezone(UTC):%d %b %H:%M}</text>'
        )
    said = escape(in_words(one), {'"': "&quot;"})
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" viewBox="0 0 {WIDTH:.0f} 98" role="img" aria-label="{said}">'
    return f"{head}{_STYLE if alone else ''}{''.join(parts)}</svg>"


def in_words(one: Mapping[str, Any]) -> str:
    """What the plot shows, in a sentence."""
    old, new = (
        f"{one[name]['opened']} opened, {one[name]['down_s'] / 60:.0f} min critical"
        for name in ("old", "new")
    )
    return f"{one['kind']} {one['slug']}: old policy {old}; new policy {new}"


def _stages(turns: Sequence[Mapping[str, Any]], since: datetime, until: datetime, y: float) -> list[str]:
    """What is not ok; of what is too narrow to be seen beside each other only the worst."""
    drawn: list[tuple[float, float, str]] = []
    begins = [_time(turn["at"]) for turn in turns]
    for turn, begin, end in zip(turns, begins, [*begins[1:], until], strict=True):
        x, width = _place(begin, end, since, until)
        if turn["stage"] == "ok":
            continue
        if drawn and x < drawn[-1][0] + drawn[-1][1] and width <= 1.0:
            if _RANK[turn["stage"]] > _RANK[drawn[-1][2]]:
                drawn[-1] = (*drawn[-1][:2], turn["stage"])
            continue
        drawn.append((x, width, turn["stage"]))
    return [
        f'<rect class="is-{stage}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="20"/>'
        for x, width, stage in drawn
    ]


def _episodes(episodes: Sequence[Mapping[str, Any]], since: datetime, until: datetime, y: float) -> list[str]:
    drawn = []
    for episode in episodes:
        opened = _time(episode["opened"])
        x, width = _place(opened, _time(episode["closed"] or until), since, until)
        title = f"{episode['severity']} from {opened.astimezone(UTC):%d %b %H:%M:%S} UTC"
        drawn.append(
            f'<rect class="episode" x="{x:.1f}" y="{y - 3}" width="{width:.1f}" height="26" rx="3"><title>{title}</title></rect>'
        )
        if episode["could_open"] is not None:
            x, width = _place(_time(episode["could_open"]), opened, since, until)
            drawn.append(f'<rect class="range" x="{x:.1f}" y="{y}" width="{width:.1f}" height="20"/>')
    return drawn


def _time(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def _place(begin: datetime, end: datetime, since: datetime, until: datetime) -> tuple[float, float]:
    """X and width, at least what can be seen."""
    span_s, scale = (until - since).total_seconds(), WIDTH - LEFT
    x = min(max((begin - since).total_seconds() / span_s, 0.0), 1.0) * scale
    width = min(max((end - since).total_seconds() / span_s, 0.0), 1.0) * scale - x
    return LEFT + min(x, scale - 1.0), max(width, 1.0)
