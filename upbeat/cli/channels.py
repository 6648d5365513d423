"""`upbeat channels` and `deliveries`: testing a channel, and what left for channels or did not."""

from pathlib import Path

import click

from upbeat.cli import targets
from upbeat.cli.client import Client, remote
from upbeat.cli.files import read_yaml
from upbeat.cli.listed import Listed, listing, with_page
from upbeat.cli.objects import group_of
from upbeat.cli.output import Output, paint, when

channels = group_of("channel")
targets.add_to(channels, "/channels")


@channels.command()
@click.argument("channel", metavar="SLUG|FILE")
@with_page
@remote
async def test(api: Client, out: Output, channel: str, page: str | None) -> None:
    """Send a test notice now: through the channel SLUG, or through one that is not saved, YAML in FILE (- is stdin)."""
    if channel == "-" or channel.endswith((".yaml", ".yml", ".json")):
        outcome = await api.post("/channels/test", read_yaml(Path(channel)).plain(), page=page)
    else:
        outcome = await api.one("/channels", channel, page).post("/test")
    if outcome["outcome"] != "delivered":
        raise click.ClickException(f"{channel} was not told ({outcome['outcome']}): {outcome['reason']}")
    out.done(outcome, f"{channel} was told.")


@click.group(cls=Listed)
def deliveries() -> None:
    """What channels were told, and what is stuck."""


deliveries.add_command(
    listing(
        "/deliveries",
        "List deliveries, newest first.",
        {
            "DELIVERY": lambda d: d["id"],
            "CHANNEL": lambda d: d["channel"],
            "STATUS": lambda d: paint(d["status"]),
            "TRIES": lambda d: d["attempts"],
            "SINCE": lambda d: when(d["created_at"]),
            "TITLE": lambda d: d["title"],
            "LAST ERROR": lambda d: d["last_error"],
        },
        click.option("--status", help="Only those: pending, done, dead (given up) or dropped."),
        click.option("--channel", metavar="SLUG", help="Only of this channel."),
    )
)


@deliveries.command()
@click.argument("delivery", type=int)
@remote
async def retry(api: Client, out: Output, delivery: int) -> None:
    """Try a dead DELIVERY again, and what waits behind it."""
    item = await api.post(f"/deliveries/{delivery}/retry")
    out.done(item, f"delivery {delivery} will be tried again")
