"""How listings are asked for and shown, whatever they list: `upbeat incidents` is `upbeat incidents list`."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from upbeat.cli.client import Client, remote
from upbeat.cli.output import Output, print_table

Columns = Mapping[str, Callable[[Mapping[str, Any]], object]]
"""A heading and what stands under it, of one item of the API."""
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


def listing(
    path: str | Callable[..., str],
    said: str,
    columns: Columns,
    *options: Decorator,
    name: str = "list",
    brief: str = "id",
    limit: int | None = 50,
) -> click.Command:
    """A command that lists what is at `path`. Its options are the API's query parameters; `--quiet` prints `brief`.

    `path` may be made of the command's arguments, which it then takes out of them.
    """

    async def run(api: Client, out: Output, **query: Any) -> None:
        place = path if isinstance(path, str) else path(query)
        found = await api.items(place, **query)
        items = found["items"]
        rows = [[column(item) for column in columns.values()] for item in items]
        out.show(
            found, lambda _: print_table(list(columns), rows), brief=[str(item[brief]) for item in items]
        )

    run.__doc__ = said
    most: Decorator = click.option(
        "--limit", type=click.IntRange(1, 100_000), default=limit, show_default=True
    )
    made: Callable[..., Any] = remote(run)
    for option in reversed((*options, most) if limit is not None else options):
        made = option(made)
    return click.command(name)(made)
