"""OTLP: sends the metrics of every result to one receiver, over HTTP or gRPC. It sends no traces and no logs."""

import gzip
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

import aiohttp
import grpc
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from evaluators.model import Result, Stage
from exporters.answer import failed, judge
from exporters.measurement import Totals
from exporters.otlp_encoding import Encoder
from exporters.outcome import Delivered, Outcome, Rejected, Retry

_LOG = logging.getLogger(__name__)

Protocol = Literal["http/protobuf", "grpc"]
Send = Callable[[bytes], Awaitable[Outcome]]
"""Delivers one encoded export request."""


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """Where metrics go: `endpoint` is a base URL; over HTTP `/v1/metrics` is added to it."""

    endpoint: str
    protocol: Protocol = "http/protobuf"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    interval_s: float = 60.0
    timeout_s: float = 10.0
    compression: Literal["gzip", "none"] = "gzip"


def settings_from(environment: Mapping[str, str]) -> OtlpSettings | None:
    """The settings the standard `OTEL_EXPORTER_OTLP_*` variables give, None without an endpoint.

    Raises `ValueError` naming a variable, its value and what is allowed.
    """
    endpoint = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if not endpoint:
        return None
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is {endpoint!r}; it must begin with http:// or https://"
        )
    protocol: Protocol = "http/protobuf"
    given = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() or protocol
    if given not in get_args(Protocol):
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {given!r}; allowed are http/protobuf and grpc")
    return OtlpSettings(
        endpoint,
        "grpc" if given == "grpc" else "http/protobuf",
        _headers(environment.get("OTEL_EXPORTER_OTLP_HEADERS", "")),
        interval_s=_seconds(environment, "OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        timeout_s=_seconds(environment, "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000),
        compression="none" if environment.get("OTEL_EXPORTER_OTLP_COMPRESSION") == "none" else "gzip",
    )


class OtlpMetrics:
    """Keeps `totals` up to date and sends all of them at each `flush`, every `settings.interval_s` by the caller's loop.

    Totals are cumulative, so a flush that fails loses nothing: the next one says it all.
    """

    def __init__(
        self,
        totals: Totals,
        send: Send,
        resource: Mapping[str, str],
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._totals, self._send, self._now_ns = totals, send, now_ns
        self._encoder = Encoder(resource)

    def observe(self, results: Sequence[Result]) -> None:
        self._totals.observe(results)

    def stage(self, beat_id: str, stage: Stage) -> None:
        self._totals.stage(beat_id, stage)

    def forget(self, beat_id: str) -> None:
        self._totals.forget(beat_id)

    async def flush(self) -> Outcome:
        """Send everything, request by request; the first that is not delivered ends it and is the outcome."""
        for request in self._encoder.requests(self._totals, self._now_ns()):
            outcome = await self._send(request)
            if not isinstance(outcome, Delivered):
                return outcome
        return Delivered()


def resource(instance_id: str, version: str) -> dict[str, str]:
    """Resource attributes of this process."""
    return {"service.name": "upbeat", "service.instance.id": instance_id, "service.version": version}


class HttpSender:
    """OTLP/HTTP with protobuf, through a session of the guarded connector."""

    def __init__(self, session: aiohttp.ClientSession, settings: OtlpSettings) -> None:
        self._session, self._zips = session, settings.compression == "gzip"
        self._url = settings.endpoint.rstrip("/").removesuffix("/v1/metrics") + "/v1/metrics"
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_s)
        self._headers = {**settings.headers, "Content-Type": "application/x-protobuf"}
        if self._zips:
            self._headers["Content-Encoding"] = "gzip"

    async def __call__(self, request: bytes) -> Outcome:
        body = gzip.compress(request, 1) if self._zips else request
        post = self._session.post(
            self._url, data=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
        )
        try:
            async with post as answer:
                if answer.status == 200:
                    _note(await answer.content.read(65536))
                return judge(answer.status, answer.headers.get("Retry-After"), now_s=time.time())
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return Rejected("the endpoint is not a usable http or https address")
        except TimeoutError:
            return Retry("no answer in time")
        except (aiohttp.ClientError, OSError) as failure:
            return failed(failure)


class GrpcSender:
    """OTLP/gRPC. The channel resolves and reconnects by itself, outside the guarded connector."""

    # https://opentelemetry.io/docs/specs/otlp/#failures
    _AGAIN = frozenset(
        (
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.OUT_OF_RANGE,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DATA_LOSS,
        )
    )

    def __init__(self, settings: OtlpSettings) -> None:
        parts = urlsplit(settings.endpoint)
        zipping = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        if parts.scheme == "https":
            self._channel = grpc.aio.secure_channel(
                parts.netloc, grpc.ssl_channel_credentials(), compression=zipping
            )
        else:
            self._channel = grpc.aio.insecure_channel(parts.netloc, compression=zipping)
        self._export = self._channel.unary_unary(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        )
        self._metadata = tuple((name.lower(), value) for name, value in settings.headers.items())
        self._timeout_s = settings.timeout_s

    async def __call__(self, request: bytes) -> Outcome:
        try:
            _note(await self._export(request, timeout=self._timeout_s, metadata=self._metadata))
        except grpc.aio.AioRpcError as failure:
            reason = f"gRPC {failure.code().name}"
            return Retry(reason) if failure.code() in self._AGAIN else Rejected(reason)
        return Delivered()

    async def close(self) -> None:
        await self._channel.close()


def _note(answer: bytes) -> None:
    """Log what a receiver that took a request did not take of it; sending it again would not help."""
    try:
        partly = ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError:  # some receivers answer 200 with JSON or nothing
        return
    if partly.rejected_data_points:
        _LOG.warning("the OTLP receiver refused %d data points", partly.rejected_data_points)


def _headers(text: str) -> dict[str, str]:
    """`a=1,b=2` with percent-encoded values, as the specification has it."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}


def _seconds(environment: Mapping[str, str], name: str, default_ms: int) -> float:
    text = environment.get(name, "").strip() or str(default_ms)
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{name} is {text!r}; it must be a whole number of milliseconds")
    return int(text) / 1000
