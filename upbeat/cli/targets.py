"""What `upbeat channels` and `upbeat publishers` have in common: how one is doing, and its dead letters sent again."""

from collections.abc import Mapping
from typing import Any

import click

from upbeat.cli.client import Client
from upbeat.cli.listed import on_one
from upbeat.cli.output import Output, paint, print_fields, when


def add_to(group: click.Group, path: str) -> None:
    """Give the commands of one kind, which is at `path`, these two."""

    @group.command()
    @on_one(path)
    async def health(api: Client, out: Output) -> None:
        """Show whether it takes what it is sent, and what waits for it or was given up."""
        found = await api.get("/health")
        out.show(found, _print, brief=[found["state"]])

    @group.command("replay-dead")
    @on_one(path)
    async def replay_dead(api: Client, out: Output) -> None:
        """Send everything again that was given up, and ask it again if it had said that it is gone."""
        done = await api.post("/replay-dead")
        out.done(done, f"{done['replayed']} will be sent again to {api.slug}")


def _print(health: Mapping[str, Any]) -> None:
    click.echo(f"{paint(health['state'])}  {health['slug']}")
    print_fields(
        {
            "last took something": when(health["ok_at"]),
            "last failed": when(health["failed_at"]),
            "in a row": health["failures"],
            "last error": health["error"],
            "waiting": health["pending"],
            "given up": health["dead"],
        }
    )
