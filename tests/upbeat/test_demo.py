"""The demo as a newcomer and as a pipeline run it: from its one link to the end of the incident, and nothing left behind."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.rig.process import REPO, fresh_folder, servers_of, until
from tests.upbeat.conftest import Cli


async def test_approving_by_itself_ends_with_a_resolved_incident(cli: Cli) -> None:
    began = time.monotonic()
    ran = await cli("demo", "--approve", "--port", "0", UPBEAT_DEMO_PACE="0.2", UPBEAT_CHROMIUM="none")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.count("No browser beat today: no Chromium is installed") == 1
    assert time.monotonic() - began < 90
    steps = re.findall(r"^ *[\d.]+ s  (.*)$", ran.out, re.MULTILINE)
    path = ["failure", "draft", "draft approved", "shop back", "incident resolved"]
    assert [step for step in steps if not step.startswith("operators")] == path
    # They are told on their own way, at once or a moment later.
    assert {step for step in steps if step.startswith("operators")} == {
        "operators told",
        "operators told of recovery",
    }


@pytest.fixture
async def demo() -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    """A demo in a temporary folder of our own choosing, so that what it leaves can be seen."""
    with fresh_folder() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "upbeat.cli", "demo", "--port", "0", "--pace", "0.2"),
            cwd=REPO,
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(folder),
                "PYTHONUNBUFFERED": "1",
                "HOME": str(folder),
                "UPBEAT_CHROMIUM": "none",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process, folder
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def said(process: asyncio.subprocess.Process, pattern: str) -> str:
    """The first line that has `pattern` in it."""
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(30):
        while line := (await process.stdout.readline()).decode():
            seen += line
            if re.search(pattern, line):
                return line.strip()
    raise AssertionError(f"{pattern} was not said: {seen}")


async def test_the_link_signs_in_again_and_again_and_opening_the_console_starts_the_outage(
    demo: tuple[asyncio.subprocess.Process, Path],
) -> None:
    process, folder = demo
    link = await said(process, r"^ *http://")
    secret, base = link.rpartition("=")[2], "/".join(link.split("/")[:3])
    for _ in range(2):
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:

            async def signed_in(session: aiohttp.ClientSession = session) -> bool:
                async with session.post(f"{base}/api/v1/login/link", json={"secret": secret}) as answer:
                    return answer.status == 200

            await until(signed_in, "the link signs in", 5)
            async with session.get(f"{base}/console") as answer:
                assert answer.status == 200
                assert 'id="guide"' in await answer.text()
    await said(process, "The page is open")
    await said(process, "the checkout fails")
    await said(process, "a draft for customers waits")

    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert list(folder.iterdir()) == []
    assert servers_of(folder) == {}


@pytest.mark.browser
@pytest.mark.slow
async def test_with_a_browser_the_outage_is_one_that_only_a_journey_sees(cli: Cli) -> None:
    ran = await cli(
        *("demo", "--approve", "--port", "0"),
        UPBEAT_DEMO_PACE="0.2",
        UPBEAT_CHROMIUM=os.environ["CHROMIUM"],
    )
    assert ran.code == 0, ran.out + ran.err
    assert "breaks the pay button" in ran.out
    assert "incident resolved" in ran.out
