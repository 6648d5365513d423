"""`upbeat incidents`: what customers are told, by hand too. Drafts are `upbeat.cli.actions`'s."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.files import FILE, read_text
from upbeat.cli.listed import Decorator, Listed, listing, of_page
from upbeat.cli.output import Output, harmless, paint, print_fields, when


@click.group(cls=Listed)
def incidents() -> None:
    """Incidents: what customers are told, also by hand."""


incidents.add_command(
    listing(
        "/incidents",
        "List incidents, newest first.",
        {
            "INCIDENT": lambda i: i["id"],
            "STATUS": lambda i: paint(i["status"]),
            "PAGE": lambda i: i["page"],
            "BEGAN": lambda i: when(i["created_at"]),
            "TITLE": lambda i: i["title"],
        },
        click.option("--status", help="Only those: open, investigating, identified, monitoring or resolved."),
        of_page,
    )
)


def _options(*options: Decorator) -> Decorator:
    """Several options, in this order."""

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return give


_incident = click.argument("incident")
_text = click.option("--text", required=True, help="What customers read.")
_status = click.option("--status", help="investigating, identified, monitoring or resolved.")
_affects = _options(
    click.option(
        "--component",
        "components",
        multiple=True,
        metavar="SLUG=STATUS",
        help="What is affected, such as checkout=partial_outage: all of it, in place of what was named before.",
    ),
    click.option("--impact", help="none, minor, major or critical; else as the components say."),
)


def _must_say(_: click.Context, __: click.Parameter, notify: bool | None) -> bool:
    if notify is None:
        raise click.UsageError("Give --notify or --no-notify: whether subscribers are told.")
    return notify


_speaks = _options(
    click.option(
        "--notify/--no-notify",
        default=None,
        callback=_must_say,
        help="Whether subscribers are told; always to be said.",
    ),
    click.option("--markdown", "is_markdown", is_flag=True, help="The text is Markdown."),
    click.option("--draft", is_flag=True, help="Ask for a review first."),
)


@incidents.command("show")
@_incident
@remote
async def show_incident(api: Client, out: Output, incident: str) -> None:
    """Show an incident and everything customers were told of it."""
    item = await api.get(at("/incidents", incident))
    out.show(item, _print_incident, brief=[item["status"]])


@incidents.command()
@click.option("--title", required=True, help="What it is called.")
@_text
@_status
@_affects
@_speaks
@click.option(
    "--publisher", "publishers", multiple=True, metavar="SLUG", help="It goes only there, besides its page."
)
@click.option("--page", metavar="SLUG", help="Its page, where there are several.")
@remote
async def create(api: Client, out: Output, publishers: Sequence[str], page: str | None, **given: Any) -> None:
    """Begin an incident by hand. Where there are several pages, say which.

    \b
      upbeat incidents create --title "Checkout is slow" --text "We are looking." --component checkout=partial_outage --notify
      upbeat incidents create --page shop --title "Late parcels" --text "They come a day later." --impact minor --no-notify
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    body = body_of(given) | ({"publishers": list(publishers)} if publishers else {})
    _said(out, await api.post("/incidents", body, page=page))


@incidents.command()
@_incident
@_text
@_status
@_affects
@_speaks
@remote
async def update(api: Client, out: Output, incident: str, **given: Any) -> None:
    """Say something of INCIDENT; its status stays unless another is given, which opens one that is over again."""
    _said(out, await api.post(f"{at('/incidents', incident)}/updates", body_of(given)))


@incidents.command()
@_incident
@click.option("--text", default="This is resolved.", show_default=True, help="What customers read.")
@_speaks
@remote
async def resolve(api: Client, out: Output, incident: str, **given: Any) -> None:
    """Say that INCIDENT is over."""
    _said(
        out, await api.post(f"{at('/incidents', incident)}/updates", body_of(given | {"status": "resolved"}))
    )


@incidents.command()
@_incident
@click.option("--title", help="Another title.")
@_affects
@click.option("--nothing", is_flag=True, help="No component is affected.")
@click.option("--update", "update_", metavar="UPDATE", help="Correct this update, to what --text says.")
@click.option("--text", help="The corrected text of --update.")
@remote
async def edit(
    api: Client,
    out: Output,
    incident: str,
    nothing: bool,
    update_: str | None,
    text: str | None,
    **given: Any,
) -> None:
    """Change INCIDENT without a word: nobody is told, publishers follow."""
    path, changes = at("/incidents", incident), body_of(given) | ({"components": {}} if nothing else {})
    if (update_ is None) != (text is None) or not (changes or update_):
        raise click.UsageError("Give --title, --component, --nothing or --impact, or --update with --text.")
    item = None
    if update_ is not None:
        item = await api.patch(f"{path}{at('/updates', update_)}", {"text": text})
    if changes:
        item = await api.patch(path, changes)
    out.done(item, f"{incident} is changed")


@incidents.command()
@_incident
@remote
async def delete(api: Client, out: Output, incident: str) -> None:
    """Take INCIDENT away from everybody's sight, here and elsewhere."""
    await api.delete(at("/incidents", incident))
    out.done({}, f"{incident} deleted")


@incidents.command()
@_incident
@click.argument("into")
@remote
async def merge(api: Client, out: Output, incident: str, into: str) -> None:
    """End INCIDENT; INTO goes on for both. Nobody is notified."""
    item = await api.post(f"{at('/incidents', incident)}/merge", {"into": into})
    out.done(item, f"{incident} goes on as {into}", brief=[into])


@incidents.command("take-over")
@_incident
@click.option("--undo", is_flag=True, help="Hand it back: its beat or group speaks again.")
@remote
async def take_over(api: Client, out: Output, incident: str, undo: bool) -> None:
    """Speak of INCIDENT instead of its beat or group, which says nothing more of it by itself."""
    item = await api.post(f"{at('/incidents', incident)}/{'hand-back' if undo else 'take-over'}")
    out.done(item, f"{incident} is {'handed back' if undo else 'yours'}")


@incidents.command()
@_incident
@click.option("-f", "--file", "file", type=FILE, help="Write this Markdown as its report; - is stdin.")
@click.option("--publish", "do", flag_value="publish", help="Show it with the incident, which is over.")
@click.option("--unpublish", "do", flag_value="unpublish", help="Make it a draft again.")
@click.option("--delete", "do", flag_value="delete", help="Take it away.")
@remote
async def report(api: Client, out: Output, incident: str, file: Path | None, do: str | None) -> None:
    """Show, write or publish what was learnt of INCIDENT."""
    path = f"{at('/incidents', incident)}/report"
    item = (
        await api.put(path, {"text": read_text(file)}) if file else await api.get(at("/incidents", incident))
    )
    if do is not None:
        item = await (api.delete(path) if do == "delete" else api.post(f"{path}/{do}"))
    out.show(item, lambda _: _print_report(item["report"]))


@incidents.command()
@click.option("--title", required=True, help="What it was called.")
@click.option(
    "--started",
    "started_at",
    required=True,
    metavar="TIME",
    help="Such as 2026-01-31T18:00Z, the zone UTC if not given.",
)
@click.option("--acknowledged", "acknowledged_at", metavar="TIME", help="When somebody looked at it.")
@click.option("--resolved", "resolved_at", metavar="TIME", help="When it was over; not given, it lasts.")
@click.option(
    "--say",
    "said",
    type=(str, str, str),
    multiple=True,
    required=True,
    metavar="TIME STATUS TEXT",
    help="What customers were told, in order.",
)
@_affects
@click.option("--page", metavar="SLUG", help="Its page, where there are several.")
@remote
async def backfill(
    api: Client,
    out: Output,
    title: str,
    components: Sequence[str],
    impact: str | None,
    said: Any,
    page: str | None,
    **times: Any,
) -> None:
    """Enter an incident that was, with its times: nobody is notified.

    \b
      upbeat incidents backfill --title "Checkout was down" --started 2026-01-31T18:00Z --resolved 2026-01-31T19:00Z
        --say 2026-01-31T18:05Z investigating "We are looking." --say 2026-01-31T19:00Z resolved "It is mended."
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    updates = [dict(zip(("at", "status", "text"), one, strict=True)) for one in said]
    past = {key: value for key, value in times.items() if value} | {"updates": updates}
    body = body_of(
        {"title": title, "components": components, "impact": impact, "notify": False, "backfilled": past}
    )
    _said(out, await api.post("/incidents", body, page=page))


def body_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, as the API takes it."""
    body = {key: value for key, value in given.items() if value not in (None, ())}
    for one in (named := body.pop("components", ())):
        if "=" not in one:
            raise click.UsageError(f"--component {one!r} is not SLUG=STATUS.")
    return body | ({"components": dict(one.split("=", 1) for one in named)} if named else {})


def _said(out: Output, item: Mapping[str, Any]) -> None:
    """What came of it: an incident, or an action that waits for a review."""
    if "step" in item:
        said = f"{item['id']} waits for a review: {item['title']}"
    else:
        heard, targets = item["notified"]["subscribers"], item["notified"]["targets"]
        own = [f"{heard} subscriber{'s' if heard > 1 else ''}"] if heard else []
        told = ", ".join([*own, *targets]) or "nobody"
        said = f"{item['id']} is {item['status']}: {item['title']}\nnotified: {told}"
    out.done(item, said, brief=[item["id"]])


def _print_report(report: Mapping[str, Any] | None) -> None:
    click.echo(paint(report["status"]) if report else "none")
    _print_text(report["text"] if report else "")


def _print_text(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"  {harmless(line)}".rstrip())


def _print_incident(item: Mapping[str, Any]) -> None:
    click.echo(f"{paint(item['status'])}  {harmless(item['title'])}")
    touched = ", ".join(f"{c['name']}: {c['status']}" for c in item["components"])
    by = item["taken_over_by"] or ("" if item["episode"] else item["by"])
    print_fields(
        {
            "page": item["page"],
            "impact": item["impact"],
            "components": touched,
            "began": when(item["created_at"]),
        }
        | {"by hand": by, "merged into": item["merged_into"], "report": (item["report"] or {}).get("status")}
        | {"still open": "; ".join(f"{there['target']}: {there['why']}" for there in item["still_open"])}
    )
    for update in item["updates"]:
        who = f"{when(update['at'])}  {paint(update['status'])}, by {update['by']}, {update['id']}"
        click.echo(f"\n{who}")
        _print_text(update["text"])
