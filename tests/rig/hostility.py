"""Hostile pages and scripts (tests/engine/browser/hostile) played against the fence, beside canaries that tell of a way out.

127.0.0.2 plays the public internet, everything else on this machine is private to it; each run is one of the real
pool, sandbox and gate. What counts: what was read, what was reached, what stayed, and what the run was called.
"""

import asyncio
import contextlib
import gc
import io
import json
import os
import secrets
import socket
import tempfile
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import unquote

from ruamel.yaml import YAML

from engine.browser import sandbox
from engine.browser.pool import Browsers
from engine.probes.context import Context
from engine.probes.run import RunOutcome, run
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check

FOLDER: Final = Path(__file__).parents[1] / "engine/browser/hostile"
OUTSIDE: Final = "127.0.0.2"
VARIABLE: Final = "UPBEAT_CANARY"
POLICY: Final = EgressPolicy([f"{OUTSIDE}/32"], denies_private=True)
_PATIENCE_S: Final = 60.0  # of what is to end by itself, whatever the load
_LOCK: Final = 'www-authenticate: Basic realm="all of it"'
_NONE_CRITICAL: Final = ("probe.browser", "probe.busy", "probe.scripts")


@dataclass(frozen=True)
class Attack:
    """One page or script, and how its run may end."""

    name: str
    says: tuple[str, ...]
    page: str = "<body>here"
    steps: Any = None
    script: str | None = None
    is_calm: bool = False
    is_long: bool = False  # much work for the machine: of 500 runs, not of each test run


def attacks(name: str) -> list[Attack]:
    """Those of `pages` or `scripts`."""
    found = YAML(typ="safe").load((FOLDER / f"{name}.yml").read_text("utf-8"))
    return [Attack(**{**one, "says": tuple(one["says"])}) for one in found]


def in_one(these: list[Attack]) -> Attack:
    """Scripts that end well, one after the other in one run; one that does not ends it as it should not."""
    assert all(one.says == ("",) for one in these)
    bodies = [f"async def attack_{n}():\n{_indented(one.script or '')}" for n, one in enumerate(these)]
    plays = [f"async with step({one.name[:60]!r}):\n    await attack_{n}()\n" for n, one in enumerate(these)]
    return Attack("all that end well", ("",), script="".join([*bodies, *plays]))


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@dataclass
class World:
    """Canaries, a hostile site, a pool."""

    folder: Path
    port: int = 0
    token: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    hits: list[str] = field(default_factory=list)  # canaries that were reached
    asked: list[bytes] = field(default_factory=list)  # of the hostile site
    served: set[str] = field(default_factory=set)  # numbers of pages
    pages: list[str] = field(default_factory=list)  # one per run
    ended: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    browsers: Browsers | None = None
    context: Context | None = None
    timeout_s: float = 6.0

    def put(self, text: str, site: str = "") -> str:
        """With this world's addresses in its places."""
        return Template(text).safe_substitute(
            OUT=site,
            FILE=str(self.folder / "canary"),
            NAME=VARIABLE,
            PORT=str(self.port),
            UNIX=str(self.folder / "socket"),
            ABSTRACT=self.token,
            PID=str(os.getpid()),
        )

    async def attack(self, one: Attack) -> RunOutcome:
        """Play it, and note all that should not be."""
        assert self.context is not None
        number = str(len(self.pages))
        out = f"http://{OUTSIDE}:{self.port}/{number}"
        self.pages.append(self.put(one.page, out))
        given: dict[str, Any] = {"type": "browser", "slug": "a", "url": out, "retries": 0, "interval": "5m"}
        timeout_s = self.timeout_s if "step.timeout" in one.says else _PATIENCE_S
        given |= {"timeout": f"{timeout_s}s", "evidence": {"keep": "always"}}
        if one.script is not None:
            body = _indented(f"async with step('began'): pass\n{self.put(one.script, out)}")
            given["script"] = f"async def journey(page, context, values, step):\n{body}"
        else:
            given["steps"] = _put(
                one.steps or [{"goto": "$OUT/"}, {"wait": {"duration": "1s"}}],
                lambda text: self.put(text, out),
            )
        outcome = await run(compile_check(BEAT.validate_python(given), {}), self.context, key=one.name)
        said = outcome.failure.type if outcome.failure else ""
        self.ended[said or "ok"] += 1
        if said not in one.says:
            told = outcome.failure.message if outcome.failure else ""
            self.problems.append(f"{one.name}: ended with {said or 'ok'} {told!r}, not one of {one.says}")
        evidence = json.dumps(outcome.evidence, allow_nan=False)
        if one.script is not None:
            is_played = '"began"' in evidence
        else:  # one of another site's asks for nothing here
            is_played = number in self.served or "$OUT" not in str(one.steps or "$OUT")
        if not is_played:
            self.problems.append(f"{one.name}: was not played: {outcome.failure}")
        if outcome.verdict == "critical" and said in _NONE_CRITICAL:
            self.problems.append(f"{one.name}: {said} is critical")
        if self.token.encode() in b"".join(
            [repr(outcome).encode(), *map(_unpacked, outcome.artifacts), *self.asked]
        ):
            self.problems.append(f"{one.name}: a canary was read")
        shown = b"".join(artifact.data for artifact in outcome.artifacts if artifact.name == "console.txt")
        self.problems += [
            f"{one.name}: {line}"
            for line in shown.decode("utf-8", "replace").splitlines()
            if line.startswith(("reached", "did ", "wrote "))
        ]
        self.problems += [f"{one.name}: a canary was reached: {hit}" for hit in self.hits]
        self.hits.clear()
        self.asked.clear()
        return outcome

    def left(self) -> list[str]:
        """Processes and files that outlived the pool."""
        users = {sandbox._USERS[(os.getpid() << 9 | n) % len(sandbox._USERS)] for n in range(512)}
        tmp = self.folder / "tmp"
        ours = sandbox._places.get(str(tmp), tmp)  # the probe's own folder stays, and nothing in it
        found = [f"file {path.name}" for path in {*tmp.iterdir(), *ours.iterdir()} - {ours}]
        for shared in ("/tmp", "/dev/shm"):
            for path in Path(shared).iterdir():
                with contextlib.suppress(OSError):
                    if path.lstat().st_uid in users:
                        found.append(f"file {path}")
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                lines = dict(
                    line.split(":\t", 1) for line in status.read_text("utf-8").splitlines() if ":\t" in line
                )
                is_zombie = lines["State"].startswith("Z")
                is_child = int(lines["PPid"]) == os.getpid() and lines["Name"] in ("bwrap", "chrome")
                if not is_zombie and (is_child or int(lines["Uid"].split()[0]) in users):
                    found.append(f"process {lines['Name']}")
        return found


def _put(value: Any, put: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _put(inner, put) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, put) for inner in value]
    return put(value) if isinstance(value, str) else value


def _handles() -> int:
    """Sockets and pipes that are open here."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += one.readlink().name.startswith(("socket:", "pipe:"))
    return found


def _unpacked(artifact: Any) -> bytes:
    """All that is in it, archives taken apart."""
    if artifact.name != "trace.zip":
        return bytes(artifact.data)
    with zipfile.ZipFile(io.BytesIO(artifact.data)) as archive:
        return b"".join(archive.read(one) for one in archive.infolist() if one.file_size < 50 << 20)


class _Bell(asyncio.DatagramProtocol):
    def __init__(self, hits: list[str]) -> None:
        self._hits = hits

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._hits.append(f"a datagram of {addr}")


@contextlib.asynccontextmanager
async def hostile_world(
    folder: Path, *, slots: int = 2, policy: EgressPolicy = POLICY
) -> AsyncIterator[World]:
    """One in `folder`, which is private. What is left when all has ended is among its problems."""
    world = World(folder)
    (folder / "canary").write_text(world.token)
    (folder / "canary").chmod(0o644)
    (folder / "tmp").mkdir(mode=0o711)
    loop, before = asyncio.get_running_loop(), tempfile.tempdir
    os.environ[VARIABLE], handles = world.token, _handles()

    async def caught(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            world.hits.append(f"{writer.get_extra_info('sockname')}: {await reader.read(200)!r}")
        writer.close()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            world.asked.append(head)
            world.served.add(head.split(b"/")[1].decode("latin-1"))
            await _answer(world, head, writer)
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        first = await asyncio.start_server(caught, "127.0.0.1", 0)
        world.port = first.sockets[0].getsockname()[1]
        servers: list[asyncio.AbstractServer] = [
            first,
            await asyncio.start_server(served, OUTSIDE, world.port),
        ]
        with contextlib.suppress(OSError):
            servers.append(await asyncio.start_server(caught, "::1", world.port))
        paths = (str(folder / "socket"), f"\0{world.token}")
        servers += [await asyncio.start_unix_server(caught, path) for path in paths]
        (folder / "socket").chmod(0o777)
        for server in servers:
            stack.callback(server.close)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with contextlib.suppress(OSError):
                bell, _ = await loop.create_datagram_endpoint(
                    lambda: _Bell(world.hits), (host, world.port), family=family
                )
                stack.callback(bell.close)
        environment = os.environ | {"UPBEAT_BROWSER_SCRIPTS": "1", "UPBEAT_CHROMIUM": os.environ["CHROMIUM"]}
        tempfile.tempdir = str(folder / "tmp")
        world.browsers = Browsers(environment, slots=slots)
        world.context = Context(policy, browsers=world.browsers)
        try:
            yield world
        finally:
            await world.browsers.close()
            tempfile.tempdir = before
            del os.environ[VARIABLE]
            world.context.close()
            world.problems += [f"left behind: {one}" for one in world.left()]
    await asyncio.sleep(0.2)  # what was closed is closed in the loop's next turns
    gc.collect()
    if (more := _handles() - handles) > 0:
        world.problems.append(f"left behind: {more} sockets and pipes")


async def _answer(world: World, head: bytes, writer: asyncio.StreamWriter) -> None:
    path = head.split(b" ")[1].decode("latin-1")
    if path == "/locked":
        status = "200 OK" if b"\nauthorization: " in head.lower() else f"401 No\r\n{_LOCK}"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        return
    number, _, path = path[1:].partition("/")
    to, path = unquote(path.partition("to=")[2]), f"/{path}"
    status, kind, body = "200 OK", "text/html", world.pages[int(number)] if number.isdecimal() else ""
    if path.startswith("/redirect"):
        status = f"302 Found\r\nlocation: {to}"
    elif path.startswith("/go"):
        body = f"<body>here<script>location = {to!r}; window.open({to!r})</script>"
    elif path.startswith("/benign"):
        body = "<body>calm"
    elif path.startswith("/worker.js"):
        kind, body = (
            "text/javascript",
            "oninstall = () => skipWaiting(); onfetch = e => e.respondWith(new Response('mine'))",
        )
    elif path.startswith("/endless"):
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 5000000000\r\n\r\n"
        )
        for _ in range(5_000_000_000 >> 16):
            writer.write(b"x" * 65_536)
            await writer.drain()
    writer.write(
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body.encode())}\r\n\r\n{body}".encode()
    )
    await writer.drain()
