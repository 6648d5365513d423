"""Totals as OTLP export requests, in bytes. It sends nothing.

Building SDK values and encoding them costs 23 us per data point, 1.6 s for 10,000 series with their phases. Here
opentelemetry-proto encodes once what never changes, and what moves is put behind it: concatenated fields are one message
(https://protobuf.dev/programming-guides/encoding/#last-one-wins). A histogram's moving fields are all of fixed size and
are packed without a message object. About 1 us per point; a test reads everything back with opentelemetry-proto.
"""

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from operator import sub
from typing import Any, Final, Literal

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from evaluators.model import PHASES
from exporters.measurement import BOUNDS_S, SLOTS, BeatTotals, Exemplar, Named, Run, Sent, Series

REQUEST_BYTES: Final = 256 * 1024
"""About how large a request grows: encoding one holds the loop for some 2 ms, and many receivers refuse 4 MiB."""

Temporality = Literal["cumulative", "delta"]
Names = Literal["upbeat", "openstatus"]

_OPENSTATUS_PHASES: Final = {
    "http": (
        ("total", "openstatus.http.request.duration"),
        ("dns", "openstatus.http.dns.duration"),
        ("connect", "openstatus.http.connection.duration"),
        ("tls", "openstatus.http.tls.duration"),
        ("ttfb", "openstatus.http.ttfb.duration"),
        ("transfer", "openstatus.http.transfer.duration"),
    ),
    "tcp": (("total", "openstatus.tcp.request.duration"), ("connect", "openstatus.tcp.tcp.duration")),
    "dns": (("total", "openstatus.dns.request.duration"),),
}


class Encoder:
    """Encodes what one destination is sent, for one process, named by `resource`, a mapping of resource attributes."""

    def __init__(
        self,
        resource: Mapping[str, str],
        *,
        temporality: Temporality = "cumulative",
        names: Names = "upbeat",
        exemplars: bool = True,
    ) -> None:
        self._temporality, self._names, self._exemplars = temporality, names, exemplars
        self._resource = encoded_resource(resource)

    def requests(self, beats: Iterator[BeatTotals], now_ns: int) -> Iterator["Request"]:
        """Requests that together hold every series as it stood at `now_ns` or up to when its turn came.

        Differences are those since the last `settle`. Exemplars leave with the request, delivered or not.
        """
        request = Request(self._resource, now_ns, self._temporality)
        for beat in beats:
            self._add(request, beat)
            if request.size_bytes >= REQUEST_BYTES:
                yield request
                request = Request(self._resource, now_ns, self._temporality)
        if request.size_bytes:
            yield request

    def _add(self, request: "Request", beat: BeatTotals) -> None:
        named = beat.named
        for region, series in beat.regions.items():
            start_ns, counts, sums_s, runs = request.take(series)
            if self._names == "openstatus":
                _add_openstatus(request, named, region, series, runs, start_ns)
            else:
                for_histogram, for_number = _constant(series, named, region)
                exemplars = series.exemplars if self._exemplars else ()
                _add_durations(request, for_histogram, start_ns, counts, sums_s, exemplars)
                for run, count in runs.items():
                    request.put("upbeat.runs", for_number, _run(run), request.number(count, start_ns))
            if series.exemplars:
                series.exemplars, series.slowest = [], -1
            if series.certificate_days is not None:
                _, for_number = _constant(series, named, region)
                days = request.number(float(series.certificate_days))
                request.put("upbeat.certificate.days", for_number, days)
        if beat.standing is not None:
            about = {f"upbeat.{named.kind}": named.slug, "upbeat.page": named.page}
            if named.kind == "beat":
                about["upbeat.beat.type"] = named.type
            point = _about_point(about)
            for name, value in beat.standing.numbers():
                request.put(f"upbeat.{named.kind}.{name}", point, request.number(value))


class Request:
    """Encoded data points of one request, by metric. `settle` says that it is over: delivered, or never to be."""

    def __init__(self, resource: bytes, now_ns: int, temporality: Temporality) -> None:
        self.size_bytes = self.points = 0
        self.now_ns = now_ns
        self._resource, self._temporality = resource, temporality
        self._metrics: defaultdict[str, list[bytes]] = defaultdict(list)
        self._taken: list[tuple[Series, Sent]] = []

    def take(self, series: Series) -> tuple[int, "array[int]", "array[float]", dict[Run, int]]:
        """(since when, buckets, sums, runs) to be sent of a series."""
        if self._temporality == "cumulative":
            return series.began_ns, series.counts, series.sums_s, series.runs
        before = series.sent
        now = Sent(self.now_ns, series.counts[:], series.sums_s[:], dict(series.runs))
        self._taken.append((series, now))
        if before is None:
            return series.began_ns, now.counts, now.sums_s, now.runs
        runs = {run: count - before.runs.get(run, 0) for run, count in now.runs.items()}
        return (
            before.at_ns,
            array("Q", map(sub, now.counts, before.counts)),
            array("d", map(sub, now.sums_s, before.sums_s)),
            {run: count for run, count in runs.items() if count},
        )

    def settle(self) -> None:
        """The next differences begin where these ended."""
        for series, sent in self._taken:
            series.sent = sent

    def number(self, value: float, start_ns: int = 0) -> bytes:
        """The moving fields of a number point: a whole number as such, any other as a double."""
        packed, tag = (_INT, _INT_TAG) if isinstance(value, int) else (_DOUBLE, _DOUBLE_TAG)
        began, now = _TAGS[:2]
        return packed.pack(began, start_ns, now, self.now_ns, tag, value)

    def put(self, metric: str, *parts: bytes) -> None:
        """Add a data point, in parts, to a metric."""
        # `data_points` has the same number in Histogram, Sum and Gauge; a test reads all three back.
        size_bytes = sum(map(len, parts))
        self._metrics[metric] += (_POINT_TAG, varint(size_bytes), *parts)
        self.size_bytes += size_bytes + 3
        self.points += 1

    def encode(self) -> bytes:
        """The request as it is sent."""
        scoped = _SCOPE + b"".join(
            field(metrics_pb2.ScopeMetrics, "metrics", self._metric(name, points))
            for name, points in self._metrics.items()
        )
        ours = self._resource + field(metrics_pb2.ResourceMetrics, "scope_metrics", scoped)
        return field(ExportMetricsServiceRequest, "resource_metrics", ours)

    def _metric(self, name: str, points: list[bytes]) -> bytes:
        kind, unit, description = METRICS[name]
        about = _bytes(metrics_pb2.Metric(name=name, unit=unit, description=description))
        return about + field(
            metrics_pb2.Metric, kind, b"".join(points) + _aggregation(kind, self._temporality)
        )


def _add_durations(
    request: Request,
    constant: bytes,
    start_ns: int,
    counts: "array[int]",
    sums_s: "array[float]",
    exemplars: Sequence[Exemplar],
) -> None:
    """A histogram point for each phase that happened. Unrolled: it is nearly all that an export costs."""
    began, now, count, total, buckets = _TAGS
    raw, now_ns = counts.tobytes(), request.now_ns
    totals, phases = request._metrics["upbeat.run.duration"], request._metrics["upbeat.run.phase.duration"]
    size_bytes = points = 0
    for place, more in enumerate(_PHASE_FIELDS):
        often = sum(counts[place * SLOTS : (place + 1) * SLOTS])
        if not often:
            continue
        moving = _MOVING.pack(
            began, start_ns, now, now_ns, count, often, total, sums_s[place], buckets, _BUCKETS_SIZE
        )
        part = raw[place * _RAW : (place + 1) * _RAW]
        if place == _TOTAL:
            examples = b"".join(map(_exemplar, exemplars)) if exemplars else b""
            length = len(constant) + len(more) + _MOVING_SIZE + len(examples)
            totals += (_POINT_TAG, varint(length), constant, more, moving, part, examples)
        else:
            length = len(constant) + len(more) + _MOVING_SIZE
            phases += (_POINT_TAG, varint(length), constant, more, moving, part)
        size_bytes += length + 3
        points += 1
    request.size_bytes += size_bytes
    request.points += points


def _add_openstatus(
    request: Request, named: Named, region: str, series: Series, runs: Mapping[Run, int], start_ns: int
) -> None:
    """What OpenStatus sends of a run, counted over all of them; its gauges are those of the newest run, if it passed."""
    about = _about_point(
        {
            "openstatus.probes": region,
            "openstatus.target": named.address,
            "upbeat.beat": named.slug,
            "upbeat.page": named.page,
        }
    )
    passed = sum(count for run, count in runs.items() if run[0] in ("ok", "warning"))
    failed = sum(runs.values()) - passed
    for metric, count in (("openstatus.status", passed), ("openstatus.error", failed)):
        if count:
            request.put(metric, about, request.number(count, start_ns))
    if series.passed is not None:
        for phase, metric in _OPENSTATUS_PHASES.get(named.type, ()):
            if (took_s := getattr(series.passed, phase)) is not None:
                request.put(metric, about, request.number(took_s * 1000))


def _exemplar(exemplar: Exemplar) -> bytes:
    trace_id, took_s, at = exemplar
    value, when, span, trace, size = _EXEMPLAR_TAGS
    ids = bytes.fromhex(trace_id)
    return _EXEMPLAR.pack(
        size, value, took_s, when, int(at * 1e9), span, b"\x08", ids[8:], trace, b"\x10", ids
    )


def _constant(series: Series, named: Named, region: str) -> tuple[bytes, bytes]:
    """The attributes of a series as fields of a histogram point and of a number point."""
    if series.encoded is None or series.encoded[0] is not named:
        series.encoded = (
            named,
            _bytes(metrics_pb2.HistogramDataPoint(attributes=attributes(about_run(named, region)))),
            _about_point(about_run(named, region)),
        )
    return series.encoded[1:]


def about_run(named: Named, region: str) -> dict[str, str]:
    """The attributes that everything about runs of a beat in a region has."""
    return {
        "upbeat.beat": named.slug,
        "upbeat.region": region,
        "upbeat.page": named.page,
        "upbeat.beat.type": named.type,
        "user_agent.synthetic.type": "test",
    }


@lru_cache(maxsize=4096)
def _run(run: Run) -> bytes:
    verdict, kind, error = run
    about = {"upbeat.run.verdict": verdict, "upbeat.run.kind": kind} | (
        {"error.type": error} if error else {}
    )
    return _about_point(about)


def _about_point(about: Mapping[str, str]) -> bytes:
    return _bytes(metrics_pb2.NumberDataPoint(attributes=attributes(about)))


@cache
def _aggregation(kind: str, temporality: Temporality) -> bytes:
    aggregated = (
        metrics_pb2.AGGREGATION_TEMPORALITY_DELTA
        if temporality == "delta"
        else metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    data: dict[str, Any] = {
        "histogram": metrics_pb2.Histogram(aggregation_temporality=aggregated),
        "sum": metrics_pb2.Sum(aggregation_temporality=aggregated, is_monotonic=True),
        "gauge": metrics_pb2.Gauge(),
    }
    return _bytes(data[kind])


def attributes(values: Mapping[str, str | int]) -> list[KeyValue]:
    """OTLP attributes."""
    return [
        KeyValue(
            key=key,
            value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value),
        )
        for key, value in values.items()
    ]


def encoded_resource(resource: Mapping[str, str]) -> bytes:
    """The `resource` field of ResourceMetrics and ResourceSpans, which both have under the same number."""
    return field(metrics_pb2.ResourceMetrics, "resource", _bytes(Resource(attributes=attributes(resource))))


def _bytes(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def field(of: Any, name: str, payload: bytes) -> bytes:
    """`payload` as the length-delimited field `name` of a message."""
    return _tag(of, name) + varint(len(payload)) + payload


def _tag(of: Any, name: str, wire_type: int = 2) -> bytes:
    return varint(of.DESCRIPTOR.fields_by_name[name].number << 3 | wire_type)


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """`number` in protobuf's variable length."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


METRICS: Final = (
    {
        "upbeat.run.duration": ("histogram", "s", "Wall time of a run's last attempt"),
        "upbeat.run.phase.duration": ("histogram", "s", "Time in one phase of a run"),
        "upbeat.runs": ("sum", "{run}", "Finished runs"),
        "upbeat.certificate.days": ("gauge", "d", "Days until the first certificate of the chain expires"),
        "openstatus.status": ("sum", "", "Runs that passed"),
        "openstatus.error": ("sum", "", "Runs that failed"),
    }
    | {
        f"upbeat.{kind}.{name}": said
        for kind in ("beat", "group")
        for name, said in {
            "stage": ("gauge", "{stage}", "0 ok, 1 warning, 2 critical, 3 unknown"),
            "flapping": ("gauge", "{flag}", "1 while it changes so often that nothing is said"),
            "suppressed": ("gauge", "{flag}", "1 while it is bad and something suppresses its episode"),
        }.items()
    }
    | {
        metric: ("gauge", "ms", "Of the newest run, while it passes")
        for phases in _OPENSTATUS_PHASES.values()
        for _, metric in phases
    }
)
"""Name: kind, unit, description."""

_SCOPE = field(metrics_pb2.ScopeMetrics, "scope", _bytes(InstrumentationScope(name="upbeat")))
_POINT_TAG = _tag(metrics_pb2.Histogram, "data_points")
_TAGS = tuple(
    _tag(metrics_pb2.HistogramDataPoint, name, wire_type)
    for name, wire_type in (
        ("start_time_unix_nano", 1),
        ("time_unix_nano", 1),
        ("count", 1),
        ("sum", 1),
        ("bucket_counts", 2),
    )
)
_TOTAL = PHASES.index("total")
_RAW = 8 * SLOTS
_BUCKETS_SIZE = varint(_RAW)
_MOVING = struct.Struct(f"<cQcQcQcdc{len(_BUCKETS_SIZE)}s")  # the packed buckets follow
_MOVING_SIZE = _MOVING.size + _RAW
_BOUNDS = _bytes(metrics_pb2.HistogramDataPoint(explicit_bounds=BOUNDS_S))
_PHASE_FIELDS = tuple(
    (
        b""
        if phase == "total"
        else _bytes(metrics_pb2.HistogramDataPoint(attributes=attributes({"upbeat.run.phase": phase})))
    )
    + _BOUNDS
    for phase in PHASES
)
_INT, _DOUBLE = struct.Struct("<cQcQcq"), struct.Struct("<cQcQcd")
_INT_TAG, _DOUBLE_TAG = (_tag(metrics_pb2.NumberDataPoint, name, 1) for name in ("as_int", "as_double"))
_EXEMPLAR = struct.Struct("<2scdcQcc8scc16s")
_EXEMPLAR_TAGS = (
    *(
        _tag(metrics_pb2.Exemplar, name, wire_type)
        for name, wire_type in (("as_double", 1), ("time_unix_nano", 1), ("span_id", 2), ("trace_id", 2))
    ),
    _tag(metrics_pb2.HistogramDataPoint, "exemplars") + varint(_EXEMPLAR.size - 2),
)
