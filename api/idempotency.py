"""Idempotency-Key on POST: the same key and request get the same answer, done once. Refusals are not kept."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from api.context import services_of
from api.problems import ProblemError
from engine.store import idempotency as store
from engine.store.pings import KEY_CHARACTERS

# That of a heartbeat is a secret which can be read again: a repeated answer has none, as for who may not edit the beat.
_PING_URL: Final = re.compile(rb'"url":"[^"]*/ping/[\w-]{%d}"' % KEY_CHARACTERS)
_KEPT_HEADERS = ("content-type", "location", "etag")


async def once(
    request: Request, actor: str, handle: Callable[[Request], Awaitable[Response]], *, keep: bool
) -> Response:
    """The answer of `handle`, or the one it gave before under this key. 422: another request; 409: under way.

    Without `keep` the answer holds a secret and is not stored: repeating it is 409 too, and nothing is done twice.
    """
    key = request.headers["idempotency-key"]
    if not 1 <= len(key) <= 200:
        raise ProblemError(400, "idempotency-key", "an Idempotency-Key has 1 to 200 characters")
    pool = services_of(request).pool
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    async with pool.acquire() as db:
        known = await store.begin(db, actor, key, digest.digest())
    if known is not None:
        return _again(known["digest"] == digest.digest(), known["status"], known["headers"], known["body"])
    try:
        response = await handle(request)
    except BaseException:
        async with pool.acquire() as db:
            await store.release(db, actor, key)
        raise
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    async with pool.acquire() as db:
        body = _PING_URL.sub(b'"url":null', bytes(response.body)) if keep else None
        await store.finish(db, actor, key, response.status_code, headers, body)
    return response


def _again(is_same: bool, status: int | None, headers: dict[str, str] | None, body: bytes | None) -> Response:
    if not is_same:
        raise ProblemError(422, "idempotency-key", "this Idempotency-Key was used for another request")
    if status is None:
        raise ProblemError(
            409, "idempotency-key", "the first request with this Idempotency-Key is still under way"
        )
    if body is None:
        raise ProblemError(
            409, "idempotency-key", "this was done; its answer held a secret, which is told once"
        )
    return Response(body, status, {**(headers or {}), "Idempotency-Replayed": "true"})
