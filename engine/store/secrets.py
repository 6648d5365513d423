"""Stored secrets: sealed with keys that are not in the database, written, listed without their values, removed."""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.store.audit import Actor, record
from engine.store.database import Connection
from engine.store.objects import InUseError

CHANGED: Final = "upbeat_secrets"
"""PostgreSQL notification sent with every change."""
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class LockedError(Exception):
    """A secret that cannot be sealed or opened here; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is kept."""

    key_id: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What may be known of a stored secret. `used_by`: `kind page/slug` of living objects."""

    page_id: UUID | None
    name: str
    revision: int
    updated_at: datetime
    updated_by: str
    used_by: list[str]


class Keyring:
    """Keys of 32 bytes by their ids (the beginning of their SHA-256); the first one seals, all of them open."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self.text = ",".join(base64.b64encode(key).decode() for key in keys)  # as `parse_keys` reads it
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self.ids = tuple(self._keys)

    def seal(self, page_id: UUID | None, name: str, value: str) -> Sealed:
        """`value` so that only the secret of this page and name can be read from it. Raises `LockedError`."""
        if not self.ids:
            raise LockedError(
                "this process has no key for secrets: set UPBEAT_SECRET_KEY (`openssl rand -base64 32`), the same for every process"
            )
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._keys[self.ids[0]].encrypt(nonce, value.encode(), _bound_to(page_id, name))
        return Sealed(self.ids[0], sealed)

    def open(self, page_id: UUID | None, name: str, kept: Sealed) -> str:
        """The value. Raises `LockedError`."""
        key = self._keys.get(kept.key_id)
        if key is None:
            raise LockedError(
                f"is sealed with the key {kept.key_id}, which this process lacks: give it the UPBEAT_SECRET_KEY "
                "of the process that stored it"
            )
        nonce, sealed = kept.sealed[:_NONCE_BYTES], kept.sealed[_NONCE_BYTES:]
        try:
            return key.decrypt(nonce, sealed, _bound_to(page_id, name)).decode()
        except InvalidTag:
            raise LockedError(
                "was altered in the database, or put in another's place: store it again"
            ) from None


def _bound_to(page_id: UUID | None, name: str) -> bytes:
    return f"{page_id or ''}:{name}".encode()


def parse_keys(text: str) -> tuple[bytes, ...]:
    """The keys in `text`: base64 of 32 bytes each, apart by blanks, commas or lines. Raises `ValueError`."""
    keys = []
    for word in text.replace(",", " ").split():
        try:
            key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise ValueError(
                "a key for secrets is base64 of 32 bytes; make one with `openssl rand -base64 32`"
            )
        keys.append(key)
    return tuple(keys)


async def read(connection: Connection) -> dict[tuple[UUID | None, str], Sealed]:
    """All that is stored, by page and name."""
    rows = await connection.fetch("SELECT page_id, name, key_id, sealed FROM secrets")
    return {(row["page_id"], row["name"]): Sealed(row["key_id"], row["sealed"]) for row in rows}


async def listing(
    connection: Connection, *, pages: Sequence[UUID] | None = None, name: str | None = None
) -> list[Kept]:
    """Those of `pages` (None: all, and the installation's), by name."""
    rows = await connection.fetch(
        "SELECT s.page_id, s.name, s.revision, s.updated_at, s.updated_by, ARRAY("
        " SELECT o.kind || ' ' || coalesce(p.slug || '/', '') || o.slug FROM objects o "
        " LEFT JOIN objects p ON p.id = o.page_id WHERE o.removed_at IS NULL AND CASE WHEN s.page_id IS NULL "
        " THEN position('${secret:/' || s.name || '}' IN o.spec::text) > 0 "
        " ELSE (o.page_id = s.page_id OR o.id = s.page_id) "
        "  AND position('${secret:' || s.name || '}' IN o.spec::text) > 0 END ORDER BY 1) "
        "|| ARRAY(SELECT 'settings' FROM settings t WHERE s.page_id IS NULL AND t.value::text ~ "
        " ('\\$\\{secret:/?' || replace(s.name, '.', '\\.') || '\\}')) AS used_by "
        "FROM secrets s WHERE ($1::uuid[] IS NULL OR s.page_id = ANY ($1)) AND ($2::text IS NULL OR s.name = $2) "
        "ORDER BY s.name, s.page_id NULLS FIRST",
        pages,
        name,
    )
    return [Kept(*row) for row in rows]


async def put(connection: Connection, actor: Actor, page_id: UUID | None, name: str, kept: Sealed) -> int:
    """Store it, in the place of what was; its revision."""
    revision: int = await connection.fetchval(
        "INSERT INTO secrets (page_id, name, key_id, sealed, updated_by) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (page_id, name) DO UPDATE SET key_id = $3, sealed = $4, updated_by = $5, "
        "revision = secrets.revision + 1, updated_at = now() RETURNING revision",
        page_id,
        name,
        kept.key_id,
        kept.sealed,
        actor.name,
    )
    await record(connection, actor, "secret.store", name, page_id, None, {"revision": revision})
    await _notify(connection)
    return revision


async def remove(connection: Connection, actor: Actor, kept: Kept, *, force: bool = False) -> None:
    """Forget it. Raises `InUseError` while it is used, unless forced."""
    if kept.used_by and not force:
        raise InUseError(
            f"secret {kept.name!r} is used by {', '.join(kept.used_by[:10])}; change that first, or force it"
        )
    await connection.execute(
        "DELETE FROM secrets WHERE page_id IS NOT DISTINCT FROM $1 AND name = $2", kept.page_id, kept.name
    )
    await record(connection, actor, "secret.remove", kept.name, kept.page_id, {"revision": kept.revision})
    await _notify(connection)


async def rotate(connection: Connection, actor: Actor, keyring: Keyring) -> int:
    """Seal everything with the first key; how many were sealed with another. Raises `LockedError`."""
    count = 0
    await connection.execute("LOCK TABLE secrets IN SHARE ROW EXCLUSIVE MODE")
    for (page_id, name), kept in (await read(connection)).items():
        if kept.key_id == next(iter(keyring.ids), None):
            continue
        try:
            fresh = keyring.seal(page_id, name, keyring.open(page_id, name, kept))
        except LockedError as locked:
            raise LockedError(f"{name} {locked}") from None
        await connection.execute(
            "UPDATE secrets SET key_id = $3, sealed = $4 WHERE page_id IS NOT DISTINCT FROM $1 AND name = $2",
            page_id,
            name,
            fresh.key_id,
            fresh.sealed,
        )
        count += 1
    await record(connection, actor, "secret.rotate", f"{count} secrets")
    await _notify(connection)
    return count


async def _notify(connection: Connection) -> None:
    await connection.execute("SELECT pg_notify($1, '')", CHANGED)
