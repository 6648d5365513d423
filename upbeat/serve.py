"""The composition root of `upbeat serve`: starts what is needed, hands every part what it may use, runs the roles."""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import asyncpg

from api.app import create_app
from api.context import Guide
from engine.bus import Bus, BusError
from engine.bus import Settings as BusSettings
from engine.clock import SystemClock
from engine.embedded.folder import FolderError
from engine.embedded.process import ServerError
from engine.embedded.supervisor import Embedded, start
from engine.listening import keep_listening
from engine.secrets import Secrets
from engine.store import installation
from engine.store.database import DATABASE_AWAY, MigrationError, Pool, migrate, open_pool
from engine.store.objects import StaleError, TakenError
from rules.config import ConfigError
from rules.settings import Settings
from upbeat.apply import UnreadableError, apply_file
from upbeat.keys import keyring
from upbeat.logs import set_up
from upbeat.node import Node, browsers_of
from upbeat.patience import Patience, Watch
from upbeat.settings import ServeSettings, SettingsError
from upbeat.web import bind, serve_http

POOL_SIZE = 16
FREEZE_AFTER_S = (3.0, 27.0)
FREEZE_EVERY_S = 3600.0
GC_THRESHOLD = (20_000, 10, 10)
EMBEDDED_CONNECTIONS = 44
"""Besides the pools of our own processes: for the command line, backups and people."""
LOOK_S = 1.0
"""How often it is looked whether the configuration was saved."""

_log = logging.getLogger(__name__)


class ServeError(Exception):
    """Upbeat cannot start; the message says what to do."""


class _AwayError(SettingsError):
    """The database could not take what is to be applied; soon it may."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started Upbeat, for whoever started it."""

    base_url: str
    node: Node
    stop: Callable[[], None]


async def serve(
    settings: ServeSettings,
    *,
    guide: Callable[[], Guide | None] = lambda: None,
    on_ready: Callable[[Running], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Run until SIGTERM, SIGINT or `Running.stop`. Raises `ServeError` when it cannot start or a part of it fails."""
    set_up(settings.log_format)
    stopped = asyncio.Event()
    try:
        async with _started(settings, guide, stopped) as (node, listener):
            await _run(settings, node, listener, stopped, on_ready)
    except (SettingsError, FolderError, ServerError, MigrationError, BusError, ConfigError) as refused:
        raise ServeError(str(refused)) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as failure:  # a bug's traceback comes in a group
        raise ServeError(
            f"the database failed while Upbeat was starting: {failure}. See its log, and that its disk has room"
        ) from failure


@contextlib.asynccontextmanager
async def _started(
    settings: ServeSettings, guide: Callable[[], Guide | None], stopped: asyncio.Event
) -> AsyncIterator[tuple[Node, socket.socket | None]]:
    async with contextlib.AsyncExitStack() as stack:
        listener = None
        if "api" in settings.roles:
            listener = stack.enter_context(contextlib.closing(bind(settings.host, settings.port)))
        embedded = await _servers(settings, stack)
        database_url = embedded.database_url if embedded else settings.database_url
        assert database_url is not None
        pool = await _pool(database_url)
        stack.push_async_callback(_close_pool, pool)
        await migrate(pool)
        applied = await asyncio.to_thread(saved_as, settings.config)  # a save from here on is another one
        if settings.config is not None:
            await _apply(pool, settings.config, settings)
        bus = Bus(BusSettings(replicas=settings.nats_replicas))
        nats_url = partial(_nats_url, settings, embedded)
        await bus.connect(nats_url, name=f"upbeat {','.join(sorted(settings.roles))}")
        stack.push_async_callback(bus.close)
        async with pool.acquire() as connection:
            kept = Settings.model_validate(await installation.read_settings(connection))
            secrets = Secrets(settings.environment, await asyncio.to_thread(keyring, settings, create=True))
            await secrets.refresh(connection)
        node = Node(settings, kept, pool, bus, SystemClock(), database_url, nats_url, embedded, secrets)
        node.guide, node.applied = guide, applied
        stack.push_async_callback(node.close)
        if embedded is not None:
            await asyncio.to_thread(_leave_token, settings.data, node)
        yield node, listener


def _nats_url(settings: ServeSettings, embedded: Embedded | None) -> str:
    """Where NATS is now."""
    return embedded.nats_url if embedded else settings.nats_url or ""


async def _servers(settings: ServeSettings, stack: contextlib.AsyncExitStack) -> Embedded | None:
    if settings.database_url and settings.nats_url:
        return None
    if settings.database_url or settings.nats_url:
        raise SettingsError(
            "UPBEAT_DATABASE_URL and UPBEAT_NATS_URL go together: set both for servers of your own, neither for embedded ones"
        )
    embedded = await start(
        settings.data,
        durable=settings.durable,
        connections=EMBEDDED_CONNECTIONS + POOL_SIZE * settings.workers,
    )
    stack.push_async_callback(embedded.stop)
    return embedded


async def _pool(url: str) -> Pool:
    try:
        return await open_pool(url, size=POOL_SIZE)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as failure:
        reason = str(failure) or type(failure).__name__
        raise SettingsError(
            f"the database cannot be reached: {reason}. Check UPBEAT_DATABASE_URL "
            "(postgresql://user@host:5432/name) and that the server takes connections"
        ) from None


async def _apply(pool: Pool, config: Path, settings: ServeSettings) -> None:
    try:
        applied = await apply_file(pool, config, Secrets(settings.environment).of(None))
    except UnreadableError as failure:
        raise SettingsError(f"{config} cannot be read: {failure}") from None
    except DATABASE_AWAY as away:
        raise _AwayError(f"the database failed: {str(away) or type(away).__name__}") from None
    except (StaleError, TakenError) as raced:
        raise SettingsError(
            f"somebody else changed what {config} declares: {raced}. Apply it again"
        ) from None
    _log.info("%s: %s", config, applied)


async def _close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


def _leave_token(data: Path, node: Node) -> None:
    """A token for the command line of who may read the data folder; it changes with every start."""
    node.local_token = token_urlsafe(32)
    path = data / "local-token"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(node.local_token)


async def _run(
    settings: ServeSettings,
    node: Node,
    listener: socket.socket | None,
    stopped: asyncio.Event,
    on_ready: Callable[[Running], Coroutine[Any, Any, None]] | None,
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    reload = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    feeding: list[asyncio.Task[None]] = []
    work = asyncio.create_task(_work(settings, node, listener, reload, on_ready, stopped, feeding))
    waiter = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((work, waiter), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        # What makes results ends while what commits them still runs: nothing is left over, and nothing waited for.
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        waiter.cancel()
        work.cancel()
        await asyncio.gather(work, waiter, return_exceptions=True)


async def _work(
    settings: ServeSettings,
    node: Node,
    listener: socket.socket | None,
    reload: asyncio.Event,
    on_ready: Callable[[Running], Coroutine[Any, Any, None]] | None,
    stopped: asyncio.Event,
    feeding: list[asyncio.Task[None]],
) -> None:
    async with asyncio.TaskGroup() as group:
        for part in node.parts():
            group.create_task(part)
        group.create_task(_reloads(settings, node, reload))
        group.create_task(_keep_collections_short())
        if "probe" in settings.roles:
            feeding.append(group.create_task(node.probe()))
        if command := worker_command(settings):
            feeding += [
                group.create_task(_worker(node, number, command)) for number in range(1, settings.workers)
            ]
        base_url = ""
        if listener is not None:
            host, port = listener.getsockname()[:2]
            base_url = _url(host, port)
            node.base_url = base_url
            watch = Watch(node.database_url)
            group.create_task(watch.run())
            app = create_app(node.services(), lambda behind: Patience(behind, watch.silent))
            group.create_task(serve_http(app, listener, end_streams=app.state.hub.close))
            group.create_task(keep_listening(node.pool))
            _say_where(settings, node, host, port)
        if on_ready is not None:
            group.create_task(on_ready(Running(base_url, node, stopped.set)))


def _url(host: str, port: int) -> str:
    """Where this machine reaches what listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _say_where(settings: ServeSettings, node: Node, host: str, port: int) -> None:
    _log.info("console at %s/console", node.public_url())
    if host not in ("127.0.0.1", "::1", "localhost") and not node.public_url().startswith("https://"):
        _log.warning(
            "%s:%d is reachable from elsewhere without TLS: put a reverse proxy before it and set public_url",
            host,
            port,
        )


async def _keep_collections_short() -> None:
    """Take what is loaded, and stays, out of the garbage collector's sight.

    It walks every object several times a minute under load, which stops the process for up to a tenth of a second.
    What a run makes is gone with it by itself, so that looking for cycles after every 700 objects finds nothing.
    """
    gc.set_threshold(*GC_THRESHOLD)
    for after_s in itertools.chain(FREEZE_AFTER_S, itertools.repeat(FREEZE_EVERY_S)):
        await asyncio.sleep(after_s)
        gc.unfreeze()
        gc.collect()
        gc.freeze()


async def _reloads(settings: ServeSettings, node: Node, reload: asyncio.Event) -> None:
    """Apply the file again when it is saved, and at SIGHUP. A bad one changes nothing, and says so.

    While the database is away it is tried again at every look.
    """
    applied, waits_for = node.applied, ""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await reload.wait()
        saved = await asyncio.to_thread(saved_as, settings.config)
        if not reload.is_set() and saved in (applied, None):  # None: not there, perhaps being replaced
            continue
        reload.clear()
        applied = saved
        if settings.config is None:
            _log.warning("nothing to reload: started without --config")
            continue
        try:
            await _apply(node.pool, settings.config, settings)
            waits_for = ""
        except _AwayError as away:
            applied = None
            if str(away) != waits_for:
                waits_for = str(away)
                _log.warning("%s is not applied yet: %s", settings.config, away)
        except (ConfigError, SettingsError) as bad:
            _log.error("%s is not applied, what ran before goes on:\n%s", settings.config, bad)


def saved_as(config: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file is saved; None when there is none."""
    try:
        found = config.stat() if config else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


def worker_command(settings: ServeSettings) -> list[str]:
    """How another process does this one's evaluating and probing; empty where it does neither."""
    roles = settings.roles & {"evaluator", "probe"}
    if not roles:
        return []
    command = [sys.executable, "-P", "-m", "upbeat.cli", "serve", "--roles", ",".join(sorted(roles))]
    return command + (["--regions", ",".join(settings.regions)] if settings.regions else [])


async def _worker(node: Node, number: int, command: list[str]) -> None:
    """Another process, started again when it ends or NATS moves (it cannot know where to), ended with this one."""
    environment = {
        **node.settings.environment,
        "UPBEAT_DATABASE_URL": node.database_url,
        "UPBEAT_CONFIG": "",
        "UPBEAT_SECRET_KEY": node.secrets.keyring.text if node.secrets.keyring else "",
        "UPBEAT_WORKERS": "1",
        "UPBEAT_BROWSERS": str(browsers_of(node.settings, number)),
        "UPBEAT_PARENT": str(os.getpid()),
        "UPBEAT_WORKER": str(number),
    }
    while True:
        url = node.nats_url()
        process = await asyncio.create_subprocess_exec(*command, env={**environment, "UPBEAT_NATS_URL": url})
        try:
            while process.returncode is None and node.nats_url() == url:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):  # `wait_for` may lose a cancellation
                        await process.wait()
            if process.returncode is None:
                _log.warning("NATS has another address: worker %d is started again", number)
            else:
                _log.warning("worker %d ended with %s and is started again", number, process.returncode)
                await asyncio.sleep(1.0)
        finally:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await process.wait()
