"""`upbeat simulate` and `size`: what a policy would do in a made-up world, and what a fleet needs. They ask no server."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import click

from engine.drawn import TooManyError
from engine.secrets import Secrets
from engine.simulation import QUANTILES, Report, Simulation
from engine.sizing import size as sized
from rules.config import ConfigError, Document, parse
from rules.duration import parse_duration_s
from rules.node import read
from rules.settings import Defaults
from rules.validation import check
from rules.world import World
from upbeat.cli.files import FILE, read_document, read_yaml, write_text
from upbeat.cli.output import Output, print_fields, print_table, with_output

_INKS: Final = ("#0b6bcb", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c")
_COUNTED: Final = {
    "outages": "OUTAGES",
    "missed": "MISSED",
    "already_open": "ALREADY OPEN",
    "false_per_10000_beat_hours": "FALSE/10,000 H",
    "regional_per_10000_beat_hours": "REGIONAL/10,000 H",
    "messages": "MESSAGES",
    "drafts": "DRAFTS",
}


@click.command()
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=FILE,
    help="Keys of beats (quorum, interval, ... as under `defaults:`), or an upbeat.yaml. Several are compared.",
)
@click.option("--world", type=FILE, help="What goes wrong, as YAML.")
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="One key of the world: --set time=30d."
)
@click.option("--plot", type=FILE, help="Write the delays as an SVG file.")
@with_output
def simulate(
    policies: Sequence[Path], world: Path | None, given: Sequence[str], plot: Path | None, out: Output
) -> None:
    """Put policies through months of virtual time in a world that fails as you say, and count what they make of it.

    \b
      upbeat simulate --set beats=50 --set failures=0.01
      upbeat simulate --policy strict.yaml --policy calm.yaml --world world.yaml --plot delays.svg

    The decisions are those of a server; the world is made up, and the same for every policy.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    made_up = _world(world, given)
    reports: dict[str, Report] = {}
    for file in policies or (None,):
        name = str(file or "default")
        try:
            reports[name] = Simulation(_document(file, made_up), made_up).run(partial(_progress, name))
        except TooManyError as refused:
            raise click.UsageError(f"{name}: {refused}.") from None
    if plot is not None:
        write_text(plot, drawing({name: report.delays_s for name, report in reports.items()}))
    listed = [{"policy": name, **report.figures} for name, report in reports.items()]
    out.show({"world": made_up.model_dump(mode="json"), "policies": listed}, lambda _: _print(reports))


def _duration(_: click.Context, __: click.Parameter, value: str) -> float:
    try:
        if seconds := parse_duration_s(value):
            return seconds
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None
    raise click.BadParameter("it is no time at all")


_seconds = partial(click.option, callback=_duration, show_default=True, metavar="DURATION")
_number = partial(click.option, type=click.IntRange(0), show_default=True)


@click.command()
@click.option("--beats", type=click.IntRange(1), required=True, help="How many.")
@_seconds("--interval", "interval_s", default="60s", help="Of each beat.")
@_seconds("--timeout", "timeout_s", default="10s", help="Of an attempt.")
@_number("--retries", default=1, help="After the first attempt.")
@click.option(
    "--regions", type=click.IntRange(1), default=3, show_default=True, help="That each beat runs in."
)
@_number("--groups", default=0, help="How many groups.")
@click.option(
    "--scheme", type=click.Choice(["http", "https"]), default="https", show_default=True, help="Of targets."
)
@with_output
def size(out: Output, **given: Any) -> None:
    """Estimate the probes, evaluators, database and bus that a fleet of beats needs, from measured unit costs."""

    def render(document: Mapping[str, Any]) -> None:
        click.echo(
            "An ESTIMATE from unit costs that were measured elsewhere. A second's worth, unless it says so."
        )
        for name in ("probes", "evaluators", "database", "bus"):
            click.echo(f"\n{click.style(name, bold=True)}")
            print_fields({key.replace("_", " "): f"{value:,}" for key, value in document[name].items()})
        click.echo(f"\nleft out: {document['left_out']}")

    out.show(sized(**given), render)


def _world(file: Path | None, given: Sequence[str]) -> World:
    node = read_yaml(file) if file is not None else read("{}", "--set")[0]
    plain = node.plain()
    if isinstance(plain, dict):
        for one in given:
            key, _, value = one.partition("=")
            try:
                plain[key] = read(value, f"--set {key}")[0].plain()
            except ConfigError as wrong:
                raise click.UsageError(
                    f"--set {one}: write KEY=VALUE, the value as in YAML ({wrong})"
                ) from None
    if file is None:  # so that what is wrong is named by its key
        node = read("\n".join(one.replace("=", ": ", 1) for one in given) or "{}", "--set")[0]
    valid, problems = check(World, node, str(file or "--set"), plain)
    if not isinstance(valid, World):
        raise click.UsageError("\n".join(map(str, problems)))
    return valid


def _document(file: Path | None, world: World) -> Document:
    """The beats that have this policy: those of an upbeat.yaml, or as many alike as the world says."""
    policy: Any = {}
    if file is not None:
        node = read_yaml(file)
        if node.child("beats") is not None:
            return read_document(file)
        if problems := check(Defaults, node, str(file))[1]:
            raise click.UsageError("\n".join(map(str, problems)))
        policy = node.plain()
    beat = {"type": "tcp", "host": "target.example", "port": 443}
    said = {
        "regions": [f"region-{n}" for n in range(world.regions)],
        "defaults": policy,
        "beats": [{"slug": f"beat-{n}", **beat} for n in range(world.beats)],
    }
    try:
        return parse(json.dumps(said), str(file), Secrets(os.environ).of(None))
    except ConfigError as wrong:
        raise click.UsageError(str(wrong)) from None


def _progress(name: str, share: float) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{name}: {share:.0%} ", err=True, nl=False)


def _print(reports: Mapping[str, Report]) -> None:
    rows: list[Sequence[object]] = []
    for name, report in reports.items():
        figures, delays = report.figures, report.figures["detection_delay_s"]
        rows.append((name, *(figures[key] for key in _COUNTED), *(delays.get(q) for q in QUANTILES)))
    print_table(("POLICY", *_COUNTED.values(), *(f"{q.upper()} S" for q in QUANTILES)), rows)


def drawing(delays_s: Mapping[str, Sequence[float]]) -> str:
    """An SVG of the share of outages that were seen after so long, one line for each policy."""
    left, top, across, down = 50, 20, 570, 250
    most_s = max((delays[-1] for delays in delays_s.values() if delays), default=1.0) * 1.05
    parts = [
        f'<path d="M{left} {top + down * (1 - fifth / 5):.0f}h{across}" stroke="#ddd"/>'
        f'<text x="4" y="{top + down * (1 - fifth / 5) + 4:.0f}">{fifth * 20} %</text>'
        f'<text x="{left + across * fifth / 5:.0f}" y="{top + down + 18}" text-anchor="middle">{most_s * fifth / 5:.3g} s</text>'
        for fifth in range(6)
    ]
    for number, (name, delays) in enumerate(delays_s.items()):
        ink, steps = _INKS[number % len(_INKS)], f"M{left} {top + down}"
        for seen, delay in enumerate(delays, 1):
            steps += f"H{left + across * delay / most_s:.1f}V{top + down * (1 - seen / len(delays)):.1f}"
        parts.append(f'<path d="{steps}" fill="none" stroke="{ink}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + 350}" y="{top + down - 12 - 16 * number}" fill="{ink}">{escape(name)}</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 320" font-family="sans-serif" font-size="12">'
        f"<title>From outage to episode, simulated</title>{''.join(parts)}</svg>\n"
    )
