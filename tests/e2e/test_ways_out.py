"""What leaves a serving Upbeat for machines: OTLP over both protocols, /metrics, health, the watchdog and JSON logs."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)

from tests.rig.process import Upbeat, fresh_folder, until, upbeat
from tests.rig.targets import StreamTarget

CONFIG = """
version: 1
page: {{slug: shop, name: Shop}}
regions: [eu, us]
defaults: {{interval: 1s, timeout: 500ms}}
{more}
beats:
  - {{slug: web, type: http, url: "http://127.0.0.1:{port}/"}}
"""


class Collector(MetricsServiceServicer):
    """An OTLP receiver for both protocols; keeps the newest cumulative count of each series of runs."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, str], int] = {}
        self.stages: dict[str, float] = {}
        self.pings = 0

    def take(self, request: Any) -> None:
        for resource in request.resource_metrics:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "upbeat"
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._metric(metric)

    def _metric(self, metric: Any) -> None:
        if metric.name == "upbeat.runs":
            for point in metric.sum.data_points:
                labels = {a.key: a.value.string_value for a in point.attributes}
                assert labels["upbeat.beat"] == "web"
                assert labels["user_agent.synthetic.type"] == "test"
                key = (labels["upbeat.region"], labels["upbeat.run.verdict"], repr(sorted(labels.items())))
                assert point.as_int >= self.series.get(key, 0)
                self.series[key] = point.as_int
        elif metric.name == "upbeat.beat.stage":
            for point in metric.gauge.data_points:
                self.stages["web"] = point.as_int or point.as_double

    @property
    def runs(self) -> Counter[tuple[str, str]]:
        """Runs per region and verdict."""
        found: Counter[tuple[str, str]] = Counter()
        for (region, verdict, _), count in self.series.items():
            found[region, verdict] += count
        return found

    def Export(self, request: Any, context: Any) -> Any:
        self.take(request)
        return ExportMetricsServiceResponse()

    async def over_http(self, request: web.Request) -> web.Response:
        exported = ExportMetricsServiceRequest()
        exported.ParseFromString(await request.read())  # aiohttp has unzipped it
        self.take(exported)
        return web.Response(
            body=ExportMetricsServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def ping(self, request: web.Request) -> web.Response:
        self.pings += 1
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, int]]:
    taken = Collector()
    app = web.Application()
    app.router.add_post("/v1/metrics", taken.over_http)
    app.router.add_get("/ping", taken.ping)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield taken, runner.addresses[0][1]
    await runner.cleanup()


async def runs_of(running: Upbeat) -> int:
    text = (await running.call("GET", "//metrics"))[1]
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith("upbeat_runs_total{")
    )


async def committed(running: Upbeat) -> Counter[tuple[str, str]]:
    rows = await running.items("/beats/web/results?limit=500")
    return Counter((row["region"], row["verdict"]) for row in rows)


async def same(running: Upbeat, taken: Collector, at_least: int) -> bool:
    """Whether everything that was committed before has been exported."""
    before = await committed(running)
    return before.total() >= at_least and all(taken.runs[key] >= count for key, count in before.items())


async def test_every_result_leaves_as_otlp_over_http_and_the_watchdog_hears_that_all_is_well(
    collector: tuple[Collector, int],
) -> None:
    taken, port = collector
    more = (
        f'otlp: {{endpoint: "http://127.0.0.1:{port}", interval: 1s}}\n'
        f'watchdog: {{url: "http://127.0.0.1:{port}/ping", every: 10s}}'
    )
    async with StreamTarget() as target:
        with fresh_folder() as folder:
            async with upbeat(folder, CONFIG.format(port=target.port, more=more)) as running:
                await until(lambda: same(running, taken, 6), "committed results are exported")
                await target.becomes("refuses")
                await until(lambda: _true(taken.stages.get("web") == 2), "critical is exported")
                await until(lambda: same(running, taken, 10), "bad results are exported too")
                assert taken.runs["eu", "critical"] > 0
                await until(lambda: _true(taken.pings > 0), "the watchdog is told", 30)
                assert await runs_of(running) > 10
                status, ready = await running.call("GET", "//readyz")
                assert (status, ready["ready"]) == (200, True)
                assert (await running.call("GET", "//healthz"))[0] == 200
            lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert {"timestamp", "severity_text", "body"} <= lines[0].keys()


async def test_every_result_leaves_as_otlp_over_grpc() -> None:
    taken = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_MetricsServiceServicer_to_server(taken, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }
    try:
        async with StreamTarget() as target:
            with fresh_folder() as folder:
                config = CONFIG.format(port=target.port, more="")
                async with upbeat(folder, config, environment=environment) as running:
                    await until(lambda: same(running, taken, 6), "committed results are exported")
    finally:
        await asyncio.to_thread(server.stop(None).wait)


async def _true(is_so: bool) -> bool:
    return is_so
