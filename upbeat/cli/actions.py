"""`upbeat actions`: who decides what customers are told."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.incidents import body_of
from upbeat.cli.listed import Listed, listing, of_page
from upbeat.cli.output import Columns, Output, paint, print_fields, print_items, when

_EVIDENCE: Final[Columns] = {
    "REGION": lambda e: e["region"],
    "VERDICT": lambda e: paint(e["verdict"]),
    "SEEN": lambda e: when(e["at"]),
    "WHY": lambda e: (e["error"] or {}).get("message"),
}


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
        click.option("--status", help="pending, approved, rejected, expired, withdrawn, done or failed."),
        click.option("--step", help="open, update or resolve."),
        click.option(
            "--mine",
            is_flag=True,
            default=None,
            help="Written or decided by you, or of an episode that you have.",
        ),
        click.option("--beat", metavar="SLUG", help="Only of this beat."),
        click.option("--group", metavar="SLUG", help="Only of this group."),
        click.option("--trigger", metavar="SLUG", help="Only what rests on this trigger."),
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
@click.option(
    "--only",
    "publishers",
    multiple=True,
    metavar="PUBLISHER",
    help="To its page and this publisher; may be repeated.",
)
@click.option("--page-only", is_flag=True, help="To its page and no publisher.")
@click.option("--comment", default="", help="For your colleagues.")
@remote
async def approve(
    api: Client,
    out: Output,
    action: str,
    revision: int | None,
    publishers: Sequence[str],
    page_only: bool,
    comment: str,
) -> None:
    """Approve ACTION: it is published at once, or when as many people did as its page asks for."""
    if publishers and page_only:
        raise click.UsageError("Give either --only or --page-only.")
    if revision is None:
        revision = (await api.get(at("/actions", action)))["revision"]
    body: dict[str, Any] = {"revision": revision, "comment": comment}
    if publishers or page_only:
        body["publishers"] = list(publishers)
    item = await api.post(f"{at('/actions', action)}/approve", body)
    if item["status"] == "pending":
        lacking = item["approvals_needed"] - len(item["approvals"])
        out.done(item, f"{_of(item)} was approved by you, {lacking} more has to: {item['title']}")
    else:
        out.done(item, f"{_of(item)} was approved by {item['decided_by']}: {item['title']}")


@actions.command()
@click.argument("action")
@click.option("--reason", default="", help="Why not.")
@remote
async def reject(api: Client, out: Output, action: str, reason: str) -> None:
    """Reject ACTION: customers hear nothing of it."""
    item = await api.post(f"{at('/actions', action)}/reject", {"reason": reason})
    out.done(item, f"{_of(item)} was rejected by {item['decided_by']}")


@actions.command()
@click.argument("action")
@click.option("--title", help="A new title.")
@click.option("--text", help="A new text; your editor opens when nothing is given.")
@click.option(
    "--component",
    "components",
    multiple=True,
    metavar="SLUG=STATUS",
    help="What is affected: all of it, in place of what was named before.",
)
@click.option("--markdown/--no-markdown", "is_markdown", default=None, help="Whether the text is Markdown.")
@remote
async def edit(api: Client, out: Output, action: str, **given: Any) -> None:
    """Change what a pending ACTION would say. This makes a new revision."""
    before = await api.get(at("/actions", action))
    body = body_of(given)
    if not body:
        text = click.edit(before["text"], extension=".md")
        if text is None or text.strip() == before["text"].strip():
            out.done(before, "nothing changed")
            return
        body = {"text": text.strip()}
    item = await api.patch(at("/actions", action), {"revision": before["revision"]} | body)
    out.done(item, f"{item['id']} is at revision {item['revision']}")


@actions.command()
@click.option("--beat", metavar="SLUG", help="Of what this beat proposed.")
@click.option("--group", metavar="SLUG", help="Of what this group proposed.")
@click.option("--trigger", metavar="SLUG", help="Of what rests on this trigger.")
@of_page
@remote
async def tally(api: Client, out: Output, **of: str | None) -> None:
    """Count what people made of drafts: approved as they were, changed, rejected, expired."""
    item = await api.get("/actions/tally", **of)
    out.show(item, print_fields, brief=[str(item["proposed"])])


def _of(item: Mapping[str, Any]) -> str:
    return f"{item['step']} of {item['owner'] or item['asked_by']}"


def _print_action(item: Mapping[str, Any]) -> None:
    click.echo(f"{paint(item['status'])}  {_of(item)}, revision {item['revision']}")
    decided = f"{when(item['decided_at'])} by {item['decided_by']}" if item["decided_at"] else ""
    lacking = item["approvals_needed"] > 1 and item["status"] == "pending"
    impact = [f"{c['name']}: {c['before']} -> {c['after']}" for c in item["impact"]]
    touched = [f"{c['name']}: {c['status']}" for c in item["components"]]
    goes = [t["target"] + (" (cut)" if t["is_cut"] else "") for t in item["targets"] if t["is_chosen"]]
    original = item["original"]
    print_fields(
        {
            "title": item["title"],
            "text": item["text"],
            "first title": original["title"] if original and original["title"] != item["title"] else "",
            "first text": original["text"] if original and original["text"] != item["text"] else "",
            "components": ", ".join(impact or touched),
            "goes to": ", ".join(goes),
            "told": ", ".join(item["told"]),
            "approved by": ", ".join(a["by"] for a in item["approvals"]) if lacking else "",
            "warnings": "; ".join(item["warnings"]),
            "made": when(item["created_at"]),
            "decided": decided,
            "reason": item["reason"],
            "incident": item["incident"],
            "delivered": ", ".join(f"{d['target']}: {d['status']}" for d in item["deliveries"]),
            "still open": "; ".join(f"{there['target']}: {there['why']}" for there in item["still_open"]),
        }
    )
    if item["evidence"]:
        click.echo()
        of_group = any(e.get("beat") for e in item["evidence"])  # then each is of a member
        member: Columns = {"MEMBER": lambda e: e.get("beat")} if of_group else {}
        print_items({**member, **_EVIDENCE}, item["evidence"])
