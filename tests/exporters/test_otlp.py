"""OTLP over HTTP and gRPC against receivers that decode with opentelemetry-proto."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from evaluators.model import PHASES, Failure, Kind, Result, Stage, Timings, Verdict
from exporters.measurement import BOUNDS_S, Labels, Totals
from exporters.otlp import GrpcSender, HttpSender, OtlpMetrics, OtlpSettings, Send, resource, settings_from
from exporters.otlp_encoding import Encoder
from exporters.outcome import Delivered, Outcome, Rejected, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.exporters.conftest import Receiver

Point = tuple[tuple[str, str], ...]


def _result(beat_id: str = "bea_1", region: str = "eu-west", **changed: Any) -> Result:
    made = Result(
        run_id="run",
        beat_id=beat_id,
        region=region,
        kind=Kind.SCHEDULED,
        verdict=Verdict.OK,
        scheduled_at=0.0,
        at=0.0,
        seq=0,
        attempts=1,
        timings=Timings(0.002, 0.01, 0.02, 0.1, 0.001, 0.133),
    )
    return replace(made, **changed)


def _labels(beat_id: str) -> Labels | None:
    return (f"slug-{beat_id}", "shop", "http")


def _metrics(send: Send, now_ns: int = 2_000_000_000) -> OtlpMetrics:
    return OtlpMetrics(
        Totals(_labels, now_ns=lambda: 1_000_000_000),
        send,
        resource("node-1", "0.1.0"),
        now_ns=lambda: now_ns,
    )


class Decoded:
    """Every data point of some requests, by metric and attributes; a point that comes twice is an error."""

    def __init__(self, requests: Iterable[ExportMetricsServiceRequest]) -> None:
        self.points: dict[str, dict[Point, Any]] = {}
        self.about: dict[str, Any] = {}
        self.resources: set[Point] = set()
        for request in requests:
            for ours in request.resource_metrics:
                self.resources.add(_pairs(ours.resource.attributes))
                for scoped in ours.scope_metrics:
                    assert scoped.scope.name == "upbeat"
                    for metric in scoped.metrics:
                        self._read(metric)

    def _read(self, metric: Any) -> None:
        data = getattr(metric, metric.WhichOneof("data"))
        self.about[metric.name] = (metric.unit, data)
        points = self.points.setdefault(metric.name, {})
        for point in data.data_points:
            key = _pairs(point.attributes)
            assert key not in points
            points[key] = point

    def total(self, name: str, **attributes: str) -> int:
        """Sum of a counter's values, or of a histogram's counts, over the points with these attributes."""
        wanted = {(key.replace("__", "."), value) for key, value in attributes.items()}
        found = [point for key, point in self.points.get(name, {}).items() if wanted <= set(key)]
        return sum(point.count if hasattr(point, "count") else point.as_int for point in found)


def _pairs(attributes: Any) -> Point:
    return tuple(sorted((one.key, one.value.string_value) for one in attributes))


def _http(receiver: Receiver) -> Decoded:
    # the server has undone the Content-Encoding
    return Decoded(ExportMetricsServiceRequest.FromString(got.body) for got in receiver.received)


class Collector(MetricsServiceServicer):
    """A gRPC receiver."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.metadata: dict[str, str] = {}
        self.refusal: grpc.StatusCode | None = None
        self.endpoint = ""

    async def Export(
        self, request: ExportMetricsServiceRequest, context: Any
    ) -> ExportMetricsServiceResponse:
        self.metadata = dict(context.invocation_metadata())
        if self.refusal is not None:
            await context.abort(self.refusal, "no")
        self.requests.append(request)
        return ExportMetricsServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = grpc.aio.server()
    add_MetricsServiceServicer_to_server(found, server)  # type: ignore[no-untyped-call]
    found.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield found
    await server.stop(None)


@pytest.fixture
def settings(receiver: Receiver) -> OtlpSettings:
    receiver.text = ""
    return OtlpSettings(receiver.url, headers={"X-Scope": "team"})


async def test_counts_and_sums_over_http_are_what_was_observed(
    receiver: Receiver, session: aiohttp.ClientSession, settings: OtlpSettings
) -> None:
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result(), _result(), _result(region="us-east"), _result("bea_2")])
    metrics.stage("bea_1", Stage.CRITICAL)
    assert await metrics.flush() == Delivered()

    got = _http(receiver)
    key = tuple(
        sorted(
            {
                "upbeat.beat": "slug-bea_1",
                "upbeat.page": "shop",
                "upbeat.beat.type": "http",
                "upbeat.region": "eu-west",
                "user_agent.synthetic.type": "test",
            }.items()
        )
    )
    point = got.points["upbeat.run.duration"][key]
    assert (point.count, point.sum, sum(point.bucket_counts)) == (2, 0.266, 2)
    assert tuple(point.explicit_bounds) == BOUNDS_S
    assert point.bucket_counts[BOUNDS_S.index(0.25)] == 2
    assert (point.start_time_unix_nano, point.time_unix_nano) == (1_000_000_000, 2_000_000_000)
    tls = tuple(sorted((*key, ("upbeat.run.phase", "tls"))))
    assert got.points["upbeat.run.phase.duration"][tls].sum == 0.04
    stage = (("upbeat.beat", "slug-bea_1"), ("upbeat.beat.type", "http"), ("upbeat.page", "shop"))
    assert got.points["upbeat.beat.stage"][stage].as_int == 2
    assert got.resources == {
        (("service.instance.id", "node-1"), ("service.name", "upbeat"), ("service.version", "0.1.0"))
    }


async def test_the_request_is_otlp_over_http(
    receiver: Receiver, session: aiohttp.ClientSession, settings: OtlpSettings
) -> None:
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result()])
    await metrics.flush()

    headers = receiver.received[0].headers
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["X-Scope"] == "team"
    got = _http(receiver)
    units = {name: unit for name, (unit, _) in got.about.items()}
    assert units == {"upbeat.run.duration": "s", "upbeat.run.phase.duration": "s", "upbeat.runs": "{run}"}
    runs = got.about["upbeat.runs"][1]
    assert runs.is_monotonic
    for name in units:
        assert got.about[name][1].aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE


async def test_grpc_delivers_the_same(collector: Collector) -> None:
    sender = GrpcSender(OtlpSettings(collector.endpoint, "grpc", {"X-Scope": "team"}))
    metrics = _metrics(sender)
    metrics.observe([_result(), _result(verdict=Verdict.WARNING), _result("bea_2")])
    metrics.stage("bea_2", Stage.UNKNOWN)
    assert await metrics.flush() == Delivered()
    await sender.close()

    got = Decoded(collector.requests)
    assert got.total("upbeat.runs", upbeat__beat="slug-bea_1") == 2
    assert got.total("upbeat.run.duration") == 3
    assert got.total("upbeat.run.phase.duration", upbeat__run__phase="dns") == 3
    assert got.total("upbeat.beat.stage") == 3
    assert collector.metadata["x-scope"] == "team"


async def test_runs_are_counted_by_verdict_kind_and_error(
    receiver: Receiver, session: aiohttp.ClientSession, settings: OtlpSettings
) -> None:
    metrics = _metrics(HttpSender(session, settings))
    refused = Failure("connection_refused", "refused")
    metrics.observe([_result()] * 5)
    metrics.observe([_result(verdict=Verdict.CRITICAL, failure=refused, timings=Timings(total=0.1))] * 3)
    metrics.observe([_result(verdict=Verdict.CRITICAL, failure=refused, kind=Kind.CONFIRM)] * 2)
    metrics.observe([_result(kind=Kind.MANUAL)])
    metrics.observe([_result(verdict=Verdict.CRITICAL, stored=False)] * 7)  # dropped confirm runs are no runs
    await metrics.flush()

    counted = {
        tuple(
            dict(key).get(name, "") for name in ("upbeat.run.verdict", "upbeat.run.kind", "error.type")
        ): point.as_int
        for key, point in _http(receiver).points["upbeat.runs"].items()
    }
    assert counted == {
        ("ok", "scheduled", ""): 5,
        ("critical", "scheduled", "connection_refused"): 3,
        ("critical", "confirm", "connection_refused"): 2,
        ("ok", "manual", ""): 1,
    }


async def test_phases_that_did_not_happen_have_no_points(
    receiver: Receiver, session: aiohttp.ClientSession, settings: OtlpSettings
) -> None:
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result(timings=Timings(connect=0.0, total=0.0)), _result("bea_2", timings=Timings())])
    await metrics.flush()

    got = _http(receiver)
    assert {dict(key)["upbeat.run.phase"] for key in got.points["upbeat.run.phase.duration"]} == {"connect"}
    assert got.total("upbeat.run.duration") == 1


async def test_a_duration_on_a_bound_belongs_below_it(
    receiver: Receiver, session: aiohttp.ClientSession, settings: OtlpSettings
) -> None:
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result(timings=Timings(total=took_s)) for took_s in (0.0, *BOUNDS_S, 60.001, 3600.0)])
    await metrics.flush()

    (point,) = _http(receiver).points["upbeat.run.duration"].values()
    assert list(point.bucket_counts) == [2, *[1] * (len(BOUNDS_S) - 1), 2]


async def test_a_receiver_that_is_down_costs_nothing(
    session: aiohttp.ClientSession, receiver: Receiver
) -> None:
    down = OtlpSettings("http://127.0.0.1:1")
    totals = Totals(_labels)
    away = OtlpMetrics(totals, HttpSender(session, down), {})
    away.observe([_result()] * 10)
    assert isinstance(await away.flush(), Retry)

    receiver.text = ""
    back = OtlpMetrics(totals, HttpSender(session, OtlpSettings(receiver.url)), {})
    back.observe([_result()] * 5)
    assert await back.flush() == Delivered()
    assert _http(receiver).total("upbeat.runs") == 15


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (503, {"Retry-After": "5"}, Retry("HTTP 503", 5.0)),
        (429, {}, Retry("HTTP 429")),
        (400, {}, Rejected("HTTP 400")),
        (401, {}, Rejected("HTTP 401")),
        (404, {}, Rejected("HTTP 404")),
    ],
)
async def test_each_http_status_has_its_outcome(
    receiver: Receiver,
    session: aiohttp.ClientSession,
    settings: OtlpSettings,
    status: int,
    headers: dict[str, str],
    expected: Outcome,
) -> None:
    receiver.status, receiver.headers = status, headers
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result()])
    assert await metrics.flush() == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, Retry("gRPC UNAVAILABLE")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Retry("gRPC RESOURCE_EXHAUSTED")),
        (grpc.StatusCode.UNAUTHENTICATED, Rejected("gRPC UNAUTHENTICATED")),
        (grpc.StatusCode.INVALID_ARGUMENT, Rejected("gRPC INVALID_ARGUMENT")),
    ],
)
async def test_each_grpc_status_has_its_outcome(
    collector: Collector, code: grpc.StatusCode, expected: Outcome
) -> None:
    sender = GrpcSender(OtlpSettings(collector.endpoint, "grpc"))
    metrics = _metrics(sender)
    metrics.observe([_result()])
    collector.refusal = code
    assert await metrics.flush() == expected
    collector.refusal = None
    assert await metrics.flush() == Delivered()
    await sender.close()
    assert Decoded(collector.requests).total("upbeat.runs") == 1


async def test_a_partly_refused_request_is_delivered_and_logged(
    receiver: Receiver,
    session: aiohttp.ClientSession,
    settings: OtlpSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    partly = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="x")
    receiver.text = ExportMetricsServiceResponse(partial_success=partly).SerializeToString().decode()
    metrics = _metrics(HttpSender(session, settings))
    metrics.observe([_result()])
    assert await metrics.flush() == Delivered()
    assert "refused 3 data points" in caplog.text


async def test_ten_thousand_series_arrive_whole_in_small_requests(collector: Collector) -> None:
    chance = random.Random(7)
    results = [
        _result(f"bea_{n % 10_000}", timings=Timings(*(chance.expovariate(9) for _ in PHASES)))
        for n in range(12_000)
    ]
    sender = GrpcSender(OtlpSettings(collector.endpoint, "grpc", compression="none"))
    metrics = _metrics(sender)
    metrics.observe(results)
    assert await metrics.flush() == Delivered()
    await sender.close()

    got = Decoded(collector.requests)
    assert max(request.ByteSize() for request in collector.requests) < 1024 * 1024
    assert len(got.points["upbeat.run.duration"]) == 10_000
    assert Counter(
        dict(key)["upbeat.run.phase"] for key in got.points["upbeat.run.phase.duration"]
    ) == dict.fromkeys(PHASES[:-1], 10_000)
    assert got.total("upbeat.run.duration") == got.total("upbeat.runs") == 12_000
    sums = sum(point.sum for point in got.points["upbeat.run.duration"].values())
    assert sums == pytest.approx(sum(result.timings.total or 0.0 for result in results))


def test_results_may_be_counted_and_beats_forgotten_while_requests_are_sent() -> None:
    totals = Totals(_labels)
    totals.observe([_result(f"bea_{n}") for n in range(3000)])
    requests = []
    for place, request in enumerate(Encoder({}).requests(totals, 1)):
        requests.append(ExportMetricsServiceRequest.FromString(request))
        totals.observe([_result(f"new_{place}_{n}") for n in range(100)])
        totals.forget(f"bea_{place}")
    assert len(requests) > 3
    assert Decoded(requests).total("upbeat.runs") == 3000


def test_a_removed_beat_is_forgotten_and_an_unknown_one_never_counted() -> None:
    known: dict[str, Labels] = {"bea_1": ("one", "shop", "http"), "bea_2": ("two", "shop", "tcp")}
    totals = Totals(known.get)
    totals.observe([_result("bea_1"), _result("bea_2"), _result("bea_3")])
    totals.stage("bea_3", Stage.OK)
    del known["bea_2"]
    totals.forget("bea_1")
    totals.observe([_result("bea_1")])

    (request,) = Encoder({}).requests(totals, 1)
    got = Decoded([ExportMetricsServiceRequest.FromString(request)])
    assert [dict(key)["upbeat.beat"] for key in got.points["upbeat.runs"]] == ["one"]
    assert got.total("upbeat.runs") == 1


def test_a_renamed_beat_is_exported_by_its_new_name() -> None:
    names = {"bea_1": ("old", "shop", "http")}
    totals, encoder = Totals(names.get), Encoder({})
    totals.observe([_result()])
    list(encoder.requests(totals, 1))
    names["bea_1"] = ("new", "shop", "http")

    got = Decoded(ExportMetricsServiceRequest.FromString(one) for one in encoder.requests(totals, 2))
    assert got.total("upbeat.run.duration", upbeat__beat="new") == 1
    assert got.total("upbeat.run.duration", upbeat__beat="old") == 0


async def test_nothing_observed_is_nothing_sent(receiver: Receiver, session: aiohttp.ClientSession) -> None:
    assert await _metrics(HttpSender(session, OtlpSettings(receiver.url))).flush() == Delivered()
    assert receiver.received == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, OtlpSettings("http://c:4318")),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x = 1=2",
                "OTEL_METRIC_EXPORT_INTERVAL": "5000",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            },
            OtlpSettings("https://c:4317", "grpc", {"api-key": "a b", "x": "1=2"}, 5.0, 2.5, "none"),
        ),
    ],
)
def test_the_standard_variables_are_read(environment: dict[str, str], expected: OtlpSettings | None) -> None:
    assert settings_from(environment) == expected


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "must begin with http:// or https://"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "allowed are http/protobuf and grpc"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s", "a whole number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "a whole number of milliseconds"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*{said}"):
        settings_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", name: value})


def test_secrets_in_headers_are_not_shown() -> None:
    assert "word" not in repr(OtlpSettings("http://c", headers={"api-key": "word"}))
