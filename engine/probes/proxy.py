"""Reaching a target by a forward proxy (RFC 9110, 9.3.6): a tunnel for https, the proxy itself for http.

The address policy judges the proxy's address, and a target written as an address. The name of a target is resolved by
the proxy, where nobody here can judge it: what the proxy may reach is the proxy's to say.
"""

from engine.probes.attempt import Watch
from engine.probes.connect import connect, judge
from engine.probes.context import Context
from engine.probes.reply import Reply1
from engine.probes.request import USER_AGENT
from engine.probes.resolver import literal_address
from engine.probes.trouble import TroubleError, of_os_error
from engine.probes.wire import Wire
from evaluators.observation import Observation
from rules.kinds.http import Proxy
from rules.kinds.kind import Ip
from rules.secret import cut
from rules.target import Target

_TELLING = ("dns.", "connect.", "http.", "body.")


async def connect_by(
    proxy: Proxy, context: Context, watch: Watch, seen: Observation, target: Target, ip: Ip
) -> Wire:
    """A wire to `target`, or for http to the proxy. Raises `TroubleError`: `proxy.` where it is the proxy's fault."""
    literal = literal_address(target.host)
    if literal is not None:
        judge(context, literal)
    wire = None
    try:
        wire = await connect(context, watch, seen, proxy.host, proxy.port, ip)
        if target.scheme == "https":
            await _tunnel(wire, proxy, target)
    except BaseException as failure:
        if wire is not None:
            wire.close()
        if isinstance(failure, OSError):
            failure = of_os_error(watch.phase, failure)
        if isinstance(failure, TroubleError) and failure.kind.startswith(_TELLING):
            kind = "proxy.connect" if wire is None else "proxy.refused"
            raise TroubleError(kind, f"the proxy {proxy.host}:{proxy.port}: {failure}") from None
        raise failure from None
    return wire


async def _tunnel(wire: Wire, proxy: Proxy, target: Target) -> None:
    host = f"[{target.host}]" if ":" in target.host else target.host
    asked = (
        f"CONNECT {host}:{target.port} HTTP/1.1\r\nhost: {host}:{target.port}\r\nuser-agent: {USER_AGENT}\r\n"
    )
    if proxy.authorization is not None:
        asked += f"proxy-authorization: {proxy.authorization}\r\n"
    reply = Reply1(skips_body=True)
    await reply.speak(wire, None, f"{asked}\r\n".encode())
    if reply.status is None or not 200 <= reply.status <= 299:
        refuse(proxy, reply.status, reply.reason)


def refuse(proxy: Proxy, status: int | None, reason: str) -> None:
    """Raises `TroubleError` for what the proxy answered instead of the target."""
    kind = "proxy.auth" if status == 407 else "proxy.refused"
    raise TroubleError(kind, f"the proxy {proxy.host}:{proxy.port} answers {status} {cut(reason, 80)}")
