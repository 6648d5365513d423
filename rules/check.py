"""Checks: beats compiled for the probes. Slotted values, one per beat, with nothing left to parse at run time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from rules.assertion import Assertion, compile_pattern
from rules.beat import AnyBeat, DnsBeat, HttpBeat, parse_resolver
from rules.secret import expand, hidden_forms, is_secret_name, references
from rules.selection import Select, compile_path

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 5.0
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Expectation:
    """A compiled assertion. `select` is set for `json`, `pattern` for `matches`."""

    of: str
    operator: str
    expected: Any
    severity: str
    key: str | None = None  # header name in lower case, record type
    select: Select | None = None
    pattern: Any = None


@dataclass(frozen=True, slots=True)
class Pace:
    """When and how long a check runs; everything in seconds."""

    interval_s: float
    timeout_s: float  # per attempt
    retries: int
    deadline_s: float  # all attempts and back-off, never more than the interval
    degraded_after_s: float | None


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


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """A compiled `http` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    target: Target
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    redirects: int
    verify: bool
    reads_body: bool  # whether an expectation needs the decoded body
    secrets: tuple[str, ...] = ()  # what nothing that is kept of a run may show


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A compiled `tcp` beat."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    port: int
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """A compiled `dns` beat. `resolver` is (address, port), or None for the system's."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    host: str
    record: str
    resolver: tuple[str, int] | None
    secrets: tuple[str, ...] = ()


Check = HttpCheck | TcpCheck | DnsCheck


def run_deadline_s(interval_s: float, timeout_s: float, retries: int) -> float:
    """All attempts and the back-off between them, cut at the interval."""
    backoff_s: float = sum(min(BACKOFF_FIRST_S * 2**n, BACKOFF_MAX_S) for n in range(retries))
    return min(timeout_s * (retries + 1) + backoff_s, interval_s)


def compile_check(beat: AnyBeat, environment: Mapping[str, str]) -> Check:
    """`beat` ready to run, its `${env:NAME}` replaced from `environment`.

    Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands.
    """
    pace = Pace(
        beat.interval,
        beat.timeout,
        beat.retries,
        run_deadline_s(beat.interval, beat.timeout, beat.retries),
        beat.degraded_after,
    )
    expectations = tuple(_expectation(assertion) for assertion in beat.assertions)
    if isinstance(beat, HttpBeat):
        headers = tuple(
            (name, _header(name, expand(value, environment))) for name, value in beat.headers.items()
        )
        return HttpCheck(
            pace,
            expectations,
            _target(beat.url, environment),
            beat.method,
            headers,
            expand(beat.body, environment).encode() if beat.body else b"",
            beat.redirects,
            beat.verify,
            any(e.of in ("body", "json") for e in expectations),
            _secrets((beat.url, beat.body or "", *beat.headers.values()), environment, beat.headers),
        )
    host, secrets = _ascii_host(expand(beat.host, environment)), _secrets((beat.host,), environment)
    if isinstance(beat, DnsBeat):
        return DnsCheck(pace, expectations, host, beat.record, parse_resolver(beat.resolver), secrets)
    return TcpCheck(pace, expectations, host, beat.port, secrets)


def _target(url: str, environment: Mapping[str, str]) -> Target:
    try:
        return parse_target(expand(url, environment))
    except ValueError:
        if not any(references(url)):
            raise
        # Said without the value, any part of which may be the secret.
        raise ValueError(
            f"{url[:200]!r} is not an http or https URL once its reference is replaced"
        ) from None


def _secrets(
    texts: Iterable[str], environment: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The values that references stand for, and what headers with a telling name hold."""
    found = {environment[name] for text in texts for name in references(text)}
    for name, value in (headers or {}).items():
        if is_secret_name(name) and not any(references(value)):
            found |= {value, value.rpartition(" ")[2]}  # `Bearer x` and x
    return hidden_forms(found)


def _expectation(assertion: Assertion) -> Expectation:
    return Expectation(
        assertion.of,
        assertion.operator,
        assertion.expected,
        assertion.severity,
        assertion.name.lower() if assertion.name else assertion.type,
        compile_path(assertion.path) if assertion.path else None,
        compile_pattern(assertion.matches) if assertion.matches is not None else None,
    )


def _header(name: str, value: str) -> str:
    if any(c in value for c in "\r\n\x00"):
        raise ValueError(f"the header {name} holds a line break once its reference is replaced")
    return value


def parse_target(url: str, base: Target | None = None) -> Target:
    """`url` taken apart, resolved against `base` (a redirect). Raises `ValueError` for anything but http and https."""
    if base is not None:
        url = urljoin(base.url, url)
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url[:200]!r} is not an http or https URL")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials")
    if any(c <= " " or c == "\x7f" for c in url):
        raise ValueError(f"{url[:200]!r} has a space or control character in it")
    if parts.port == 0:
        raise ValueError("port 0 is no port")
    host = _ascii_host(parts.hostname)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    literal = f"[{host}]" if ":" in host else host
    authority = literal if port == DEFAULT_PORTS[parts.scheme] else f"{literal}:{port}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, authority, _ascii(path))


def _ascii_host(host: str) -> str:
    """`host` as it is looked up (IDNA). Raises `ValueError` for a name that has no such form."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{host[:100]!r} is not a host name") from None


def _ascii(path: str) -> str:
    return path if path.isascii() else "".join(c if c.isascii() else _percent(c) for c in path)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
