"""Letters on their way: one of a broadcast for one subscriber, or one for one address alone. Which are due, and what came of them.

How they are sent is `engine.mailing`'s; what they say is put together here, of what holds when they leave.
"""

from uuid import UUID

from msgspec import to_builtins

from engine.store.database import Connection
from evaluators.model import Letter
from rules.page import SubscriberKind


async def put_single(
    connection: Connection,
    page_id: UUID,
    kind: SubscriberKind,
    address: str,
    letter: Letter,
    *,
    link: str,
    language: str | None = None,
    subscriber: UUID | None = None,
) -> None:
    """Send one address alone this letter (`confirm`, `entrance`) with the URL `link` that it asks to open.

    It goes before what a page's subscribers are told. `subscriber`: who is to confirm. `language` None: the page's first.
    """
    await connection.execute(
        "INSERT INTO letters (page_id, kind, address, item, subscriber_id, line) VALUES ($1, $2, $3, $4, $5, $6)",
        page_id,
        kind,
        address,
        {"letter": to_builtins(letter), "link": link, "language": language},
        subscriber,
        letter.id,
    )
