"""Opaque cursors: `{items, next}` and a `Link` header. What a cursor holds is the listing's own business."""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from api.body import reply
from api.problems import ProblemError

Limit = Annotated[int, Query(ge=1, le=1000, description="Most items in the answer.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")]

AtAndId = tuple[Annotated[datetime, msgspec.Meta(tz=True)], UUID]
AtAndNumber = tuple[Annotated[datetime, msgspec.Meta(tz=True)], Annotated[int, msgspec.Meta(ge=1, le=2**62)]]
SlugAndId = tuple[Annotated[str, msgspec.Meta(pattern="^[^\\x00]*$")], UUID]
NumberOnly = tuple[Annotated[int, msgspec.Meta(ge=1, le=2**62)]]


def page(request: Request, items: Sequence[Any], cursor: Sequence[Any] | None) -> Response:
    """`items`; `cursor` is that of the last one when more follow."""
    if cursor is None:
        return reply({"items": items, "next": None})
    text = base64.urlsafe_b64encode(msgspec.json.encode(list(cursor))).decode().rstrip("=")
    query = urlencode(
        [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"] + [("cursor", text)]
    )
    link = {"Link": f'<{request.url.path}?{query}>; rel="next"'}
    return reply({"items": items, "next": text}, headers=link)


def read_cursor(text: str | None, kind: Any) -> Any:
    """The value in a cursor, of the type `kind`, or None without one. Raises 400."""
    if text is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        value = msgspec.json.decode(raw, type=kind)
        # The first and the last day there is, at an offset, are moments that have no UTC.
        return tuple(part.astimezone(UTC) if isinstance(part, datetime) else part for part in value)
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError):
        raise ProblemError(400, "cursor", "this cursor is of no listing; begin without one") from None
