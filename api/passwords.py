"""Passwords by scrypt, computed off the event loop, few at a time. It stores nothing."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from typing import Final

LEAST_LENGTH: Final = 12
_LOG_N, _R, _P = 15, 8, 1
_slots = asyncio.Semaphore(2)  # 32 MiB each


async def hash_password(password: str) -> str:
    """`scrypt$15$8$1$salt$key`."""
    salt = secrets.token_bytes(16)
    key = await _derive(password, salt)
    return "$".join(("scrypt", str(_LOG_N), str(_R), str(_P), _text(salt), _text(key)))


async def is_password(password: str, hashed: str | None) -> bool:
    """Whether it is the one; as slow when there is none, so that nobody learns which accounts exist."""
    parts = (hashed or f"scrypt$15$8$1${_text(bytes(16))}$").split("$")
    key = await _derive(password, base64.b64decode(parts[4]))
    return hashed is not None and hmac.compare_digest(_text(key), parts[5])


async def _derive(password: str, salt: bytes) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    async with _slots:
        return await asyncio.to_thread(
            hashlib.scrypt, secret, salt=salt, n=1 << _LOG_N, r=_R, p=_P, maxmem=64 << 20, dklen=32
        )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
