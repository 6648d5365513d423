"""Metrics by OTLP, over HTTP and gRPC, against a receiver that decodes with opentelemetry-proto."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.metrics.v1 import metrics_pb2

from evaluators.model import PHASES, Failure, Kind, Stage, Timings, Verdict
from exporters.answer import TOO_MANY_S
from exporters.measurement import BOUNDS_S, Named, Standing, Totals
from exporters.otlp import OtlpSettings, Tls, settings_from, settings_of
from exporters.otlp_encoding import Encoder
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.otlp import Otlp
from rules.secret import UnsetReferenceError
from tests.exporters.otlp_rig import BEGAN_NS, Process, result
from tests.rig.collector import Collector, Decoded, grpc_collector, http_collector

SECOND_NS = 1_000_000_000
Open = Callable[..., Process]


@pytest.fixture
async def over_http() -> AsyncIterator[Collector]:
    async with http_collector() as found:
        yield found


@pytest.fixture
async def over_grpc() -> AsyncIterator[Collector]:
    async with grpc_collector() as found:
        yield found


@pytest.fixture
async def open_process() -> AsyncIterator[Open]:
    """`open_process(collector, **settings)`: a process that exports there."""
    opened: list[Process] = []

    def start(collector: Collector, **settings: object) -> Process:
        opened.append(Process(OtlpSettings(**{"endpoint": collector.url, **settings})))  # type: ignore[arg-type]
        return opened[-1]

    yield start
    for process in opened:
        process.destination.forsake()
        await process.destination.close()


# ---- what is sent


async def test_counts_and_sums_are_what_was_observed(over_http: Collector, open_process: Open) -> None:
    process = open_process(over_http)
    process.totals.observe([result(), result(), result(region="us-east"), result("bea_2")])
    process.totals.stand("bea_1", Standing(Stage.CRITICAL))
    assert await process.flush() == Delivered()

    got = over_http.decoded()
    common = {
        "upbeat.beat": "slug-bea_1",
        "upbeat.page": "shop",
        "upbeat.beat.type": "http",
        "upbeat.region": "eu-west",
        "user_agent.synthetic.type": "test",
    }
    point = got.points["upbeat.run.duration"][tuple(sorted(common.items()))]
    assert (point.count, point.sum, sum(point.bucket_counts)) == (2, 0.266, 2)
    assert tuple(point.explicit_bounds) == BOUNDS_S
    assert point.bucket_counts[BOUNDS_S.index(0.25)] == 2
    assert (point.start_time_unix_nano, point.time_unix_nano) == (BEGAN_NS, 2 * SECOND_NS)
    tls = tuple(sorted((common | {"upbeat.run.phase": "tls"}).items()))
    assert got.points["upbeat.run.phase.duration"][tls].sum == 0.04
    stage = (("upbeat.beat", "slug-bea_1"), ("upbeat.beat.type", "http"), ("upbeat.page", "shop"))
    assert got.points["upbeat.beat.stage"][stage].as_int == 2
    assert got.resources == {
        (("service.instance.id", "node-1"), ("service.name", "upbeat"), ("service.version", "0.1.0"))
    }


@pytest.mark.parametrize(
    ("temporality", "expected"),
    [
        ("cumulative", metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE),
        ("delta", metrics_pb2.AGGREGATION_TEMPORALITY_DELTA),
    ],
)
async def test_the_request_is_otlp_over_http(
    over_http: Collector, open_process: Open, temporality: str, expected: int
) -> None:
    process = open_process(over_http, headers=(("X-Scope", "team"),), temporality=temporality)
    process.totals.observe([result()])
    await process.flush()

    (headers,) = over_http.seen
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["X-Scope"] == "team"
    got = over_http.decoded()
    units = {name: unit for name, (unit, _) in got.about.items()}
    assert units == {"upbeat.run.duration": "s", "upbeat.run.phase.duration": "s", "upbeat.runs": "{run}"}
    assert got.about["upbeat.runs"][1].is_monotonic
    for name in units:
        assert got.about[name][1].aggregation_temporality == expected


async def test_grpc_delivers_the_same(over_grpc: Collector, open_process: Open) -> None:
    process = open_process(over_grpc, protocol="grpc", headers=(("X-Scope", "team"),))
    process.totals.observe([result(), result(verdict=Verdict.WARNING), result("bea_2")])
    process.totals.stand("bea_2", Standing(Stage.UNKNOWN))
    assert await process.flush() == Delivered()

    got = over_grpc.decoded()
    assert got.total("upbeat.runs", upbeat__beat="slug-bea_1") == 2
    assert got.total("upbeat.run.duration") == 3
    assert got.total("upbeat.run.phase.duration", upbeat__run__phase="dns") == 3
    assert got.total("upbeat.beat.stage") == 3
    assert over_grpc.seen[0]["x-scope"] == "team"


async def test_runs_are_counted_by_verdict_kind_and_error(over_http: Collector, open_process: Open) -> None:
    process = open_process(over_http)
    refused = Failure("connection_refused", "refused")
    bad: dict[str, Any] = {"verdict": Verdict.CRITICAL, "failure": refused, "timings": Timings(total=0.1)}
    process.totals.observe([result()] * 5)
    process.totals.observe([result(**bad)] * 3)
    process.totals.observe([result(**bad, kind=Kind.CONFIRM)] * 2)
    process.totals.observe([result(kind=Kind.MANUAL)])
    process.totals.observe([result(verdict=Verdict.CRITICAL, stored=False)] * 7)  # dropped: no runs
    await process.flush()

    names = ("upbeat.run.verdict", "upbeat.run.kind", "error.type")
    assert {
        tuple(dict(key).get(name, "") for name in names): point.as_int
        for key, point in over_http.decoded().points["upbeat.runs"].items()
    } == {
        ("ok", "scheduled", ""): 5,
        ("critical", "scheduled", "connection_refused"): 3,
        ("critical", "confirm", "connection_refused"): 2,
        ("ok", "manual", ""): 1,
    }


async def test_phases_that_did_not_happen_have_no_points(over_http: Collector, open_process: Open) -> None:
    process = open_process(over_http)
    process.totals.observe(
        [result(timings=Timings(connect=0.0, total=0.0)), result("bea_2", timings=Timings())]
    )
    await process.flush()

    got = over_http.decoded()
    assert {dict(key)["upbeat.run.phase"] for key in got.points["upbeat.run.phase.duration"]} == {"connect"}
    assert got.total("upbeat.run.duration") == 1


async def test_a_duration_on_a_bound_belongs_below_it(over_http: Collector, open_process: Open) -> None:
    process = open_process(over_http)
    process.totals.observe(
        [result(timings=Timings(total=took_s)) for took_s in (0.0, *BOUNDS_S, 60.001, 3600.0)]
    )
    await process.flush()
    point = over_http.decoded().one("upbeat.run.duration")
    assert list(point.bucket_counts) == [2, *[1] * (len(BOUNDS_S) - 1), 2]


async def test_certificate_days_are_those_of_the_newest_run_that_saw_one(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http)
    process.totals.observe(
        [
            result(at=10.0, certificate_days=30.5),
            result(at=30.0, certificate_days=29.5),
            result(at=20.0, certificate_days=30.0),
            result(at=40.0, verdict=Verdict.CRITICAL),
        ]
    )
    await process.flush()
    got = over_http.decoded()
    assert got.one("upbeat.certificate.days").as_double == 29.5
    assert got.about["upbeat.certificate.days"][0] == "d"


async def test_ten_thousand_series_arrive_whole_in_small_requests(
    over_grpc: Collector, open_process: Open
) -> None:
    chance = random.Random(7)
    results = [
        result(f"bea_{n % 10_000}", timings=Timings(*(chance.expovariate(9) for _ in PHASES)))
        for n in range(12_000)
    ]
    process = open_process(over_grpc, protocol="grpc", compression="none")
    process.totals.observe(results)
    assert await process.flush() == Delivered()

    got = over_grpc.decoded()
    assert max(request.ByteSize() for request in over_grpc.metrics) < 1024 * 1024
    assert len(got.points["upbeat.run.duration"]) == 10_000
    phases = Counter(dict(key)["upbeat.run.phase"] for key in got.points["upbeat.run.phase.duration"])
    assert phases == dict.fromkeys(PHASES[:-1], 10_000)
    assert got.total("upbeat.run.duration") == got.total("upbeat.runs") == 12_000
    sums = sum(point.sum for point in got.points["upbeat.run.duration"].values())
    assert sums == pytest.approx(sum(each.timings.total or 0.0 for each in results))


async def test_nothing_observed_is_nothing_sent(over_http: Collector, open_process: Open) -> None:
    assert await open_process(over_http).flush() == Delivered()
    assert over_http.asked == 0


# ---- temporality


async def test_cumulative_totals_keep_their_start_until_the_process_starts_again(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http)
    for runs in (2, 5):
        over_http.forget()
        process.totals.observe([result()] * (runs if runs == 2 else 3))
        await process.flush()
        point = over_http.decoded().one("upbeat.runs")
        assert (point.as_int, point.start_time_unix_nano) == (runs, BEGAN_NS)

    over_http.forget()
    process.totals = again = Totals(process.named, now_ns=lambda: process.now_ns)
    process.destination._totals = again  # as another process has it
    again.observe([result()])
    began_ns = process.now_ns
    await process.flush()
    point = over_http.decoded().one("upbeat.runs")
    assert (point.as_int, point.start_time_unix_nano) == (1, began_ns)


async def test_differences_follow_each_other_without_gap_or_overlap(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http, temporality="delta")
    ends_ns = [BEGAN_NS]
    for runs in (2, 3, 1):
        over_http.forget()
        process.totals.observe([result()] * runs)
        assert await process.flush() == Delivered()
        got = over_http.decoded()
        total, count = got.one("upbeat.run.duration"), got.one("upbeat.runs")
        assert (total.count, count.as_int) == (runs, runs)
        assert total.sum == pytest.approx(0.133 * runs)
        assert total.bucket_counts[BOUNDS_S.index(0.25)] == runs
        assert total.start_time_unix_nano == count.start_time_unix_nano == ends_ns[-1]
        ends_ns.append(total.time_unix_nano)

    over_http.forget()
    await process.flush()
    assert "upbeat.runs" not in over_http.decoded().points  # nothing happened


async def test_a_difference_that_was_not_taken_is_in_the_next_one(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http, temporality="delta")
    process.totals.observe([result()] * 2)
    over_http.status = 503
    assert isinstance(await process.flush(), Retry)
    process.totals.observe([result()] * 3)
    over_http.status = 200
    assert await process.flush() == Delivered()
    point = over_http.decoded().one("upbeat.runs")
    assert (point.as_int, point.start_time_unix_nano) == (5, BEGAN_NS)


async def test_a_difference_that_is_refused_for_good_is_counted_and_never_comes_again(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http, temporality="delta")
    process.totals.observe([result()] * 2)
    over_http.status = 400
    assert await process.flush() == Rejected("HTTP 400")
    assert process.tally.refused_points == len(PHASES) + 1
    over_http.status = 200
    process.totals.observe([result()])
    await process.flush()
    assert over_http.decoded().one("upbeat.runs").as_int == 1


# ---- exemplars


async def test_a_series_has_the_traces_of_its_first_run_and_of_ever_slower_ones(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http)
    traces = {number: f"{number:032x}" for number in (1, 2, 3, 4)}
    took = ((1, 0.2), (2, 0.21), (3, 4.0), (4, 0.02))
    process.totals.observe(
        [result(trace_id=traces[n], at=50.0 + n, timings=Timings(dns=0.1, total=s)) for n, s in took]
    )
    await process.flush()
    got = over_http.decoded()
    found = {one.trace_id.hex(): one for one in got.one("upbeat.run.duration").exemplars}
    assert found.keys() == {traces[1], traces[3]}
    assert found[traces[3]].as_double == 4.0
    assert found[traces[3]].time_unix_nano == 53 * SECOND_NS
    assert found[traces[3]].span_id.hex() == traces[3][16:]
    assert not got.one("upbeat.run.phase.duration").exemplars

    over_http.forget()
    await process.flush()
    assert not over_http.decoded().one("upbeat.run.duration").exemplars  # once is enough


async def test_exemplars_can_be_had_or_not(over_http: Collector, open_process: Open) -> None:
    process = open_process(over_http, exemplars=False)
    process.totals.observe([result(trace_id="0" * 31 + "1")])
    await process.flush()
    assert not over_http.decoded().one("upbeat.run.duration").exemplars


# ---- names


async def test_openstatus_names_say_milliseconds_of_the_newest_run_and_count_all(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http, names="openstatus")
    down: dict[str, Any] = {"verdict": Verdict.CRITICAL, "failure": Failure("timeout", "no answer in 10 s")}
    process.totals.observe([result(at=1.0), result(at=2.0, verdict=Verdict.WARNING), result(at=0.5, **down)])
    process.totals.stand("bea_1", Standing(Stage.OK))
    await process.flush()
    got = over_http.decoded()
    about = {
        "openstatus.probes": "eu-west",
        "openstatus.target": "https://shop.example/a",
        "upbeat.beat": "slug-bea_1",
        "upbeat.page": "shop",
    }
    durations = {
        name.split(".")[2]: points[tuple(sorted(about.items()))].as_double
        for name, points in got.points.items()
        if name.startswith("openstatus.http.")
    }
    assert durations == pytest.approx(
        {"request": 133.0, "dns": 2.0, "connection": 10.0, "tls": 20.0, "ttfb": 100.0, "transfer": 1.0}
    )
    assert (got.one("openstatus.status").as_int, got.one("openstatus.error").as_int) == (2, 1)
    assert not {"upbeat.runs", "upbeat.run.duration"} & got.points.keys()
    assert got.total("upbeat.beat.stage") == 0

    over_http.forget()
    process.totals.observe([result(at=3.0, **down)])
    await process.flush()
    assert {name for name in over_http.decoded().points if name.startswith("openstatus.")} == {
        "openstatus.status",
        "openstatus.error",
    }


# ---- what a destination answers


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (503, {"Retry-After": "5"}, Retry("HTTP 503", 5.0)),
        (429, {}, Retry("HTTP 429", TOO_MANY_S)),
        (400, {}, Rejected("HTTP 400")),
        (401, {}, Rejected("HTTP 401")),
        (307, {"Location": "http://127.0.0.1:1/"}, Rejected("HTTP 307: redirects are not followed")),
    ],
)
async def test_each_http_status_has_its_outcome(
    over_http: Collector, open_process: Open, status: int, headers: dict[str, str], expected: Outcome
) -> None:
    process = open_process(over_http)
    process.totals.observe([result()])
    over_http.status, over_http.headers = status, headers
    assert await process.flush() == expected
    failing = [process.destination.is_failing]
    over_http.status = 200
    assert await process.flush() == Delivered()
    assert [*failing, process.destination.is_failing] == [True, False]
    assert over_http.decoded().total("upbeat.runs") == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, Retry("gRPC UNAVAILABLE")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Retry("gRPC RESOURCE_EXHAUSTED")),
        (grpc.StatusCode.INVALID_ARGUMENT, Rejected("gRPC INVALID_ARGUMENT")),
        (grpc.StatusCode.UNAUTHENTICATED, Rejected("gRPC UNAUTHENTICATED")),
    ],
)
async def test_each_grpc_status_has_its_outcome(
    over_grpc: Collector, open_process: Open, code: grpc.StatusCode, expected: Outcome
) -> None:
    process = open_process(over_grpc, protocol="grpc")
    process.totals.observe([result()])
    over_grpc.refusal = code
    assert await process.flush() == expected
    over_grpc.refusal = None
    assert await process.flush() == Delivered()
    assert over_grpc.decoded().total("upbeat.runs") == 1


async def test_a_grpc_receiver_may_say_how_long_to_wait(over_grpc: Collector, open_process: Open) -> None:
    detail = any_pb2.Any()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=90)))
    over_grpc.refusal = grpc.StatusCode.UNAVAILABLE
    over_grpc.details = Status(code=14, message="later", details=[detail]).SerializeToString()
    process = open_process(over_grpc, protocol="grpc")
    process.totals.observe([result()])
    assert await process.flush() == Retry("gRPC UNAVAILABLE", 90.0)


async def test_one_request_that_is_refused_does_not_keep_back_the_others(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http)
    process.totals.observe([result(f"bea_{n}") for n in range(300)])
    over_http.status = 400
    assert await process.flush() == Rejected("HTTP 400")
    assert over_http.asked > 2
    assert process.tally.refused_points == 300 * (len(PHASES) + 1)


async def test_what_is_refused_of_a_request_that_was_taken_is_counted_and_logged(
    over_http: Collector, open_process: Open, caplog: pytest.LogCaptureFixture
) -> None:
    over_http.partly = 3
    process = open_process(over_http)
    process.totals.observe([result()])
    assert await process.flush() == Delivered()
    assert process.tally.refused_points == 3
    assert f"127.0.0.1:{over_http.port} refused 3 data points" in caplog.text


async def test_a_collector_that_is_away_for_long_costs_no_memory_and_no_count(
    over_http: Collector, open_process: Open
) -> None:
    process = open_process(over_http)
    over_http.status = 503
    for seen in range(200):
        process.totals.observe([result(f"bea_{n}", trace_id=f"{seen:032x}") for n in range(10)])
        assert isinstance(await process.flush(), Retry)
    (series,) = next(process.totals.beats()).regions.values()
    assert process.totals.series_count() == 10
    assert len(series.exemplars) <= len(BOUNDS_S) + 1
    over_http.status = 200
    assert await process.flush() == Delivered()
    assert over_http.decoded().total("upbeat.runs") == 2000


async def test_a_receiver_that_is_not_there_is_tried_again(open_process: Open) -> None:
    process = open_process(Collector(port=1))
    process.totals.observe([result()])
    assert await process.flush() == Retry("Connection refused")


# ---- while results come and beats change


def test_results_may_be_counted_and_beats_renamed_while_requests_are_sent() -> None:
    names: dict[str, Named] = {}
    totals = Totals(lambda beat_id: names.setdefault(beat_id, Named(beat_id, "shop", "http")))
    totals.observe([result(f"bea_{n}") for n in range(3000)])
    requests = []
    for place, request in enumerate(Encoder({}).requests(totals.beats(), 1)):
        requests.append(metrics_of(request.encode()))
        totals.observe([result(f"new_{place}_{n}") for n in range(100)])
        totals.renamed(f"bea_{place}")
    assert len(requests) > 3
    assert Decoded(requests).total("upbeat.runs") == 3000


def test_a_removed_beat_is_forgotten_and_an_unknown_one_never_counted() -> None:
    known = {"bea_1": Named("one", "shop", "http"), "bea_2": Named("two", "shop", "tcp")}
    totals = Totals(known.get)
    totals.observe([result("bea_1"), result("bea_2"), result("bea_3")])
    totals.stand("bea_3", Standing(Stage.OK))
    del known["bea_2"]
    totals.renamed("bea_2")
    totals.observe([result("bea_1")])

    (request,) = Encoder({}).requests(totals.beats(), 1)
    got = Decoded([metrics_of(request.encode())])
    assert [dict(key)["upbeat.beat"] for key in got.points["upbeat.runs"]] == ["one"]
    assert got.total("upbeat.runs") == 2


def test_a_region_that_a_beat_has_left_is_told_of_no_more() -> None:
    names = {"bea_1": Named("one", "shop", "http", regions=("eu-west", "us"))}
    totals = Totals(names.get)
    totals.observe([result(certificate_days=3.0), result(region="us")])
    names["bea_1"] = names["bea_1"]._replace(regions=("us",))
    totals.renamed("bea_1")
    (beat,) = totals.beats()
    assert beat.regions.keys() == {"us"}


def test_a_renamed_beat_is_exported_by_its_new_name() -> None:
    names = {"bea_1": Named("old", "shop", "http")}
    totals, encoder = Totals(names.get), Encoder({})
    totals.observe([result()])
    [request.encode() for request in encoder.requests(totals.beats(), 1)]
    names["bea_1"] = Named("new", "shop", "http")
    totals.renamed()

    got = Decoded(metrics_of(request.encode()) for request in encoder.requests(totals.beats(), 2))
    assert got.total("upbeat.run.duration", upbeat__beat="new") == 1
    assert got.total("upbeat.run.duration", upbeat__beat="old") == 0


def metrics_of(request: bytes) -> metrics_pb2.MetricsData:
    """Both messages are `resource_metrics`, under the same number."""
    found: metrics_pb2.MetricsData = metrics_pb2.MetricsData.FromString(request)
    return found


# ---- settings


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
                "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "Delta",
                "OTEL_TRACES_EXPORTER": "otlp",
            },
            OtlpSettings(
                "https://c:4317",
                "grpc",
                (("api-key", "a b"), ("x", "1=2")),
                5.0,
                2.5,
                "none",
                temporality="delta",
                spans=True,
            ),
        ),
    ],
)
def test_the_standard_variables_are_read(environment: dict[str, str], expected: OtlpSettings | None) -> None:
    assert settings_from(environment) == expected


def test_the_standard_variables_name_files_of_certificates(tmp_path: Path) -> None:
    names = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c"}
    for name in names:
        (tmp_path / name).write_text(f"pem of {name}")
        environment[f"OTEL_EXPORTER_OTLP_{name}"] = str(tmp_path / name)
    found = settings_from(environment)
    assert found is not None
    assert found.tls == Tls("pem of CERTIFICATE", "pem of CLIENT_CERTIFICATE", "pem of CLIENT_KEY")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "must begin with http:// or https://"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "allowed are http/protobuf and grpc"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10s", "a whole number of milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "a whole number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/not/there.pem", "cannot be read"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory", "cumulative and delta"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*{said}"):
        settings_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", name: value})


def test_a_rule_is_filled_in_with_its_secrets_and_shows_none() -> None:
    rule = Otlp(
        endpoint="${env:WHERE}", headers={"api-key": "${env:WORD}"}, names="openstatus", exemplars=False
    )
    values = {"env:WHERE": "https://c:4318/otlp", "env:WORD": "hunter22"}
    found = settings_of(rule, values)
    assert (found.endpoint, found.headers) == ("https://c:4318/otlp", (("api-key", "hunter22"),))
    assert (found.names, found.exemplars, found.interval_s) == ("openstatus", False, 60.0)
    assert "hunter22" not in repr(found)
    with pytest.raises(UnsetReferenceError, match=r"\$\{env:WORD\} is not set"):
        settings_of(rule, {"env:WHERE": "https://c"})
    with pytest.raises(ValueError, match=r"otlp.endpoint is '\$\{env:WHERE\}'; it must begin"):
        settings_of(rule, values | {"env:WHERE": "hunter22"})
    with pytest.raises(ValueError, match=r"otlp.headers api-key holds a line break once") as wrong:
        settings_of(rule, values | {"env:WORD": "hunter22\nhunter33"})
    assert "hunter" not in str(wrong.value)
