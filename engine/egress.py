"""The guarded connector: resolves once, judges every address, connects to what was judged. Not a proxy, and no policy of its own."""

import asyncio
import socket

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.connector import AddrInfoType
from aiohttp.resolver import ThreadedResolver

from rules.address import EgressPolicy, EgressRefusedError, Purpose

__all__ = ["EgressRefusedError", "connect", "open_session"]


def open_session(policy: EgressPolicy, purpose: Purpose, *, timeout_s: float) -> aiohttp.ClientSession:
    """A session whose every connection, those of redirects included, goes to an address allowed for `purpose`.

    `timeout_s` bounds a whole request. A refused address surfaces as `aiohttp.ClientConnectorError` whose
    `os_error` is an `EgressRefusedError`. No cookies, no proxies from the environment. The caller closes it.
    """

    def guarded_socket(address: AddrInfoType) -> socket.socket:
        # aiohttp asks no resolver about a literal address, but asks for a socket for every one it tries.
        family, kind, protocol, _, target = address
        _judge(policy, purpose, str(target[0]))
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=0,  # who uses it bounds what is under way: one slow host must not take the others' connections
        resolver=_JudgingResolver(policy, purpose),
        use_dns_cache=False,  # one resolution per connection, judged and used at once
        socket_factory=guarded_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "Upbeat"},
        trust_env=False,
    )


async def connect(
    policy: EgressPolicy, purpose: Purpose, host: str, port: int, timeout_s: float
) -> socket.socket:
    """A connected, non-blocking TCP socket to the first address of `host` that answers within `timeout_s` in all.

    Raises `EgressRefusedError` when any address is not allowed for `purpose`, `TimeoutError`, or another `OSError`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise _no_name(host) from None
        for _, _, _, _, target in found:
            _judge(policy, purpose, str(target[0]), host)
        failure: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, target in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, target)
            except OSError as refused:
                sock.close()
                failure = refused
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure


class _JudgingResolver(ThreadedResolver):
    """The system's resolver; one refused address refuses the name, so that an answer's order decides nothing."""

    def __init__(self, policy: EgressPolicy, purpose: Purpose) -> None:
        super().__init__()
        self._policy, self._purpose = policy, purpose

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await super().resolve(host, port, family)
        except UnicodeError:  # a label that is too long, from the idna codec
            raise _no_name(host) from None
        for one in found:
            _judge(self._policy, self._purpose, one["host"], host)
        return found


def _judge(policy: EgressPolicy, purpose: Purpose, address: str, host: str = "") -> None:
    why = policy.refusal(address, purpose)
    if why is not None:
        raise EgressRefusedError(f"{host}: {why}" if host and host != address else why)


def _no_name(host: str) -> OSError:
    return socket.gaierror(socket.EAI_NONAME, f"{host[:100]!r} is not a host name")
