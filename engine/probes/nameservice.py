"""What this machine says about names: hosts file, name servers, search list. Read again when changed; asks nobody."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import dns.exception
import dns.resolver

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Servers:
    """A resolv.conf."""

    servers: tuple[tuple[str, int], ...]
    search: tuple[str, ...]
    ndots: int


class NameService:
    """Paths and port are those of the system unless given."""

    __slots__ = ("_hosts", "_servers")

    def __init__(
        self, resolv_conf: str = "/etc/resolv.conf", hosts: str = "/etc/hosts", port: int = 53
    ) -> None:
        self._hosts = _Watched(hosts, _read_hosts)
        self._servers = _Watched(resolv_conf, lambda path: _read_servers(path, port))

    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Addresses by lower-case name."""
        return self._hosts.value()

    def servers(self) -> Servers | None:
        """None where the file says nothing we can follow."""
        return self._servers.value()


class _Watched(Generic[T]):
    """A parsed file, parsed again when it was changed. A missing one is given to the parser too."""

    __slots__ = ("_parse", "_path", "_stamp", "_value")

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path, self._parse = path, parse
        self._stamp: tuple[int, int, int] | None = self._look()
        self._value = parse(path)

    def value(self) -> T:
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp, self._value = stamp, self._parse(self._path)
        return self._value

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - on the path of every uncached lookup
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


_LINE_MAX: Final = 10_000


def _read_hosts(path: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                address, *names = line[:_LINE_MAX].partition("#")[0].split() or [""]
                for name in names:
                    key = name.lower().rstrip(".")
                    found[key] = (*found.get(key, ()), address)
    except OSError:
        return {}
    return found


def _read_servers(path: str, port: int) -> Servers | None:
    resolver = dns.resolver.Resolver(configure=False)
    try:
        resolver.read_resolv_conf(path)
    except (dns.exception.DNSException, ValueError, OSError):
        return None
    servers = tuple((address, port) for address in resolver.nameservers if isinstance(address, str))
    if not servers or any("%" in address for address, _ in servers):
        return None
    search = tuple(name.to_text() for name in resolver.search)
    return Servers(servers, search, 1 if resolver.ndots is None else resolver.ndots)
