"""OTLP: sends one destination what is measured of its beats. It chooses no destination and keeps no time."""

import contextlib
import gzip
import logging
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, Protocol, get_args
from urllib.parse import unquote, urlsplit

import aiohttp
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporters.answer import failed, judge
from exporters.measurement import Totals
from exporters.otlp_encoding import Encoder, Names, Temporality
from exporters.otlp_spans import SpanQueue, spans_request
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.otlp import Otlp
from rules.secret import Sources, expand

_LOG = logging.getLogger(__name__)

ENGINE_KEPT: Final = 60
"""Exports of Upbeat's own differences that wait for a destination; of some 10 KB each."""

Speaks = Literal["http/protobuf", "grpc"]
Signal = Literal["metrics", "traces"]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts; None is the system's authorities, or no certificate of our own."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    verify: bool = True


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """One destination: `endpoint` is a base URL; over HTTP `/v1/metrics` or `/v1/traces` is added to it."""

    endpoint: str
    protocol: Speaks = "http/protobuf"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    interval_s: float = 60.0
    timeout_s: float = 10.0
    compression: Literal["gzip", "none"] = "gzip"
    tls: Tls = Tls()
    temporality: Temporality = "cumulative"
    names: Names = "upbeat"
    exemplars: bool = True
    spans: bool = False

    @property
    def host(self) -> str:
        """Its host and port, for people: nothing of it is secret."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2]


@dataclass(slots=True)
class Tally:
    """Counts over all destinations of this process, for /metrics."""

    delivered: int = 0  # requests
    failed: int = 0
    refused_points: int = 0
    refused_spans: int = 0
    dropped_spans: int = 0


class Sender(Protocol):
    """Delivers one encoded export request, and counts what was refused of it."""

    async def send(self, signal: Signal, request: bytes) -> Outcome: ...

    async def close(self) -> None: ...


def settings_of(rule: Otlp, sources: Sources) -> OtlpSettings:
    """The settings an operator wrote. Raises `rules.secret.UnsetReferenceError`, or `ValueError` for what cannot be used."""

    def value(text: str | None) -> str | None:
        return None if text is None else expand(text, sources)

    return OtlpSettings(
        _usable(expand(rule.endpoint, sources), "otlp.endpoint", rule.endpoint),
        rule.protocol,
        tuple((name, _one_line(name, expand(text, sources))) for name, text in rule.headers.items()),
        rule.interval,
        rule.timeout,
        rule.compression,
        Tls(value(rule.tls.ca), value(rule.tls.certificate), value(rule.tls.key), rule.tls.verify),
        rule.temporality,
        rule.names,
        rule.exemplars,
        rule.spans,
    )


def settings_from(environment: Mapping[str, str]) -> OtlpSettings | None:
    """The settings the standard `OTEL_EXPORTER_OTLP_*` variables give, None without an endpoint.

    Raises `ValueError` naming a variable, its value and what is allowed.
    """
    endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if not endpoint:
        return None
    temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    return OtlpSettings(
        _usable(endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        "grpc"
        if _one_of(environment, "OTEL_EXPORTER_OTLP_PROTOCOL", get_args(Speaks)) == "grpc"
        else "http/protobuf",
        _headers(environment.get("OTEL_EXPORTER_OTLP_HEADERS", "")),
        interval_s=_seconds(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        timeout_s=_seconds(environment, "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000),
        compression="none" if environment.get("OTEL_EXPORTER_OTLP_COMPRESSION") == "none" else "gzip",
        tls=Tls(
            _file(environment, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
            _file(environment, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            _file(environment, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        ),
        temporality="delta"
        if _one_of(environment, temporality, get_args(Temporality)) == "delta"
        else "cumulative",
        spans=_one_of(environment, "OTEL_TRACES_EXPORTER", ("none", "otlp")) == "otlp",
    )


class Destination:
    """What one destination has of the beats in `totals` that go there, of the runs in `spans`, and of `engine`.

    Nothing waits for it but what `SpanQueue` bounds: totals are there whether it is or not, and the next flush sends
    them, or their differences since the last one that came to an end. `engine` encodes Upbeat's metrics about itself.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        sender: Sender,
        totals: Totals,
        resource: Mapping[str, str],
        tally: Tally,
        *,
        spans: SpanQueue | None = None,
        engine: Callable[[], Awaitable[bytes]] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.interval_s = settings.interval_s
        self.spans = spans or SpanQueue()
        self._settings, self._sender, self._totals, self._tally = settings, sender, totals, tally
        self._resource, self._engine, self._now_ns = resource, engine, now_ns
        self._encoder = Encoder(
            resource,
            temporality=settings.temporality,
            names=settings.names,
            exemplars=settings.exemplars,
        )
        self._dropped = self.spans.dropped
        # Of totals the newest says all; differences are the only ones that know.
        self._unsent: deque[bytes] = deque(maxlen=ENGINE_KEPT if settings.temporality == "delta" else 1)
        self._trouble = ""

    @property
    def is_failing(self) -> bool:
        """Whether it did not take the last export."""
        return bool(self._trouble)

    def forsake(self) -> None:
        """It may no longer be reached: whatever is left for it is not sent."""
        self._trouble = self._trouble or "the egress policy changed"

    async def flush(self) -> Outcome:
        """Send everything, request by request. The first to be tried again ends it; one that is refused only itself."""
        outcome = await self._flush()
        trouble = "" if isinstance(outcome, Delivered) else outcome.reason
        if trouble and not self._trouble:
            _LOG.warning("%s does not take what is measured: %s", self._settings.host, trouble)
        elif self._trouble and not trouble:
            _LOG.info("%s takes what is measured again", self._settings.host)
        self._trouble = trouble
        self._count_dropped()
        return outcome

    async def close(self) -> None:
        """Send what has not been sent, if it was taken until now, and hang up."""
        try:
            if not self._trouble:
                await self._flush()
        finally:
            self._count_dropped()
            await self._sender.close()

    async def _flush(self) -> Outcome:
        outcome: Outcome = Delivered()
        for request in self._encoder.requests(self._totals.beats_of(self._settings), self._now_ns()):
            sent = await self._send("metrics", request.encode())
            if isinstance(sent, Retry):
                return sent
            request.settle()
            if isinstance(sent, Rejected):
                self._tally.refused_points += request.points
                outcome = sent
        if self._engine is not None:
            self._unsent.append(await self._engine())
        while self._unsent:
            sent = await self._send("metrics", self._unsent[0])
            if isinstance(sent, Retry):
                return sent
            self._unsent.popleft()
        for _ in range(self.spans.count):  # what comes meanwhile is the next one's
            if not (taken := self.spans.take()):
                break
            sent = await self._send("traces", spans_request(self._resource, taken))
            if isinstance(sent, Retry):
                self.spans.give_back(taken)
                return sent
            if isinstance(sent, Rejected):
                self._tally.refused_spans += len(taken)
                outcome = sent
        return outcome

    async def _send(self, signal: Signal, request: bytes) -> Outcome:
        outcome = await self._sender.send(signal, request)
        if isinstance(outcome, Delivered):
            self._tally.delivered += 1
        else:
            self._tally.failed += 1
        return outcome

    def _count_dropped(self) -> None:
        if dropped := self.spans.dropped - self._dropped:
            self._tally.dropped_spans += dropped
            self._dropped += dropped
            _LOG.warning(
                "%d runs are not in the traces of %s: it did not take them in time",
                dropped,
                self._settings.host,
            )


def resource(instance_id: str, version: str) -> dict[str, str]:
    """Resource attributes of this process."""
    return {"service.name": "upbeat", "service.instance.id": instance_id, "service.version": version}


class HttpSender:
    """OTLP/HTTP with protobuf, through a session of the guarded connector, which it closes."""

    def __init__(
        self, open_session: Callable[[], aiohttp.ClientSession], settings: OtlpSettings, tally: Tally
    ) -> None:
        self._zips, self._tally = settings.compression == "gzip", tally
        base = settings.endpoint.rstrip("/").removesuffix("/v1/metrics")
        self._urls = {signal: f"{base}/v1/{signal}" for signal in get_args(Signal)}
        self._host = settings.host
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_s)
        self._headers = {**dict(settings.headers), "Content-Type": "application/x-protobuf"}
        if self._zips:
            self._headers["Content-Encoding"] = "gzip"
        self._tls = _client_tls(settings.tls) if self._urls["metrics"].startswith("https:") else True
        self._session = open_session()  # last: what raises before leaves nothing to close

    async def send(self, signal: Signal, request: bytes) -> Outcome:
        body = gzip.compress(request, 1) if self._zips else request
        post = self._session.post(
            self._urls[signal],
            data=body,
            headers=self._headers,
            timeout=self._timeout,
            allow_redirects=False,
            ssl=self._tls,
        )
        try:
            async with post as answer:
                if answer.status == 200:
                    note_refused(signal, await answer.content.read(65536), self._tally, self._host)
                return judge(answer.status, answer.headers.get("Retry-After"), now_s=time.time())
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return Rejected("the endpoint is not a usable http or https address")
        except TimeoutError:
            return Retry("no answer in time")
        except (aiohttp.ClientError, OSError) as failure:
            return failed(failure)

    async def close(self) -> None:
        await self._session.close()


@lru_cache(maxsize=64)  # loading the system's authorities takes some 20 ms
def _client_tls(tls: Tls) -> ssl.SSLContext:
    """Raises `ValueError` for what is no certificate or key."""
    try:
        context = ssl.create_default_context(cadata=tls.ca)
        if tls.certificate is not None and tls.key is not None:
            with tempfile.NamedTemporaryFile(
                "w"
            ) as pair:  # ssl reads keys from files only; this one is ours alone
                pair.write(f"{tls.key}\n{tls.certificate}")
                pair.flush()
                context.load_cert_chain(pair.name)
    except (ssl.SSLError, ValueError) as wrong:
        raise ValueError(f"the certificates of otlp.tls cannot be used: {type(wrong).__name__}") from None
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def note_refused(signal: Signal, answer: bytes, tally: Tally, host: str) -> None:
    """Count what a receiver that took a request did not take of it; sending it again would not help."""
    try:
        if signal == "metrics":
            refused = ExportMetricsServiceResponse.FromString(answer).partial_success.rejected_data_points
            tally.refused_points += refused
        else:
            refused = ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans
            tally.refused_spans += refused
    except DecodeError:  # some receivers answer 200 with JSON or nothing
        return
    if refused:
        _LOG.warning("%s refused %d %s", host, refused, "data points" if signal == "metrics" else "spans")


def _usable(endpoint: str, what: str, shown: str) -> str:
    with contextlib.suppress(ValueError):
        parts = urlsplit(endpoint)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return endpoint
    raise ValueError(f"{what} is {shown!r}; it must begin with http:// or https:// and name a host")


def _one_line(name: str, value: str) -> str:
    if any(c in value for c in "\r\n\x00"):
        raise ValueError(f"otlp.headers {name} holds a line break once its reference is replaced")
    return value


def _one_of(environment: Mapping[str, str], name: str, allowed: Sequence[str]) -> str:
    given = environment.get(name, "").strip().lower() or allowed[0]
    if given not in allowed:
        raise ValueError(f"{name} is {given!r}; allowed are {' and '.join(allowed)}")
    return given


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """`a=1,b=2` with percent-encoded values, as the specification has it."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return tuple((name.strip(), unquote(value.strip())) for name, _, value in pairs)


def _seconds(environment: Mapping[str, str], name: str, default_ms: int) -> float:
    text = environment.get(name, "").strip() or str(default_ms)
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{name} is {text!r}; it must be a whole number of milliseconds")
    return int(text) / 1000


def _file(environment: Mapping[str, str], name: str) -> str | None:
    path = environment.get(name, "").strip()
    try:
        return Path(path).read_text("ascii") if path else None
    except (OSError, ValueError) as failure:
        raise ValueError(f"{name} is {path!r}, which cannot be read: {type(failure).__name__}") from None
