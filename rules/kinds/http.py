"""The `http` beat: what operators write of its requests, and the check compiled of them."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from rules.assertion import BODY, CERTIFICATE, TIMINGS, Assertion, HeaderName, HeaderValue
from rules.auth import Auth, TokenRequest, compile_auth
from rules.body import BodyRule, carried, encoded, filled
from rules.capture import (
    PLACE_FIRST,
    Captures,
    Publishing,
    Taking,
    compile_captures,
    expect_captured,
    expect_own_host,
    fill,
    places,
)
from rules.expectation import Expectation, compile_assertions
from rules.kinds.kind import Ip, ProbedRule, expect_subjects
from rules.pace import Pace, compile_pace
from rules.secret import Sources, expand, hidden_forms, is_secret_name, references, value_of
from rules.shape import Slug
from rules.target import RequestUrl, Target, ascii_host, parse_target, request_url, target_of
from rules.tls import TlsOptions, TlsRule, compile_tls

HTTP_SUBJECTS: Final = (
    BODY | TIMINGS | CERTIFICATE | {"status", "header", "cookie", "size", "redirects", "protocol"}
)
_STEPS_SUBJECTS: Final = TIMINGS | {"step"}
_WRITTEN_BY_US: Final = ("content-length", "transfer-encoding", "connection")

Method = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z-]{2,19}$")]
HttpVersion = Literal["1.1", "2", "auto"]


def _step_url(url: str) -> str:
    if PLACE_FIRST not in url:
        return request_url(url)
    if any(references(url)):
        return url
    expect_own_host(url, url)
    return url


def _proxy(url: str) -> str:
    if not any(references(url)):
        _parse_proxy(url)
    return url


def _version(given: object) -> object:
    return str(given) if type(given) in (int, float) else given


class RequestRule(BodyRule):
    """One request, but for its URL."""

    method: Method = Field(default="GET", description="In capital letters. A `jsonrpc` call is a POST.")
    headers: dict[HeaderName, HeaderValue] = Field(
        default={}, max_length=100, description="Sent with every attempt; values may hold references."
    )
    events: int = Field(
        default=1, ge=1, le=1000, description="How many events of a text/event-stream answer are read."
    )

    @property
    def sent_method(self) -> str:
        """The method of the request: a JSON-RPC call is a POST."""
        return self.method if self.jsonrpc is None else "POST"

    @model_validator(mode="after")
    def _is_sendable(self) -> Self:
        for name in self.headers:
            if name.lower() in _WRITTEN_BY_US:
                raise ValueError(f"the header {name} is written by Upbeat itself")
        if self.method == "CONNECT":
            raise ValueError("method CONNECT is of proxies; a beat has `proxy`")
        if self.jsonrpc is not None and self.method not in ("GET", "POST"):
            raise ValueError("method is POST for a JSON-RPC call; leave it away")
        return self


class Step(RequestRule):
    """One request of several; `${capture:name}` stands for what a step before it captured."""

    name: Slug = Field(description="Its name in results and assertions; unique in the beat.")
    url: Annotated[str, StringConstraints(max_length=4000), AfterValidator(_step_url)] = Field(
        description="http or https. A capture is part of path or query, percent-encoded, or the whole URL, "
        "resolved against that of the step before."
    )
    assertions: list[Assertion] = Field(
        default=[], max_length=100, description="What this request must show; all of them."
    )
    capture: Captures = Field(
        default={}, max_length=50, description="Values taken from its answer into later steps."
    )
    always: bool = Field(
        default=False, description="Runs even after a step before it failed, e.g. to log out."
    )

    @model_validator(mode="after")
    def _asserts_http(self) -> Self:
        expect_subjects(self.assertions, HTTP_SUBJECTS, "http")
        return self


class HttpBeat(RequestRule, TlsRule, Publishing, ProbedRule):
    """Requests over fresh connections: none is reused, so that every phase is measured."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["url"]}, {"required": ["steps"]}]})

    type: Literal["http"] = Field(description="The kind of beat.")
    url: RequestUrl | None = Field(
        default=None, description="http or https, without credentials; may hold references. Or `steps`."
    )
    steps: list[Step] = Field(
        default=[],
        max_length=20,
        description="Requests in their order, instead of one; what stands beside them is of every step.",
    )
    redirects: int = Field(default=5, ge=0, le=10, description="Redirects followed.")
    auth: Auth | None = Field(default=None, description="Who asks; a header Authorization goes before it.")
    ip: Ip = Field(
        default="any",
        description="4 or 6; `any` is IPv4 where the name has it, else IPv6. Of a proxy's name, too.",
    )
    proxy: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_proxy)] | None = Field(
        default=None, description="Forward proxy: http://host:port, or http://user:password@host:port."
    )
    http: Annotated[
        HttpVersion, BeforeValidator(_version), WithJsonSchema({"enum": ["1.1", "2", "auto", 1.1, 2]})
    ] = Field(
        default="1.1", description="`2` needs HTTP/2 over https, `auto` takes it where the server offers it."
    )

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        first = self.steps[0] if self.steps else self
        more = f" and {len(self.steps) - 1} more" if self.steps and len(self.steps) > 1 else ""
        return f"{first.sent_method} {first.url}{more}"

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        self.expect_published(step.capture for step in self.steps)
        if not self.steps:
            if self.url is None:
                raise ValueError("url is missing; an http beat has one, or `steps`")
            if self.http == "2" and self.url.startswith("http:"):
                raise ValueError("http 2 is spoken over https only; write `http: auto`, or an https URL")
            expect_subjects(self.assertions, HTTP_SUBJECTS, "http")
            expect_captured(places(self.model_dump(include={*_OF_A_REQUEST, "url"})), ())
            return self
        for key in sorted({*_OF_A_REQUEST - {"headers"}, "url"} & self.model_fields_set):
            field = type(self).model_fields[key]
            if getattr(self, key) != field.default:
                raise ValueError(f"{field.alias or key} belongs to one of the `steps`")
        self._expect_steps()
        return self

    def _expect_steps(self) -> None:
        captured: set[str] = set()
        names: list[str] = []
        for step in self.steps:
            if step.name in names:
                raise ValueError(f"steps has two of the name {step.name}")
            expect_captured(places(step.model_dump(include={*_OF_A_REQUEST, "url"})), captured)
            captured |= step.capture.keys()
            names.append(step.name)
        expect_captured(places(self.headers), ())
        expect_subjects(self.assertions, _STEPS_SUBJECTS, "http")
        for assertion in self.assertions:
            if assertion.of == "step" and assertion.name not in names:
                raise ValueError(f"there is no step {assertion.name}; there are: {', '.join(names)}")


_OF_A_REQUEST: Final = frozenset(RequestRule.model_fields)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A compiled `proxy`."""

    host: str
    port: int
    authorization: str | None  # the value of Proxy-Authorization


@dataclass(frozen=True, slots=True)
class Way:
    """How the requests of a check reach their targets."""

    ip: Ip
    tls: TlsOptions
    proxy: Proxy | None
    http: HttpVersion
    token: TokenRequest | None  # of `oauth2`


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """A compiled `http` beat, or one step of it."""

    pace: Pace
    expectations: tuple[Expectation, ...]
    target: Target  # with steps: of the first
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    redirects: int
    way: Way
    reads_body: bool  # whether an expectation or a capture needs the decoded body
    secrets: tuple[str, ...] = ()  # what nothing that is kept of a run may show
    events: int = 1
    rpc_id: int | None = None  # of the JSON-RPC response that must come
    may_stream: bool = False  # an event stream is expected, which no encoding may hold up
    steps: "tuple[HttpStep, ...]" = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What of a request waits for captured values."""

    url: str
    headers: tuple[tuple[str, str], ...]
    content: Mapping[str, Any]
    needs: frozenset[str]  # names of captures


@dataclass(frozen=True, slots=True)
class HttpStep:
    """A compiled step. `check` is whole where there is no `draft`."""

    name: str
    check: HttpCheck
    draft: Draft | None
    takings: tuple[Taking, ...]
    is_always: bool


def compile_http(beat: HttpBeat, sources: Sources) -> HttpCheck:
    """Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands."""
    return _Compiler(beat, sources).check()


class _Compiler:
    """What the requests of one beat share while they are compiled."""

    def __init__(self, beat: HttpBeat, sources: Sources) -> None:
        self._beat, self._sources = beat, sources
        sent = beat.model_dump(include=_SENT, exclude={"steps": {"__all__": {"assertions", "capture"}}})
        secrets = {value_of(name, sources) for name in references(sent)}
        authorization, token = None, None
        if beat.auth is not None:
            authorization, token, of_auth = compile_auth(beat.auth, sources)
            secrets.update(of_auth)
        proxy = _parse_proxy(expand(beat.proxy, sources)) if beat.proxy else None
        if proxy is not None and proxy.authorization is not None:
            password = unquote(urlsplit(expand(beat.proxy or "", sources)).password or "")
            secrets |= {proxy.authorization.removeprefix("Basic "), password}
        for headers in (beat.headers, *(step.headers for step in beat.steps)):
            for name, value in headers.items():
                if is_secret_name(name) and not any(references(value)) and not any(places(value)):
                    secrets |= {value, value.rpartition(" ")[2]}  # `Bearer x` and x
        self._authorization, self._secrets = authorization, hidden_forms(secrets)
        self._way = Way(beat.ip, compile_tls(beat, sources), proxy, beat.http, token)
        self._pace = compile_pace(beat)

    def check(self) -> HttpCheck:
        beat = self._beat
        if not beat.steps:
            target = target_of(beat.url or "", self._sources)
            return self._request(beat, beat.assertions, target, self._pace, 1, ())[0]
        steps = tuple(self._steps())
        return replace(
            steps[0].check,
            pace=self._pace,
            expectations=compile_assertions(beat.assertions),
            reads_body=False,
            steps=steps,
        )

    def _steps(self) -> Iterable[HttpStep]:
        pace, first = replace(self._pace, degraded_after=()), None
        for number, step in enumerate(self._beat.steps, 1):
            before, place, _ = step.url.partition(PLACE_FIRST)
            if place:
                expect_own_host(step.url, expand(step.url, self._sources))
            target = target_of(before, self._sources) if before else first
            assert target is not None  # nothing is captured before the first
            first = first or target
            takings = compile_captures(step.capture, self._beat.publish)
            check, draft = self._request(step, step.assertions, target, pace, number, takings)
            yield HttpStep(step.name, check, draft, takings, step.always)

    def _request(
        self,
        rule: "HttpBeat | Step",
        assertions: Iterable[Assertion],
        target: Target,
        pace: Pace,
        number: int,
        takings: tuple[Taking, ...],
    ) -> tuple[HttpCheck, Draft | None]:
        def expanded(text: str) -> str:
            return expand(text, self._sources)

        expectations = compile_assertions(assertions)
        content = carried(rule, expanded, number)
        headers = tuple((name, expanded(value)) for name, value in self._headers(rule).items())
        draft, body = None, b""
        if needs := frozenset(places((rule.url or "", headers, content))):
            draft = Draft(expanded(rule.url or ""), headers, content, needs)
        else:
            headers, body = _finished(headers, content)
        has_id = rule.jsonrpc is not None and not rule.jsonrpc.notify
        check = HttpCheck(
            pace,
            expectations,
            target,
            rule.sent_method,
            headers,
            body,
            self._beat.redirects,
            self._way,
            has_id
            or any(e.of in BODY for e in expectations)
            or any(taking.select or taking.pattern for taking in takings),
            self._secrets,
            rule.events,
            number if has_id else None,
            rule.jsonrpc is not None or "events" in rule.model_fields_set,
        )
        return check, draft

    def _headers(self, rule: RequestRule) -> dict[str, str]:
        """The beat's headers, the request's own before them."""
        own = {name.lower() for name in rule.headers}
        shared = {name: value for name, value in self._beat.headers.items() if name.lower() not in own}
        headers = shared | rule.headers
        names = own | {name.lower() for name in shared}
        if self._authorization is not None and "authorization" not in names:
            headers["authorization"] = self._authorization
        if rule.jsonrpc is not None and "accept" not in names:
            headers["accept"] = "application/json, text/event-stream"
        return headers


_SENT: Final = {*_OF_A_REQUEST, "url", "steps", "auth", "proxy", "key"}


def drafted(step: HttpStep, captured: Mapping[str, str], before: Target) -> HttpCheck:
    """The check of a step with its captured values in place. Raises `ValueError` where one is not allowed."""
    draft = step.draft
    if draft is None:
        return step.check

    def filling(text: str) -> str:
        return fill(text, captured)

    whole = draft.url.startswith(PLACE_FIRST)
    url = filling(draft.url) if whole else fill(draft.url, captured, lambda value: quote(value, safe=""))
    headers, body = _finished(
        tuple((name, filling(value)) for name, value in draft.headers), filled(draft.content, filling)
    )
    return replace(step.check, target=parse_target(url, before), headers=headers, body=body)


def _finished(
    headers: tuple[tuple[str, str], ...], content: Mapping[str, Any]
) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Headers and body as they are sent. Raises `ValueError` for what may not be."""
    for name, value in headers:
        if any(c in value for c in "\r\n\x00"):
            raise ValueError(f"the header {name} holds a line break once its reference is replaced")
    body, type_ = encoded(content)
    if type_ is not None and all(name.lower() != "content-type" for name, _ in headers):
        headers = (*headers, ("content-type", type_))
    return headers, body


def _parse_proxy(url: str) -> Proxy:
    try:
        parts = urlsplit(url)
        host, port = ascii_host(parts.hostname or ""), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme != "http" or not host or not port or parts.path not in ("", "/") or parts.query:
        raise ValueError("proxy is written as http://host:port, or http://user:password@host:port")
    if parts.username is None:
        return Proxy(host, port, None)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port, f"Basic {b64encode(pair.encode()).decode()}")
