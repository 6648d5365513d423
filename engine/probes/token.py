"""OAuth 2 tokens for client credentials (RFC 6749, 4.4): fetched over the guarded connector, kept until they expire.

Nothing of it is on disk. What fetching took is noted beside the timings of the run, as it is not the target's.
"""

import asyncio
from base64 import b64encode
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import msgspec

from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.exchange import Visit, ask
from engine.probes.request import Headers, first_request, origin
from engine.probes.trouble import TroubleError, of_os_error
from evaluators.observation import Observation
from rules.auth import TokenRequest
from rules.capture import CAPTURED_MAX_BYTES
from rules.kinds.http import HttpCheck
from rules.secret import cut, hidden_forms

_TOKENS: Final = 1000
_EARLY_S: Final = 30.0  # before it expires a token is fetched anew
_UNTOLD_S: Final = 60.0  # how long one lives whose server does not say


class _Kept:
    """A token, or nothing yet, and who may fetch it."""

    __slots__ = ("lock", "token", "until")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.token, self.until = "", 0.0


async def token_for(
    check: HttpCheck, context: Context, watch: Watch, seen: Observation, visit: Visit
) -> str | None:
    """The token that `check` shows, fetched where none is kept. Raises `TroubleError` (`auth.token`)."""
    wanted = check.way.token
    if wanted is None:
        return None
    if len(context.tokens) >= _TOKENS and wanted not in context.tokens:
        context.tokens.clear()
    kept: _Kept = context.tokens.setdefault(wanted, _Kept())
    if kept.until <= context.clock():
        watch.enter("auth")
        async with kept.lock:
            if kept.until <= context.clock():
                kept.token, lives_s = await _fetch(wanted, check, context, visit)
                kept.until = context.clock() + lives_s
        seen.token_s = watch.leave_out()
    visit.secrets += hidden_forms([kept.token])
    return kept.token


def forget_refused(check: HttpCheck, context: Context, seen: Observation) -> None:
    """Let go of a token that was answered by 401, so that the next attempt fetches another."""
    if seen.status == 401 and check.way.token is not None:
        context.tokens.pop(check.way.token, None)


async def _fetch(wanted: TokenRequest, check: HttpCheck, context: Context, visit: Visit) -> tuple[str, float]:
    form = {"grant_type": "client_credentials", "scope": wanted.scope, "audience": wanted.audience}
    headers: Headers = (("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded"))
    if wanted.in_body:
        form |= {"client_id": wanted.client_id, "client_secret": wanted.client_secret}
    else:
        pair = f"{quote_plus(wanted.client_id)}:{quote_plus(wanted.client_secret)}"
        headers = (*headers, ("authorization", f"Basic {b64encode(pair.encode()).decode()}"))
    asking = replace(
        check,
        expectations=(),
        target=wanted.target,
        way=replace(check.way, http="1.1"),
        method="POST",
        headers=headers,
        body=urlencode({key: value for key, value in form.items() if value}).encode(),
        redirects=0,
        reads_body=True,
        rpc_id=None,
        may_stream=False,
        steps=(),
    )
    request = first_request(asking, visit.traceparent)
    request = replace(request, is_elsewhere=origin(wanted.target) != origin(check.target))
    watch, answer = Watch(context.clock), Observation()
    try:
        await ask(asking, context, watch, answer, Visit(visit.traceparent, check.secrets), request)
        return _read(answer)
    except OSError as failure:
        raise _no_token(wanted, of_os_error(watch.phase, failure)) from None
    except TroubleError as trouble:
        if trouble.kind.startswith("probe.") or trouble.kind == "egress.refused":
            raise
        raise _no_token(wanted, trouble) from None


def _no_token(wanted: TokenRequest, why: TroubleError) -> TroubleError:
    return TroubleError("auth.token", f"no token from {cut(wanted.target.url, 200)}: {why}")


def _read(answer: Observation) -> tuple[str, float]:
    """The token and how many seconds it may be used. Raises `TroubleError`."""
    try:
        said: Any = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    if answer.status != 200:
        raise TroubleError(
            "auth.token", f"HTTP {answer.status} {cut(str(said.get('error', '')), 80)}".strip()
        )
    token, lives_s = said.get("access_token"), said.get("expires_in")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise TroubleError("auth.token", "the answer has no access_token")
    if len(token) > CAPTURED_MAX_BYTES:
        raise TroubleError("auth.token", f"the token is longer than {CAPTURED_MAX_BYTES} bytes")
    if not isinstance(lives_s, int | float) or isinstance(lives_s, bool):
        return token, _UNTOLD_S
    return token, max(float(lives_s) - _EARLY_S, 0.0)
