"""`upbeat episodes`: what was wrong, and what operators do with it. Who decides what customers are told is `upbeat.cli.actions`."""

from collections.abc import Mapping
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import Listed, listing, of_page
from upbeat.cli.output import Output, harmless, paint, print_fields, until, when

NOBODY: Final = "nobody"


@click.group(cls=Listed)
def episodes() -> None:
    """Episodes: what was wrong, for how long, and who looks at it."""


episodes.add_command(
    listing(
        "/episodes",
        "List episodes, newest first.",
        {
            "EPISODE": lambda e: e["id"],
            "OWNER": lambda e: e["owner"],
            "SEVERITY": lambda e: paint(e["severity"]),
            "OPENED": lambda e: when(e["opened_at"]),
            "CLOSED": lambda e: when(e["closed_at"]),
            "CAUSE": lambda e: e["cause"],
            "LOOKS": lambda e: e["assignee"] or e["acknowledged_by"],
        },
        click.option(
            "--open/--closed",
            default=None,
            callback=lambda _context, _option, given: None if given is None else str(given).lower(),
            help="Only those that last, or only those that ended.",
        ),
        click.option("--state", help="Only those: open, acknowledged, unacknowledged, snoozed or closed."),
        click.option("--assignee", metavar="EMAIL", help="Only theirs; `me` are yours."),
        of_page,
    )
)


@episodes.command("show")
@click.argument("episode")
@remote
async def show(api: Client, out: Output, episode: str) -> None:
    """Show EPISODE, and what people did with it."""
    out.show(await api.get(at("/episodes", episode)), _print, brief=[episode])


@episodes.command()
@click.argument("episode")
@click.option("--undo", is_flag=True, help="Nobody looks at it any more.")
@remote
async def ack(api: Client, out: Output, episode: str, undo: bool) -> None:
    """Acknowledge EPISODE: you look at it, and nobody is reminded."""
    item = await api.post(f"{at('/episodes', episode)}/{'un' if undo else ''}acknowledge")
    who = item["acknowledged_by"]
    out.done(item, f"{item['owner']} is acknowledged by {who}" if who else f"nobody looks at {item['owner']}")


@episodes.command()
@click.argument("episode")
@click.argument("text")
@remote
async def comment(api: Client, out: Output, episode: str, text: str) -> None:
    """Say TEXT of EPISODE to the other operators."""
    item = await api.post(f"{at('/episodes', episode)}/comment", {"text": text})
    out.done(item, f"said of {item['owner']}")


@episodes.command()
@click.argument("episode")
@click.argument("email")
@remote
async def assign(api: Client, out: Output, episode: str, email: str) -> None:
    """Give EPISODE to the user EMAIL, or to `nobody`."""
    item = await api.post(f"{at('/episodes', episode)}/assign", {"to": None if email == NOBODY else email})
    out.done(item, f"{item['owner']} is {item['assignee'] or NOBODY}'s")


@episodes.command()
@click.argument("episode")
@click.option("--text", default="", help="Why everybody should know.")
@remote
async def escalate(api: Client, out: Output, episode: str, text: str) -> None:
    """Tell everybody of EPISODE now, also who would be told later."""
    item = await api.post(f"{at('/episodes', episode)}/escalate", {"text": text})
    out.done(item, f"everybody is told of {item['owner']}")


@episodes.command()
@click.argument("episode")
@click.option("--for", "for_", metavar="DURATION", help="How long, such as 2h; at most 7d.")
@click.option("--end", is_flag=True, help="End the snooze.")
@remote
async def snooze(api: Client, out: Output, episode: str, for_: str | None, end: bool) -> None:
    """Let nobody be reminded of EPISODE for a while; it ends when it becomes worse."""
    if (for_ is None) != end:
        raise click.UsageError("Give one of --for and --end.")
    item = await api.post(f"{at('/episodes', episode)}/snooze", {"for": for_})
    lasts = item["snoozed_until"]
    out.done(item, f"{item['owner']} is snoozed {until(lasts)}" if lasts else "it is snoozed no longer")


def _print(item: Mapping[str, Any]) -> None:
    over = f"{when(item['closed_at'])}, {item['cause']}" if item["closed_at"] else ""
    click.echo(f"{paint(item['severity'])}  {harmless(item['owner_name'] or item['owner'])}")
    print_fields(
        {
            "began": when(item["opened_at"]),
            "ended": over,
            "acknowledged by": item["acknowledged_by"],
            "assigned to": item["assignee"],
            "snoozed": until(item["snoozed_until"]) if item["snoozed_until"] else "",
        }
    )
    for note in item["notes"]:
        click.echo(
            f"\n{when(note['at'])}  {note['kind']}, by {note['by']}\n  {harmless(note['text'])}".rstrip()
        )
