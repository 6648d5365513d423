"""How one object and listings are asked for, of whatever kind: `upbeat incidents` is `upbeat incidents list`."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.output import Columns, Output, print_items

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

of_page: Decorator = click.option("--page", metavar="SLUG", help="Only of this page.")
with_page: Decorator = click.option("--page", metavar="SLUG", help="Its page, where several have that slug.")


class Listed(click.Group):
    """Without a subcommand it is `list`, options included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def on_one(path: str, *options: Decorator) -> Decorator:
    """Make a command on the object SLUG of `async def command(api: Client, out: Output, ...)`.

    `path` is where its kind is, and `api` asks below that object.
    """
    return lambda command: _asked(_below(path, command), click.argument("slug"), *options, with_page)


def _below(path: str, command: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(command)
    async def run(api: Client, out: Output, slug: str, page: str | None, **given: Any) -> None:
        await command(api=api.one(path, slug, page), out=out, **given)

    return run


def _asked(command: Callable[..., Awaitable[None]], *options: Decorator) -> Callable[..., Any]:
    """A command that asks a server, with its arguments and options in this order."""
    asked: Callable[..., Any] = remote(command)
    for option in reversed(options):
        asked = option(asked)
    return asked


def listing(
    path: str,
    said: str,
    columns: Columns,
    *options: Decorator,
    of: str | None = None,
    name: str = "list",
    brief: str = "id",
    limit: int | None = 50,
) -> click.Command:
    """A command that lists what is at `path`. Its options are the API's query parameters; `--quiet` prints `brief`.

    With `of`, where a kind is, `path` is below the object SLUG of it.
    """

    async def run(api: Client, out: Output, **query: Any) -> None:
        found = await api.items(path, **query)
        items = found["items"]
        out.show(found, lambda _: print_items(columns, items), brief=[str(item[brief]) for item in items])

    run.__doc__ = said
    if of is not None:
        options = (click.argument("slug"), *options, with_page)
    if limit is not None:
        span = click.IntRange(1, 100_000)
        options += (click.option("--limit", type=span, default=limit, show_default=True),)
    return click.command(name)(_asked(_below(of, run) if of is not None else run, *options))
