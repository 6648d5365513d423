"""What needs no server: help, completion, validate and schema."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.process import REPO
from tests.upbeat.conftest import Cli
from upbeat.cli import SECTIONS, upbeat
from upbeat.cli.reference import cli_reference

GOOD = """\
version: 1
beats:
  - {slug: db, type: tcp, host: db.internal, port: 5432}
"""
BAD = """\
version: 1
beats:
  - {slug: db, type: tcp, host: db.internal, port: 0}
  - {slug: web, type: htp, url: "https://shop.example"}
  - {slug: api, type: http, url: "https://shop.example", headers: {X-Key: "${env:NOT_SET_ANYWHERE}"}}
"""


def test_help_is_printed_without_loading_any_command() -> None:
    code = "import sys; from upbeat.cli import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", code, "--help"]
    shown = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    assert "Exit codes" in shown
    loaded = set(shown.splitlines())
    assert not loaded & {"aiohttp", "asyncpg", "pydantic", "asyncio", "upbeat.cli.client", "upbeat.settings"}


def test_help_takes_less_than_150_ms_of_work() -> None:
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "upbeat.cli", "--help"], cwd=REPO, capture_output=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.15  # processor time: what else runs here does not count


@pytest.mark.parametrize("name", [name for section in SECTIONS.values() for name in section])
def test_every_command_that_help_names_is_there(name: str) -> None:
    import click

    command = upbeat.get_command(click.Context(upbeat), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_the_reference_has_every_command_and_option() -> None:
    text = cli_reference()
    for wanted in ("## upbeat check", "### upbeat beats create", "`--strict`", "UPBEAT_SERVER"):
        assert wanted in text


async def test_a_valid_file_is_counted(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(GOOD, "utf-8")
    ran = await cli("validate", file)
    assert (ran.code, ran.out) == (0, f"{file} is valid: 1 page, 1 region, 1 beat\n")
    assert (await cli("validate", file, "--json")).json == {"valid": True, "problems": [], "warnings": []}


async def test_a_value_too_short_to_be_hidden_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(
        "beats: [{slug: x, type: http, url: 'https://x.example', headers: {A: '${env:PIN}'}}]", "utf-8"
    )
    ran = await cli("validate", file, PIN="1234")
    assert (ran.code, "${env:PIN} has fewer than 6 characters" in ran.err) == (0, True)


async def test_all_mistakes_are_told_with_file_and_line(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(BAD, "utf-8")
    ran = await cli("validate", file)
    assert ran.code == 1
    assert [line.partition(": ")[0] for line in ran.out.splitlines()] == [
        f"{file}:3",
        f"{file}:4",
        f"{file}:5",
    ]
    told = await cli("validate", file, "--json")
    assert told.code == 1
    assert [problem["line"] for problem in told.json["problems"]] == [3, 4, 5]
    assert "did you mean http?" in told.json["problems"][1]["message"]
    assert (await cli("validate", file, "--quiet")).out == ""


async def test_a_file_that_is_not_there_is_a_mistake_in_usage(cli: Cli) -> None:
    ran = await cli("validate", "missing.yaml")
    assert ran.code == 2
    assert "missing.yaml cannot be read: No such file" in ran.err


async def test_the_schema_is_json_schema(cli: Cli) -> None:
    schema = (await cli("schema")).json
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "beats" in schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_scripts_are_printed(cli: Cli, shell: str) -> None:
    ran = await cli("completion", shell)
    assert ran.code == 0
    assert "_UPBEAT_COMPLETE" in ran.out


async def test_an_unknown_command_is_a_mistake_in_usage(cli: Cli) -> None:
    ran = await cli("chek")
    assert ran.code == 2
    assert "chek" in ran.err


async def test_no_color_and_pipes_have_no_escapes(cli: Cli, tmp_path: Path) -> None:
    ran = await cli("check", "tcp://127.0.0.1:1", "--retries", "0", NO_COLOR="1")
    assert "\x1b" not in ran.out
    assert "\x1b" not in (await cli("check", "tcp://127.0.0.1:1", "--retries", "0")).out


def test_a_terminal_is_coloured_unless_it_asks_for_none() -> None:
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'upbeat.cli', *sys.argv[1:]]) >> 8)"
    command = [sys.executable, "-c", code, "check", "tcp://127.0.0.1:1", "--retries", "0"]
    for wanted, told in ((True, {}), (False, {"NO_COLOR": "1"})):
        environment = {"PATH": "/usr/bin:/bin", "TERM": "xterm", "HOME": "/", **told}
        ran = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert ("\x1b[31mcritical" in ran.stdout) is wanted, json.dumps(ran.stdout)
