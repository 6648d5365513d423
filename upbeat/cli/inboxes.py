"""`upbeat inboxes` and `upbeat inbox`: tokens, what was received and why triggers made of it what they did, and events fired by hand."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.files import read_text
from upbeat.cli.listed import with_page
from upbeat.cli.objects import SHOWN_ONLY, at, group_of
from upbeat.cli.output import Output, harmless, paint, print_fields, print_table, when

_FOLLOW_S: Final = 1.0
_LATELY: Final = "1m"
_MOST: Final = 100_000
_WIDE: Final = 60
_HEADINGS: Final = ("RECEIVED", "EVENT", "VERDICT", "WHAT", "FROM", "EXCERPT")
_HELD: Final = {True: "yes", False: "no", None: "-"}


def _show(inbox: Mapping[str, Any]) -> None:
    click.echo(
        f"{inbox['name'] or inbox['slug']}: {inbox['events_24h']} events in 24 h, last {when(inbox['last_event_at'])}"
    )
    click.echo(f"post to {inbox['ingest_url']} with X-External-Event-Token\n")
    for token in inbox["tokens"]:
        until = f", ends {when(token['expires_at'])}" if token["expires_at"] else ""
        click.echo(
            f"token ...{token['hint']} ({token['id']}) of {token['created_by']}, {when(token['created_at'])}{until}"
        )
    print_fields({key: value for key, value in inbox.items() if key not in SHOWN_ONLY})


inboxes = group_of("inbox", show=_show)


def _named(_: click.Context, __: click.Parameter, headers: Sequence[str]) -> dict[str, str]:
    for header in headers:
        if ":" not in header:
            raise click.BadParameter(f"{header!r} is no header; write it as NAME:VALUE")
    return {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}


with_headers = click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=_named,
    help="A header to go with it.",
)
with_query = click.option("--query", default="", help="A query to go with it, such as env=prod.")


@inboxes.command()
@click.argument("slug")
@click.option(
    "--overlap",
    metavar="DURATION",
    default="0s",
    show_default=True,
    help="How long the old one still opens it.",
)
@with_page
@remote
async def rotate(api: Client, out: Output, slug: str, overlap: str, page: str | None) -> None:
    """Issue another token for an inbox; it is told this once."""
    made = await api.post(f"{at('/inboxes', slug)}/token", {"overlap": overlap}, page=page)
    old = f"\nthe one before ends {when(made['expires_at'])}" if made["expires_at"] else ""
    place = made["ingest_url"] if "://" in made["ingest_url"] else api.server + made["ingest_url"]
    said = f"token {made['token']}\nor post to {place}{old}"
    out.show(made, lambda _: click.echo(said), brief=[made["token"]])


@inboxes.command()
@click.argument("slug")
@click.argument("which", metavar="TOKEN")
@with_page
@remote
async def revoke(api: Client, out: Output, slug: str, which: str, page: str | None) -> None:
    """End a TOKEN of an inbox, by its id."""
    await api.delete(f"{at('/inboxes', slug)}/tokens/{which}", page=page)
    out.done({}, f"{which} opens {slug} no more")


def _row(event: Mapping[str, Any]) -> list[object]:
    what = dict.fromkeys(
        " ".join(filter(None, (o["slug"], o["kind"], o["reason"], o["fingerprint"])))
        for o in event["outcomes"]
    )
    excerpt = " ".join(event["excerpt"].split())
    return [
        when(event["received_at"]),
        event["id"],
        paint(event["verdict"]) + (" test" if event["tested_by"] else ""),
        ", ".join(what)[:_WIDE],
        event["address"],
        excerpt[:_WIDE],
    ]


def _line(event: Mapping[str, Any]) -> str:
    return "  ".join(harmless(str(cell)) for cell in _row(event) if cell)


@inboxes.command()
@click.argument("slug")
@click.option("--since", metavar="TIME", help="From when: a time, or so long ago, such as 2h.")
@click.option("--until", metavar="TIME", help="Until when, likewise.")
@click.option(
    "--search", metavar="TEXT", help="In what came, a delivery's name, an event's id, or a fingerprint."
)
@click.option("--verdict", type=click.Choice(["matched", "ignored", "unmatched", "error", "waiting"]))
@click.option("--trigger", metavar="SLUG", help="Only what this trigger made something of.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=20, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Then print what comes, until interrupted.")
@with_page
@remote
async def events(api: Client, out: Output, slug: str, limit: int, follow: bool, **query: str | None) -> None:
    """List what an inbox received, newest first; with --follow the newest last.

    \b
      upbeat inbox alerts --since 1h --verdict error
      upbeat inbox alerts --search web-1 --follow
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    place = f"{at('/inboxes', slug)}/events"
    found = await api.items(place, limit=limit, **query)
    if not follow:
        ids = [event["id"] for event in found["items"]]
        out.show(found, lambda _: print_table(_HEADINGS, map(_row, found["items"])), brief=ids)
        return
    seen: set[str] = set()
    while True:
        items = found["items"]
        for one in reversed(items):
            if one["id"] not in seen:
                out.show(one, lambda shown: click.echo(_line(shown)), brief=[one["id"]])
        seen = {one["id"] for one in items}
        # What is as new as the last few, however many that are, and none of all that was before.
        query["since"] = items[:limit][-1]["received_at"] if items else _LATELY
        await asyncio.sleep(_FOLLOW_S)
        found = await api.items(place, limit=_MOST, **query)


inbox = click.Command("inbox", **{name: getattr(events, name) for name in ("callback", "params", "help")})


@inboxes.command()
@click.argument("event")
@click.option("--trigger", metavar="SLUG", help="Why this trigger made of it what it did.")
@remote
async def event(api: Client, out: Output, event: str, trigger: str | None) -> None:
    """Show one EVENT without what looks like a secret, or with --trigger every condition and what it saw."""
    if trigger is None:
        shown = await api.get(at("/events", event))
        out.show(shown, _show_event, brief=[shown["id"]])
    else:
        trace = await api.get(f"{at('/events', event)}/trace", trigger=trigger)
        out.show(trace, _show_trace)


def _show_event(shown: Mapping[str, Any]) -> None:
    said = ("id", "inbox", "address", "delivery", "sender", "tested_by", "repeats", "query", "trouble")
    fields = {name.replace("_", " "): shown[name] for name in said if shown[name]}
    made = {o["slug"]: f"{o['kind']} {o['reason']} {o['fingerprint']}".strip() for o in shown["outcomes"]}
    print_fields({"received": when(shown["received_at"]), "verdict": shown["verdict"], **fields, **made})
    click.echo()
    for name, value in shown["headers"]:
        click.echo(harmless(f"{name}: {value}"))
    text = shown["text"]
    if text is None:
        text = json.dumps(shown["document"], indent=2, ensure_ascii=False)
    click.echo("\n" + "\n".join(map(harmless, text.split("\n"))))


def _show_trace(trace: Mapping[str, Any]) -> None:
    click.echo(
        f"{trace['slug']} at revision {trace['revision']}" + (f": {trace['error']}" if trace["error"] else "")
    )
    if not trace["items"] and not trace["error"]:
        click.echo("`each` finds no item in it")
    for item in trace["items"]:
        said = item["error"] or item["says"] or item["ignored"] or ""
        click.echo(
            harmless(f"\nitem {item['index']}: {said} {item['fingerprint']} {item['message']}".rstrip())
        )
        rows = [
            [
                step["part"],
                "  " * step["depth"] + step["of"],
                step["wanted"],
                _HELD[step["holds"]],
                json.dumps(step["actual"], ensure_ascii=False) if step["holds"] is not None else "",
                step["note"],
            ]
            for step in item["trace"]
        ]
        print_table(("PART", "VALUE", "WANTED", "HOLDS", "WAS", "NOTE"), rows)


@inboxes.command()
@click.argument("slug")
@click.option(
    "-f", "--file", "file", default="-", show_default=True, help="What is posted, as it is; - is stdin."
)
@with_headers
@with_query
@with_page
@remote
async def fire(
    api: Client, out: Output, slug: str, file: str, headers: Mapping[str, str], query: str, page: str | None
) -> None:
    """Put an event into an inbox by hand. It goes the way of all others, and is marked as a test.

    \b
      upbeat inboxes fire alerts -f sample.json -H X-Kind:alert
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    body = {"body": read_text(Path(file)), "headers": headers, "query": query}
    fired = await api.post(f"{at('/inboxes', slug)}/fire", body, page=page)
    out.show(
        fired,
        lambda _: click.echo(f"{fired['id']} is kept; see upbeat inboxes event {fired['id']}"),
        brief=[fired["id"]],
    )
