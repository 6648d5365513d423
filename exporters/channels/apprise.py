"""The apprise channel: services that only the library Apprise speaks to, in threads of their own under a time limit.

Its plugins use `requests`, of which they call what they like. So what `requests` and urllib3 do in these threads is replaced, and
only there: every connection goes to an address that the policy judged, by no proxy; answers are bounded; sockets are shut when time is up.
"""

import asyncio
import logging
import socket
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from evaluators.model import Notice
from exporters.answer import failed, judge
from exporters.channels.words import body, facts, fitted, heading, inert, level, line, link, packed
from exporters.outcome import FIRST, Delivered, Memory, Outcome, Rejected, Retry
from rules.address import EgressPolicy, EgressRefusedError
from rules.channels.apprise import refusal

TIMEOUT_S: Final = 20.0
CONNECT_S: Final = 5.0
AT_ONCE: Final = 32
"""Calls under way in all: of a channel one notice at a time, to all its services at once."""
MAX_TITLE, MAX_TEXT, MAX_ANSWER = 200, 1500, 1 << 20
_KEPT: Final = 1000
_POOL: Final = ThreadPoolExecutor(AT_ONCE, "apprise")
_HERE: Final = threading.local()
_LOADING: Final = threading.Lock()
_OTHERS: Final = frozenset(
    ("AppriseSocketError", "HTTPPolicySession", "asyncio", "smtplib", "socket", "subprocess")
)
_TYPES: Final = {"ok": "success", "warning": "warning", "critical": "failure"}
_UNUSABLE: Final = Rejected("Apprise knows no such service, or something is missing in its URL")


@dataclass(slots=True, eq=False)
class _Call:
    """One notification under way: which addresses it may reach, what it was answered last, and what it holds open."""

    policy: EgressPolicy
    sockets: list[socket.socket] = field(default_factory=list)
    refused: Outcome | None = None  # why there is no connection
    outcome: Outcome | None = None
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, connected: socket.socket) -> None:
        """Keep a second handle: TLS takes the first."""
        with self.lock:
            if self.is_over:
                connected.close()
                raise TimeoutError("no answer in time")
            self.sockets.append(connected.dup())

    def end(self) -> None:
        """Whoever still reads or writes hears that it is over."""
        with self.lock:
            self.is_over = True
            for held in self.sockets:
                with suppress(OSError):  # the other side was faster
                    held.shutdown(socket.SHUT_RDWR)
                held.close()
            self.sockets.clear()


class AppriseExporter:
    """Tells several services by Apprise's URLs; of those that took a notice none is told again."""

    def __init__(
        self,
        policy: EgressPolicy,
        urls: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._policy, self._urls, self._timeout_s, self._now_s = policy, urls, timeout_s, now_s
        self._turn = asyncio.Lock()
        # notice id -> who needs no second try
        self._settled: OrderedDict[str, dict[str, Outcome]] = OrderedDict()

    async def export(self, notice: Notice, _: Memory = FIRST) -> Outcome:
        """Send `notice` once to each that does not have it. No URL of them is ever part of what comes back."""
        settled = self._settled.setdefault(notice.id, {})
        while len(self._settled) > _KEPT:
            self._settled.popitem(last=False)
        async with self._turn:
            left = [url for url in self._urls if url not in settled]
            told = await asyncio.gather(*(self._notify(url, notice) for url in left))
        settled |= {url: one for url, one in zip(left, told, strict=True) if not isinstance(one, Retry)}
        if again := next((one for one in told if isinstance(one, Retry)), None):
            return again
        self._settled.pop(notice.id, None)
        return next((one for one in settled.values() if isinstance(one, Rejected)), Delivered())

    async def _notify(self, url: str, notice: Notice) -> Outcome:
        call, loop = _Call(self._policy), asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(_POOL, _told, call, url, notice, self._now_s)
        except TimeoutError:
            return Retry("no answer in time")
        finally:
            call.end()


def _told(call: _Call, url: str, notice: Notice, now_s: Callable[[], float]) -> Outcome:
    """In a thread of the pool: what came of it. A plugin may raise anything; its words may hold what the URL does."""
    _HERE.call, _HERE.now_s = call, now_s
    try:
        with _LOADING:  # twice guarded, an answer would be read twice
            library = _library()
        plugin = _plugin(library, url)
        if isinstance(plugin, Rejected):
            return plugin
        is_taken = plugin.notify(
            title=inert(fitted(heading(notice), MAX_TITLE)),
            body="\n".join(_text(notice)),
            notify_type=_TYPES.get(level(notice), "info"),
            body_format="text",
        )
        told = call.outcome
        with suppress(Exception):  # it has it already
            getattr(plugin, "leave", int)()
    except Exception as trouble:
        return call.outcome or Rejected(f"Apprise cannot use this URL: {type(trouble).__name__}")
    finally:
        _HERE.call = None
    if is_taken:
        return Delivered()
    return told if isinstance(told, Retry | Rejected) else Rejected("the service did not take it")


def _plugin(apprise: Any, url: str) -> Any:
    if said := refusal(url):
        return Rejected(said)
    asset = apprise.AppriseAsset(app_id="Upbeat", app_url="", async_mode=False, storage_mode="memory")
    plugin = apprise.Apprise.instantiate(url, asset=asset)
    if plugin is None:
        return _UNUSABLE
    if not speaks_http(type(plugin)):
        return Rejected("this service is not allowed: its connections cannot be judged")
    if plugin.overflow_mode == "upstream":
        plugin.overflow_mode = type(plugin.overflow_mode)(
            "truncate"
        )  # at most one message, however short the service's are
    plugin.retry, plugin.wait = 0, 0.0  # the engine tries again
    plugin.throttle = lambda *_, **__: None  # it sleeps as long as anybody says
    return plugin


def speaks_http(plugin: type) -> bool:
    """Whether all its connections are those of `requests`, which is what is guarded."""
    homes = {one.__module__ for one in plugin.__mro__ if one.__module__.startswith("apprise.plugins.")}
    own = [vars(sys.modules[home]) for home in homes - {"apprise.plugins.base"}]
    return any("requests" in module for module in own) and not any(_OTHERS & module.keys() for module in own)


@cache
def _library() -> Any:
    """Apprise, silent, without attachments, which could be this machine's files, and its way out guarded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a module of it imports what newer Pythons have no more
        import apprise
        import requests
        import urllib3.util.connection as wire
        from apprise import manager_attachment, manager_plugins

        plugins: Any = manager_plugins.NotificationManager().plugins()  # type: ignore[no-untyped-call]
        for one in {one for plugin in plugins for one in plugin.__mro__ if "__del__" in vars(one)}:
            one.leave = one.__del__  # which would log out when and where nothing is guarded
            del one.__del__
    for name in ("apprise", "urllib3", "requests_oauthlib", "oauthlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # they name URLs, and tokens
    attachments: Any = manager_attachment.AttachmentManager()  # type: ignore[no-untyped-call]
    attachments.remove(*attachments.schemas())
    connect, send = wire.create_connection, requests.adapters.HTTPAdapter.send
    sessions: Any = requests.sessions
    netrc = sessions.get_netrc_auth

    def guarded_connect(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
        if (call := getattr(_HERE, "call", None)) is None:
            return connect(address, *arguments, **options)
        return _connected(call, *address)

    def guarded_send(adapter: Any, request: Any, *_: Any, **options: Any) -> Any:
        if (call := getattr(_HERE, "call", None)) is None:
            return send(adapter, request, *_, **options)
        return _answered(call, lambda: send(adapter, request, **options | {"proxies": {}, "stream": True}))

    def guarded_netrc(*arguments: Any, **options: Any) -> Any:
        return None if getattr(_HERE, "call", None) else netrc(*arguments, **options)

    wire.create_connection = guarded_connect
    sessions.get_netrc_auth = guarded_netrc  # this machine's passwords
    requests.adapters.HTTPAdapter.send = guarded_send  # type: ignore[method-assign, assignment]
    return apprise


def _connected(call: _Call, host: str, port: int) -> socket.socket:
    """Resolved once, every address judged, connected to the first of them that answers."""
    call.refused = None
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for *_, target in found:
            if why := call.policy.refusal(str(target[0]), "channel"):
                raise EgressRefusedError(why)
        trouble: OSError = OSError("no address")
        for family, kind, protocol, _, target in found:
            sock = socket.socket(family, kind, protocol)
            call.hold(sock)
            sock.settimeout(CONNECT_S)
            try:
                sock.connect(target)
                return sock
            except OSError as failure:
                sock.close()
                trouble = failure
        raise trouble
    except (OSError, UnicodeError) as failure:
        call.refused = call.outcome = failed(failure)
        raise failure if isinstance(failure, OSError) else OSError("no host name") from None


def _answered(call: _Call, send: Callable[[], Any]) -> Any:
    """A response that is read already, up to `MAX_ANSWER` bytes, and what it means."""
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    before = call.outcome
    try:
        response = send()
    except (RequestException, OSError) as failure:
        call.outcome = call.refused or Retry(type(failure).__name__)
        raise
    read = b""
    with suppress(HTTPError, OSError):  # its status is known: it has the request
        read = response.raw.read(MAX_ANSWER, decode_content=True)
    outcome = judge(response.status_code, response.headers.get("Retry-After"), now_s=_HERE.now_s())
    call.outcome = Rejected(outcome.reason) if isinstance(outcome, Rejected) else outcome  # 410 is of one URL
    if response.is_redirect:
        raise RequestException("redirects are not followed")
    if isinstance(before, Retry | Rejected) and isinstance(outcome, Delivered):
        call.outcome = before  # of several requests the one that failed
    response._content, response._content_consumed = read, True
    response.close()
    return response


def _text(notice: Notice) -> list[str]:
    said = [*body(notice), *(f"{name}: {value}" for name, value in facts(notice))]
    found = [*packed(map(inert, said), MAX_TEXT), *([where] if (where := link(notice)) else [])]
    return found or [inert(line(notice.title))]  # Apprise sends no title alone
