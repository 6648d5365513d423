"""Runs as spans: what they say, and what becomes of them while nobody takes them."""

from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from engine.probes.context import new_traceparent
from evaluators.model import Failure, Timings, Verdict
from exporters.measurement import Named
from exporters.otlp import OtlpSettings, Speaks
from exporters.otlp_spans import SpanQueue, encoded_run
from exporters.outcome import Delivered, Rejected, Retry
from tests.exporters.otlp_rig import Process, result
from tests.rig.collector import grpc_collector, http_collector, pairs

NAMED = Named("web", "shop", "http", "https://shop.example/a?b=${env:TOKEN}", "GET")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_a_run_is_a_span_below_which_its_phases_and_the_target_hang(protocol: Speaks) -> None:
    _, trace_id, span_id, _ = new_traceparent().split("-")  # as the probe sends it
    down = result(
        trace_id=trace_id,
        at=100.0,
        timings=Timings(0.25, None, None, 0.5, None, 1.0),
        verdict=Verdict.CRITICAL,
        failure=Failure("http.status", "status is 503"),
        evidence={"status": 503},
    )
    async with grpc_collector() if protocol == "grpc" else http_collector() as collector:
        queue = SpanQueue()
        process = Process(OtlpSettings(collector.url, protocol))
        destination = process.open(process.settings, spans=queue)
        queue.put(encoded_run(down, NAMED))
        assert await destination.flush() == Delivered()
        await destination.close()
        await process.destination.close()

        run, *phases = collector.spans()
        assert (run.trace_id.hex(), run.span_id.hex(), run.parent_span_id) == (trace_id, span_id, b"")
        assert (run.name, run.kind, run.status.code, run.status.message) == ("GET web", 3, 2, "status is 503")
        assert (run.start_time_unix_nano, run.end_time_unix_nano) == (99 * 10**9, 100 * 10**9)
        assert dict(pairs(run.attributes)) == {
            "error.type": "http.status",
            "http.request.method": "GET",
            "http.response.status_code": "503",
            "server.address": "shop.example",
            "server.port": "443",
            "upbeat.beat": "web",
            "upbeat.beat.type": "http",
            "upbeat.page": "shop",
            "upbeat.region": "eu-west",
            "upbeat.run.id": down.run_id,
            "upbeat.run.kind": "scheduled",
            "upbeat.run.verdict": "critical",
            "url.full": "https://shop.example/a?b=${env:TOKEN}",
            "user_agent.synthetic.type": "test",
        }
        assert [
            (span.name, span.start_time_unix_nano - run.start_time_unix_nano, span.end_time_unix_nano)
            for span in phases
        ] == [("dns", 0, 99_250_000_000), ("ttfb", 250_000_000, 99_750_000_000)]
        assert {span.parent_span_id.hex() for span in phases} == {span_id}
        assert len({span.span_id for span in (run, *phases)}) == 3
        (ours,) = collector.traces[0].resource_spans
        assert dict(pairs(ours.resource.attributes))["service.name"] == "upbeat"


def test_a_run_without_a_trace_has_its_own_id_for_one() -> None:
    (span, *_) = _spans(encoded_run(result(), Named("db", "shop", "tcp", "[fd00::1]:5432")))
    assert span.trace_id == UUID(result().run_id).bytes
    about = dict(pairs(span.attributes))
    assert (span.name, about["server.address"], about["server.port"]) == ("tcp db", "fd00::1", "5432")
    (span, *_) = _spans(encoded_run(result(), Named("web", "shop", "http", "https://${env:HOST}/", "GET")))
    assert "server.address" not in dict(pairs(span.attributes))


async def test_spans_wait_for_a_collector_that_is_away_and_the_oldest_go_when_there_are_too_many() -> None:
    async with http_collector() as collector:
        queue = SpanQueue()
        process = Process(OtlpSettings(collector.url))
        destination = process.open(process.settings, spans=queue)
        run = encoded_run(result(), NAMED)
        queue.most_bytes = 10 * len(run)
        collector.status = 503
        for _ in range(100):
            queue.put(run)
            assert isinstance(await destination.flush(), Retry)
            assert queue.held_bytes <= queue.most_bytes
        assert (queue.count, queue.dropped, process.tally.dropped_spans) == (10, 90, 90)

        collector.status, collector.partly = 200, 2
        assert await destination.flush() == Delivered()
        assert len(collector.spans()) == 10 * 6
        assert (queue.count, queue.held_bytes, process.tally.refused_spans) == (0, 0, 2)

        collector.status = 400
        queue.put(run)
        assert await destination.flush() == Rejected("HTTP 400")
        assert (queue.count, process.tally.refused_spans) == (0, 3)
        await destination.close()
        await process.destination.close()


def _spans(encoded: bytes) -> list[trace_pb2.Span]:
    return list(trace_pb2.ScopeSpans.FromString(encoded).spans)


@pytest.mark.parametrize(
    "url", ["https://[${env:HOST}]/", "https://${env:HOST}/", "${env:URL}", "https://h:${env:P}/"]
)
def test_a_reference_anywhere_in_a_url_is_no_trouble(url: str) -> None:
    span = trace_pb2.ScopeSpans.FromString(encoded_run(result(), NAMED._replace(address=url))).spans[0]
    assert dict(pairs(span.attributes))["url.full"] == url
