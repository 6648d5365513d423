"""HTTP/1.1 requests as bytes, and what a redirect makes of one. Sends nothing."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from engine.probes.trouble import TroubleError
from rules.kinds.http import HttpCheck
from rules.secret import is_secret_name
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


def first_request(check: HttpCheck, traceparent: str) -> Request:
    """The request of `check`; its own headers override ours."""
    ours = [("user-agent", USER_AGENT), ("accept", "*/*"), ("traceparent", traceparent)]
    if check.reads_body:
        ours.append(("accept-encoding", "gzip"))
    if check.headers:
        theirs = {name.lower() for name, _ in check.headers}
        ours = [header for header in ours if header[0] not in theirs]
    return Request(check.target, check.method, (*ours, *check.headers), check.body)


def redirected(request: Request, status: int, location: str, secrets: tuple[str, ...]) -> Request:
    """The next hop. Headers with `secrets` stay behind when the origin changes, and so does a Host of the check's own.

    Raises `TroubleError` where `location` is no http or https URL, or the body's secrets would go to another origin.
    """
    try:
        # Seen as latin-1, sent as UTF-8 where it is not ASCII at all.
        target = parse_target(location.encode("latin-1").decode("utf-8", "replace"), request.target)
    except ValueError as wrong:
        raise TroubleError("redirect.refused", f"redirected to {location[:200]!r}: {wrong}") from None
    headers, method, body = request.headers, request.method, request.body
    is_elsewhere = _origin(target) != _origin(request.target)
    if is_elsewhere:
        headers = tuple(h for h in headers if h[0].lower() != "host" and not _is_secret(*h, secrets))
    if status not in _KEEP_METHOD and method not in ("GET", "HEAD"):
        method, body = "GET", b""
        headers = tuple(h for h in headers if not h[0].lower().startswith("content-"))
    if is_elsewhere and any(secret.encode() in body for secret in secrets):
        raise TroubleError("redirect.refused", "redirected to another origin, with a secret in the body")
    return Request(target, method, headers, body)


def _is_secret(name: str, value: str, secrets: tuple[str, ...]) -> bool:
    return is_secret_name(name) or any(secret in value for secret in secrets)


def encode(request: Request) -> bytes:
    """The request as it is sent."""
    target, body = request.target, request.body
    lines = [f"{request.method} {target.path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in request.headers):
        lines.append(f"host: {target.authority}")
    lines += [f"{name}: {value}" for name, value in request.headers]
    if body or request.method in _WITH_LENGTH:
        lines.append(f"content-length: {len(body)}")
    lines.append("connection: close\r\n\r\n")
    return "\r\n".join(lines).encode() + body


def _origin(target: Target) -> tuple[str, str, int]:
    return target.scheme, target.host, target.port
