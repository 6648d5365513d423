"""Which addresses an outgoing request may reach. Judges addresses, never names: resolve first, connect to what was judged."""

import ipaddress
from collections.abc import Sequence
from typing import Literal

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Purpose = Literal["beat", "relay", "channel"]
"""`beat`: a probe. `relay`: an smtp channel's relay. `channel`: every other channel and publisher."""


class EgressRefusedError(OSError):
    """An address that may not be reached: said by the guarded connector, final for exporters.

    It stands here because both may import this module, and neither the other.
    """


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Never reached unless listed: link-local, cloud metadata, and what is no unicast address of anybody.
_NEVER = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "ff00::/8",
)
# Private, loopback and special use: RFC 6890 and its updates.
_PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "::/96",
    "::ffff:0:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fec0::/10",
)
_NAT64 = _networks("64:ff9b::/96")[0]
_6TO4 = _networks("2002::/16")[0]


class EgressPolicy:
    """Which addresses may be reached, for what. `allow` lists networks that are reached whatever they are.

    Private and loopback addresses are denied to channels, and to everything with `denies_private`.
    """

    __slots__ = ("_allow", "_denies_private")

    def __init__(self, allow: Sequence[str] = (), *, denies_private: bool = False) -> None:
        self._allow = tuple(ipaddress.ip_network(text, strict=False) for text in allow)
        self._denies_private = denies_private

    def refusal(self, address: str, purpose: Purpose) -> str | None:
        """Why `address` may not be reached for `purpose`, or None when it may. An unreadable address is refused."""
        try:
            given = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        except ValueError:
            return f"{address!r} is not an address"
        if _within(given, self._allow):
            return None
        for target in (given, *_embedded(given)):
            if _within(target, self._allow):
                continue
            if _within(target, _NEVER):
                return f"{address} is link-local, metadata or no unicast address; list it in egress.allow to reach it"
            if (purpose == "channel" or self._denies_private) and _within(target, _PRIVATE):
                return f"{address} is a private address; list it in egress.allow to reach it"
        return None


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(network.version == address.version and address in network for network in networks)


def _embedded(address: Address) -> tuple[Address, ...]:
    """The IPv4 address that an IPv6 one really leads to (mapped, NAT64, 6to4, Teredo)."""
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    if address in _6TO4 and address.sixtofour:
        return (address.sixtofour,)
    return address.teredo or ()
