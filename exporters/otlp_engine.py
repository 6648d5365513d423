"""Upbeat's metrics about itself as OTLP, by the OpenTelemetry SDK. It measures nothing: it is told by whoever reads them.

Imported only where OTLP is configured: the SDK costs start time and memory. Results never come this way (decision 7).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from exporters.otlp_encoding import Temporality
from exporters.prometheus import Family

_UNITS = {"_seconds": "s", "_bytes": "By"}


class EngineMetrics:
    """`read` says what there is now; each family becomes an observable instrument when it first appears."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Iterable[Family]]],
        resource: Mapping[str, str],
        temporality: Temporality = "cumulative",
    ) -> None:
        self._read = read
        wanted = AggregationTemporality.DELTA if temporality == "delta" else AggregationTemporality.CUMULATIVE
        self._reader = InMemoryMetricReader(preferred_temporality={ObservableCounter: wanted})
        provider = MeterProvider([self._reader], Resource(dict(resource)), shutdown_on_exit=False)
        self._meter = provider.get_meter("upbeat.engine")
        self._now: dict[str, Family] = {}

    async def request(self) -> bytes:
        """An export request with everything as it is now."""
        for family in await self._read():
            if family.name not in self._now:
                self._declare(family)
            self._now[family.name] = family
        data = self._reader.get_metrics_data() or MetricsData([])
        encoded: bytes = encode_metrics(data).SerializeToString()
        return encoded

    def _declare(self, family: Family) -> None:
        name, unit = otlp_name(family)
        make = (
            self._meter.create_observable_counter
            if family.kind == "counter"
            else self._meter.create_observable_gauge
        )
        make(name, [partial(self._observe, family.name)], unit, family.description)

    def _observe(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(one.value, dict(one.labels)) for one in self._now[name].samples]


def otlp_name(family: Family) -> tuple[str, str]:
    """Name and unit by which OTLP's rules for Prometheus lead back to the family's name."""
    name, unit = family.name.removesuffix("_total"), ""  # a gauge in 1 would become a _ratio
    for suffix, means in _UNITS.items():
        if name.endswith(suffix):
            name, unit = name.removesuffix(suffix), means
    if name.startswith("process_"):
        return name.replace("_", "."), unit  # OpenTelemetry's own names
    return name.replace("upbeat_", "upbeat.", 1), unit
