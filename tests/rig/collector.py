"""A receiver of OTLP that shares no code with the exporter: a real HTTP or gRPC server that decodes with opentelemetry-proto."""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

Point = tuple[tuple[str, str], ...]


@dataclass
class Collector:
    """`status` and `headers` are answered over HTTP, `refusal` and its `details` over gRPC; `partly` inside a success."""

    port: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refusal: grpc.StatusCode | None = None
    details: bytes = b""
    partly: int = 0
    asked: int = 0  # requests, refused ones included
    seen: list[Mapping[str, str]] = field(default_factory=list)  # headers of those taken
    metrics: list[metrics_service.ExportMetricsServiceRequest] = field(default_factory=list)
    traces: list[trace_service.ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def forget(self) -> None:
        """What came until now."""
        self.metrics.clear()
        self.traces.clear()
        self.seen.clear()
        self.asked = 0

    def decoded(self, *, twice: bool = False) -> "Decoded":
        """All metrics that came."""
        return Decoded(self.metrics, twice=twice)

    def spans(self) -> list[Any]:
        """All spans that came."""
        return [
            span
            for request in self.traces
            for ours in request.resource_spans
            for scoped in ours.scope_spans
            for span in scoped.spans
        ]

    def beats(self) -> set[str]:
        """The beats that anything came of."""
        found = {
            dict(key).get("upbeat.beat", "")
            for points in self.decoded(twice=True).points.values()
            for key in points
        }
        for span in self.spans():
            found |= {one.value.string_value for one in span.attributes if one.key == "upbeat.beat"}
        return found - {""}

    async def answer(self, request: web.Request) -> web.Response:
        """Over HTTP."""
        self.asked += 1
        body = await request.read()  # aiohttp has undone the Content-Encoding
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        self.seen.append(dict(request.headers))
        return web.Response(body=self._take(request.path, body).SerializeToString())

    def _take(self, path: str, body: bytes) -> Any:
        if path.endswith("/v1/metrics"):
            self.metrics.append(metrics_service.ExportMetricsServiceRequest.FromString(body))
            answer: Any = metrics_service.ExportMetricsServiceResponse()
            answer.partial_success.rejected_data_points = self.partly
        else:
            assert path.endswith("/v1/traces")
            self.traces.append(trace_service.ExportTraceServiceRequest.FromString(body))
            answer = trace_service.ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = self.partly
        return answer

    async def called(self, path: str, request: Any, context: Any) -> Any:
        """Over gRPC."""
        self.asked += 1
        if self.refusal is not None:
            if self.details:
                context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
            await context.abort(self.refusal, "no")
        self.seen.append(dict(context.invocation_metadata()))
        return self._take(path, request.SerializeToString())


class _Metrics(MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: Any, context: Any) -> Any:
        return await self._collector.called("/v1/metrics", request, context)


class _Traces(TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: Any, context: Any) -> Any:
        return await self._collector.called("/v1/traces", request, context)


class Decoded:
    """Every data point of some requests, by metric and attributes; a point that comes twice is an error."""

    def __init__(self, requests: Iterable[Any], *, twice: bool = False) -> None:
        self.points: dict[str, dict[Point, Any]] = {}
        self.about: dict[str, Any] = {}
        self.resources: set[Point] = set()
        self._twice = twice
        for request in requests:
            for ours in request.resource_metrics:
                self.resources.add(pairs(ours.resource.attributes))
                for scoped in ours.scope_metrics:
                    assert scoped.scope.name in ("upbeat", "upbeat.engine")
                    for metric in scoped.metrics:
                        self._read(metric)

    def _read(self, metric: Any) -> None:
        data = getattr(metric, metric.WhichOneof("data"))
        self.about[metric.name] = (metric.unit, data)
        points = self.points.setdefault(metric.name, {})
        for point in data.data_points:
            key = pairs(point.attributes)
            assert self._twice or key not in points
            points[key] = point

    def one(self, name: str) -> Any:
        """The only point of a metric."""
        (point,) = self.points[name].values()
        return point

    def total(self, name: str, **attributes: str) -> int:
        """Sum of a counter's values, or of a histogram's counts, over the points with these attributes."""
        wanted = {(key.replace("__", "."), value) for key, value in attributes.items()}
        found = [point for key, point in self.points.get(name, {}).items() if wanted <= set(key)]
        return sum(point.count if hasattr(point, "count") else point.as_int for point in found)


def pairs(attributes: Any) -> Point:
    """Attributes as sorted pairs of texts."""
    return tuple(
        sorted((one.key, one.value.string_value or str(one.value.int_value or "")) for one in attributes)
    )


@asynccontextmanager
async def http_collector(tls: ssl.SSLContext | None = None) -> AsyncIterator[Collector]:
    """One that speaks OTLP/HTTP on 127.0.0.1."""
    found = Collector()
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app.router.add_post("/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@asynccontextmanager
async def grpc_collector(credentials: Any = None) -> AsyncIterator[Collector]:
    """One that speaks OTLP/gRPC on 127.0.0.1."""
    found = Collector()
    server = grpc.aio.server()
    add_MetricsServiceServicer_to_server(_Metrics(found), server)  # type: ignore[no-untyped-call]
    add_TraceServiceServicer_to_server(_Traces(found), server)  # type: ignore[no-untyped-call]
    where = "127.0.0.1:0"
    found.port = (
        server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    )
    await server.start()
    yield found
    await server.stop(None)
