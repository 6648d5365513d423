"""What the documentation shows is so: links lead somewhere, YAML is accepted, shell can be run, commands exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import trustme

from rules.config import Known, parse
from rules.secret import references
from upbeat.cli import upbeat

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\w*)\s*\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
IDENTITY = trustme.CA().issue_cert("upbeat.example")
SHELL = ("sh", "bash", "console")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block and where it begins."""

    place: str  # file:line
    language: str
    text: str


def pages() -> list[Path]:
    """All Markdown files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).exists()]


def blocks(*languages: str) -> Iterator[Block]:
    """The fenced blocks in these languages, of every page."""
    for page in pages():
        text = page.read_text("utf-8")
        for found in _FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            if found[2] in languages:
                indent = found[1]
                body = "".join(part.removeprefix(indent) for part in found[3].splitlines(keepends=True))
                yield Block(f"{page.relative_to(ROOT)}:{line}", found[2], body)


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page, code left out."""
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text("utf-8"))))


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page, as its headings are turned into anchors."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def _place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if not b.text.startswith("# not ")], ids=_place)
def test_yaml_is_accepted(block: Block) -> None:
    # What Upbeat's own variables hold cannot be referred to, so that an example must not do it either.
    environment = {name: "x" for name in references(block.text) if not name.startswith("env:UPBEAT_")}
    for name in environment:
        if name.endswith("URL"):
            environment[name] = "https://hooks.example.com/x"
        if name.endswith("HOOK_SECRET"):
            environment[name] = "whsec_" + "A" * 32
        if name.endswith((".pem", ".key")):
            leaf = IDENTITY.private_key_pem if name.endswith(".key") else IDENTITY.cert_chain_pems[0]
            environment[name] = leaf.bytes().decode()
    parse(block.text, block.place, environment, Known())


@pytest.mark.parametrize("block", list(blocks(*SHELL)), ids=_place)
def test_shell_is_shell(block: Block) -> None:
    ran = subprocess.run(
        ["sh", "-n"], input=_typed(block), text=True, capture_output=True, check=False, timeout=10
    )
    assert ran.stderr == ""


@pytest.mark.parametrize("block", list(blocks(*SHELL)), ids=_place)
def test_commands_of_upbeat_exist_with_their_options(block: Block) -> None:
    for words in _commands(_typed(block)):
        _walk(upbeat, words)


@pytest.mark.parametrize("block", list(blocks(*SHELL)), ids=_place)
def test_targets_of_make_exist(block: Block) -> None:
    known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for line in _joined(_typed(block)):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert [word for word in words[1:] if "=" not in word and word not in known] == []


def _typed(block: Block) -> str:
    """What a reader types: of a `console` block only what stands behind its prompt."""
    if block.language != "console":
        return block.text
    return "\n".join(line[2:] for line in block.text.splitlines() if line.startswith(("$ ", "# ")))


def _joined(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _commands(text: str) -> Iterator[list[str]]:
    """The words after `upbeat`, wherever a command line of `text` calls it."""
    for line in _joined(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if not re.fullmatch(r"[|&;<>]+", token):
                words.append(token)
                continue
            start = next((i for i, word in enumerate(words) if "=" not in word and word != "sudo"), None)
            if start is not None and words[start].rpartition("/")[2] == "upbeat":
                yield words[start + 1 :]
            words = []


def _walk(command: click.Command, words: list[str]) -> None:
    """Parse `words` as `command` would, without running anything."""
    context = click.Context(command, info_name=command.name)
    if isinstance(command, click.Group):
        if words[:1] in (["--version"], ["--help"], ["-h"]):
            return
        listed = command.get_command(context, words[0]) if words else None
        if listed is None and "list" in command.commands:
            listed, words = command.get_command(context, "list"), ["list", *words]
        assert listed is not None, f"upbeat has no command {' '.join(words[:1])}"
        _walk(listed, words[1:])
        return
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    assert rest == []
    for parameter in command.params:
        if parameter.required:
            assert given.get(str(parameter.name)), f"{command.name} needs {parameter.name}"
