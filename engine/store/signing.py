"""What the installation signs with: links and cookies that it hands to people it does not know."""

import base64
import hashlib
import hmac
from uuid import UUID

from engine.store.database import Connection


async def signing_key(connection: Connection) -> bytes:
    """The installation's; it was made with its database."""
    found: str = await connection.fetchval("SELECT value FROM settings WHERE key = 'signing'")
    return bytes.fromhex(found)


def digest(key: bytes, *parts: object) -> bytes:
    """Of these parts, 32 bytes (HMAC-SHA-256). No part can pass for a part of another."""
    said = "".join(f"{len(text)}:{text}" for text in map(str, parts))
    return hmac.digest(key, said.encode(), hashlib.sha256)


def signature(key: bytes, *parts: object) -> str:
    """The same as 43 characters for URLs and cookies."""
    return base64.urlsafe_b64encode(digest(key, *parts)).decode().rstrip("=")


def webhook_key(key: bytes, subscriber: UUID) -> bytes:
    """What a subscriber's webhook is signed with; they know it as `whsec_` and its base64."""
    return digest(key, "webhook", subscriber)
