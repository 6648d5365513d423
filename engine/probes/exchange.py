"""One HTTP request and its redirects: name, connection, TLS, proxy, request, answer. Judges no status and keeps no connection.

Redirects are resolved and judged anew; from https to http they are followed, and as any change of origin leave the
secrets behind: headers, credentials, our certificate. With `redirects: 0` a redirect is the answer itself.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from engine.probes.attempt import Mark, Watch
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.cookies import Jar
from engine.probes.encoding import decode, too_large
from engine.probes.eventstream import is_response
from engine.probes.handshake import start_tls
from engine.probes.proxy import connect_by, refuse
from engine.probes.reply import Reply1
from engine.probes.request import REDIRECTS, Request, redirected, with_cookies
from engine.probes.trouble import TroubleError
from evaluators.observation import Hop, Observation
from rules.kinds.http import HttpCheck
from rules.secret import cut

if TYPE_CHECKING:
    from engine.probes.http2 import Reply2

_ALPN: Final = {"1.1": ("http/1.1",), "2": ("h2",), "auto": ("h2", "http/1.1")}


@dataclass(slots=True)
class Visit:
    """What a run keeps between its requests."""

    traceparent: str
    secrets: tuple[str, ...]  # of the check, and captured or fetched since
    jar: Jar | None = None  # once there is a cookie


async def ask(
    check: HttpCheck,
    context: Context,
    watch: Watch,
    seen: Observation,
    visit: Visit,
    request: Request,
    since: Mark | None = None,
) -> Request:
    """`request` and its redirects, measured from `since`; the last one sent. Raises `TroubleError` or `OSError`."""
    for hop in range(check.redirects + 1):
        await _exchange(check, context, watch, seen, visit, request)
        location = seen.header("location") if seen.status in REDIRECTS and check.redirects else None
        if location is None or seen.status is None:
            break
        if hop == check.redirects:
            raise TroubleError(
                "redirect.limit", f"more than {check.redirects} redirects, the last to {cut(location, 200)!r}"
            )
        seen.hops.append(Hop(request.target.url, seen.status, seen.address, watch.since(since)))
        since = watch.mark()
        request = redirected(request, seen.status, location, visit.secrets)
    if check.reads_body:
        if seen.is_truncated:
            raise too_large()
        seen.body = decode(seen.body, seen.header("content-encoding") or "")
        seen.size_bytes = len(seen.body)
    if check.rpc_id is not None and seen.status is not None and 200 <= seen.status <= 299:
        _expect_response(check.rpc_id, seen)
    return request


async def _exchange(
    check: HttpCheck, context: Context, watch: Watch, seen: Observation, visit: Visit, request: Request
) -> None:
    """One hop, from name to the last byte; `seen` gets what came, also when it breaks off."""
    target, way = request.target, check.way
    seen.tls = None
    if visit.jar is not None and (cookies := visit.jar.header(target)):
        request = with_cookies(request, cookies)
    connecting = (
        connect(context, watch, seen, target.host, target.port, way.ip)
        if way.proxy is None
        else connect_by(way.proxy, context, watch, seen, target, way.ip)
    )
    with await connecting as wire:
        chosen = ""
        if target.scheme == "https":
            # The certificate we identify ourselves by, and the name we ask for, are for our own target only.
            tls = (
                replace(way.tls, certificate="", key="", server_name="") if request.is_elsewhere else way.tls
            )
            chosen = await start_tls(context, watch, wire, seen, tls, target.host, _ALPN[way.http])
        if way.http == "2" and chosen != "h2":
            raise TroubleError("http.version", "the server does not offer HTTP/2 here")
        watch.enter("ttfb")
        reply = (Reply1 if chosen != "h2" else _reply2())(
            check.reads_body, request.method == "HEAD", check.redirects > 0, check.events, check.rpc_id
        )
        try:
            await reply.exchange(wire, watch, request, way.proxy)
        finally:
            seen.status, seen.reason, seen.headers = reply.status, reply.reason, reply.headers
            seen.protocol, seen.body = reply.protocol, reply.body
            seen.size_bytes, seen.is_truncated = reply.size_bytes, reply.is_truncated
            if reply.stream is not None and reply.is_done:
                seen.body = reply.stream.body
            if "set-cookie" in reply.fields:
                visit.jar = visit.jar or Jar()
                visit.jar.take(reply.headers, target, seen.cookies)
    if reply.stream is not None and reply.stream.lacks and not reply.is_truncated:
        raise TroubleError("http.closed", f"the event stream ended {reply.stream.lacks} events too early")
    if way.proxy is not None and reply.status == 407 and target.scheme == "http":
        refuse(way.proxy, reply.status, reply.reason)


def _reply2() -> "type[Reply2]":
    from engine.probes.http2 import Reply2  # most probes never meet it

    return Reply2


def _expect_response(rpc_id: int, seen: Observation) -> None:
    """Raises `TroubleError` unless the body is the response to our JSON-RPC call, and none that says `error`."""
    try:
        message = msgspec.json.decode(seen.body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        message = None
    if not is_response(message, rpc_id):
        raise TroubleError("jsonrpc.invalid", f"the answer is not the JSON-RPC response to call {rpc_id}")
    error = message.get("error")
    if error is not None:
        code, said = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
        raise TroubleError("jsonrpc.error", f"JSON-RPC error {cut(str(code), 20)}: {cut(str(said), 200)}")
