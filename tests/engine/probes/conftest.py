"""A stage for the probes: hostile servers on loopback, a check aimed at them, on asyncio's loop and on uvloop."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import trustme
import uvloop

from engine.probes.context import Context
from engine.probes.run import RunOutcome, run
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPS: dict[str, Callable[[Any], Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Runs a coroutine to its end on a loop of its own."""
    return LOOPS[request.param]


@pytest.fixture
def play(on_loop: Callable[[Any], Any], trusting: str) -> Callable[..., RunOutcome]:
    """`play(serve, url=...)`: run a beat against a server; `{port}` is its port, `{other}` that of the second."""

    def played(serve: Serve, **options: Any) -> RunOutcome:
        outcome = on_loop(_play(serve, trusting, **options))
        assert isinstance(outcome, RunOutcome)
        return outcome

    return played


async def _play(
    serve: Serve,
    trusting: str,
    *,
    also: Serve | None = None,
    tls: ssl.SSLContext | None = None,
    allow: Sequence[str] = (),
    timeout_s: float = 5.0,
    deadline_s: float = 10.0,
    retries: int = 0,
    copies: int = 1,
    ports: list[int] | None = None,
    environment: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
    **beat: Any,
) -> RunOutcome:
    """`more` are keys of the beat that are called as something here, such as `tls`."""
    stage = Stage()
    server = await stage.open(serve, tls)
    second = await stage.open(also or serve)
    if ports is not None:
        ports.append(second)
    given = {"type": "http", "slug": "played", **beat, **(more or {})}
    given = json.loads(json.dumps(given).replace("{port}", str(server)).replace("{other}", str(second)))
    check = compile_check(
        BEAT.validate_python(given), {f"env:{name}": value for name, value in (environment or {}).items()}
    )
    check = replace(
        check, pace=replace(check.pace, timeout_s=timeout_s, deadline_s=deadline_s, retries=retries)
    )
    context = Context(EgressPolicy(allow), authorities=trusting)
    try:
        outcomes = await asyncio.gather(*(run(check, context) for _ in range(copies)))
        assert not context.poller._edges, "a socket was left open"
        assert len({outcome.verdict for outcome in outcomes}) == 1
        return outcomes[0]
    finally:
        context.close()
        await stage.close()


class Stage:
    """Servers on loopback that leave nothing open."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, serve: Serve, tls: ssl.SSLContext | None = None) -> int:
        """The port on which `serve` now answers."""

        async def tidied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                try:
                    await serve(reader, writer)
                    await writer.drain()
                finally:
                    writer.close()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.create_task(tidied(reader, writer)))

        self._servers.append(await asyncio.start_server(connected, "0.0.0.0", 0, ssl=tls, backlog=600))
        return int(self._servers[-1].sockets[0].getsockname()[1])

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close in a later turn of the loop
