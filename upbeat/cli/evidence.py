"""`upbeat evidence`: the files that are kept of a browser beat's runs, listed, fetched and opened."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, RefusedError
from upbeat.cli.listed import on_one
from upbeat.cli.output import Columns, Output, paint, print_items, when

TRACE: Final = "trace.zip"
NEWEST: Final = 200
"""Runs that are looked through for some with files."""
_FILE: Final[Columns] = {
    "RUN": lambda f: f["run"],
    "AT": lambda f: when(f["at"]),
    "REGION": lambda f: f["region"],
    "VERDICT": lambda f: paint(f["verdict"]),
    "FILE": lambda f: f["name"],
    "SIZE": lambda f: f"{f['size_bytes'] / 1000:.1f} kB" if f["state"] == "kept" else f["state"],
}
_PART: Final = re.compile(r"[A-Za-z0-9][\w-]*(\.[a-z]+)?", re.ASCII)
_OF_RUN: Final = ("run", "at", "region", "verdict")


@click.command()
@on_one(
    "/beats",
    click.option("--run", "wanted", metavar="ID", help="Of this run; else of the newest ones."),
    click.option(
        "--to",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Write the run's files below this folder.",
    ),
    click.option("--trace", is_flag=True, help="Open the run's trace in Playwright's viewer."),
)
async def evidence(api: Client, out: Output, wanted: str | None, folder: Path | None, trace: bool) -> None:
    """List the files that are kept of runs of the browser beat SLUG; with --to or --trace, of the newest run that has them.

    \b
      upbeat evidence checkout
      upbeat evidence checkout --run run_0192... --to evidence
      upbeat evidence checkout --trace
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    found = await _files(api, wanted)
    if folder is None and not trace:
        out.show(
            {"items": found},
            lambda _: print_items(_FILE, found),
            brief=[f"{f['run']}/{f['name']}" for f in found],
        )
        return
    kept = [one for one in found if one["state"] == "kept" and (folder or one["name"] == TRACE)]
    if not kept:
        missing = "files are" if folder else "trace is"
        raise RefusedError(f"No {missing} kept of {wanted or 'its newest runs'}.")
    run, place = kept[0]["run"], folder or Path(tempfile.mkdtemp(prefix="upbeat-"))
    paths = [await _fetched(api, one, place) for one in kept if one["run"] == run]
    listed = [str(path) for path in paths]
    out.done({"files": listed}, "\n".join(listed), brief=listed)
    if trace:
        await _open(next((path for path in listed if path.endswith(TRACE)), None))


async def _files(api: Client, wanted: str | None) -> list[dict[str, Any]]:
    """Of the newest runs first, each with its run."""
    runs = (await api.items("/results", limit=NEWEST))["items"]
    if wanted and wanted not in (run["run"] for run in runs):  # an older one
        kept = (await api.get(f"/results/{wanted}/artifacts"))["items"]
        return [one | dict.fromkeys(_OF_RUN, "") | {"run": wanted} for one in kept]
    return [
        one | {field: run[field] for field in _OF_RUN}
        for run in runs
        if wanted in (None, run["run"])
        for one in run["artifacts"]
    ]


async def _fetched(api: Client, one: Mapping[str, Any], folder: Path) -> Path:
    path = place_of(folder, one["run"], one["name"])
    content = await api.content(f"/results/{one['run']}/artifacts/{one['name']}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as failure:
        raise click.UsageError(f"{path} cannot be written: {failure.strerror}") from None
    return path


def place_of(folder: Path, run: str, name: str) -> Path:
    """Where a file is written: below `folder`, whatever a server says. Raises `RefusedError`."""
    if not (_PART.fullmatch(run) and _PART.fullmatch(name)):
        raise RefusedError(f"The server names a file {f'{run}/{name}'!r}, which is none of Upbeat's.")
    return folder / run / name


async def _open(trace: str | None) -> None:
    if trace is None:
        raise RefusedError("No trace is kept of this run.")
    viewer = ["-m", "playwright", "show-trace", trace]
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        said = f"There is no display here. Where there is one: {shlex.join(['python', *viewer])}"
        click.echo(said, err=True)
        return
    await asyncio.to_thread(subprocess.run, [sys.executable, *viewer], check=False)
