"""`upbeat incidents`, `episodes` and `actions`: what was wrong, what customers are told, and who decides about it."""

from collections.abc import Mapping
from typing import Any

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.listed import Listed
from upbeat.cli.objects import at
from upbeat.cli.output import Output, paint, print_fields, print_table, when

LIMIT = click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
PAGE = click.option("--page", metavar="SLUG", help="Only of this page.")


@click.group(cls=Listed)
def incidents() -> None:
    """Incidents: what customers are told."""


@incidents.command("list")
@click.option("--status", help="open, investigating, identified, monitoring or resolved.")
@PAGE
@LIMIT
@remote
async def list_incidents(api: Client, out: Output, status: str | None, page: str | None, limit: int) -> None:
    """List incidents, newest first."""
    found = await api.items("/incidents", limit=limit, status=status, page=page)
    rows = [
        (i["id"], paint(i["status"]), i["page"], when(i["created_at"]), i["title"]) for i in found["items"]
    ]
    out.show(
        found,
        lambda _: print_table(("INCIDENT", "STATUS", "PAGE", "BEGAN", "TITLE"), rows, empty="no incidents"),
        brief=[item["id"] for item in found["items"]],
    )


@incidents.command("show")
@click.argument("incident")
@remote
async def show_incident(api: Client, out: Output, incident: str) -> None:
    """Show an incident and everything customers were told of it."""
    item = await api.get(at("/incidents", incident))
    out.show(item, _print_incident, brief=[item["status"]])


@click.group(cls=Listed)
def episodes() -> None:
    """Episodes: what was wrong, and for how long."""


@episodes.command("list")
@click.option(
    "--open/--closed", "is_open", default=None, help="Only those that last, or only those that ended."
)
@PAGE
@LIMIT
@remote
async def list_episodes(api: Client, out: Output, is_open: bool | None, page: str | None, limit: int) -> None:
    """List episodes, newest first."""
    wanted = None if is_open is None else str(is_open).lower()
    found = await api.items("/episodes", limit=limit, open=wanted, page=page)
    rows = [
        (e["id"], e["owner"], paint(e["severity"]), when(e["opened_at"]), when(e["closed_at"]), e["cause"])
        for e in found["items"]
    ]
    headings = ("EPISODE", "OWNER", "SEVERITY", "OPENED", "CLOSED", "CAUSE")
    out.show(
        found,
        lambda _: print_table(headings, rows, empty="no episodes"),
        brief=[item["id"] for item in found["items"]],
    )


@click.group(cls=Listed)
def actions() -> None:
    """Drafts and decisions about what customers are told."""


@actions.command("list")
@click.option("--status", help="pending, approved, rejected, expired, withdrawn, done or failed.")
@PAGE
@LIMIT
@remote
async def list_actions(api: Client, out: Output, status: str | None, page: str | None, limit: int) -> None:
    """List actions, newest first. `--status pending` are the drafts that wait."""
    found = await api.items("/actions", limit=limit, status=status, page=page)
    rows = [
        (a["id"], a["revision"], a["step"], paint(a["status"]), a["owner"], when(a["created_at"]), a["title"])
        for a in found["items"]
    ]
    headings = ("ACTION", "REVISION", "STEP", "STATUS", "OWNER", "MADE", "TITLE")
    out.show(
        found,
        lambda _: print_table(headings, rows, empty="no actions"),
        brief=[item["id"] for item in found["items"]],
    )


@actions.command("show")
@click.argument("action")
@remote
async def show_action(api: Client, out: Output, action: str) -> None:
    """Show an action: its text, its evidence per region, who decided."""
    item = await api.get(at("/actions", action))
    out.show(item, _print_action, brief=[item["status"]])


@actions.command()
@click.argument("action")
@click.option("--revision", type=int, help="The revision you read; the present one when not given.")
@remote
async def approve(api: Client, out: Output, action: str, revision: int | None) -> None:
    """Approve ACTION: it is published at once."""
    if revision is None:
        revision = (await api.get(at("/actions", action)))["revision"]
    item = await api.post(f"{at('/actions', action)}/approve", {"revision": revision})
    out.done(item, f"{item['step']} of {item['owner']} was approved by {item['decided_by']}: {item['title']}")


@actions.command()
@click.argument("action")
@click.option("--reason", default="", help="Why not.")
@remote
async def reject(api: Client, out: Output, action: str, reason: str) -> None:
    """Reject ACTION: customers hear nothing of it."""
    item = await api.post(f"{at('/actions', action)}/reject", {"reason": reason})
    out.done(item, f"{item['step']} of {item['owner']} was rejected by {item['decided_by']}")


@actions.command()
@click.argument("action")
@click.option("--title", help="A new title.")
@click.option("--text", help="A new text; your editor opens when neither is given.")
@remote
async def edit(api: Client, out: Output, action: str, title: str | None, text: str | None) -> None:
    """Change what a pending ACTION would say. This makes a new revision."""
    before = await api.get(at("/actions", action))
    if title is None and text is None:
        text = click.edit(before["text"], extension=".md")
        if text is None or text.strip() == before["text"].strip():
            out.done(before, "nothing changed")
            return
    words = {"title": title, "text": text.strip() if text else None}
    body = {"revision": before["revision"]} | {
        key: value for key, value in words.items() if value is not None
    }
    item = await api.patch(at("/actions", action), body)
    out.done(item, f"{item['id']} is at revision {item['revision']}")


def _print_incident(item: Mapping[str, Any]) -> None:
    click.echo(f"{paint(item['status'])}  {item['title']}")
    touched = ", ".join(f"{c['name']}: {c['status']}" for c in item["components"])
    print_fields({"page": item["page"], "components": touched, "began": when(item["created_at"])})
    for update in item["updates"]:
        click.echo(
            f"\n{when(update['at'])}  {paint(update['status'])}, by {update['by']}\n  {update['text']}"
        )


def _print_action(item: Mapping[str, Any]) -> None:
    click.echo(f"{paint(item['status'])}  {item['step']} of {item['owner']}, revision {item['revision']}")
    decided = f"{when(item['decided_at'])} by {item['decided_by']}" if item["decided_at"] else ""
    touched = ", ".join(f"{c['name']}: {c['status']}" for c in item["components"])
    print_fields(
        {
            "title": item["title"],
            "text": item["text"],
            "components": touched,
            "made": when(item["created_at"]),
        }
        | {"decided": decided, "reason": item["reason"], "incident": item["incident"]}
    )
    if item["evidence"]:
        click.echo()
        rows = [
            (e["region"], paint(e["verdict"]), when(e["at"]), e["error"]["message"] if e["error"] else "")
            for e in item["evidence"]
        ]
        print_table(("REGION", "VERDICT", "SEEN", "WHY"), rows)
