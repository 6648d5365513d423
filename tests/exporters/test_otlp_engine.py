"""Upbeat's metrics about itself, through the SDK, read back."""

import subprocess
import sys

import pytest
from opentelemetry.proto.metrics.v1 import metrics_pb2

from exporters.otlp_engine import EngineMetrics, otlp_name
from exporters.prometheus import Family, Sample
from tests.rig.collector import Decoded


def _family(value: float) -> Family:
    return Family("upbeat_runs_started_total", "counter", "Runs.", [Sample(value, (("region", "eu"),))])


@pytest.mark.parametrize(("temporality", "second"), [("cumulative", 8.0), ("delta", 3.0)])
async def test_what_is_read_is_exported_and_a_family_may_appear_later(
    temporality: str, second: float
) -> None:
    now = [_family(5.0)]

    async def read() -> list[Family]:
        return now

    metrics = EngineMetrics(
        read, {"service.name": "upbeat"}, "delta" if temporality == "delta" else "cumulative"
    )
    first = Decoded([metrics_pb2.MetricsData.FromString(await metrics.request())])
    assert first.one("upbeat.runs_started").as_double == 5.0
    assert first.about["upbeat.runs_started"][1].is_monotonic

    now = [_family(8.0), Family("upbeat_x_seconds", "gauge", "X.", [Sample(0.5)])]
    then = Decoded([metrics_pb2.MetricsData.FromString(await metrics.request())])
    assert then.one("upbeat.runs_started").as_double == second
    assert (then.one("upbeat.x").as_double, then.about["upbeat.x"][0]) == (0.5, "s")


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("upbeat_start_lateness_seconds", "gauge", ("upbeat.start_lateness", "s")),
        ("upbeat_results_committed_total", "counter", ("upbeat.results_committed", "")),
        ("process_cpu_time_seconds_total", "counter", ("process.cpu.time", "s")),
        ("process_memory_usage_bytes", "gauge", ("process.memory.usage", "By")),
    ],
)
def test_prometheus_rules_lead_from_the_name_back_to_it(
    name: str, kind: str, expected: tuple[str, str]
) -> None:
    assert otlp_name(Family(name, "counter" if kind == "counter" else "gauge", "", [])) == expected


def test_large_libraries_are_not_loaded_before_they_are_used() -> None:
    code = "import sys, upbeat.serve; sys.exit(any(n.startswith(('opentelemetry.sdk', 'grpc', 'lxml', 'h2')) for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
