"""A real PostgreSQL and NATS for the tests, one pair per pytest process, and a fresh database for each test."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from engine.embedded.supervisor import Embedded, start

CHROMIUM_FINDER = Path(__file__).parents[1] / ".ci/chromium"

_numbers = itertools.count()

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job: what tests start would ignore Ctrl-C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the Chromium for tests marked `browser` in CHROMIUM, or skip them."""
    chosen = [item for item in items if item.get_closest_marker("browser")]
    if not chosen:
        return
    found = subprocess.run(["sh", CHROMIUM_FINDER], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        os.environ["CHROMIUM"] = found.stdout.strip()
        return
    for item in chosen:
        item.add_marker(pytest.mark.skip("no Chromium; `make test` installs one, CHROMIUM=/path names one"))


@pytest.fixture(scope="session")
def data_place() -> Path:
    """Where data folders are made: in memory if there is room, which takes a third of the time.

    Not in pytest's own folder: that is closed to the user PostgreSQL runs as when we are root.
    """
    memory = Path("/dev/shm")
    if (
        memory.exists()
        and shutil.disk_usage(memory).free > 1 << 30
        and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    ):
        return memory
    return Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
async def servers(data_place: Path) -> AsyncIterator[Embedded]:
    folder = Path(tempfile.mkdtemp(prefix="upbeat-tests-", dir=data_place))
    running = await start(folder, durable=False)
    try:
        yield running
    finally:
        await running.stop()
        shutil.rmtree(folder)


@pytest.fixture
async def database_url(servers: Embedded) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(servers.database_url)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield servers.database_url.replace("/upbeat?", f"/{name}?")
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def nats_url(servers: Embedded) -> str:
    return servers.nats_url
