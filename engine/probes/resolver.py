"""Names to addresses without threads: literals, hosts file, then our own queries, cached for their TTL. Judges no address.

Like the C library: search list and ndots are followed, and `localhost` is loopback. Unlike it: one family is asked at
a time, IPv4 first (engine.probes.connect), and failures are never cached. Where resolv.conf is absent or odd, the C
library is asked.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

import dns.rcode

from engine.probes import message
from engine.probes.nameservice import NameService, Servers
from engine.probes.query import ask
from engine.probes.trouble import TroubleError
from engine.probes.wire import Poller
from rules.secret import cut
from rules.target import ascii_host

CACHED_MAX_S: Final = 30.0
_CACHED: Final = 20_000  # names
_NUMERIC = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)
_LAST_IS_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.IGNORECASE)
_KINDS: Final = {socket.AF_INET: "A", socket.AF_INET6: "AAAA"}
_SIZES: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}


class Resolver:
    """`addresses` is all. `clock` counts seconds."""

    __slots__ = ("_cache", "_clock", "_poller", "names")

    def __init__(self, poller: Poller, names: NameService, clock: Callable[[], float]) -> None:
        self.names = names
        self._poller, self._clock = poller, clock
        self._cache: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}

    async def addresses(self, host: str, family: socket.AddressFamily) -> tuple[str, ...]:
        """The addresses of `host`, in the order given, at least one. Raises `TroubleError` (`dns.`, `probe.`)."""
        literal = literal_address(host)
        if literal is not None:
            if (":" in literal) is not (family == socket.AF_INET6):
                raise _no_record(host, family)
            return (literal,)
        key = host, family
        cached = self._cache.get(key)
        if cached is not None and cached[0] > self._clock():
            return cached[1]
        name = to_ascii(host).lower()
        own = self._own(name)
        if own:
            return _of_family(own, family, host)
        servers = self.names.servers()
        if servers is None:
            return await self._libc(name, family)
        found, ttl_s = await self._lookup(name, family, servers)
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        if ttl_s:
            self._cache[key] = self._clock() + min(ttl_s, CACHED_MAX_S), found
        return found

    def _own(self, name: str) -> tuple[str, ...]:
        bare = name.removesuffix(".")
        if own := self.names.hosts().get(bare):
            return own
        if bare == "localhost" or bare.endswith(".localhost"):  # RFC 6761, 6.3
            return ("127.0.0.1", "::1")
        return ()

    async def _lookup(
        self, name: str, family: socket.AddressFamily, servers: Servers
    ) -> tuple[tuple[str, ...], int]:
        exists = False
        for candidate in _candidates(name, servers):
            question = message.ask_for(message.to_wire(candidate), _KINDS[family])
            answer, (server, _) = await ask(self._poller, servers.servers, question)
            if answer.rcode == dns.rcode.NOERROR:
                chain = answer.chain(question)
                found = tuple(
                    socket.inet_ntop(family, answer.data[part.start : part.start + part.size])
                    for part in chain
                    if part.type == question.type and part.size == _SIZES[family]
                )
                if found:
                    return found, min(part.ttl_s for part in chain)
                exists = True
            elif answer.rcode != dns.rcode.NXDOMAIN:
                kind = "dns.refused" if answer.rcode == dns.rcode.REFUSED else "dns.servfail"
                raise TroubleError(kind, f"{name}: {answer.rcode_text} from {server}")
        if exists:
            raise _no_record(name, family)
        raise TroubleError("dns.nxdomain", f"{name} does not exist")

    async def _libc(self, name: str, family: socket.AddressFamily) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror as failure:
            if failure.errno in (socket.EAI_NODATA, socket.EAI_ADDRFAMILY):
                raise _no_record(name, family) from None
            kind = "dns.nxdomain" if failure.errno == socket.EAI_NONAME else "dns.servfail"
            raise TroubleError(kind, f"{name}: {failure.strerror}") from None
        return tuple(str(entry[4][0]) for entry in found)


@lru_cache(maxsize=20_000)
def literal_address(host: str) -> str | None:
    """The canonical address when `host` is one in any spelling, else None.

    Decimal, octal, hexadecimal and short IPv4 forms are read as `connect` would, so that what is judged is what is
    connected to; a name whose last label is a number but which is no address is refused, as no such domain exists.
    Raises `TroubleError`.
    """
    bare = to_ascii(host).removeprefix("[").removesuffix("]")
    if ":" in bare:
        try:
            return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare))
        except OSError:
            raise TroubleError("dns.malformed", f"{cut(host, 100)!r} is not an address") from None
    bare = bare.removesuffix(".")
    if not _LAST_IS_NUMBER.fullmatch(bare):
        return None
    try:
        if _NUMERIC.fullmatch(bare):
            return socket.inet_ntoa(socket.inet_aton(bare))
    except OSError:
        pass
    raise TroubleError("dns.malformed", f"{cut(host, 100)!r} is neither an address nor a domain name")


def to_ascii(host: str) -> str:
    """`host` in ASCII. Raises `TroubleError`."""
    try:
        return ascii_host(host)
    except ValueError as wrong:
        raise TroubleError("dns.malformed", str(wrong)) from None


def _candidates(name: str, servers: Servers) -> Iterator[str]:
    if name.endswith("."):
        yield name
        return
    searched = [f"{name}.{suffix.removesuffix('.')}." for suffix in servers.search]
    if name.count(".") >= servers.ndots:
        yield name + "."
        yield from searched
    else:
        yield from searched
        yield name + "."


def _of_family(addresses: tuple[str, ...], family: socket.AddressFamily, host: str) -> tuple[str, ...]:
    found = tuple(a for a in addresses if (":" in a) is (family == socket.AF_INET6))
    if not found:
        raise _no_record(host, family)
    return found


def _no_record(name: str, family: socket.AddressFamily) -> TroubleError:
    return TroubleError("dns.no_record", f"{name} has no {_KINDS[family]} record")
