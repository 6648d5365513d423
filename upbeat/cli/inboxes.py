"""`upbeat inboxes` and `upbeat inbox`: tokens, what was received and why triggers made of it what they did, and events fired by hand."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.files import read_text
from upbeat.cli.listed import on_one
from upbeat.cli.objects import group_of, print_written
from upbeat.cli.output import Columns, Output, harmless, paint, print_fields, print_items, when

_FOLLOW_S: Final = 1.0
_LATELY: Final = "1m"
_MOST: Final = 100_000
_WIDE: Final = 60
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
    print_written(inbox)


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
@on_one(
    "/inboxes",
    click.option(
        "--overlap",
        metavar="DURATION",
        default="0s",
        show_default=True,
        help="How long the old one still opens it.",
    ),
)
async def rotate(api: Client, out: Output, overlap: str) -> None:
    """Issue another token for an inbox; it is told this once."""
    made = await api.post("/token", {"overlap": overlap})
    old = f"\nthe one before ends {when(made['expires_at'])}" if made["expires_at"] else ""
    place = made["ingest_url"] if "://" in made["ingest_url"] else api.server + made["ingest_url"]
    said = f"token {made['token']}\nor post to {place}{old}"
    out.done(made, said, brief=[made["token"]])


@inboxes.command()
@on_one("/inboxes", click.argument("which", metavar="TOKEN"))
async def revoke(api: Client, out: Output, which: str) -> None:
    """End a TOKEN of an inbox, by its id."""
    await api.delete(f"/tokens/{which}")
    out.done({}, f"{which} opens {api.slug} no more")


def _what(event: Mapping[str, Any]) -> str:
    said = (
        " ".join(filter(None, (o["slug"], o["kind"], o["reason"], o["fingerprint"])))
        for o in event["outcomes"]
    )
    return ", ".join(dict.fromkeys(said))[:_WIDE]


_EVENT: Final[Columns] = {
    "RECEIVED": lambda e: when(e["received_at"]),
    "EVENT": lambda e: e["id"],
    "VERDICT": lambda e: paint(e["verdict"]) + (" test" if e["tested_by"] else ""),
    "WHAT": _what,
    "FROM": lambda e: e["address"],
    "EXCERPT": lambda e: " ".join(e["excerpt"].split())[:_WIDE],
}
_STEP: Final[Columns] = {
    "PART": lambda s: s["part"],
    "VALUE": lambda s: "  " * s["depth"] + s["of"],
    "WANTED": lambda s: s["wanted"],
    "HOLDS": lambda s: _HELD[s["holds"]],
    "WAS": lambda s: json.dumps(s["actual"], ensure_ascii=False) if s["holds"] is not None else "",
    "NOTE": lambda s: s["note"],
}


def _line(event: Mapping[str, Any]) -> str:
    cells = (column(event) for column in _EVENT.values())
    return "  ".join(harmless(str(cell)) for cell in cells if cell)


@inboxes.command()
@on_one(
    "/inboxes",
    click.option("--since", metavar="TIME", help="From when: a time, or so long ago, such as 2h."),
    click.option("--until", metavar="TIME", help="Until when, likewise."),
    click.option(
        "--search", metavar="TEXT", help="In what came, a delivery's name, an event's id, or a fingerprint."
    ),
    click.option("--verdict", type=click.Choice(["matched", "ignored", "unmatched", "error", "waiting"])),
    click.option("--trigger", metavar="SLUG", help="Only what this trigger made something of."),
    click.option("--limit", type=click.IntRange(1, _MOST), default=20, show_default=True),
    click.option("--follow", "-f", is_flag=True, help="Then print what comes, until interrupted."),
)
async def events(api: Client, out: Output, limit: int, follow: bool, **query: str | None) -> None:
    """List what an inbox received, newest first; with --follow the newest last.

    \b
      upbeat inbox alerts --since 1h --verdict error
      upbeat inbox alerts --search web-1 --follow
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    found = await api.items("/events", limit=limit, **query)
    if not follow:
        ids = [event["id"] for event in found["items"]]
        out.show(found, lambda _: print_items(_EVENT, found["items"]), brief=ids)
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
        found = await api.items("/events", limit=_MOST, **query)


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
        print_items(_STEP, item["trace"])


@inboxes.command()
@on_one(
    "/inboxes",
    click.option(
        "-f", "--file", "file", default="-", show_default=True, help="What is posted, as it is; - is stdin."
    ),
    with_headers,
    with_query,
)
async def fire(api: Client, out: Output, file: str, headers: Mapping[str, str], query: str) -> None:
    """Put an event into an inbox by hand. It goes the way of all others, and is marked as a test.

    \b
      upbeat inboxes fire alerts -f sample.json -H X-Kind:alert
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    body = {"body": read_text(Path(file)), "headers": headers, "query": query}
    fired = await api.post("/fire", body)
    out.done(fired, f"{fired['id']} is kept; see upbeat inboxes event {fired['id']}", brief=[fired["id"]])
