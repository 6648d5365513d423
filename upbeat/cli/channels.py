"""`upbeat channels` and `deliveries`: testing a channel, and what left for channels or did not."""

import click

from upbeat.cli.client import Client, UnreachableError, remote
from upbeat.cli.listed import Listed
from upbeat.cli.objects import at, group_of, with_page
from upbeat.cli.output import Output, paint, print_table, when

channels = group_of("channel")


@channels.command()
@click.argument("slug")
@with_page
@remote
async def test(api: Client, out: Output, slug: str, page: str | None) -> None:
    """Send a test notice through a channel now."""
    outcome = await api.post(f"{at('/channels', slug)}/test", page=page)
    if outcome["outcome"] != "delivered":
        raise UnreachableError(f"{slug} was not told ({outcome['outcome']}): {outcome['reason']}")
    out.done(outcome, f"{slug} was told.")


@click.group(cls=Listed)
def deliveries() -> None:
    """What channels were told, and what is stuck."""


@deliveries.command("list")
@click.option("--status", help="pending, done or dead (given up).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@remote
async def list_deliveries(api: Client, out: Output, status: str | None, limit: int) -> None:
    """List deliveries, newest first."""
    found = await api.items("/deliveries", limit=limit, status=status)
    rows = [
        (
            d["id"],
            d["channel"],
            paint(d["status"]),
            d["attempts"],
            when(d["created_at"]),
            d["title"],
            d["last_error"],
        )
        for d in found["items"]
    ]
    headings = ("DELIVERY", "CHANNEL", "STATUS", "TRIES", "SINCE", "TITLE", "LAST ERROR")
    out.show(
        found,
        lambda _: print_table(headings, rows, empty="no deliveries"),
        brief=[str(item["id"]) for item in found["items"]],
    )


@deliveries.command()
@click.argument("delivery", type=int)
@remote
async def retry(api: Client, out: Output, delivery: int) -> None:
    """Try a dead DELIVERY again, and what waits behind it."""
    item = await api.post(f"/deliveries/{delivery}/retry")
    out.done(item, f"delivery {delivery} will be tried again")
