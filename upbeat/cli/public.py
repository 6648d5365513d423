"""`upbeat actions`: who decides what customers are told."""

from collections.abc import Mapping
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import Decorator, Listed, listing, of_page
from upbeat.cli.output import Columns, Output, paint, print_fields, print_items, when

_EVIDENCE: Final[Columns] = {
    "REGION": lambda e: e["region"],
    "VERDICT": lambda e: paint(e["verdict"]),
    "SEEN": lambda e: when(e["at"]),
    "WHY": lambda e: (e["error"] or {}).get("message"),
}


def _status(allowed: str) -> Decorator:
    return click.option("--status", help=f"Only those: {allowed}.")


@click.group(cls=Listed)
def actions() -> None:
    """Drafts and decisions about what customers are told."""


actions.add_command(
    listing(
        "/actions",
        "List actions, newest first. `--status pending` are the drafts that wait.",
        {
            "ACTION": lambda a: a["id"],
            "REVISION": lambda a: a["revision"],
            "STEP": lambda a: a["step"],
            "STATUS": lambda a: paint(a["status"]),
            "OWNER": lambda a: a["owner"],
            "MADE": lambda a: when(a["created_at"]),
            "TITLE": lambda a: a["title"],
        },
        _status("pending, approved, rejected, expired, withdrawn, done or failed"),
        of_page,
    )
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
        of_group = any(e.get("beat") for e in item["evidence"])  # then each is of a member
        member: Columns = {"MEMBER": lambda e: e.get("beat")} if of_group else {}
        print_items({**member, **_EVIDENCE}, item["evidence"])
