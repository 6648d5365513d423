"""`upbeat publishers`: where incidents are posted; asked, rehearsed and compared. What left for them is `upbeat.cli.channels`'."""

import json
from typing import Any

import click

from upbeat.cli import targets
from upbeat.cli.client import Client
from upbeat.cli.listed import on_one
from upbeat.cli.objects import group_of
from upbeat.cli.output import Output, harmless

publishers = group_of("publisher")
targets.add_to(publishers, "/publishers")


@publishers.command()
@on_one("/publishers")
async def check(api: Client, out: Output) -> None:
    """Ask a publisher whether its key is good and its components are there."""
    report = await api.post("/check")
    if report["outcome"] != "delivered":
        raise click.ClickException(f"{api.slug} cannot be used: {report['reason']}")
    out.done(report, f"{api.slug} can be used: {harmless(report['lines'][0])}")


@publishers.command("dry-run")
@on_one("/publishers", click.option("--incident", help="Of this incident as it is now, not of an example."))
async def dry_run(api: Client, out: Output, incident: str | None) -> None:
    """Show what a publisher would be sent, and what is lost on the way. Nothing there is changed."""
    report = await api.post("/dry-run", {"incident": incident})
    out.show(report, _print_calls)


def _print_calls(report: dict[str, Any]) -> None:
    for call in report["calls"]:
        click.echo(f"{call['method']} {harmless(call['path'])}")
        if call["body"] is not None:
            click.echo(json.dumps(call["body"], indent=2))
    for line in report["lines"]:
        click.echo(f"note: {harmless(line)}")
    if report["reason"]:
        click.echo(f"it would not arrive: {harmless(report['reason'])}")


@publishers.command()
@on_one("/publishers")
async def drift(api: Client, out: Output) -> None:
    """Compare what a publisher shows with what it was told; exits 1 where they differ."""
    items = (await api.get("/drift"))["items"]
    out.show({"items": items}, lambda _: _print_drift(items), brief=[item["incident"] for item in items])
    if any(item["lines"] or item["reason"] for item in items):
        raise SystemExit(1)


def _print_drift(items: list[dict[str, Any]]) -> None:
    for item in items:
        lines = item["lines"] or ([item["reason"]] if item["reason"] else ["as it was told"])
        click.echo(f"{item['incident']}  {harmless(item['title'])}: {harmless('; '.join(lines))}")
    if not items:
        click.echo("nothing is open there")
