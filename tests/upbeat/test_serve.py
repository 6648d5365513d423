"""What `upbeat serve` starts besides itself."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

import asyncpg
import pytest

from tests.rig.process import Upbeat, fresh_folder, servers_of, until
from upbeat import node
from upbeat.serve import worker_command
from upbeat.settings import SettingsError, serve_settings


def test_a_worker_does_no_more_than_the_process_that_starts_it() -> None:
    assert worker_command(serve_settings({}))[-2:] == ["--roles", "evaluator,probe"]
    probing = serve_settings({}, roles="api,probe", regions="eu, us")
    assert worker_command(probing)[-4:] == ["--roles", "probe", "--regions", "eu,us"]
    assert worker_command(serve_settings({}, roles="api,exporter")) == []


def test_workers_share_browsers_and_each_has_one() -> None:
    def shares(browsers: str, workers: int) -> list[int]:
        settings = serve_settings({"UPBEAT_BROWSERS": browsers}, workers=workers)
        return [node.browsers_of(settings, number) for number in range(workers)]

    assert [shares("5", 1), shares("5", 2), shares("2", 3)] == [[5], [3, 2], [1, 1, 1]]
    assert 1 <= shares("", 1)[0] <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("UPBEAT_BROWSERS", "many", "a whole number from 1 to 100"),
        ("UPBEAT_BROWSERS", "0", "a whole number from 1 to 100"),
        ("UPBEAT_BROWSER_SCRIPTS", "yes", "0 and 1"),
    ],
)
def test_settings_of_browsers_say_what_is_allowed(name: str, text: str, allowed: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}='{text}'; allowed .*{allowed}$"):
        serve_settings({name: text})


def test_a_disk_that_cannot_be_asked_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not node.has_room(tmp_path / "gone")
    monkeypatch.setattr(node, "ROOM_BYTES", 1)
    assert node.has_room(tmp_path)


async def test_metrics_that_cannot_be_exported_stop_nothing() -> None:
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}
    with fresh_folder() as folder:
        async with Upbeat(folder / "data", environment=wrong) as server:
            await server.start()

            async def said() -> bool:
                return "metrics are not exported" in server.log.read_text("utf-8")

            await until(said, "it says that metrics are not exported")
            await asyncio.sleep(0.2)
            assert (await server.call("GET", "//readyz"))[0] == 200


async def test_runs_that_were_dropped_missed_or_skipped_can_be_seen() -> None:
    with fresh_folder() as folder:
        async with Upbeat(folder / "data") as server:
            await server.start()
            said = (await server.call("GET", "//metrics"))[1]
    for name in ("runs_delayed", "runs_skipped", "runs_missed", "extra_runs_dropped"):
        assert f"upbeat_{name}_total 0" in said


async def test_settings_of_another_version_stop_nothing() -> None:
    with fresh_folder() as folder:
        async with Upbeat(folder / "data") as server:
            await server.start()
            socket = folder / "data/run"
            connection = await asyncpg.connect(f"postgresql://upbeat@/upbeat?host={socket}&port=5432")
            await connection.execute("UPDATE settings SET value = value || '{\"of_tomorrow\": 1}'")
            await connection.execute(
                "INSERT INTO settings (key, value) VALUES ('installation', '{\"of_tomorrow\": 1}') ON CONFLICT DO NOTHING"
            )
            await connection.execute("SELECT pg_notify('upbeat_settings', '')")
            await connection.close()

            async def said() -> bool:
                return "settings are not taken up" in server.log.read_text("utf-8")

            await until(said, "it says that it does not know the settings")
            assert (await server.call("GET", "//readyz"))[0] == 200


async def test_events_that_nobody_judges_make_it_unready_until_they_are_judged() -> None:
    with fresh_folder() as folder:
        async with Upbeat(folder / "data") as server:
            await server.start()
            database = f"postgresql://upbeat@/upbeat?host={folder / 'data/run'}&port=5432"
            connection = await asyncpg.connect(database)
            async with connection.transaction():  # nobody else can say how far it is judged
                await connection.execute("SELECT FROM judging FOR UPDATE")
                arrive = (
                    "INSERT INTO arrivals (partition, inbox_id, event_id, received_at, at) "
                    "SELECT 0, gen_random_uuid(), gen_random_uuid(), at, at FROM (SELECT now() - interval '1 min') a (at)"
                )
                other = await asyncpg.connect(database)
                await other.execute(arrive)
                await other.close()
                status, said = await server.call("GET", "//readyz")
                assert status == 503
                assert "a received event is not judged for" in str(said)
                assert (await server.call("GET", "//healthz"))[0] == 200
            await connection.close()

            async def ready() -> bool:
                return (await server.call("GET", "//readyz"))[0] == 200

            await until(ready, "all is judged")


async def test_nats_on_another_port_is_found_by_every_process() -> None:
    with fresh_folder() as folder:
        async with Upbeat(folder / "data", arguments=("--workers", "2")) as server:
            await server.start()
            (ports,) = (folder / "data/nats").glob("*.ports")
            port = int(json.loads(ports.read_text("utf-8"))["nats"][0].rpartition(":")[2])
            (nats,) = (pid for pid, name in servers_of(folder).items() if name == "nats")
            os.kill(nats, signal.SIGKILL)
            with contextlib.closing(taken(port)):

                async def said() -> bool:
                    return "worker 1 is started again" in server.log.read_text("utf-8")

                await until(said, "the worker is told where NATS is")

                async def ready() -> bool:
                    return (await server.call("GET", "//readyz"))[0] == 200

                await until(ready, "it is ready again")


def taken(port: int) -> socket.socket:
    """The port of a server that is just dying."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > deadline:
                raise
