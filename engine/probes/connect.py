"""Resolve, judge, connect: the one way from a host name to a connected socket. Speaks no protocol.

One address is tried, the first of those the name has, IPv4 before IPv6: a probe reports what that address does and does
not hunt for one that works. IPv6 is used where the name has no IPv4 address or this machine has no route for IPv4.
"""

import socket

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from engine.probes.wire import Wire
from evaluators.observation import Observation


async def connect(context: Context, watch: Watch, seen: Observation, host: str, port: int) -> Wire:
    """A connected wire, which the caller closes. Raises `TroubleError` or `OSError`."""
    try:
        return await _connect(context, watch, seen, host, port, socket.AF_INET)
    except TroubleError as trouble:
        if trouble.kind not in ("dns.no_record", "probe.no_route"):
            raise
        no_route = trouble if trouble.kind == "probe.no_route" else None
    try:
        return await _connect(context, watch, seen, host, port, socket.AF_INET6)
    except TroubleError as trouble:
        if no_route is not None and trouble.kind.startswith("dns."):
            raise no_route from None  # IPv4 is all there is
        raise


async def _connect(
    context: Context, watch: Watch, seen: Observation, host: str, port: int, family: socket.AddressFamily
) -> Wire:
    watch.enter("dns")
    address = (await context.resolver.addresses(host, family))[0]
    judge(context, address)
    seen.address = address
    watch.enter("connect")
    wire = Wire(context.poller, family)
    try:
        await wire.connect(address, port)
    except BaseException:
        wire.close()
        raise
    return wire


def judge(context: Context, address: str) -> None:
    """Raises `TroubleError` where the policy forbids `address`."""
    refusal = context.refusal(address)
    if refusal is not None:
        raise TroubleError("egress.refused", refusal)
