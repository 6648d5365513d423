"""`upbeat channels` and `deliveries`: testing a channel, and what left for channels or did not."""

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.listed import Listed, listing, on_one
from upbeat.cli.objects import group_of
from upbeat.cli.output import Output, paint, when

channels = group_of("channel")


@channels.command()
@on_one("/channels")
async def test(api: Client, out: Output) -> None:
    """Send a test notice through a channel now."""
    outcome = await api.post("/test")
    if outcome["outcome"] != "delivered":
        raise click.ClickException(f"{api.slug} was not told ({outcome['outcome']}): {outcome['reason']}")
    out.done(outcome, f"{api.slug} was told.")


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
        click.option("--status", help="Only those: pending, done or dead (given up)."),
    )
)


@deliveries.command()
@click.argument("delivery", type=int)
@remote
async def retry(api: Client, out: Output, delivery: int) -> None:
    """Try a dead DELIVERY again, and what waits behind it."""
    item = await api.post(f"/deliveries/{delivery}/retry")
    out.done(item, f"delivery {delivery} will be tried again")
