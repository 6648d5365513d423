"""`upbeat maintenance`: beginning a window now and ending one early. Planning one ahead is `upbeat.cli.objects`' create."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.listed import on_one
from upbeat.cli.objects import group_of, print_written, runs_when
from upbeat.cli.output import Output


def _show(window: Mapping[str, Any]) -> None:
    click.echo(f"{window['name'] or window['slug']}: {runs_when(window)}")
    click.echo(f"covers {', '.join(window['covers']) or 'nothing that is there'}\n")
    print_written(window)


maintenance = group_of("maintenance", show=_show)
maintenance.name = "maintenance"
maintenance.help = "Work with maintenance windows. What a file declares is changed in the file."


@maintenance.command()
@click.option("--for", "for_", metavar="DURATION", help="How long, such as 45m or 2h.")
@click.option("--until", metavar="TIME", help="Such as 2026-01-31T18:00Z; without a zone it is UTC.")
@click.option("--beat", "beats", multiple=True, metavar="SLUG", help="What it is about: a beat,")
@click.option("--group", "groups", multiple=True, metavar="SLUG", help="a group with its members,")
@click.option(
    "--component", "components", multiple=True, metavar="SLUG", help="or a component with what feeds it."
)
@click.option("--page", metavar="SLUG", help="Its page; all of it, where nothing else is named.")
@click.option("--name", help="What people call it.")
@click.option("--slug", help="What to end it by; made up when not given.")
@remote
async def start(
    api: Client,
    out: Output,
    for_: str | None,
    until: str | None,
    beats: Sequence[str],
    groups: Sequence[str],
    components: Sequence[str],
    page: str | None,
    name: str | None,
    slug: str | None,
) -> None:
    """Begin maintenance now: nothing of what it covers opens an episode until it is over.

    \b
      upbeat maintenance start --for 45m --beat checkout --name "new database"
      upbeat maintenance start --for 2h --page shop
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if (for_ is None) == (until is None):
        raise click.UsageError("Give one of --for and --until.")
    lasting = {"duration": for_} if for_ else {"end": until}
    covers = {"beats": list(beats), "groups": list(groups), "components": list(components)}
    named = {"name": name, "slug": slug}
    body = lasting | covers | {key: value for key, value in named.items() if value}
    made = await api.post("/maintenances", body, page=page)
    said = f"{made['slug']} covers {', '.join(made['covers']) or 'nothing'}: {runs_when(made)}"
    out.done(made, said, brief=[made["slug"]])


@maintenance.command()
@on_one("/maintenances")
async def end(api: Client, out: Output) -> None:
    """End the window SLUG now; one that comes again is over only for this time."""
    ended = await api.post("/end")
    out.done(ended, f"{api.slug} is over; {runs_when(ended)}" if ended["next"] else f"{api.slug} is over")
