"""`upbeat incidents`: what customers are told, by hand too. Drafts are `upbeat.cli.public`'s."""

from collections.abc import Mapping
from typing import Any

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import Listed, listing, of_page
from upbeat.cli.output import Output, harmless, paint, print_fields, when


@click.group(cls=Listed)
def incidents() -> None:
    """Incidents: what customers are told."""


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


@incidents.command("show")
@click.argument("incident")
@remote
async def show_incident(api: Client, out: Output, incident: str) -> None:
    """Show an incident and everything customers were told of it."""
    item = await api.get(at("/incidents", incident))
    out.show(item, _print_incident, brief=[item["status"]])


def _print_incident(item: Mapping[str, Any]) -> None:
    click.echo(f"{paint(item['status'])}  {harmless(item['title'])}")
    touched = ", ".join(f"{c['name']}: {c['status']}" for c in item["components"])
    print_fields({"page": item["page"], "components": touched, "began": when(item["created_at"])})
    for update in item["updates"]:
        click.echo(
            f"\n{when(update['at'])}  {paint(update['status'])}, by {update['by']}\n  {harmless(update['text'])}"
        )
