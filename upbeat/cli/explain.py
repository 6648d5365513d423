"""`upbeat explain`: why a beat or group is what it is, in words. What is said is `evaluators.explain`'s."""

from collections.abc import Mapping
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import with_page
from upbeat.cli.output import Columns, Output, harmless, paint, print_items, when

VOTE: Final[Columns] = {
    "WHO": lambda v: v["name"],
    "SAYS": lambda v: (
        paint(v["verdict"] or "nothing yet") + ("" if v["fresh"] or not v["verdict"] else ", stale")
    ),
    "SINCE OR SEEN": lambda v: when(v["at"]),
    "IN A ROW": lambda v: v["streak"],
    "NOTE": lambda v: v["note"],
}


@click.command()
@click.argument("slug", metavar="BEAT|group:GROUP")
@with_page
@remote
async def explain(api: Client, out: Output, slug: str, page: str | None) -> None:
    """Say why a beat or group is what it is: who says what, what it takes, what suppresses it, what would change it.

    \b
      upbeat explain checkout
      upbeat explain group:shop
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    name = slug.removeprefix("group:")
    place = at("/beats" if name == slug else "/groups", name)
    why = await api.get(f"{place}/explain", page=page)
    out.show(why, _show, brief=[why["stage"]])


def _show(why: Mapping[str, Any]) -> None:
    click.echo(f"{paint(why['stage'])}  {why['kind']} {why['slug']}, since {when(why['since'])}")
    for sentence in (*why["because"], *(note["text"] for note in why["beside"])):
        click.echo(harmless(sentence))
    if why["votes"]:
        click.echo()
        print_items(VOTE, why["votes"])
    for title, sentences in (("What would change it", why["change"]), ("How it is decided", why["rules"])):
        if sentences:
            click.echo(f"\n{title}")
            for sentence in sentences:
                click.echo(harmless(f"  {sentence}"))
