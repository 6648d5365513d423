"""Pings of heartbeats: a raw path before the application, for thousands a second. Each is answered after its commit.

`/ping/{key}`, with `/start`, `/fail`, `/log` or an exit code behind it and `?rid=` for the run, by HEAD, GET or POST. The
key is a secret: no line of a log has it, and one that is unknown, badly written or no longer valid is the same 404.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import Services
from api.limits import WINDOW_S, Limiter
from api.origin import address_of
from engine.store import pings
from engine.store.database import DATABASE_AWAY
from engine.store.group import CrowdedError, GroupCommit
from engine.store.pings import KEPT_BODY_BYTES, KEY_CHARACTERS, Arrived
from engine.store.pushed import SUBJECT, Ping
from evaluators.heartbeat import Signal

PREFIX: Final = "/ping/"
MOST_BODY_BYTES: Final = 1_000_000
WRONG_PER_MINUTE: Final = 300
"""Unknown keys from one address until it is told to wait. Pings with a key are never refused for what others send."""

_PATH: Final = re.compile(rf"/ping/([\w-]{{{KEY_CHARACTERS}}})(?:/(start|fail|log|\d{{1,3}}))?/?", re.ASCII)
_SIGNALS: Final[Mapping[str | None, Signal]] = {
    None: "success",
    "start": "start",
    "fail": "fail",
    "log": "log",
}
_MOST_CODE: Final = 255
_RUN: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_log = logging.getLogger(__name__)


def _answer(status: int, said: str, **more: str) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **more}
    return PlainTextResponse(said + "\n", status, headers)


_OK: Final = _answer(200, "ok")
_BAD_RUN: Final = _answer(400, "rid has 1 to 64 letters, digits and . _ : -")
_MISSING: Final = _answer(404, "not found")
_METHOD: Final = _answer(405, "use HEAD, GET or POST", allow="HEAD, GET, POST")
_TOO_LARGE: Final = _answer(413, "a ping may have 1 MB")
_TOO_MANY: Final = _answer(429, "too many unknown keys", **{"retry-after": "60"})
_AWAY: Final = _answer(503, "not stored, try again", **{"retry-after": "2"})


class Pings:
    """Takes what begins with `/ping/`; everything else is the application's."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services
        self._group: GroupCommit[Arrived, bool] = GroupCommit(self._write)
        self._wrong = Limiter(WINDOW_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
        else:
            await (await self._ping(scope, receive))(scope, receive, send)

    async def _ping(self, scope: Scope, receive: Receive) -> Response:
        method, match = scope["method"], _PATH.fullmatch(scope["path"])
        if method not in ("GET", "HEAD", "POST"):
            return _METHOD
        connection = HTTPConnection(scope)
        if match is None or _code(match[2]) > _MOST_CODE:
            return self._unknown(connection)
        run = _run(scope["query_string"])
        if run is None:
            return _BAD_RUN
        at = self._services.clock.epoch_s()
        body = await _read(receive) if method == "POST" else b""
        if body is None:
            return _TOO_LARGE
        ping = _read_signal(match[2], method, address_of(connection), _agent(scope), run)
        try:
            known = await self._group.add(Arrived(match[1], at, ping, body))
        except CrowdedError:
            return _AWAY
        except DATABASE_AWAY as away:
            _log.warning("a ping is not stored: %s", str(away) or type(away).__name__)
            return _AWAY
        return _OK if known else self._unknown(connection)

    def _unknown(self, connection: HTTPConnection) -> Response:
        now_s = self._services.clock.monotonic_s()
        left, _ = self._wrong.take(address_of(connection), WRONG_PER_MINUTE, now_s)
        return _MISSING if left >= 0 else _TOO_MANY

    async def _write(self, arrived: Sequence[Arrived]) -> Sequence[bool]:
        """One commit; then whoever evaluates is told."""
        async with self._services.pool.acquire() as db:
            partitions = await pings.put(db, arrived)
        await self._services.bus.announce_each(SUBJECT, set(partitions.values()))
        return [n in partitions for n in range(len(arrived))]


def _code(said: str | None) -> int:
    """The exit code that is said; -1 for none."""
    return int(said) if said is not None and said.isdigit() else -1


def _run(query: bytes) -> str | None:
    """The run id in a query, "" where there is none; None for one that is not allowed."""
    if not query:
        return ""
    try:
        said = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=20).get("rid")
    except ValueError:
        return None
    return "" if said is None else said[0] if _RUN.fullmatch(said[0]) else None


async def _read(receive: Receive) -> bytes | None:
    """The beginning of the body; None when there is too much of it, or it never ended."""
    kept, taken = b"", 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        taken += len(part)
        if taken > MOST_BODY_BYTES:
            return None
        kept += part[: KEPT_BODY_BYTES - len(kept)]
        if not message.get("more_body"):
            return kept


def _read_signal(said: str | None, method: str, address: str, agent: str, run: str) -> Ping:
    """An exit code is 0 or a failure; nothing said is a success."""
    if (code := _code(said)) >= 0:
        return Ping("fail" if code else "success", method, address, agent, run, code)
    return Ping(_SIGNALS[said], method, address, agent, run)


def _agent(scope: Scope) -> str:
    found = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    return str(found[:200].decode("latin-1")).replace("\0", "")
