"""Who is let in to a page that is not public, by where they are or by what they carry. How they come by it is `api.status.unlocking`'s.

Nothing of it is stored: a ticket names until when it holds and whose it is, and is signed with the page's own seal. What it was
given for is signed too, so that another password, or a domain that is listed no longer, ends it.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal
from uuid import UUID

from starlette.requests import HTTPConnection

from api.context import services_of
from api.origin import address_of, is_trusted, is_within, scheme_of
from api.status.document import Document
from api.status.view import Place
from engine.store.signing import signature
from rules.page import Page
from rules.secret import Sources, UnsetReferenceError, expand

KEY: Final = "key"
"""The option in a query that carries the proof: for feeds, and for who was sent a link."""
COOKIE: Final = "upbeat-entry"
ENTRY_S: Final = 30 * 86400
"""How long a browser is let in by what it proved once."""
_TICKET: Final = re.compile(r"(\d{1,12})\.([\w-]{0,400})\.[\w-]{43}", re.ASCII)

Use = Literal["entry", "link"]
"""A cookie that lets in, and a link that was mailed, with which one is got."""


def seal_of(signing_key: bytes, page_id: UUID) -> str:
    """What is signed with on this page."""
    return signature(signing_key, "page", page_id)


def proof_of(rule: Page, seal: str, sources: Sources) -> str:
    """Of the page's password; "" where it has none, or one that stands for nothing here: then nobody is let in by it."""
    try:
        password = expand(rule.access.password or "", sources)
    except UnsetReferenceError:
        return ""
    return proven(seal, password) if password else ""


def proven(seal: str, password: str) -> str:
    """The proof that who gave this password has."""
    return signature(seal.encode(), "password", password)


def knows(page: Document, password: str) -> bool:
    """Whether it is the page's password; takes as long whatever it is."""
    return bool(page.proof) and _is_same(proven(page.seal, password), page.proof)


def key_of(page: Document, connection: HTTPConnection, asked: Mapping[str, str]) -> str | None:
    """What links may carry for who asks: the proof where they proved it, else "". None: they are not let in."""
    if page.rule.access.is_public:
        return ""
    if page.proof and _is_same(asked.get(KEY, ""), page.proof):
        return page.proof
    whose = holder(page, "entry", connection.cookies.get(COOKIE, ""), _now_s(connection))
    if whose is not None:
        return "" if whose else page.proof
    return "" if _is_near(page.rule, connection) else None


def outside(page: Document) -> Document:
    """What who is not let in may know of the page: how it looks."""
    return replace(page, status="operational", components=[], incidents=[], maintenances=[], stale_since=None)


def ticket(page: Document, use: Use, mailbox: str, until_s: int) -> str:
    """What lets in whoever has this mailbox, or gave the password (""), until then (seconds since the epoch)."""
    named = base64.urlsafe_b64encode(mailbox.encode()).decode().rstrip("=")
    rests_on = "" if mailbox else page.proof
    return f"{until_s}.{named}.{signature(page.seal.encode(), use, until_s, mailbox, rests_on)}"


def holder(page: Document, use: Use, given: str, now_s: float) -> str | None:
    """Whose ticket it is: a mailbox, or "" of who gave the password. None: it ended, or never was one."""
    match = _TICKET.fullmatch(given)
    if match is None or int(match[1]) <= now_s:
        return None
    try:
        mailbox = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    holds = is_listed(page.rule, mailbox) if mailbox else bool(page.proof)
    return mailbox if holds and _is_same(given, ticket(page, use, mailbox, int(match[1]))) else None


def is_listed(rule: Page, mailbox: str) -> bool:
    """Whether mailboxes of its very domain may ask for a link."""
    return mailbox.rpartition("@")[2] in rule.access.emails


def cookie(page: Document, place: Place, connection: HTTPConnection, mailbox: str = "") -> str:
    """The Set-Cookie with which a browser is let in from now on: to this page and no other."""
    given = ticket(page, "entry", mailbox, int(_now_s(connection)) + ENTRY_S)
    secure = "; Secure" if scheme_of(connection) == "https" else ""
    return f"{COOKIE}={given}; Max-Age={ENTRY_S}; Path={place.base or '/'}; HttpOnly; SameSite=Lax{secure}"


def _is_near(rule: Page, connection: HTTPConnection) -> bool:
    """Whether their address lets them in. One who comes by a proxy that is not trusted, or does not say for whom it asks, has none."""
    networks, address = tuple(rule.access.networks), address_of(connection)
    if not networks or is_trusted(connection, address):  # a proxy's own: nobody said whose it asks for
        return False
    is_direct = connection.client is None or connection.client.host == address
    return is_within(address, networks) and not (
        is_direct and any(name in connection.headers for name in _FORWARDED)
    )


_FORWARDED: Final = ("x-forwarded-for", "forwarded", "x-real-ip")


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _now_s(connection: HTTPConnection) -> float:
    return services_of(connection).clock.epoch_s()
