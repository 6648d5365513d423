"""`upbeat check` of a browser beat: what is printed as it goes, stepping with the file open, and the files it leaves."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.rig.process import REPO
from tests.upbeat.conftest import Cli
from upbeat.demo.shop import config_text
from upbeat.demo.targets import Targets

pytestmark = pytest.mark.browser


@pytest.fixture
def config(own: Targets, tmp_path: Path) -> Path:
    file = tmp_path / "upbeat.yaml"
    file.write_text(config_text(own, 1.0, has_browser=True), "utf-8")
    return file


@pytest.fixture
def chromium() -> str:
    return os.environ["CHROMIUM"]


async def test_steps_are_shown_as_they_are_done_and_a_good_run_leaves_no_files(
    cli: Cli, config: Path, chromium: str
) -> None:
    ran = await cli("check", "buy", "--config", config, UPBEAT_CHROMIUM=chromium)
    assert (ran.code, ran.err) == (0, ""), ran
    assert re.findall(r"^✓ +[\d.]+ s  (\S+):", ran.out, re.MULTILINE)[-2:] == ["pay", "order-number"]
    assert "LCP" in ran.out
    assert "FILE" not in ran.out
    assert "\x1b" not in ran.out


async def test_a_button_that_does_nothing_is_critical_and_leaves_a_picture(
    cli: Cli, own: Targets, config: Path, tmp_path: Path, chromium: str
) -> None:
    await own.become(slow=False, down=False, mute=True)
    assert (await cli("check", "checkout", "--config", config)).code == 0
    folder = tmp_path / "evidence"
    ran = await cli(
        "check", "buy", "--config", config, "--json", "--evidence", folder, UPBEAT_CHROMIUM=chromium
    )
    assert (ran.code, ran.json["verdict"], ran.json["error"]["type"]) == (1, "critical", "assertion.expect")
    assert {Path(one["path"]) for one in ran.json["artifacts"]} == set(folder.iterdir())
    assert (folder / "failure.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert "addEventListener" in (folder / "console.txt").read_text("utf-8")


async def test_a_step_that_failed_is_mended_in_the_file_and_done_again(config: Path, chromium: str) -> None:
    right = config.read_text("utf-8")
    config.write_text(right.replace("click: Coffee mug", "click: {text: Tea mug}, timeout: 1s}").replace(
        "- click: {text: Tea", "- {click: {text: Tea"), "utf-8")  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "upbeat.cli", "check", "buy", "--config", str(config), "--step",
        cwd=REPO,
        env=os.environ | {"UPBEAT_CHROMIUM": chromium, "NO_COLOR": ""},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    async def until(*said: str) -> None:
        seen = ""
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not all(one in seen for one in said):
                more = (await process.stdout.read(4096)).decode()
                assert more, f"{said} was not said: {seen}"
                seen += more

    def answer(key: str) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{key}\n".encode())

    await until("1/7  goto-1: goto /", "q ends: ")
    answer("")
    await until("✓", '2/7  click-2: click text "Tea mug"', "q ends: ")
    answer("")
    await until("✗", 'text "Tea mug" is not there', "mend the file", "q ends: ")
    config.write_text(right.replace("click: Coffee mug", "click: {colour: green}"), "utf-8")
    answer("")
    await until("colour", "q ends: ")  # a mistake in the file is said, and nothing done
    config.write_text(right, "utf-8")
    answer("")
    await until("✓", 'click text "Coffee mug"', "3/7  click-3", "q ends: ")
    answer("r")
    await until("✓", "click-2", "3/7  click-3", "q ends: ")  # the one before, again: a heading now
    answer("s")
    await until("4/7  click-4", "q ends: ")
    answer("r")
    await until("✓", "click-3", "4/7  click-4", "q ends: ")
    answer("q")
    await until("ended by you after 3 of 7 steps: no verdict")
    assert b"ok" not in await process.stdout.read()
    assert await process.wait() == 1


async def test_what_a_window_needs_is_said(cli: Cli, config: Path, chromium: str) -> None:
    less = await cli(
        "check", "buy", "--config", config, "--headed", UPBEAT_CHROMIUM="/usr/bin/chromium-headless-shell"
    )
    assert less.code == 2
    assert "apt-get install chromium" in less.err
    other = await cli("check", "checkout", "--config", config, "--step")
    assert other.code == 2
    assert "--headed and --step are for one browser beat" in other.err
