"""`upbeat import`: another monitor's file as an upbeat.yaml, and everything of it that has no counterpart. It asks nobody."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from rules.config import ConfigError, Document
from upbeat.cli.files import FILE, write_text
from upbeat.cli.output import harmless, print_json
from upbeat.imports.blackbox import take_blackbox
from upbeat.imports.codegen import read_script, take_codegen
from upbeat.imports.draft import Draft
from upbeat.imports.gatus import take_gatus
from upbeat.imports.kuma import take_kuma
from upbeat.imports.openstatus import take_openstatus
from upbeat.imports.source import Read, SourceError, read_json, read_yaml

MOST_BYTES: Final = 50_000_000


@click.group("import")
def import_() -> None:
    """Turn another monitor's file into an upbeat.yaml, printed or written with -o.

    What has no counterpart is named on stderr with its place in the file. Secrets are not copied: each becomes a
    variable, ${env:NAME}, that is named too.
    """


def _command(name: str, said: str) -> Callable[[Callable[..., Draft]], click.Command]:
    """A command of one peer; what it wraps fills the draft from the file and the command's own options."""

    def made(take: Callable[..., Draft]) -> click.Command:
        @import_.command(name, help=said)
        @click.argument("file", type=FILE)
        @click.option("-o", "--output", type=FILE, help="A file instead of the screen.")
        @click.option("--strict", is_flag=True, help="Exit with 1 if anything is named.")
        @click.option(
            "--json", "as_json", is_flag=True, help="Print the notes (and, without -o, the text) as JSON."
        )
        def run(file: Path, output: Path | None, as_json: bool, strict: bool, **given: Any) -> None:
            try:
                draft = take(file, **given)
                text, document = draft.document()
            except SourceError as wrong:
                raise click.UsageError(f"{file}: {wrong}") from None
            except ConfigError as bug:
                raise click.ClickException(
                    f"what was made of {file} is not valid, which is a fault of Upbeat:\n{bug}"
                ) from None
            if output is not None:
                write_text(output, text)
            _say(file, output, draft, document, text, as_json=as_json)
            raise click.exceptions.Exit(1 if strict and draft.notes else 0)

        return run

    return made


def _say(
    file: Path, output: Path | None, draft: Draft, document: Document, text: str, *, as_json: bool
) -> None:
    if as_json:
        notes = [
            {"line": note.line or None, "path": note.path, "message": note.message} for note in draft.notes
        ]
        where = {"file": str(output)} if output is not None else {"config": text}
        print_json({**draft.counts, **where, "notes": notes})
        return
    if output is None:
        click.echo(text, nl=False)
    for note in sorted(draft.notes, key=lambda note: note.line):
        line = f":{note.line}" if note.line else ""
        click.echo(harmless(f"{file}{line}: {note.path}: {note.message}"), err=True)
    found = draft.counts | {"notes": len(draft.notes)}
    counted = ", ".join(f"{n} {kind if n != 1 else kind.removesuffix('s')}" for kind, n in found.items())
    click.echo(f"{file}: {counted}", err=True)


def _read(file: Path, read: Callable[[str], Read]) -> Read:
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise SourceError(f"it has more than {MOST_BYTES} bytes")
        return read(raw.decode("utf-8-sig"))
    except OSError as failure:
        raise SourceError(f"it cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError:
        raise SourceError("it is not UTF-8") from None


def _taken(file: Path, take: Callable[[Any, Draft], None], read: Callable[[str], Read] = read_yaml) -> Draft:
    source = _read(file, read)
    draft = Draft(source.lines)
    if source.documents > 1:
        draft.note("---", f"of {source.documents} documents the first is taken")
    take(source.value, draft)
    return draft


@_command("openstatus", "Take an openstatus.yaml, with OpenStatus' defaults.")
def openstatus(file: Path) -> Draft:
    return _taken(file, take_openstatus)


@_command("gatus", "Take a Gatus config.yaml: endpoints, external endpoints, suites and alerting.")
def gatus(file: Path) -> Draft:
    return _taken(file, take_gatus)


@click.option("--targets", type=FILE, help="A prometheus.yml: each static target of a module becomes a beat.")
@_command(
    "blackbox",
    "Take a blackbox.yml. Its modules have no targets: --targets names the prometheus.yml that has.",
)
def blackbox(file: Path, targets: Path | None) -> Draft:
    probed = _read(targets, read_yaml).value if targets is not None else None
    return _taken(file, lambda source, draft: take_blackbox(source, draft, probed))


@_command("kuma", "Take a JSON backup of Uptime Kuma.")
def kuma(file: Path) -> Draft:
    return _taken(file, take_kuma, read_json)


@_command(
    "codegen",
    "Take a script that `playwright codegen` recorded, in Python or JavaScript: its steps become a browser beat.",
)
def codegen(file: Path) -> Draft:
    return _taken(file, partial(take_codegen, name=file.name.partition(".")[0]), read_script)
