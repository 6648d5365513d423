"""Runs as OTLP spans, in bytes: one for the run and one for each phase of its last attempt. It sends nothing.

The run's trace id is the one its `traceparent` said, and its span id the second half of it, as in that header: what the
target traces hangs below the run. A run that sent none has its run id, a UUID, for a trace id.
"""

import contextlib
import re
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.trace.v1 import trace_pb2

from evaluators.model import PHASES, Result, Verdict
from exporters.measurement import Named
from exporters.otlp_encoding import REQUEST_BYTES, about_run, attributes, encoded_resource, field

HELD_BYTES: Final = 16 << 20
"""All spans that wait, of every destination together."""

_HOST_PORT = re.compile(r"(\[.+\]|[^:]+):(\d+)")
_FAILED: Final = (Verdict.CRITICAL, Verdict.ERROR)


class SpanQueue:
    """Encoded runs until a destination has them: at most `most_bytes`, beyond which the oldest go, counted in `dropped`."""

    def __init__(self) -> None:
        self.most_bytes = HELD_BYTES
        self.held_bytes = self.dropped = 0
        self._runs: deque[bytes] = deque()

    @property
    def count(self) -> int:
        """Runs that wait."""
        return len(self._runs)

    def put(self, run: bytes) -> None:
        self._runs.append(run)
        self.held_bytes += len(run)
        while self.held_bytes > self.most_bytes:
            self.held_bytes -= len(self._runs.popleft())
            self.dropped += 1

    def take(self) -> list[bytes]:
        """The oldest, as many as one request holds; they are out of the queue."""
        taken: list[bytes] = []
        size_bytes = 0
        while self._runs and size_bytes < REQUEST_BYTES:
            taken.append(self._runs.popleft())
            size_bytes += len(taken[-1])
        self.held_bytes -= size_bytes
        return taken

    def give_back(self, taken: list[bytes]) -> None:
        """What could not be sent, to be the oldest again; what there is no room for goes, the oldest first."""
        for place, run in enumerate(reversed(taken)):
            if self.held_bytes + len(run) > self.most_bytes:
                self.dropped += len(taken) - place
                return
            self._runs.appendleft(run)
            self.held_bytes += len(run)


def spans_request(resource: Mapping[str, str], runs: list[bytes]) -> bytes:
    """The request that exports `runs`, as `encoded_run` made them."""
    ours = encoded_resource(resource) + field(trace_pb2.ResourceSpans, "scope_spans", _SCOPE + b"".join(runs))
    return field(ExportTraceServiceRequest, "resource_spans", ours)


def encoded_run(result: Result, named: Named) -> bytes:
    """The spans of a run, as fields of ScopeSpans."""
    trace_id = bytes.fromhex(result.trace_id) if result.trace_id else UUID(result.run_id).bytes
    span_id = trace_id[8:]
    ended_ns = int(result.at * 1e9)
    began_ns = ended_ns - int((result.timings.total or 0.0) * 1e9)
    about: dict[str, str | int] = {
        **about_run(named, result.region),
        "upbeat.run.id": result.run_id,
        "upbeat.run.verdict": result.verdict.value,
        "upbeat.run.kind": result.kind.value,
        **_about_target(named.type, named.address, named.method),
    }
    status = trace_pb2.Status()
    if isinstance(code := (result.evidence or {}).get("status"), int):
        about["http.response.status_code"] = code
    if result.failure is not None:
        about["error.type"] = result.failure.type
        if result.verdict in _FAILED:
            status = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR, message=result.failure.message)
    run = trace_pb2.Span(
        trace_id=trace_id,
        span_id=span_id,
        flags=1,
        name=f"{named.method or named.type} {named.slug}",
        kind=trace_pb2.Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=began_ns,
        end_time_unix_nano=ended_ns,
        attributes=attributes(about),
        status=status,
    )
    encoded = _field(run)
    at_ns = began_ns
    for place, phase in enumerate(PHASES[:-1], 1):
        if (took_s := getattr(result.timings, phase)) is None:
            continue
        until_ns = at_ns + int(took_s * 1e9)
        encoded += _field(
            trace_pb2.Span(
                trace_id=trace_id,
                span_id=((int.from_bytes(span_id) + place) % (1 << 64) or 1).to_bytes(8),
                parent_span_id=span_id,
                flags=1,
                name=phase,
                kind=trace_pb2.Span.SPAN_KIND_INTERNAL,
                start_time_unix_nano=at_ns,
                end_time_unix_nano=until_ns,
            )
        )
        at_ns = until_ns
    return encoded


@lru_cache(maxsize=10_000)
def _about_target(kind: str, address: str, method: str) -> dict[str, str | int]:
    """What is measured, in OpenTelemetry's words. References to secrets are never replaced here."""
    about: dict[str, str | int] = {}
    host: str | None = address
    port: int | None = None
    if kind == "http":
        about = {"url.full": address, "http.request.method": method}
        host = None
        with contextlib.suppress(ValueError):  # any part of it may be a reference
            parts = urlsplit(address)
            host = parts.hostname
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    elif match := _HOST_PORT.fullmatch(address):
        host, port = match[1].strip("[]"), int(match[2])
    if host is not None and "$" in host:  # a reference
        host = None
    return about | ({"server.address": host} if host else {}) | ({"server.port": port} if port else {})


def _field(span: Any) -> bytes:
    return field(trace_pb2.ScopeSpans, "spans", span.SerializeToString())


_SCOPE = field(trace_pb2.ScopeSpans, "scope", InstrumentationScope(name="upbeat").SerializeToString())
