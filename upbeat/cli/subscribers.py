"""`upbeat subscribers`: who is told by a status page itself; kept, moved in and out as CSV, and told something by hand."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.files import FILE, read_text
from upbeat.cli.listed import Decorator, Listed, listing, of_page
from upbeat.cli.output import Output, harmless, paint, when

_POLL_S: Final = 0.5
_its_page: Decorator = click.option("--page", metavar="SLUG", help="Whose; the only page when not given.")
_components: Decorator = click.option(
    "--component", "components", multiple=True, metavar="SLUG", help="Only who hears of it; may be repeated."
)
_reason: Decorator = click.option(
    "--reason", default="", help="How it is known that they want it; kept in the audit log."
)


@click.group(cls=Listed)
def subscribers() -> None:
    """Subscribers: who is told by a status page itself."""


subscribers.add_command(
    listing(
        "/subscribers",
        "List subscribers, newest first; the unsubscribed and bounced too.",
        {
            "SUBSCRIBER": lambda s: s["id"],
            "ADDRESS": lambda s: s["address"],
            "STATUS": lambda s: paint(s["status"]),
            "PAGE": lambda s: s["page"],
            "HEARS OF": lambda s: "all" if s["components"] is None else ", ".join(s["components"]),
            "SINCE": lambda s: when(s["created_at"]),
            "ERROR": lambda s: s["error"],
        },
        click.option("--status", help="Only those: pending, active, unsubscribed or bounced."),
        click.option("--kind", help="Only those: email, webhook or slack."),
        click.option("--component", metavar="SLUG", help="Only who hears of it."),
        click.option("--search", metavar="TEXT", help="Part of an address or name."),
        of_page,
    )
)


@subscribers.command()
@click.argument("address")
@click.option("--kind", type=click.Choice(["email", "webhook", "slack"]), default="email", show_default=True)
@click.option("--name", default="", help="What they are called.")
@_components
@click.option("--language", help="One of the page's; its first when not given.")
@_reason
@_its_page
@remote
async def add(api: Client, out: Output, page: str | None, components: Sequence[str], **given: Any) -> None:
    """Send ADDRESS a link to confirm; with --reason it is told from now on, without one. 1 where it unsubscribed: it stays so."""
    body = given | {"components": list(components) or None, "is_confirmed": bool(given["reason"])}
    made = await api.post("/subscribers", body, page=page)
    said, is_left = f"{harmless(made['address'])} is {made['status']}", made["status"] == "unsubscribed"
    if is_left:
        said += " and is left so: they come back by the form of the page,\nor where they asked you by "
        said += f"`Tell them from now on` in the console: {api.server}/console/subscribers"
    out.done(made, said, brief=[made["id"]])
    if is_left:
        raise SystemExit(1)


@subscribers.command()
@click.argument("subscriber")
@click.option("--forget", is_flag=True, help="Forget them: a later import may bring them back.")
@remote
async def remove(api: Client, out: Output, subscriber: str, forget: bool) -> None:
    """Tell SUBSCRIBER (an id) nothing more."""
    path = at("/subscribers", subscriber)
    made = await (api.delete(path) if forget else api.patch(path, {"status": "unsubscribed"}))
    out.done(made, f"{subscriber} is {'forgotten' if forget else 'unsubscribed'}")


@subscribers.command("import")
@click.argument("file", type=FILE)
@click.option(
    "--dry-run", is_flag=True, help="Only say what would become of it; exits 1 where a line is bad."
)
@click.option("--skip-bad", is_flag=True, help="Leave out bad lines, instead of importing nothing.")
@click.option("--confirmed", is_flag=True, help="All of them confirmed elsewhere: no link is sent.")
@_reason
@_its_page
@remote
async def import_file(api: Client, out: Output, file: Path, **asked: Any) -> None:
    """Import a CSV FILE (`-`: standard input): email or url, and any of kind, components, language, name, confirmed."""
    made = await api.post("/subscribers/import", read_text(file).encode(), **asked)
    out.show(made, _print_import)
    if made["dry_run"] and made["bad"]:
        raise SystemExit(1)


def _print_mail(seen: dict[str, Any]) -> None:
    for line in (seen["mail"]["subject"], "", *seen["mail"]["text"].splitlines()):
        click.echo(harmless(line))


def _print_import(made: dict[str, Any]) -> None:
    for bad in made["bad"]:
        click.echo(f"line {bad['line']} {harmless(bad['reason'])}")
    counts = f"{made['added']} told from now on, {made['asked']} sent a link to confirm, {made['kept']} left as they are"
    left = f"{made['ended']} that ended it elsewhere, {made['repeated']} repeated and {len(made['bad'])} bad left out"
    click.echo(f"{'would be: ' if made['dry_run'] else ''}{counts}; {left}")


@subscribers.command()
@_its_page
@remote
async def export(api: Client, out: Output, page: str | None) -> None:
    """Print all subscribers of a page as CSV, which `import` takes."""
    click.echo(await api.text("/subscribers/export", page=page), nl=False)


@subscribers.command()
@click.option("--subject", required=True, help="What it is about, in a line.")
@click.option("--text", required=True, help="What they read.")
@click.option("--markdown", "is_markdown", is_flag=True, help="The text is Markdown.")
@_components
@click.option("--yes", is_flag=True, help="Without asking first.")
@click.option("--dry-run", is_flag=True, help="Only show it.")
@click.option("--wait", "wait_s", default=600, show_default=True, help="Seconds it is followed for.")
@_its_page
@remote
async def broadcast(
    api: Client,
    out: Output,
    components: Sequence[str],
    yes: bool,
    dry_run: bool,
    wait_s: int,
    page: str | None,
    **message: Any,
) -> None:
    """Tell the subscribers of a page something: shown first, sent once that is agreed to, followed until all have it."""
    body = message | {"components": list(components) or None}
    seen = await api.post("/broadcasts/preview", body, page=page)
    if dry_run or not yes:
        out.show(seen, _print_mail)
    if dry_run:
        return
    if not yes:
        click.confirm(f"Send it to {seen['subscribers']}?", abort=True, err=True)
    made = await api.post("/broadcasts", body, page=seen["page"])
    until_s, is_seen = time.monotonic() + wait_s, sys.stderr.isatty() and not out.quiet
    while made["finished_at"] is None and time.monotonic() < until_s:
        await asyncio.sleep(_POLL_S)
        made = await api.get(at("/broadcasts", made["id"]))
        if is_seen:
            progress = "{sent} sent, {waiting} waiting".format(**made["progress"])
            click.echo(f"\r\x1b[K{progress}", nl=made["finished_at"] is not None, err=True)
    counts = ", ".join(f"{n} {what}" for what, n in made["progress"].items() if n or what == "sent")
    out.done(made, f"{made['id']}: {counts}", brief=[made["id"]])
