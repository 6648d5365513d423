"""The services of compose.split.yaml as processes: three NATS servers by nats.conf, secrets as files, the same commands."""

import asyncio
import base64
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
import yaml

from engine.bus import STREAM
from engine.embedded.nats import Program

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker/compose.split.yaml").read_text("utf-8"))["services"]
TOKEN = "a-token-of-more-than-twenty-characters"
BEATS = """
version: 1
regions: [eu-west, us-east, ap-south]
beats: [{slug: bus, type: tcp, host: 127.0.0.1, port: PORT, interval: 1s, timeout: 1s}]
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def three(tmp_path: Path) -> Iterator[str]:
    """The addresses of three servers that are one cluster."""
    text = (ROOT / "docker/nats.conf").read_text("utf-8")
    (tmp_path / "auth.conf").write_text('authorization { user: upbeat, password: "x" }\n')
    names = [name for name in COMPOSE if name.startswith("nats-")]
    clients, routes = [_free_port() for _ in names], [_free_port() for _ in names]
    with contextlib.ExitStack() as stack:
        for name, client, route in zip(names, clients, routes, strict=True):
            own = text.replace("port: 4222", f"listen: 127.0.0.1:{client}").replace(
                "port: 6222", f"listen: 127.0.0.1:{route}"
            )
            own = own.replace("/data", str(tmp_path / name)).replace(
                "127.0.0.1:8222", f"127.0.0.1:{_free_port()}"
            )
            for other, port in zip(names, routes, strict=True):
                own = own.replace(f"{other}:6222", f"127.0.0.1:{port}")
            (tmp_path / f"{name}.conf").write_text(own)
            words = [
                tmp_path / f"{name}.conf" if word == "/etc/nats/nats.conf" else word
                for word in COMPOSE[name]["command"]
            ]
            stack.enter_context(_process([Program.find().path, *words], tmp_path / f"{name}.log"))
        yield ",".join(f"nats://upbeat:x@127.0.0.1:{port}" for port in clients)


async def test_split_roles_with_three_copies_of_every_message(
    three: str, database_url: str, tmp_path: Path
) -> None:
    target = re.findall(r":(\d+)", three)[0]
    (tmp_path / "upbeat.yaml").write_text(BEATS.replace("PORT", target))
    for name, value in (
        ("database_url", database_url),
        ("nats_url", three),
        ("admin_token", TOKEN),
        ("secret_key", base64.b64encode(bytes(32)).decode()),
    ):
        (tmp_path / name).write_text(f"{value}\n")
    port = _free_port()
    chosen = ("api", "evaluator-1", "probe-eu-west", "probe-us-east", "probe-ap-south")
    with contextlib.ExitStack() as stack:
        for name in chosen:
            stack.enter_context(_upbeat(name, tmp_path, port))
        beat = await asyncio.to_thread(_settled, f"http://127.0.0.1:{port}/api/v1/beats/bus", tmp_path)
        assert {vote["region"]: vote["verdict"] for vote in beat["votes"]} == dict.fromkeys(
            ("eu-west", "us-east", "ap-south"), "ok"
        )
        client = await nats.connect(three.split(","))
        info = await client.jetstream().stream_info(STREAM)
        await client.close()
        assert info.config.num_replicas == 3
        # As the health check asks, but heard: the tests' PostgreSQL is told not to sync, and doctor minds.
        words = [*COMPOSE["evaluator-1"]["healthcheck"]["test"][2:-1], "--json"]
        health = await asyncio.to_thread(
            subprocess.run,
            _command(words),
            env=_environment("evaluator-1", tmp_path, port),
            capture_output=True,
            check=False,
        )
        failed = [
            found["said"] for found in json.loads(health.stdout)["findings"] if found["level"] == "fail"
        ]
        assert [said for said in failed if "fsync" not in said] == []


def _command(words: list[str]) -> list[str | Path]:
    return [sys.executable, "-m", "upbeat.cli", *words]


def _environment(service: str, folder: Path, port: int) -> dict[str, str]:
    given = {
        name: value.replace("/run/secrets", str(folder)).replace("/etc/upbeat", str(folder))
        for name, value in COMPOSE[service]["environment"].items()
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UPBEAT_")}
    return (
        kept | given | {"UPBEAT_PORT": str(port), "UPBEAT_DATA": str(folder / service), "UPBEAT_LOG": "text"}
    )


def _upbeat(service: str, folder: Path, port: int) -> contextlib.AbstractContextManager[None]:
    words = COMPOSE[service]["command"]
    return _process(_command(words), folder / f"{service}.log", _environment(service, folder, port))


@contextlib.contextmanager
def _process(
    command: list[str | Path], log: Path, environment: dict[str, str] | None = None
) -> Iterator[None]:
    with (
        log.open("wb") as said,
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=said, stderr=said) as running,
    ):
        try:
            yield
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()


def _settled(url: str, folder: Path) -> dict[str, Any]:
    """The beat once its stage is known and every region has voted."""
    until, seen = time.monotonic() + 120, ""
    while time.monotonic() < until:
        with contextlib.suppress(OSError):  # no answer yet, or none in time
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(request, timeout=5) as answer:
                beat: dict[str, Any] = json.load(answer)
            seen = json.dumps(beat)
            if beat["stage"] == "ok" and all(vote["verdict"] for vote in beat["votes"]):
                return beat
        time.sleep(0.2)
    logs = "".join(f"\n{path.name}: {path.read_text('utf-8')[-2000:]}" for path in folder.glob("*.log"))
    raise AssertionError(seen + logs)
