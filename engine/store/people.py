"""Who may do what: users, roles per page, sessions, one-time login links and tokens, always audited. It judges no request.

Sessions, links and tokens are random and kept as SHA-256; nothing that opens a door can be read from the database.
"""

import hashlib
import secrets
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import asyncpg

from engine.store.audit import Actor, record
from engine.store.database import Connection, Row
from engine.store.ids import new_id, show
from engine.store.objects import MissingError, TakenError

Role = Literal["viewer", "reviewer", "editor", "admin"]
Scope = Literal["read", "write", "admin"]
Grants = Mapping[UUID | None, Role]
"""A role per page; under None, of every page and of the installation."""

RANK: Final[dict[Role, int]] = {"viewer": 1, "reviewer": 2, "editor": 3, "admin": 4}
SCOPE_CAP: Final[dict[Scope, Role]] = {"read": "viewer", "write": "editor", "admin": "admin"}
SESSION_LIFE: Final = timedelta(days=14)
LINK_LIFE: Final = timedelta(hours=1)
LASTING_LINK_LIFE: Final = timedelta(hours=12)
TOKEN_LIFE: Final = timedelta(days=90)
FIRST_ADMIN: Final = "admin@localhost"

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX = "upb_"
_RANDOM_CHARS = 30  # 178 bits


@dataclass(frozen=True, slots=True)
class Person:
    """A user with their roles."""

    id: UUID
    email: str
    name: str
    disabled: bool
    grants: Grants


class LastAdminError(ValueError):
    """Without this user nobody could administer the installation."""

    def __init__(self) -> None:
        super().__init__("this is the only admin of the installation; make somebody else one first")


def narrower(one: Grants, other: Grants) -> Grants:
    """What both allow."""
    pages = set(one) | set(other)
    return {
        page: min(left, right, key=RANK.__getitem__)
        for page in pages
        if (left := one.get(page, one.get(None))) and (right := other.get(page, other.get(None)))
    }


# ---- users

_PERSON = (
    "SELECT u.id, u.email, u.name, u.disabled, u.password, u.created_at, "
    "coalesce((SELECT json_agg(json_build_array(r.page_id, r.role)) FROM roles r WHERE r.user_id = u.id), '[]') AS roles "
    "FROM users u "
)


def _grants(pairs: Sequence[Sequence[str | None]]) -> Grants:
    return {UUID(page) if page else None: role for page, role in pairs}  # type: ignore[misc]


def person_of(row: Row) -> Person:
    """A row of `users` or `user_by_email`."""
    return Person(row["id"], row["email"], row["name"], row["disabled"], _grants(row["roles"]))


async def users(
    connection: Connection, *, after: tuple[str, UUID] | None = None, limit: int | None = None
) -> list[Row]:
    """Users by (email, id)."""
    return await connection.fetch(
        _PERSON
        + "WHERE ($1::text IS NULL OR (lower(u.email), u.id) > ($1, $2)) ORDER BY lower(u.email), u.id LIMIT $3",
        *(after or (None, None)),
        limit,
    )


async def user(connection: Connection, user_id: UUID) -> Row:
    """One user. Raises `MissingError`."""
    row: Row | None = await connection.fetchrow(_PERSON + "WHERE u.id = $1", user_id)
    if row is None:
        raise MissingError("there is no such user")
    return row


async def user_by_email(connection: Connection, email: str) -> Row | None:
    """The user with this address, whatever its case."""
    return await connection.fetchrow(_PERSON + "WHERE lower(u.email) = lower($1)", email)


async def create_user(connection: Connection, actor: Actor, email: str, name: str, grants: Grants) -> UUID:
    """A new user, who can sign in once they used a login link. Raises `TakenError`."""
    user_id = new_id()
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO users (id, email, name) VALUES ($1, $2, $3)", user_id, email, name
            )
    except asyncpg.UniqueViolationError:
        raise TakenError(f"there is a user {email} already") from None
    await _write_roles(connection, user_id, grants)
    await record(connection, actor, "user.create", email, None, None, {"name": name, "roles": _shown(grants)})
    return user_id


async def change_user(
    connection: Connection,
    actor: Actor,
    user_id: UUID,
    *,
    name: str | None = None,
    grants: Grants | None = None,
    disabled: bool | None = None,
) -> None:
    """Change what is given. New roles, or being disabled, end the user's sessions. Raises `MissingError`, `LastAdminError`."""
    before = person_of(await user(connection, user_id))
    await connection.execute(
        "UPDATE users SET name = coalesce($2, name), disabled = coalesce($3, disabled) WHERE id = $1",
        user_id,
        name,
        disabled,
    )
    if grants is not None and grants != before.grants:
        await connection.execute("DELETE FROM roles WHERE user_id = $1", user_id)
        await _write_roles(connection, user_id, grants)
    if disabled or (grants is not None and grants != before.grants):
        await end_sessions(connection, user_id)
    await _keep_an_admin(connection, before)
    after = person_of(await user(connection, user_id))
    await record(connection, actor, "user.change", before.email, None, _public(before), _public(after))


async def remove_user(connection: Connection, actor: Actor, user_id: UUID) -> None:
    """Take a user away with sessions and links; tokens they made are revoked. Raises `MissingError`, `LastAdminError`."""
    before = person_of(await user(connection, user_id))
    await connection.execute("UPDATE tokens SET revoked_at = now() WHERE created_by = $1", before.email)
    await connection.execute("DELETE FROM users WHERE id = $1", user_id)
    await _keep_an_admin(connection, before)
    await record(connection, actor, "user.remove", before.email, None, _public(before), None)


async def _write_roles(connection: Connection, user_id: UUID, grants: Grants) -> None:
    await connection.executemany(
        "INSERT INTO roles (user_id, page_id, role) VALUES ($1, $2, $3)",
        [(user_id, page, role) for page, role in grants.items()],
    )


async def _keep_an_admin(connection: Connection, before: Person) -> None:
    if before.grants.get(None) != "admin" or before.disabled:
        return
    # Two admins who demote each other at the same moment must not both succeed.
    await connection.execute("LOCK TABLE roles IN SHARE ROW EXCLUSIVE MODE")
    left = await connection.fetchval(
        "SELECT count(*) FROM roles r JOIN users u ON u.id = r.user_id "
        "WHERE r.page_id IS NULL AND r.role = 'admin' AND NOT u.disabled"
    )
    if not left:
        raise LastAdminError


def _shown(grants: Grants) -> list[dict[str, str | None]]:
    return [{"page": show("page", page) if page else None, "role": role} for page, role in grants.items()]


def _public(person: Person) -> dict[str, object]:
    return {"name": person.name, "disabled": person.disabled, "roles": _shown(person.grants)}


async def set_password(connection: Connection, actor: Actor, user_id: UUID, hashed: str) -> None:
    """Replace the password (`api.passwords` hashes it) and end every session and link of the user."""
    email = await connection.fetchval(
        "UPDATE users SET password = $2 WHERE id = $1 RETURNING email", user_id, hashed
    )
    if email is None:
        raise MissingError("there is no such user")
    await end_sessions(connection, user_id)
    await record(connection, actor, "user.password", email)


# ---- sessions and login links


def digest_of(secret: str) -> bytes:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def open_session(connection: Connection, actor: Actor, user_id: UUID) -> str:
    """A new session's secret, for its cookie; valid for `SESSION_LIFE`."""
    secret = secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO sessions (digest, user_id, expires_at) VALUES ($1, $2, now() + $3::interval)",
        digest_of(secret),
        user_id,
        SESSION_LIFE,
    )
    await record(connection, actor, "session.open", actor.name)
    return secret


async def session(connection: Connection, secret: str) -> Person | None:
    """Whose session this is, while it lasts."""
    row = await connection.fetchrow(
        _PERSON
        + "JOIN sessions s ON s.user_id = u.id WHERE s.digest = $1 AND s.expires_at > now() AND NOT u.disabled",
        digest_of(secret),
    )
    return person_of(row) if row else None


async def close_session(connection: Connection, actor: Actor, secret: str) -> None:
    """Sign out."""
    await connection.execute("DELETE FROM sessions WHERE digest = $1", digest_of(secret))
    await record(connection, actor, "session.close", actor.name)


async def end_sessions(connection: Connection, user_id: UUID) -> None:
    """Sign a user out everywhere, unused login links included."""
    await connection.execute("DELETE FROM sessions WHERE user_id = $1", user_id)
    await connection.execute("DELETE FROM login_links WHERE user_id = $1", user_id)


async def make_login_link(
    connection: Connection, actor: Actor, email: str | None = None, *, lasting: bool = False
) -> str:
    """The secret of a link that signs in once within `LINK_LIFE`; a `lasting` one until it is removed, for half a day.

    Without `email` it is the oldest admin's; where the installation has none, `FIRST_ADMIN` is made. Raises `MissingError`.
    """
    row = await user_by_email(connection, email) if email else await _first_admin(connection)
    if row is None and email is None and await user_by_email(connection, FIRST_ADMIN) is None:
        await create_user(connection, actor, FIRST_ADMIN, "Admin", {None: "admin"})
        row = await _first_admin(connection)
    if row is None or row["disabled"]:
        raise MissingError(f"there is no active user {email}" if email else "there is no active admin")
    secret = secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO login_links (digest, user_id, expires_at, lasting) VALUES ($1, $2, now() + $3::interval, $4)",
        digest_of(secret),
        row["id"],
        LASTING_LINK_LIFE if lasting else LINK_LIFE,
        lasting,
    )
    await record(connection, actor, "login_link.create", row["email"])
    return secret


async def _first_admin(connection: Connection) -> Row | None:
    return await connection.fetchrow(
        _PERSON + "JOIN roles a ON a.user_id = u.id AND a.page_id IS NULL AND a.role = 'admin' "
        "WHERE NOT u.disabled ORDER BY u.created_at, u.id LIMIT 1"
    )


async def use_login_link(connection: Connection, secret: str) -> Person | None:
    """Whose link this is; it works no second time, unless it is a lasting one."""
    user_id = await connection.fetchval(
        "WITH used AS (DELETE FROM login_links WHERE digest = $1 AND expires_at > now() AND NOT lasting RETURNING user_id) "
        "SELECT user_id FROM used UNION ALL "
        "SELECT user_id FROM login_links WHERE digest = $1 AND expires_at > now() AND lasting",
        digest_of(secret),
    )
    row = await user(connection, user_id) if user_id else None
    return person_of(row) if row and not row["disabled"] else None


async def is_lasting_link(connection: Connection, secret: str) -> bool:
    """Whether this is a link that works more than once."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM login_links WHERE digest = $1 AND expires_at > now() AND lasting)",
        digest_of(secret),
    )
    return found


async def remove_login_link(connection: Connection, secret: str) -> None:
    """The link works no more."""
    await connection.execute("DELETE FROM login_links WHERE digest = $1", digest_of(secret))


# ---- tokens


def _tail(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits


def new_token(prefix: str = _PREFIX) -> str:
    """A text that nobody guesses, and that can be told from others without a database."""
    body = prefix + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_CHARS))
    return body + _tail(body)


def is_token(text: str, prefix: str = _PREFIX) -> bool:
    """Whether `text` can be a token at all: its shape and its CRC are right. Asks no database."""
    body, tail = text[:-6], text[-6:]
    return (
        len(text) == len(prefix) + _RANDOM_CHARS + 6
        and text.startswith(prefix)
        and text.isascii()
        and _tail(body) == tail
    )


async def issue_token(
    connection: Connection,
    actor: Actor,
    name: str,
    scope: Scope,
    role: Role,
    page_id: UUID | None,
    life: timedelta | None = TOKEN_LIFE,
) -> tuple[UUID, str]:
    """A new token's id and text, which is shown this once; `life` None never ends."""
    text, token_id = new_token(), new_id()
    await connection.execute(
        "INSERT INTO tokens (id, name, hint, digest, scope, role, page_id, created_by, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::interval)",
        token_id,
        name,
        text[-4:],
        digest_of(text),
        scope,
        role,
        page_id,
        actor.name,
        life,
    )
    after = {"scope": scope, "role": role, "life_days": life.days if life else None}
    await record(connection, actor, "token.create", name, page_id, None, after)
    return token_id, text


async def token(connection: Connection, text: str) -> tuple[Row, Grants] | None:
    """A living token and what it allows: never more than its maker may today. Notes its use once a minute."""
    row = await connection.fetchrow(
        "SELECT t.id, t.name, t.scope, t.role, t.page_id, t.created_by, u.disabled, "
        "t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute' AS unnoted, "
        "(SELECT json_agg(json_build_array(r.page_id, r.role)) FROM roles r WHERE r.user_id = u.id) AS roles "
        "FROM tokens t LEFT JOIN users u ON lower(u.email) = lower(t.created_by) "
        "WHERE t.digest = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())",
        digest_of(text),
    )
    if row is None or row["disabled"]:
        return None
    if row["unnoted"]:
        await connection.execute("UPDATE tokens SET last_used_at = now() WHERE id = $1", row["id"])
    role = min(row["role"], SCOPE_CAP[row["scope"]], key=RANK.__getitem__)
    grants: Grants = {row["page_id"]: role}
    if row["disabled"] is not None:  # made by a user, not by the installation itself
        grants = narrower(grants, _grants(row["roles"] or []))
    return row, {page: held for page, held in grants.items() if row["page_id"] in (None, page)}


async def tokens(
    connection: Connection,
    *,
    pages: Sequence[UUID] | None = None,
    created_by: str | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Row]:
    """Tokens of these pages (None: of all) and of this maker, oldest first."""
    return await connection.fetch(
        "SELECT t.*, p.slug AS page FROM tokens t LEFT JOIN objects p ON p.id = t.page_id "
        "WHERE ($1::uuid[] IS NULL OR t.page_id = ANY ($1) OR t.created_by = $4) "
        "AND ($2::uuid IS NULL OR t.id > $2) ORDER BY t.id LIMIT $3",
        pages,
        after,
        limit,
        created_by,
    )


async def revoke_token(
    connection: Connection,
    actor: Actor,
    token_id: UUID,
    *,
    pages: Sequence[UUID] | None = None,
    created_by: str | None = None,
) -> None:
    """End a token of these pages (None: of all) or of this maker now. Doing it again changes nothing. Raises `MissingError`."""
    row = await connection.fetchrow(
        "SELECT name, page_id, revoked_at FROM tokens WHERE id = $1 "
        "AND ($2::uuid[] IS NULL OR page_id = ANY ($2) OR created_by = $3) FOR UPDATE",
        token_id,
        pages,
        created_by,
    )
    if row is None:
        raise MissingError("there is no such token")
    if row["revoked_at"] is None:
        await connection.execute("UPDATE tokens SET revoked_at = now() WHERE id = $1", token_id)
        await record(connection, actor, "token.revoke", row["name"], row["page_id"])
