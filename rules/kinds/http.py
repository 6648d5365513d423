"""The `http` beat: what operators write of a request, and the check compiled of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.assertion import HeaderName, HeaderValue
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import ProbedRule, expect_subjects
from rules.pace import Pace, compile_pace
from rules.secret import expand, hidden_forms, is_secret_name, references
from rules.target import Target, parse_target

HTTP_SUBJECTS = frozenset(
    {"status", "body", "json", "header", "size"}
    | {f"timing.{phase}" for phase in ("dns", "connect", "tls", "ttfb", "transfer", "total")}
)

Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3,10}$")]


def _http_url(url: str) -> str:
    if "${env:" in url:
        return url  # judged when it is expanded
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as wrong:
        raise ValueError(f"{url!r} is not a URL: {wrong}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is not an http or https URL")
    if any(c <= " " for c in url):
        raise ValueError(f"{url!r} has a space or control character in it; write it percent-encoded")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials; use an Authorization header with ${env:NAME}")
    return url


class HttpBeat(ProbedRule):
    """A fresh HTTP/1.1 request: no reused connection, so that every phase is measured."""

    type: Literal["http"] = Field(description="The kind of beat.")
    url: Annotated[str, StringConstraints(max_length=4000), AfterValidator(_http_url)] = Field(
        description="http or https, without credentials; may hold `${env:NAME}`."
    )
    method: Method = Field(default="GET", description="In capital letters.")
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=100, description="Sent with every attempt; values may hold `${env:NAME}`."
    )
    body: Annotated[str, StringConstraints(max_length=262_144)] | None = Field(
        default=None, description="Sent as UTF-8; may hold `${env:NAME}`."
    )
    redirects: int = Field(default=5, ge=0, le=10, description="Redirects followed.")
    verify: bool = Field(default=True, description="Whether the certificate is checked.")

    @model_validator(mode="after")
    def _asserts_http(self) -> Self:
        expect_subjects(self.assertions, HTTP_SUBJECTS, "http")
        for name in self.headers:
            if name.lower() in ("content-length", "transfer-encoding", "connection"):
                raise ValueError(f"the header {name} is written by Upbeat itself")
        return self


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


def compile_http(beat: HttpBeat, environment: Mapping[str, str]) -> HttpCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    headers = tuple((name, _header(name, expand(value, environment))) for name, value in beat.headers.items())
    expectations = compile_assertions(beat.assertions)
    return HttpCheck(
        compile_pace(beat),
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


def _header(name: str, value: str) -> str:
    if any(c in value for c in "\r\n\x00"):
        raise ValueError(f"the header {name} holds a line break once its reference is replaced")
    return value
