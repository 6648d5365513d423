"""Where an HTTP request goes: a URL taken apart once. Resolves and connects nothing."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import idna
from pydantic import AfterValidator, StringConstraints

from rules.secret import Sources, cut, expand, references

DEFAULT_PORTS = {"http": 80, "https": 443}


def request_url(url: str) -> str:
    """`url` as it was given. Raises `ValueError` for what is none; one with references is judged when it is expanded."""
    if any(references(url)):
        return url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ValueError(f"{url!r} is not a URL: {wrong}") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not an http or https URL")
    if any(c <= " " for c in url):
        raise ValueError(f"{url!r} has a space or control character in it; write it percent-encoded")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials; use `auth` or a header with ${env:NAME}")
    return url


RequestUrl = Annotated[str, StringConstraints(max_length=4000), AfterValidator(request_url)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where one HTTP request goes."""

    scheme: str
    host: str
    port: int
    authority: str  # the Host header
    path: str  # with query, never empty

    @property
    def url(self) -> str:
        """The absolute URL, without fragment."""
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_target(url: str, base: Target | None = None) -> Target:
    """`url` taken apart, resolved against `base` (a redirect). Raises `ValueError` for anything but http and https."""
    if base is not None:
        url = urljoin(base.url, url)
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{cut(url, 200)!r} is not an http or https URL")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials")
    if any(c <= " " or c == "\x7f" for c in url):
        raise ValueError(f"{cut(url, 200)!r} has a space or control character in it")
    if parts.port == 0:
        raise ValueError("port 0 is no port")
    host = ascii_host(parts.hostname)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    literal = f"[{host}]" if ":" in host else host
    authority = literal if port == DEFAULT_PORTS[parts.scheme] else f"{literal}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, authority, _ascii(path))


def target_of(url: str, sources: Sources) -> Target:
    """Where `url` leads once its references are replaced. Raises `ValueError`, and `rules.secret.UnsetReferenceError`."""
    try:
        return parse_target(expand(url, sources))
    except ValueError:
        if not any(references(url)):
            raise
        # Said without the value, any part of which may be the secret.
        raise ValueError(
            f"{cut(url, 200)!r} is not an http or https URL once its reference is replaced"
        ) from None


def host_of(host: str, sources: Sources) -> str:
    """`host` as it is looked up once its references are replaced. Raises as `target_of` does."""
    try:
        return ascii_host(expand(host, sources))
    except ValueError:
        if not any(references(host)):
            raise
        raise ValueError(f"{host!r} is not a host name once its reference is replaced") from None


def ascii_host(host: str) -> str:
    """`host` as browsers look it up (UTS 46). Raises `ValueError` for a name that has no such form.

    Python's own codec is that of 2003, for which straße.de is strasse.de, somebody else's.
    """
    if host.isascii():
        return host
    try:
        labels = idna.uts46_remap(host, std3_rules=False).split(".")
        labels = [
            f"xn--{label.encode('punycode').decode()}" if not label.isascii() else label for label in labels
        ]
    except UnicodeError:
        raise ValueError(f"{cut(host, 100)!r} is not a host name") from None
    if not all(0 < len(label) < 64 for label in (labels if labels[-1] else labels[:-1])):
        raise ValueError(f"{cut(host, 100)!r} is not a host name: its labels have 1 to 63 characters")
    return ".".join(labels)


def _ascii(path: str) -> str:
    return path if path.isascii() else "".join(c if c.isascii() else _percent(c) for c in path)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
