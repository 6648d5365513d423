"""The command as people run it: a process, its exit code, what it prints; and a server and a shop to run it against."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rig.process import REPO, TOKEN, Upbeat, fresh_folder, until, upbeat
from upbeat.cli.client import LOCAL_URL
from upbeat.demo.shop import config_text
from upbeat.demo.targets import Targets


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs `upbeat` with these variables, and none of ours."""

    environment: dict[str, str]

    async def __call__(self, *arguments: object, stdin: str = "", **environment: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("UPBEAT_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-m",
            "upbeat.cli",
            *map(str, arguments),
            cwd=REPO,
            env={**inherited, "NO_COLOR": "", **self.environment, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 120)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Without any server: the data folder is one that is not there."""
    return Cli({"UPBEAT_DATA": str(tmp_path / "none")})


@pytest.fixture(scope="session")
async def notices() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="session")
async def shop(notices: list[dict[str, Any]]) -> AsyncIterator[Targets]:
    targets = Targets(notices.append)
    await targets.start()
    try:
        yield targets
    finally:
        await targets.stop()


@pytest.fixture(scope="session")
async def server(shop: Targets) -> AsyncIterator[Upbeat]:
    """One server that watches the shop, for all tests that only ask."""
    with fresh_folder() as folder:
        async with upbeat(folder, config_text(shop, 1.0)) as running:
            yield running


@pytest.fixture
def remote(server: Upbeat) -> Cli:
    """With the address and the admin token of the server."""
    return Cli({"UPBEAT_SERVER": f"http://127.0.0.1:{server.port}", "UPBEAT_TOKEN": TOKEN})


@pytest.fixture
async def local(server: Upbeat) -> Cli:
    """With nothing but the server's data folder."""

    async def said() -> bool:
        return (server.data / LOCAL_URL).exists()

    await until(said, "the server leaves its address")
    return Cli({"UPBEAT_DATA": str(server.data)})


@pytest.fixture
async def own() -> AsyncIterator[Targets]:
    """A shop of the test's own, to be broken."""
    targets = Targets(lambda _: None)
    await targets.start()
    try:
        yield targets
    finally:
        await targets.stop()
