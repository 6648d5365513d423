"""`upbeat uptime`: the share of a time in which a beat, a group or a component was up, and what is not known of it."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import click

from upbeat.cli.beats import share
from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import with_page
from upbeat.cli.output import Columns, Output, paint, print_fields, print_items, when

_PARTS: Final = ("up", "down", "unknown", "maintenance")


def _amount(name: str, part: Mapping[str, Any]) -> str:
    if part["runs"]:
        return f"{part['runs'][name]} runs"
    minutes, seconds = divmod(round(part["seconds"][name]), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


BAR: Final[Columns] = {
    "FROM": lambda b: b["start"][:16].replace("T", " "),
    "UPTIME": lambda b: share(b["uptime"]),
    "WORST": lambda b: paint(b["worst"] or ""),
    **{name.upper(): partial(_amount, name) for name in _PARTS},
}


@click.command()
@click.argument("slug")
@click.option("--group", "kind", flag_value="group", help="SLUG is a group's.")
@click.option("--component", "kind", flag_value="component", help="SLUG is a component's.")
@click.option(
    "--since", default="30d", show_default=True, metavar="TIME", help="RFC 3339, or so long ago: 24h."
)
@click.option("--until", metavar="TIME", help="The same; now when not given.")
@click.option(
    "--by", type=click.Choice(["duration", "requests", "manual"]), help="A component has its own way."
)
@click.option("--down", metavar="STAGES", help="By duration: critical (default), or critical,warning.")
@click.option("--exclude-maintenance/--include-maintenance", default=None, help="Leave maintenance out.")
@click.option("--step", metavar="DURATION", help="One line per so much time, such as 1d.")
@with_page
@remote
async def uptime(
    api: Client,
    out: Output,
    slug: str,
    kind: str | None,
    exclude_maintenance: bool | None,
    page: str | None,
    **query: str | None,
) -> None:
    """Say how much of a time the beat SLUG was up: (up) / (up + down), and what is not known beside it.

    \b
      upbeat uptime checkout --since 90d
      upbeat uptime shop --group --since 2026-01-01T00:00Z --until 2026-02-01T00:00Z
      upbeat uptime payments --component --by requests --step 1d
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    left_out = None if exclude_maintenance is None else str(exclude_maintenance).lower()
    place = at(f"/{kind or 'beat'}s", slug)
    found = await api.get(f"{place}/uptime", page=page, exclude_maintenance=left_out, **query)
    out.show(found, _show, brief=[share(found["uptime"])])


def _show(found: Mapping[str, Any]) -> None:
    print_fields(
        {
            "uptime": share(found["uptime"]),
            "by": found["by"] + (f", down: {', '.join(found['down'])}" if found["by"] != "requests" else ""),
            "since": when(found["since"]),
            "until": when(found["until"]),
            **{name: _amount(name, found) for name in _PARTS},
        }
    )
    if found["resolution_s"]:
        click.echo(
            f"Runs at the ends are counted by the {'hour' if found['resolution_s'] == 3600 else 'day'}."
        )
    if found["bars"]:
        click.echo()
        print_items(BAR, found["bars"])
