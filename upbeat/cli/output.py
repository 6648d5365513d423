"""What the command line prints: aligned tables, calm colours, times people can read, or JSON. It asks no server."""

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

Columns = Mapping[str, Callable[[Any], object]]
"""A heading and what stands under it, of one item."""

_COLOURS: Final = {
    "ok": "green",
    "warning": "yellow",
    "critical": "red",
    "error": "magenta",
    "unknown": "magenta",
    "fail": "red",
    "warn": "yellow",
    "pending": "yellow",
    "failed": "red",
    "dead": "red",
    "resolved": "green",
    "done": "green",
    "operational": "green",
    "major_outage": "red",
}
_CONTROL: Final = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_STEPS: Final = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (172_800.0, 3600.0, "h"), (1e12, 86400.0, "d"))


@dataclass(frozen=True, slots=True)
class Output:
    """How a command was asked to answer."""

    json: bool = False
    quiet: bool = False

    def show(self, document: Any, render: Callable[[Any], None], *, brief: Iterable[str] = ()) -> None:
        """The document as JSON, or what `render` makes of it; `--quiet` prints only the lines `brief`."""
        if self.json:
            print_json(document)
        elif self.quiet:
            for line in brief:
                click.echo(line)
        else:
            render(document)

    def done(self, document: Any, said: str, *, brief: Iterable[str] = ()) -> None:
        """A change was made."""
        self.show(document, lambda _: click.echo(said), brief=brief)


def with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json` and `--quiet`, and hand it the `Output` they ask for as `out`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API shows it.")
    @click.option("-q", "--quiet", is_flag=True, help="Print only slugs, ids or links, or nothing.")
    @functools.wraps(command)
    def run(as_json: bool, quiet: bool, **given: Any) -> Any:
        return command(out=Output(as_json, quiet), **given)

    return run


def print_json(document: Any) -> None:
    """`document` as people and programs read it."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def paint(word: str) -> str:
    """A stage, verdict or status in its colour; other words stay as they are."""
    return click.style(word, fg=_COLOURS[word]) if word in _COLOURS else word


def harmless(text: str) -> str:
    """`text` without what would steer a terminal, but for colours: targets and other people wrote parts of it."""
    return _CONTROL.sub("", text)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings, columns aligned; `none` without rows."""
    texts = [["-" if cell is None or cell == "" else harmless(str(cell)) for cell in row] for row in rows]
    if not texts:
        click.echo("none")
        return
    widths = [
        max(len(click.unstyle(cell)) for cell in column) for column in zip(headings, *texts, strict=True)
    ]
    click.echo(click.style(_line(headings, widths), dim=True))
    for row in texts:
        click.echo(_line(row, widths))


def print_items(columns: Columns, items: Iterable[Any]) -> None:
    """Items as the rows of a table."""
    print_table(list(columns), [[column(item) for column in columns.values()] for item in items])


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, aligned; what is empty is left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *rest = map(harmless, text.splitlines() or [""])
        click.echo("\n".join([f"{name:<{width}}  {first}", *(f"{'':<{width}}  {line}" for line in rest)]))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()


def span(seconds: float) -> str:
    """`seconds` as one rounded number with its unit."""
    for below, unit_s, unit in _STEPS:
        if seconds < below:
            return f"{int(seconds / unit_s)} {unit}"
    return "ages"


def when(at: str | None, now_s: float | None = None) -> str:
    """An RFC 3339 time as `3 min ago (2025-11-20 10:31:02 UTC)`."""
    if not at:
        return "-"
    moment = datetime.fromisoformat(at).astimezone(UTC)
    past_s = (time.time() if now_s is None else now_s) - moment.timestamp()
    relative = f"{span(past_s)} ago" if past_s >= 0 else f"in {span(-past_s)}"
    return f"{relative} ({moment:%Y-%m-%d %H:%M:%S} UTC)"


def until(at: str | None) -> str:
    """How long a pause lasts, as `until 2025-11-20 10:31:02 UTC`."""
    if not at:
        return "until it is resumed"
    return f"until {datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def milliseconds(seconds: float | None) -> str:
    """A timing as people compare them."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds >= 1e-4 or seconds <= 0 else f"{seconds * 1000:.3f} ms"
