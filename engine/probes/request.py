"""HTTP requests: what a check and a redirect make of one, and its bytes in HTTP/1.1. Sends nothing."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Final

from engine.probes.encoding import ACCEPTED
from engine.probes.trouble import TroubleError
from rules.kinds.http import HttpCheck
from rules.secret import cut, is_secret_name
from rules.target import Target, parse_target

USER_AGENT: Final = f"Upbeat/{version('upbeat')} (+synthetic)"
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD: Final = frozenset({307, 308})
_WITH_LENGTH: Final = frozenset({"POST", "PUT", "PATCH"})

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One hop. `headers` are all but Host, Connection and Content-Length; a Host among them replaces ours."""

    target: Target
    method: str
    headers: Headers
    body: bytes
    is_elsewhere: bool = False  # a redirect left the origin: secrets and our certificate stayed behind


def first_request(check: HttpCheck, traceparent: str, token: str | None = None) -> Request:
    """The request of `check`; its own headers override ours, and the `token` that was fetched for it."""
    ours = [("user-agent", USER_AGENT), ("accept", "*/*"), ("traceparent", traceparent)]
    if check.reads_body and not check.may_stream:
        ours.append(("accept-encoding", ACCEPTED))
    if token is not None:
        ours.append(("authorization", f"Bearer {token}"))
    if check.headers:
        theirs = {name.lower() for name, _ in check.headers}
        ours = [header for header in ours if header[0] not in theirs]
    return Request(check.target, check.method, (*ours, *check.headers), check.body)


def redirected(request: Request, status: int, location: str, secrets: tuple[str, ...]) -> Request:
    """The next hop, without `secrets` when the origin changes.

    Raises `TroubleError` where `location` is no http or https URL, or the body's secrets would go to another origin.
    """
    try:
        # Seen as latin-1, sent as UTF-8 where it is not ASCII at all.
        target = parse_target(location.encode("latin-1").decode("utf-8", "replace"), request.target)
    except ValueError as wrong:
        raise TroubleError("redirect.refused", f"redirected to {cut(location, 200)!r}: {wrong}") from None
    headers, method, body = request.headers, request.method, request.body
    if status not in _KEEP_METHOD and method not in ("GET", "HEAD"):
        method, body = "GET", b""
        headers = tuple(h for h in headers if not h[0].lower().startswith("content-"))
    next_hop = Request(target, method, headers, body, request.is_elsewhere)
    if origin(target) == origin(request.target):
        return next_hop
    foreign = elsewhere(next_hop, secrets)
    if foreign is None:
        raise TroubleError("redirect.refused", "redirected to another origin, with a secret in the body")
    return foreign


def elsewhere(request: Request, secrets: tuple[str, ...]) -> Request | None:
    """`request` for a stranger: without secret headers and a Host of the check's own. None with `secrets` in its body."""
    if any(secret.encode() in request.body for secret in secrets):
        return None
    headers = tuple(h for h in request.headers if h[0].lower() != "host" and not _is_secret(*h, secrets))
    return Request(request.target, request.method, headers, request.body, is_elsewhere=True)


def _is_secret(name: str, value: str, secrets: tuple[str, ...]) -> bool:
    return is_secret_name(name) or any(secret in value for secret in secrets)


def with_cookies(request: Request, cookies: str) -> Request:
    """`request` as it is sent, with `cookies` after those of a Cookie header of its own."""
    own = [value for name, value in request.headers if name.lower() == "cookie"]
    others = tuple(header for header in request.headers if header[0].lower() != "cookie")
    return replace(request, headers=(*others, ("cookie", "; ".join((*own, cookies)))))


def encode(request: Request, proxy_authorization: str | None = None, *, is_proxied: bool = False) -> bytes:
    """The request as it is sent, also to a forward proxy."""
    target, body = request.target, request.body
    lines = [f"{request.method} {target.url if is_proxied else target.path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in request.headers):
        lines.append(f"host: {target.authority}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    if proxy_authorization is not None:
        lines.append(f"proxy-authorization: {proxy_authorization}")
    if body or request.method in _WITH_LENGTH:
        lines.append(f"content-length: {len(body)}")
    lines.append("connection: close\r\n\r\n")
    return "\r\n".join(lines).encode() + body


def origin(target: Target) -> tuple[str, str, int]:
    """Whom secrets may be shown to."""
    return target.scheme, target.host, target.port
