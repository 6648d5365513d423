"""`upbeat validate`, `schema` and `export`: upbeat.yaml as a file. They change nothing."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from engine.secrets import Secrets
from rules.config import ConfigError, Document, json_schema, parse
from rules.node import Node, read
from upbeat.cli.client import Client, remote
from upbeat.cli.output import Output, print_json, with_output

FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=FILE)
@with_output
def validate(file: Path, out: Output) -> None:
    """Read FILE as `serve` would and say everything that is wrong with it, as file:line. Exits with 1 if anything is."""
    try:
        document, problems = _parse(file), []
    except ConfigError as wrong:
        document, problems = None, list(wrong.problems)
    warnings = [str(warning) for warning in document.warnings] if document else []
    listed = [{"file": p.file, "line": p.line, "path": p.path, "message": p.message} for p in problems]

    def render(_: Any) -> None:
        for problem in problems:
            click.echo(str(problem))
        for warning in warnings:
            click.echo(warning, err=True)
        if document is not None:
            click.echo(f"{file} is valid: {_counted(document)}")

    out.show({"valid": not problems, "problems": listed, "warnings": warnings}, render)
    raise click.exceptions.Exit(1 if problems else 0)


@click.command()
def schema() -> None:
    """Print the JSON Schema of upbeat.yaml. Editors that know YAML schemas complete and check with it."""
    print_json(json_schema())


@click.command()
@click.option("-o", "--output", type=FILE, help="A file instead of the screen.")
@remote
async def export(api: Client, out: Output, output: Path | None) -> None:
    """Print what the server holds as an upbeat.yaml that `serve --config` reads. References to secrets stay as they are."""
    text = await api.text("/export")
    if output is None:
        out.show(read(text, "export")[0].plain(), lambda _: click.echo(text, nl=False))
        return
    write_text(output, text)
    out.done({"file": str(output)}, f"{output} is written.")


def read_document(file: Path) -> Document:
    """The valid document in `file`. What is wrong with it ends the command, as a mistake in usage."""
    try:
        return _parse(file)
    except ConfigError as wrong:
        raise click.UsageError(str(wrong)) from None


def read_yaml(file: Path) -> Node:
    """The YAML (or JSON) in `file`; `-` is standard input. What is wrong with it ends the command, as a mistake in usage."""
    name = "stdin" if str(file) == "-" else str(file)
    if not (text := read_text(file)).strip():
        raise click.UsageError(f"{name} is empty; write YAML or JSON, such as `slug: NAME`")
    try:
        node, problems = read(text, name)
    except ConfigError as wrong:
        raise click.UsageError(str(wrong)) from None
    if problems:
        raise click.UsageError("\n".join(map(str, problems)))
    return node


def _parse(file: Path) -> Document:
    return parse(read_text(file), str(file), Secrets(os.environ).of(None))


def read_text(file: Path) -> str:
    """What is in `file`; `-` is standard input."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else failure
        raise click.UsageError(f"{file} cannot be read: {reason}") from None


def write_text(file: Path, text: str) -> None:
    """Make `text` what is in `file`."""
    try:
        file.write_text(text, "utf-8")
    except OSError as failure:
        raise click.UsageError(f"{file} cannot be written: {failure.strerror}") from None


def _counted(document: Document) -> str:
    kinds: dict[str, int] = {}
    for declared in document.objects:
        kinds[declared.kind] = kinds.get(declared.kind, 0) + 1
    return ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items()) or "empty"
