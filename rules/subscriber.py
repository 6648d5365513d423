"""Where subscribers of a page are told: mailboxes and URLs that may be written to. Who they are is stored."""

import re
import unicodedata
from typing import Annotated, Final
from urllib.parse import urlsplit

import idna
from pydantic import StringConstraints

from rules.page import SubscriberKind

PersonName = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f<>\"]*$", max_length=200, strip_whitespace=True)
]
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_URL: Final = re.compile(r"[\x21-\x7e]{1,2000}")
_NO_URL: Final = "is no URL: write https://, a host and a path, up to 2000 ASCII characters"
_SLACK: Final = ("hooks.slack.com", "hooks.slack-gov.com")


def address_of(kind: SubscriberKind, text: str) -> str:
    """The address as it is written to: IDN in ASCII, what is after a + kept. Raises `ValueError` saying what is wrong."""
    return _mailbox(text.strip()) if kind == "email" else _url(kind, text.strip())


def _mailbox(text: str) -> str:
    # What is longer is none, and would not be read before it is: marks in disorder take the square of their number.
    local, at, domain = unicodedata.normalize("NFC", text[:400]).rpartition("@")
    if not at or len(text) > 320 or len(local) > 64 or not _LOCAL.fullmatch(local):
        raise ValueError("is no e-mail address: write name@example.com, the name in ASCII")
    try:
        host = idna.encode(domain, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        host = ""
    if "." not in host or host.rpartition(".")[2].isdigit() or len(local) + len(host) > 253:
        raise ValueError("is no e-mail address: what is behind the @ is no domain")
    return f"{local}@{host}"


def _url(kind: SubscriberKind, text: str) -> str:
    try:
        parts = urlsplit(text if _URL.fullmatch(text) else "")
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError(_NO_URL) from None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError(_NO_URL)
    if "@" in parts.netloc:
        raise ValueError("has a user name or password in it: leave them out")
    if kind == "slack" and (parts.scheme != "https" or host not in _SLACK):
        raise ValueError(f"is no incoming webhook of Slack: those begin with https://{_SLACK[0]}/")
    return text
