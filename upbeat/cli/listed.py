"""A group of commands that lists when nothing else is asked: `upbeat incidents` is `upbeat incidents list`."""

import click


class Listed(click.Group):
    """Without a subcommand it is `list`, options included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `list` where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)
