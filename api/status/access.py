"""Who is let in to a page that is not public. How a proof is come by is `api.status.routes`'."""

import hmac
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from api.status.document import Document

KEY: str = "key"
"""The option in a query that carries the proof: for feeds, and for who was sent a link."""


def admits(page: Document, connection: HTTPConnection, asked: Mapping[str, str]) -> bool:
    """Whether this request may see the page."""
    if page.rule.access.is_public:
        return True
    return bool(page.proof) and hmac.compare_digest(
        asked.get(KEY, "").encode("utf-8", "replace"), page.proof.encode()
    )
