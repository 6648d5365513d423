"""`upbeat replay`: another policy tried on what a server has stored, or the past checked against its log."""

import asyncio
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from api.timeline import timeline
from upbeat.cli.client import Client, RefusedError, remote
from upbeat.cli.files import FILE, read_yaml, write_text
from upbeat.cli.output import Columns, Output, print_items, print_table, span, when

_SOON_S, _POLL_S = 0.05, 0.5
_RETRACED: Final[Columns] = {
    "": lambda one: f"{one['kind']} {one['slug']}",
    "REPLAYED": lambda one: (
        "same" if one["is_same"] else f"cannot be: {one['reason']}" if one["reason"] else "differs"
    ),
    "RESULTS": lambda one: one["results"],
    "FACTS": lambda one: one["facts"],
    "STATE": lambda one: one["replayed"][:16],
}
_HEADINGS: Final = ("", "POLICY", "EPISODES", "CRITICAL", "WARNING", "UNKNOWN", "TOLD")


@click.command()
@click.option(
    "--beat", "beats", metavar="SLUG", multiple=True, help="A beat; a member brings its whole group."
)
@click.option("--group", "groups", metavar="SLUG", multiple=True, help="A group with its members.")
@click.option("--page", metavar="SLUG", help="All of a page, or the page of the beats and groups.")
@click.option(
    "--since", metavar="TIME", default="30d", show_default=True, help="From when: a time, or so long ago."
)
@click.option("--until", metavar="TIME", default="0s", help="Until when; now when not given.")
@click.option("--policy", type=FILE, help="YAML: quorum, episodes, incidents; or a whole upbeat.yaml.")
@click.option("--exact", is_flag=True, help="Check that the log leads to what is stored; no policy.")
@click.option(
    "--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Processes on the server."
)
@click.option("--plot", type=FILE, help="An SVG file: both policies over time.")
@remote
async def replay(api: Client, out: Output, policy: Path | None, plot: Path | None, **asked: Any) -> None:
    """Say what another policy would have made of the past: what it would have opened, missed, merged, and told.

    Without a beat, group or page it is all that the token may read. Nothing on the server changes. With --exact it exits with 1
    where what is stored is not what the log leads to.

    \b
      upbeat replay --beat shop --since 7d --policy calmer.yaml
      upbeat replay --page status --policy upbeat.yaml --plot both.svg
      upbeat replay --exact --beat shop
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if (policy is None) is not asked["exact"]:
        raise click.UsageError("Give either --policy FILE or --exact.")
    if plot is not None and asked["exact"]:
        raise click.UsageError("--plot draws two policies; --exact has none.")
    body = {**asked, "policy": _document(policy) if policy else None}
    found = await done(api, "replay", body, out, "results")
    out.show(found, _print, brief=[found["digest"]])
    if plot is not None:
        _write(plot, found)
    if any(not one["is_same"] for one in found["retraced"]):
        raise click.exceptions.Exit(1)


def _document(file: Path) -> Any:
    document = read_yaml(file).plain()
    if not isinstance(document, dict):
        raise click.UsageError(f"{file}: a policy is a mapping with quorum, episodes or incidents")
    return document


async def done(api: Client, kind: str, body: Any, out: Output, counted: str) -> Any:
    """Ask for a replay or preview and follow it to its end; it ends with this command."""
    path = f"/{kind}s/{(await api.post(f'/{kind}s', body))['id']}"
    shows, pause_s = sys.stderr.isatty() and not out.quiet, _SOON_S
    try:
        while True:
            found = await api.get(path)
            if shows:
                said = f"{found['status']}, {found['done']:.0%}, {found['rows']} {counted}"
                click.echo(f"\r\x1b[K{said}", nl=False, err=True)
            if found["status"] not in ("waiting", "running"):
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S)
    except asyncio.CancelledError:
        await api.delete(path)
        raise
    if shows:
        click.echo("\r\x1b[K", nl=False, err=True)
    if found["status"] != "done":
        raise RefusedError(f"The {kind} {found['status']}: {found['error'] or 'somebody ended it'}")
    return found


def _print(found: Mapping[str, Any]) -> None:
    if found["asked"]["exact"]:
        print_items(_RETRACED, found["retraced"])
        for one in found["retraced"]:
            for line in one["differs"]:
                click.echo(f"{one['slug']}: {line}")
    else:
        print_table(_HEADINGS, [row for one in found["replayed"] for row in _rows(one)])
        for one in found["replayed"]:
            for line in changes(one):
                click.echo(f"{one['slug']}: {line}")
    click.echo(f"{found['rows']} results, state {found['digest'][:16]}")


def _rows(one: Mapping[str, Any]) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for name in ("old", "new"):
        outcome = one[name]
        told = ", ".join(f"{count} {kind}" for kind, count in outcome["told"].items())
        times = [span(outcome[key]) for key in ("down_s", "warning_s", "unknown_s")]
        found.append((f"{one['kind']} {one['slug']}", name, outcome["opened"], *times, told))
    return found


def changes(one: Mapping[str, Any]) -> list[str]:
    """What differs, a line each, in the order of time within each kind."""
    old, new, compared = one["old"], one["new"], one["compared"]
    lines = [f"only old: {_episode(old['episodes'][place])}" for place in compared["only_old"]]
    lines += [f"only new: {_episode(new['episodes'][place])}" for place in compared["only_new"]]
    for name in ("merged", "split"):
        for both in compared[name]:
            begin = when(old["episodes"][both["old"][0]]["opened"])
            lines.append(f"{name}: {len(both['old'])} become {len(both['new'])}, from {begin}")
    for moved in compared["moved"]:
        parts = [
            f"{verb} {span(abs(later_s))} {'later' if later_s > 0 else 'earlier'}"
            for verb, later_s in (("opens", moved["opens_later_s"]), ("closes", moved["closes_later_s"]))
            if later_s is not None and abs(later_s) >= 1
        ]
        if parts:
            lines.append(f"{', '.join(parts)}: {_episode(old['episodes'][moved['old']])}")
    for name, outcome in (("old", old), ("new", new)):
        if outcome["unanswered"]:
            said = f"{outcome['unanswered']} of {outcome['rounds']} confirmation rounds have no stored runs"
            lines.append(f"{name} policy: {said}: what they would have confirmed opens within a range")
    return lines


def _episode(episode: Mapping[str, Any]) -> str:
    could = episode["could_open"]
    begin = f"between {when(could)} and {when(episode['opened'])}" if could else when(episode["opened"])
    return f"{episode['severity']} {begin}, " + (
        f"until {when(episode['closed'])}" if episode["closed"] else "open at the end"
    )


def _write(file: Path, found: Mapping[str, Any]) -> None:
    """One plot under the other."""
    since, until = (datetime.fromisoformat(found["asked"][name]) for name in ("since", "until"))
    plots = [timeline(one, since, until, alone=True) for one in found["replayed"]]
    height = 130
    nested = [
        f'<text x="8" y="{place * height + 16}">{one["kind"]} {one["slug"]}</text>'
        + plot.replace("<svg ", f'<svg y="{place * height + 24}" width="1000" height="98" ', 1)
        for place, (one, plot) in enumerate(zip(found["replayed"], plots, strict=True))
    ]
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height * len(plots)}">{"".join(nested)}</svg>\n'
    write_text(file, whole)
