"""`upbeat maintenance`: a window begun now, ended, extended, cancelled, spoken of. Planning one ahead is `upbeat.cli.objects`' create."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.listed import on_one
from upbeat.cli.objects import group_of, print_written, runs_when
from upbeat.cli.output import Output, harmless, paint, when


def _show(window: Mapping[str, Any]) -> None:
    click.echo(f"{window['name'] or window['slug']}: {runs_when(window)}")
    click.echo(f"covers {', '.join(window['covers']) or 'nothing that is there'}\n")
    print_written(window)
    for told in window["announced"]:
        click.echo(f"\n{paint(told['status'])}  {told['title']}, {when(told['starts_at'])}")
        for said in told["updates"]:
            click.echo(
                f"{when(said['at'])}  {paint(said['status'])}, by {said['by']}\n  {harmless(said['text'])}"
            )


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
@click.option("--announce", is_flag=True, help="Tell customers that it runs, and when it is over.")
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
    announce: bool,
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
    named: dict[str, Any] = {"name": name, "slug": slug} | ({"announce": {}} if announce else {})
    body = lasting | covers | {key: value for key, value in named.items() if value is not None}
    made = await api.post("/maintenances", body, page=page)
    said = f"{made['slug']} covers {', '.join(made['covers']) or 'nothing'}: {runs_when(made)}"
    out.done(made, said, brief=[made["slug"]])


@maintenance.command()
@on_one("/maintenances")
async def end(api: Client, out: Output) -> None:
    """End the window SLUG now; one that comes again is over only for this time."""
    ended = await api.post("/end")
    out.done(ended, f"{api.slug} is over; {runs_when(ended)}" if ended["next"] else f"{api.slug} is over")


@maintenance.command()
@on_one(
    "/maintenances",
    click.option("--by", metavar="DURATION", help="By how much longer, such as 30m."),
    click.option("--until", metavar="TIME", help="Such as 2026-01-31T18:00Z."),
)
async def extend(api: Client, out: Output, by: str | None, until: str | None) -> None:
    """Let the window SLUG last longer, the time of it that runs or comes next."""
    if (by is None) == (until is None):
        raise click.UsageError("Give one of --by and --until.")
    window = await api.post("/extend", {"by": by} if by else {"until": until})
    out.done(window, f"{api.slug} {runs_when(window)}, until {when(window['next']['end'])}")


@maintenance.command()
@on_one("/maintenances")
async def cancel(api: Client, out: Output) -> None:
    """Cancel the next time of the window SLUG; what runs is over early."""
    window = await api.post("/cancel")
    out.done(window, f"{api.slug} is cancelled; {runs_when(window)}")


@maintenance.command()
@on_one(
    "/maintenances",
    click.option("--text", required=True, help="What customers read."),
    click.option("--status", help="in_progress, verifying or completed; else it stays what it is."),
    click.option(
        "--notify/--no-notify", default=True, show_default=True, help="Whether subscribers are told."
    ),
    click.option("--markdown", "is_markdown", is_flag=True, help="The text is Markdown."),
)
async def say(
    api: Client, out: Output, text: str, status: str | None, notify: bool, is_markdown: bool
) -> None:
    """Tell customers how the announced maintenance SLUG goes."""
    body = {"text": text, "notify": notify, "is_markdown": is_markdown} | (
        {"status": status} if status else {}
    )
    window = await api.post("/say", body)
    out.done(window, f"said of {api.slug}")
