"""Resolve, judge, connect: the one way from a host name to a connected socket. Speaks no protocol.

One address is tried, the first of those the name has, IPv4 before IPv6: a probe reports what that address does and does
not hunt for one that works. IPv6 is used where the name has no IPv4 address or this machine has no route for IPv4.
Every address of the family is judged, so that an answer's order decides nothing.
"""

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from engine.probes.wire import Wire
from evaluators.observation import Observation
from rules.kinds.kind import Ip

W = TypeVar("W")


async def connect(
    context: Context, watch: Watch, seen: Observation, host: str, port: int, ip: Ip = "any"
) -> Wire:
    """A connected wire, which the caller closes. Raises `TroubleError` or `OSError`."""

    async def one(family: socket.AddressFamily) -> Wire:
        address = await resolve(context, watch, seen, host, family)
        watch.enter("connect")
        wire = Wire(context.poller, family)
        try:
            await wire.connect(address, port)
        except BaseException:
            wire.close()
            raise
        return wire

    return await by_family(ip, one)


async def by_family(ip: Ip, one: Callable[[socket.AddressFamily], Awaitable[W]]) -> W:
    """What `one` makes of IPv4, and of IPv6 where the name or this machine has none, as far as `ip` allows."""
    if ip == 6:
        return await one(socket.AF_INET6)
    try:
        return await one(socket.AF_INET)
    except TroubleError as trouble:
        if ip == 4 or trouble.kind not in ("dns.no_record", "probe.no_route"):
            raise
        no_route = trouble if trouble.kind == "probe.no_route" else None
    try:
        return await one(socket.AF_INET6)
    except TroubleError as trouble:
        if no_route is not None and trouble.kind.startswith("dns."):
            raise no_route from None  # IPv4 is all there is
        raise


async def resolve(
    context: Context, watch: Watch, seen: Observation, host: str, family: socket.AddressFamily
) -> str:
    """The address of `host` to speak to, all of them judged and noted. Raises `TroubleError`."""
    watch.enter("dns")
    seen.addresses = found = await context.resolver.addresses(host, family)
    for address in found:
        judge(context, address)
    seen.address = found[0]
    return found[0]


def judge(context: Context, address: str) -> None:
    """Raises `TroubleError` where the policy forbids `address`."""
    refusal = context.refusal(address)
    if refusal is not None:
        raise TroubleError("egress.refused", refusal)
