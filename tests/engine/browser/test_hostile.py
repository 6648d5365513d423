"""Each hostile page and script once, against the real pool, sandbox and gate; 500 of them: `python -m tests.faults hostile`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engine.browser.find import find_chromium
from engine.browser.sandbox import confinement
from rules.address import EgressPolicy
from tests.rig.browser import chromium
from tests.rig.hostility import OUTSIDE, VARIABLE, Attack, attacks, hostile_world, in_one

pytestmark = pytest.mark.browser


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the sandbox's user could reach, if only it were shown it."""
    with TemporaryDirectory(prefix="hostile-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


async def test_no_hostile_page_reads_reaches_or_leaves_anything(folder: Path) -> None:
    async with hostile_world(folder) as world:
        for one in attacks("pages"):
            if not one.is_long:
                await world.attack(one)
    assert world.problems == []


async def test_no_hostile_script_reads_reaches_or_leaves_anything(folder: Path) -> None:
    found = find_chromium(os.environ | {"UPBEAT_CHROMIUM": os.environ["CHROMIUM"]})
    assert found is not None
    if not (confined := await confinement(found)).runs_scripts:
        pytest.skip("; ".join(confined.lacks))
    short = [one for one in attacks("scripts") if not one.is_long]
    mild = [one for one in short if one.says == ("",) and "while True" not in (one.script or "")]
    async with hostile_world(folder, slots=3) as world:
        await asyncio.gather(*map(world.attack, [in_one(mild), *(one for one in short if one not in mild)]))
        await world.attack(Attack("afterwards", ("",), steps=[{"goto": "$OUT/benign"}]))
    assert world.problems == []


async def test_without_the_policy_the_canaries_are_reached(folder: Path) -> None:
    async with hostile_world(folder, policy=EgressPolicy()) as world:
        for one in attacks("pages"):
            if "$PORT" in str(one.steps) or one.name.startswith("loopback"):
                await world.attack(one)
                assert any(f"{one.name}: a canary was reached" in told for told in world.problems), one.name


async def test_without_the_proxy_webrtc_goes_around_it(folder: Path) -> None:
    one = next(one for one in attacks("pages") if one.name.startswith("WebRTC"))
    async with hostile_world(folder) as world, chromium() as browser:
        world.pages.append(world.put(one.page))
        page = await browser.new_page()
        await page.goto(f"http://{OUTSIDE}:{world.port}/0/")
        while not any("datagram" in hit for hit in world.hits):
            await asyncio.sleep(0.05)


async def test_without_the_sandbox_the_canaries_are_read_and_reached(folder: Path) -> None:
    async with hostile_world(folder) as world:
        for one in attacks("scripts"):
            if one.is_calm:
                body = "".join(f"    {line}\n" for line in world.put(one.script or "").splitlines())
                code = f"import asyncio\nasync def journey():\n{body}\nasyncio.run(journey())"
                ran = await _ran(code)
                assert world.token in ran or "reached" in ran, one.name
                assert one.name != "files, environments and keys" or ran.count(world.token) > 1
    assert VARIABLE not in os.environ
    assert len(world.hits) >= 3


async def _ran(code: str) -> str:
    """What it prints."""
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout
