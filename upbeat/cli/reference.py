"""The reference of the command line as Markdown, generated from the commands themselves."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Final

import click

from upbeat.cli import SECTIONS, upbeat

COMMON: Final = ("server", "token", "data", "as_json", "quiet")
"""Parameters of every command that asks a server: described once."""


def cli_reference() -> str:
    """Every command with its help, arguments and options: the whole page."""
    context = click.Context(upbeat, info_name="upbeat")
    lines = ["# Command line", "", *_prose(upbeat)]
    for title, names in SECTIONS.items():
        lines += [f"**{title}:** " + ", ".join(f"[`{name}`](#upbeat-{name})" for name in names), ""]
    asking = upbeat.get_command(context, "audit")
    assert asking is not None
    lines += ["## Options of commands that ask a server", ""]
    lines += [*_options(context, [param for param in asking.params if param.name in COMMON]), ""]
    for names in SECTIONS.values():
        for name in names:
            command = upbeat.get_command(context, name)
            assert command is not None
            lines += _command(command, context, 2)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: click.Command, parent: click.Context, level: int) -> Iterator[str]:
    context = click.Context(command, parent=parent, info_name=command.name)
    yield from (f"{'#' * level} {context.command_path}", "")
    if isinstance(command, click.Group):
        yield from _prose(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, context, level + 1)
        return
    yield from (f"`{context.command_path} {' '.join(command.collect_usage_pieces(context))}`", "")
    yield from _prose(command)
    asks = any(param.name == "server" for param in command.params)
    own = [param for param in command.params if not (asks and param.name in COMMON)]
    listed = [*_options(context, own)]
    if asks:
        listed.append(
            "- and the [options of commands that ask a server](#options-of-commands-that-ask-a-server)"
        )
    yield from (*listed, "") if listed else ()


def _options(context: click.Context, params: Iterable[click.Parameter]) -> Iterator[str]:
    for param in params:
        if record := param.get_help_record(context):
            flags, said = record
            yield f"- `{flags}`" + (f": {said}" if said else "")


def _prose(command: click.Command) -> Iterator[str]:
    """The help text; what click prints as it is written becomes a code block."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            yield from ("```", *(line.strip() for line in paragraph.splitlines()[1:]), "```")
        else:
            yield " ".join(paragraph.split())
        yield ""
