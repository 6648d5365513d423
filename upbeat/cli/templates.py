"""`upbeat templates`: what customers would read, what templates may name, and words that are there to be taken. It changes nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.files import FILE, read_yaml
from upbeat.cli.output import Columns, Output, harmless, print_items

_PRESETS: Final[Columns] = {
    "PRESET": lambda one: one["slug"],
    "FOR": lambda one: one["use"],
    "TEXT": lambda one: one["text"],
}


@click.group()
def templates() -> None:
    """Templates: what customers read, in words of your own."""


@templates.command()
@click.argument("file", type=FILE, required=False)
@click.option("--beat", metavar="SLUG", help="Whose they would be: a beat,")
@click.option("--group", metavar="SLUG", help="a group,")
@click.option("--trigger", metavar="SLUG", help="a trigger,")
@click.option("--page", metavar="SLUG", help="or, where none of them is named, a page.")
@click.option("--step", help="Only open, update, reopened, member or resolve.")
@click.option("--severity", type=click.Choice(["warning", "critical"]), help="Instead of what it was last.")
@click.option("--episode", metavar="ID", help="What was seen in this one, instead of the newest.")
@remote
async def preview(api: Client, out: Output, file: Path | None, **asked: Any) -> None:
    """Say what customers would read, step by step, of what was last seen, and what publishers would cut.

    FILE has templates (`open`, `update`, `resolve`), or something with `templates`; without it those that are stored are
    used. It exits with 1 where a template fails.

    \b
      upbeat templates preview words.yaml --beat checkout
      upbeat templates preview --page status --step open
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    body = {key: value for key, value in asked.items() if value is not None}
    if file is not None:
        written = read_yaml(file).plain()
        body["templates"] = written.get("templates", written) if isinstance(written, dict) else written
    found = await api.post("/templates/preview", body)
    out.show(found, _print, brief=[harmless(step["text"]) for step in found["steps"]])
    if any(step["warnings"] for step in found["steps"]):
        raise click.exceptions.Exit(1)


def _print(found: Mapping[str, Any]) -> None:
    seen = "a sample: nothing was seen yet" if found["is_sample"] else f"what was seen in {found['episode']}"
    click.echo(f"{found['owner_kind']} {found['owner']}, {found['severity']}, of {seen}")
    for step in found["steps"]:
        whose = f"title: {step['title_of']}, text: {step['text_of']}"
        click.echo(f"\n{click.style(step['step'], bold=True)} ({whose})\n  {harmless(step['title'])}")
        for line in step["text"].splitlines():
            click.echo(f"  {harmless(line)}")
        for warning in step["warnings"]:
            click.secho(f"  {harmless(warning)}", fg="yellow")
        for there in step["targets"]:
            for note in there["notes"]:
                click.echo(f"  {there['target']}: {note}")


@templates.command()
@remote
async def presets(api: Client, out: Output) -> None:
    """List words that are there to be taken, as `open: outage` or copied."""
    listed = await api.get("/templates/presets")
    items = listed["items"]
    out.show(listed, lambda _: print_items(_PRESETS, items), brief=[one["slug"] for one in items])


@templates.command()
@remote
async def variables(api: Client, out: Output) -> None:
    """List what templates may name, and the filters there are."""
    told = await api.get("/templates/variables")

    def render(_: Any) -> None:
        for heading, names in told.items():
            click.echo(heading.upper())
            for name, said in names.items():
                click.echo(f"  {name:20} {said}")

    out.show(told, render, brief=list(told["variables"]))
