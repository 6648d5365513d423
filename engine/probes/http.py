"""The `http` probe: a fresh connection per hop, HTTP/1.1, every phase measured. Judges no status and keeps no connection.

Our own client because no other measures every phase, connects to the judged address, bounds what it reads and costs
this little (research: a quarter of aiohttp's CPU). Redirects are resolved and judged anew; from https to http they are
followed, and as any change of origin leave the secrets behind. With `redirects: 0` a redirect is the answer itself.
"""

from contextlib import suppress

from engine.probes.attempt import Watch
from engine.probes.connect import connect
from engine.probes.context import Context
from engine.probes.handshake import start_tls
from engine.probes.reply import Reply, decode, read, too_large
from engine.probes.request import REDIRECTS, Request, encode, first_request, redirected
from engine.probes.trouble import TroubleError
from evaluators.observation import Observation
from rules.kinds.http import HttpCheck
from rules.tls import TlsOptions

_VERIFIED, _UNVERIFIED = TlsOptions(), TlsOptions(verify=False)


async def probe(check: HttpCheck, context: Context, watch: Watch, seen: Observation) -> None:
    """One request and its redirects. Raises `TroubleError` or `OSError`."""
    traceparent = context.traceparent()
    seen.trace_id = traceparent[3:35]
    request = first_request(check, traceparent)
    for hop in range(check.redirects + 1):
        await _exchange(check, context, watch, seen, request)
        location = seen.header("location") if seen.status in REDIRECTS and check.redirects else None
        if location is None or seen.status is None:
            break
        if hop == check.redirects:
            raise TroubleError(
                "redirect.limit", f"more than {check.redirects} redirects, the last to {location[:200]!r}"
            )
        request = redirected(request, seen.status, location, check.secrets)
    if check.reads_body:
        if seen.is_truncated:
            raise too_large()
        seen.body = decode(seen.body, seen.header("content-encoding") or "")
        seen.size_bytes = len(seen.body)


async def _exchange(
    check: HttpCheck, context: Context, watch: Watch, seen: Observation, request: Request
) -> None:
    """One hop, from name to the last byte; `seen` gets what came, also when it breaks off."""
    target = request.target
    seen.tls = None
    reply = Reply(
        keeps_body=check.reads_body,
        skips_body=request.method == "HEAD",
        skips_redirects=check.redirects > 0,
    )
    with await connect(context, watch, seen, target.host, target.port) as wire:
        try:
            if target.scheme == "https":
                options = _VERIFIED if check.verify else _UNVERIFIED
                await start_tls(context, watch, wire, seen, options, target.host, ("http/1.1",))
            watch.enter("ttfb")
            with suppress(ConnectionError):  # who answers early and hangs up is still heard below
                await wire.send(encode(request))
            first = await wire.receive()
            if first:
                watch.enter("transfer")
            await read(wire, reply, first)
        finally:
            reply.release()
            seen.status, seen.reason, seen.headers = reply.status, reply.reason, reply.headers
            seen.body, seen.size_bytes, seen.is_truncated = reply.body, reply.size_bytes, reply.is_truncated
