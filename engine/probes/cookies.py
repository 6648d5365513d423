"""Cookies of one run (RFC 6265): taken from answers, sent with later requests of the same run, forgotten with it.

Nothing is kept between runs. A cookie is for the host that set it; a `Domain` widens it to that host's parent, never to
an address, a single label, or what looks like a registry's second level (co.uk): then it stays with its host.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from rules.target import Target

COOKIES_MAX: Final = 100
_COOKIE_MAX: Final = 4096  # characters of name and value
_SENT_MAX: Final = 16_384
_REGISTRY: Final = frozenset(
    {"ac", "co", "com", "edu", "gob", "gov", "gouv", "mil", "ne", "net", "nom", "or", "org"}
)


@dataclass(frozen=True, slots=True)
class _Cookie:
    name: str
    value: str
    domain: str
    is_wide: bool  # whether hosts under the domain get it, too
    path: str
    is_secure: bool


class Jar:
    """The cookies of one run."""

    __slots__ = ("_cookies",)

    def __init__(self) -> None:
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, headers: Iterable[tuple[str, str]], target: Target, into: dict[str, str]) -> None:
        """Keep what `headers` of an answer from `target` set; `into` has name and value of what is set now."""
        for header, line in headers:
            if header != "set-cookie":
                continue
            cookie, is_over = _parsed(line, target)
            if cookie is None:
                continue
            key = cookie.domain, cookie.path, cookie.name
            self._cookies.pop(key, None)
            into.pop(cookie.name, None)
            if not is_over and len(self._cookies) < COOKIES_MAX:
                self._cookies[key] = cookie
                into[cookie.name] = cookie.value

    def header(self, target: Target) -> str:
        """The value of Cookie for a request to `target`; empty for none."""
        fitting = [cookie for cookie in self._cookies.values() if _fits(cookie, target)]
        fitting.sort(key=lambda cookie: -len(cookie.path))
        sent = "; ".join(f"{cookie.name}={cookie.value}" for cookie in fitting)
        return sent if len(sent) <= _SENT_MAX else ""


def _parsed(line: str, target: Target) -> tuple[_Cookie | None, bool]:
    """The cookie of a Set-Cookie line, and whether it ends one instead."""
    pair, *rest = line.encode("latin-1").decode("utf-8", "replace").split(";")
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or not name or len(name) + len(value) > _COOKIE_MAX or any(c < " " for c in name + value):
        return None, False
    attributes = {}
    for part in rest:
        key, _, given = part.partition("=")
        attributes[key.strip().lower()] = given.strip()
    domain, is_wide = _domain(attributes.get("domain", ""), target.host)
    if not domain:
        return None, False
    path = attributes.get("path", "")
    if not path.startswith("/"):
        path = target.path.partition("?")[0].rpartition("/")[0] or "/"
    is_secure = "secure" in attributes
    if is_secure and target.scheme != "https":
        return None, False
    return _Cookie(name, value, domain, is_wide, path, is_secure), _is_over(attributes)


def _domain(given: str, host: str) -> tuple[str, bool]:
    """Whom a cookie of `host` is for, and whether also for what is under it; nothing where it is for a stranger."""
    host, given = host.lower().rstrip("."), given.lower().lstrip(".")
    if not given or given == host:
        return host, bool(given) and not _is_address(host)
    if not host.endswith(f".{given}") or _is_address(host):
        return "", False
    labels = given.split(".")
    if len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _REGISTRY):
        return host, False
    return given, True


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()


def _is_over(attributes: dict[str, str]) -> bool:
    age, expires = attributes.get("max-age"), attributes.get("expires")
    if age is not None and age.lstrip("-").isdigit():
        return age.startswith("-") or not age.strip("0")
    if expires is None:
        return False
    try:
        return parsedate_to_datetime(expires.replace("-", " ")).timestamp() <= time.time()
    except (ValueError, OverflowError, TypeError, IndexError):
        return False


def _fits(cookie: _Cookie, target: Target) -> bool:
    host, path = target.host.lower().rstrip("."), target.path.partition("?")[0]
    if host != cookie.domain and not (cookie.is_wide and host.endswith(f".{cookie.domain}")):
        return False
    if cookie.is_secure and target.scheme != "https":
        return False
    return path == cookie.path or path.startswith(
        cookie.path if cookie.path.endswith("/") else f"{cookie.path}/"
    )
