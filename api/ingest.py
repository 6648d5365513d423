"""Deliveries to inboxes: a raw path before the application, for thousands a second. Each is answered after its commit.

A token is a secret: no line of a log, no problem and nothing stored has it, and one that is missing, unknown, badly
written or no longer valid is the same 401.
"""

import hashlib
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import Services
from api.limits import WINDOW_S, Limiter
from api.origin import address_of
from api.problems import TYPES
from engine.inboxes import Directory, Door
from engine.store import inboxes
from engine.store.database import DATABASE_AWAY
from engine.store.group import CrowdedError, GroupCommit
from engine.store.ids import new_id, show
from engine.store.inboxes import Delivery, Kept

PATH: Final = "/api/v1/external-events/ingest"
MOST_HELD_BYTES: Final = 32 << 20
"""Of all bodies that are being read or wait for their commit; beyond, senders are told to come back."""
MOST_HEADER_BYTES: Final = 16_000
MOST_HEADERS: Final = 100
MOST_QUERY_CHARACTERS: Final = 8000
WITHIN_S: Final = 5.0
WRONG_PER_MINUTE: Final = 300
"""Unknown tokens from one address until it is told to wait. Who has a token is never refused for what others send."""
FORGED_PER_MINUTE: Final = 30
"""Bad signatures for an inbox from one address until nothing is taken for it from there for the rest of the minute."""

DELIVERY_NAMES: Final = tuple(
    tuple(names.split())
    for names in (
        "webhook-id",  # Standard Webhooks
        "svix-id",
        "x-github-delivery",
        "x-gitea-delivery",
        "x-forgejo-delivery",
        "x-gogs-delivery",
        "idempotency-key",  # GitLab and whoever follows the draft
        "ce-id ce-source",  # CloudEvents in headers
        "x-amz-sns-message-id",
        "x-atlassian-webhook-identifier",
        "linear-delivery",
        "x-shopify-webhook-id",
        "x-zendesk-webhook-invocation-id",
        "i-twilio-idempotency-token",
        "x-webhook-id x-pagerduty-signature",  # others name their subscription so
    )
)
"""What names a delivery, the same at every try. No ids of requests or traces: different events may share those."""

KEPT_BACK: Final = frozenset(
    {"x-external-event-token", "authorization", "proxy-authorization", "cookie"}
    | {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_TOKEN: Final = re.compile(rf"{inboxes.PREFIX}[0-9A-Za-z]{{36}}")
_log = logging.getLogger(__name__)


def _problem(status: int, name: str, detail: str, **more: str) -> Response:
    title = HTTPStatus(status).phrase
    said = {"type": TYPES + name, "title": title, "status": status, "detail": detail, "instance": PATH}
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **more}
    return JSONResponse(said, status, headers, media_type="application/problem+json")


def _too_many(detail: str, wait_s: float) -> Response:
    seconds = math.ceil(wait_s)
    said = f"{detail}; try again in {seconds} s"
    return _problem(429, "too-many", said, **{"retry-after": str(seconds)})


_UNKNOWN: Final = _problem(
    401, "unauthorized", "the token is missing or not valid", **{"www-authenticate": "Bearer"}
)
_FORGED: Final = _problem(401, "unauthorized", "the signature is not valid", **{"www-authenticate": "Bearer"})
_DISABLED: Final = _problem(403, "forbidden", "the inbox is disabled")
_FOREIGN: Final = _problem(403, "forbidden", "this inbox takes nothing from your address")
_METHOD: Final = _problem(405, "method", "events are posted: use POST", allow="POST")
_ENCODED: Final = _problem(
    415, "media-type", "send the body without a Content-Encoding", **{"accept-encoding": "identity"}
)
_AWAY: Final = _problem(503, "database-away", "not stored, try again", **{"retry-after": "2"})
_CROWDED: Final = _problem(
    503, "busy", "so much comes in that this was not stored, try again", **{"retry-after": "2"}
)
_LOCKED: Final = _problem(
    503, "busy", "signatures cannot be verified now, try again", **{"retry-after": "30"}
)


class Ingest:
    """Takes what begins with `PATH`; everything else is the application's."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services
        self._directory = Directory(services.pool, services.secrets, services.clock)
        self._group: GroupCommit[Delivery, Kept] = GroupCommit(self._write, within_s=WITHIN_S)
        self._wrong, self._forged, self._rates = Limiter(WINDOW_S), Limiter(WINDOW_S), Limiter(WINDOW_S)
        self._said = Limiter(10.0)
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path: str = scope["path"] if scope["type"] == "http" else ""
        if not path.startswith(PATH) or path[len(PATH) :][:1] not in ("", "/"):
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._take(scope, receive, path[len(PATH) + 1 :])
        except CrowdedError:
            answer = _CROWDED
        except DATABASE_AWAY as away:
            if self._said.take("", 1, self._services.clock.monotonic_s())[0] >= 0:
                _log.warning("deliveries are not stored: %s", str(away) or type(away).__name__)
            answer = _AWAY
        await answer(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, token: str) -> Response:
        if scope["method"] != "POST":
            return _METHOD
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        by_name = dict(reversed(headers))  # of several the first, as signatures take it
        address, now_s = address_of(HTTPConnection(scope)), self._services.clock.monotonic_s()
        token = token or _token_in(by_name)
        door = await self._directory.opened_by(token)
        if door is None:
            left, wait_s = self._wrong.take(address, WRONG_PER_MINUTE, now_s)
            return _UNKNOWN if left >= 0 else _too_many("too many unknown tokens", wait_s)
        if refused := self._refusal(door, by_name, address, now_s):
            return refused
        parts: list[bytes] = []
        try:
            if refused := await self._read(receive, door, parts):
                return refused
            query = scope["query_string"].decode("latin-1")
            return await self._keep(door, address, headers, by_name, query, b"".join(parts))
        finally:
            self._held_bytes -= sum(map(len, parts))

    def _refusal(self, door: Door, headers: Mapping[str, str], address: str, now_s: float) -> Response | None:
        """What can be refused before there is a body."""
        rule = door.rule
        if not rule.enabled:
            return _DISABLED
        if not door.lets_in(address):
            return _FOREIGN
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            return _ENCODED
        if int(headers.get("content-length", 0)) > rule.max_size:
            return _too_large(rule.max_size)
        if rule.signature is not None:
            if door.verifier is None:
                return _LOCKED
            if wait_s := self._forged.spent_s((door.id, address), FORGED_PER_MINUTE, now_s):
                return _too_many("too many signatures that are not valid", wait_s)
        return None

    async def _read(self, receive: Receive, door: Door, parts: list[bytes]) -> Response | None:
        """Read the body into `parts`, unless there is too much of it."""
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _AWAY  # nobody hears it
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            self._held_bytes += len(part)
            if size > door.rule.max_size:
                return _too_large(door.rule.max_size)
            if self._held_bytes > MOST_HELD_BYTES:
                return _CROWDED
            if not message.get("more_body"):
                return None

    async def _keep(
        self,
        door: Door,
        address: str,
        headers: Sequence[tuple[str, str]],
        by_name: Mapping[str, str],
        query: str,
        body: bytes,
    ) -> Response:
        rule, verifier, clock = door.rule, door.verifier, self._services.clock
        at, now_s = clock.epoch_s(), clock.monotonic_s()
        if verifier is not None and not verifier.is_signed(headers, body, at):
            self._forged.take((door.id, address), FORGED_PER_MINUTE, now_s)
            return _FORGED
        left, wait_s = self._rates.take(door.id, rule.rate_limit, now_s)
        if left < 0:
            return _too_many(f"{rule.rate_limit} deliveries a minute are allowed", wait_s)
        name, known_by = name_of(by_name, verifier.names if verifier else (), rule.delivery_id)
        if not known_by and verifier is not None and (time := verifier.time_of(headers)):
            known_by = "signed", time
        # With the body: where a header names something else than the delivery, no event is lost for it.
        key = inboxes.key_of(*known_by, hashlib.sha256(body).hexdigest()) if known_by else None
        delivery = Delivery(
            new_id(),
            door.id,
            at,
            address,
            kept_headers(headers),
            without_tokens(query)[:MOST_QUERY_CHARACTERS].replace("\0", ""),
            body,
            name,
            key,
            rule.same_body or 0.0,
            verifier is not None,
        )
        kept = await self._group.add(delivery)
        more = {"duplicate": True} if kept.is_repeat else {}
        return JSONResponse({"id": show("event", kept.event_id)} | more, 202)

    async def _write(self, deliveries: Sequence[Delivery]) -> Sequence[Kept]:
        """One commit; then whoever judges is told."""
        async with self._services.pool.acquire() as db:
            kept = await inboxes.put(db, deliveries)
        partitions = inboxes.partitions(one.inbox_id for one in deliveries)
        await self._services.bus.announce_each(inboxes.SUBJECT, partitions)
        return kept


def kept_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is stored of them: bounded, and without what opens the inbox, wherever a proxy repeated it."""
    kept, left = list[tuple[str, str]](), MOST_HEADER_BYTES
    for name, value in headers:
        if name in KEPT_BACK or (size := len(name) + len(value)) > left or len(kept) >= MOST_HEADERS:
            continue
        kept.append((name, without_tokens(value) if inboxes.PREFIX in value else value))
        left -= size
    return kept


def without_tokens(text: str) -> str:
    """`text` with whatever is written like a token cut out."""
    return _TOKEN.sub("***", text)


def name_of(headers: Mapping[str, str], *more: Iterable[str]) -> tuple[str | None, tuple[str, ...]]:
    """(what the sender calls the delivery, all that makes it known), by headers in lower case; nothing where it has no name."""
    for names in (*((name.lower(),) for some in more for name in some), *DELIVERY_NAMES):
        if (name := headers.get(names[0])) and all(headers.get(also) for also in names[1:]):
            return name[:200], (*names, *(headers[one] for one in names))
    return None, ()


def _too_large(most: int) -> Response:
    return _problem(413, "too-large", f"a delivery to this inbox may have {most} bytes")


def _token_in(headers: Mapping[str, str]) -> str:
    """The token in the headers, "" for none."""
    if given := headers.get("x-external-event-token"):
        return given.strip()
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""
