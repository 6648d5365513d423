"""A start that cannot be: each ends by itself with one clear line on what to do, and exit code 2."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.process import Upbeat, fresh_folder, servers_of, small_disk

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    with fresh_folder() as made:
        yield made


def refusal(upbeat: Upbeat) -> str:
    """What it says when it gives up; that it does, with 2, and leaves nothing running."""
    process = upbeat.process or upbeat.launch()
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        upbeat.kill()
        raise
    said = upbeat.log.read_text("utf-8")
    assert code == 2, said
    assert "Traceback" not in said
    assert not servers_of(upbeat.data)
    lines = [line for line in said.splitlines() if line and not line.startswith("{")]
    assert lines, said
    return " ".join(lines)


def can_run(upbeat: Upbeat) -> bool:
    """Whether who it would run as may use this Python."""
    command = [*upbeat.prefix, sys.executable, "-c", "import asyncpg"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


async def test_a_second_one_on_the_same_folder_is_told_who_has_it(folder: Path) -> None:
    async with Upbeat(folder / "data") as first:
        await first.start()
        second = Upbeat(folder / "data")
        assert second.launch().wait(60) == 2
        said = second.log.read_text("utf-8")
        assert first.process is not None
        assert f"in use by the Upbeat with pid {first.process.pid}" in said
        assert f"kill {first.process.pid}" in said
        assert (await first.call("GET", "/pages"))[0] == 200


async def test_a_port_in_use_is_named_before_anything_is_started(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(Upbeat(folder / "data", port=port))
    assert re.search(rf"127\.0\.0\.1:{port} cannot be listened on .*--port", said)
    assert not (folder / "data").exists()


URLS = {
    "nobody listens": "postgresql://nobody@127.0.0.1:1/none",
    "no such host": "postgresql://nobody@host.invalid/none",
    "another kind": "mysql://localhost/x",
    "no url": "not a url",
}


async def test_a_broken_database_url_is_named(folder: Path) -> None:
    starting = []
    for url in URLS.values():
        environment = {"UPBEAT_DATABASE_URL": url, "UPBEAT_NATS_URL": "nats://127.0.0.1:1"}
        starting.append(Upbeat(folder / "data", environment=environment))
        starting[-1].launch()
    for upbeat in starting:
        said = refusal(upbeat)
        assert "database cannot be reached" in said
        assert "UPBEAT_DATABASE_URL" in said


async def test_one_server_of_ones_own_without_the_other_is_refused(folder: Path) -> None:
    said = refusal(Upbeat(folder / "data", environment={"UPBEAT_DATABASE_URL": "postgresql://x/y"}))
    assert "go together" in said


async def test_a_folder_that_may_not_be_written_is_named_with_its_user(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o555)
    # Root may write anywhere, so it starts Upbeat as somebody else, with a Python that one can read.
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if AS_ROOT else []
    upbeat = Upbeat(closed / "data", prefix=prefix)
    if not can_run(upbeat):
        pytest.skip("this Python is closed to other users")
    said = refusal(upbeat)
    assert "cannot be written by user" in said
    assert "choose another data folder" in said


async def test_a_full_disk_is_named() -> None:
    try:
        with small_disk(16) as place:
            said = refusal(Upbeat(place / "data"))
    except OSError as refused:
        pytest.skip(str(refused))
    assert re.search(r"full|room|space", said)
    assert "data folder" in said


async def test_a_file_with_mistakes_starts_nothing_and_names_every_line(folder: Path) -> None:
    config = folder / "upbeat.yaml"
    config.write_text(
        "version: 1\nbeats:\n  - {slug: a, type: htp}\n  - {slug: b, type: tcp, host: h, port: 99999}\n"
    )
    said = refusal(Upbeat(folder / "data", config))
    assert "upbeat.yaml:3" in said
    assert "upbeat.yaml:4" in said
