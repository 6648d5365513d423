"""Whose measurements go where: a beat's own `otlp`, else its page's, else the installation's; and who sends them there."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from engine.egress import connect, open_session
from engine.metering import Exports
from engine.secrets import Secrets
from evaluators.model import Result
from exporters.measurement import Totals
from exporters.otlp import (
    Destination,
    HttpSender,
    OtlpSettings,
    Sender,
    Tally,
    settings_from,
    settings_of,
)
from exporters.otlp_encoding import Temporality
from exporters.otlp_spans import HELD_BYTES, SpanQueue, encoded_run
from exporters.prometheus import Family
from rules.address import EgressPolicy
from rules.otlp import Otlp
from rules.secret import UnsetReferenceError
from upbeat.selfmetrics import counter, gauge

_LEAST_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class _Key(NamedTuple):
    """A destination that is kept: opened anew under another policy, and where it becomes or ceases to be the installation's."""

    settings: OtlpSettings
    policy: EgressPolicy
    is_installation: bool


class _Written(NamedTuple):
    """An `otlp` as somebody wrote it, and what its references are judged by."""

    rule: str  # as JSON
    page_id: UUID | None  # None: the installation's


class OtlpExport:
    """The destinations of this process.

    The standard variables in `environment` win over the installation's `otlp`, and over nobody else's.
    """

    def __init__(
        self,
        totals: Totals,
        policy: EgressPolicy,
        environment: Mapping[str, str],
        secrets: Secrets,
        resource: Mapping[str, str],
        engine: Callable[[], Awaitable[Iterable[Family]]],
    ) -> None:
        self.tally = Tally()
        self.exports = Exports(self._wanted, self._open)
        self._totals, self._policy, self._secrets = totals, policy, secrets
        self._resource, self._engine = resource, engine
        self._engines: dict[Temporality, Callable[[], Awaitable[bytes]]] = {}
        self._rule: Otlp | None = None
        self._pages: Mapping[UUID, Otlp] = {}
        self._resolved: dict[_Written, OtlpSettings | None] = {}
        self._spans: dict[OtlpSettings, SpanQueue] = {}
        self._given: OtlpSettings | None = None
        try:
            self._given = settings_from(environment)
        except ValueError as wrong:  # no reason to stop what is measured
            _log.error("metrics are not exported: %s", wrong)
        self._is_tracing = self._given is not None and self._given.spans
        self._default = self._given
        self._of_pages: dict[UUID, OtlpSettings | None] = {}

    # ---- whose measurements go where

    def declare(self, rule: Otlp | None, pages: Mapping[UUID, Otlp]) -> None:
        """Take up what the installation and its pages say."""
        if (rule, pages) != (self._rule, self._pages):
            self._rule, self._pages = rule, pages
            self._forget()

    def refresh(self) -> None:
        """A secret has another value: take up what references stand for now."""
        if any(self._resolve(written, is_new=False) != known for written, known in self._resolved.items()):
            self._forget()

    def _forget(self) -> None:
        self._resolved.clear()
        self._default = self._given
        if self._given is None and self._rule is not None:
            self._default = self._settings(self._rule, None)
        self._of_pages = {page_id: self._settings(rule, page_id) for page_id, rule in self._pages.items()}
        self._totals.renamed()

    def judge_by(self, policy: EgressPolicy) -> None:
        """Connect under another policy from now on."""
        self._policy = policy
        for destination in self.exports.destinations:
            destination.forsake()

    def destination(self, page_id: UUID, own: Otlp | None) -> OtlpSettings | None:
        """Where the measurements of a beat of this page go; None: nowhere."""
        if own is not None:
            return self._settings(own, page_id)
        return self._of_pages.get(page_id, self._default)

    def _settings(self, rule: Otlp, page_id: UUID | None) -> OtlpSettings | None:
        written = _Written(rule.model_dump_json(), page_id)
        if written not in self._resolved:
            self._resolved[written] = self._resolve(written, is_new=True)
            self._is_tracing = self._is_tracing or rule.spans
        return self._resolved[written]

    def _resolve(self, written: _Written, *, is_new: bool) -> OtlpSettings | None:
        rule = Otlp.model_validate_json(written.rule)
        try:
            return settings_of(rule, self._secrets.of(written.page_id))
        except (UnsetReferenceError, ValueError) as wrong:
            if is_new:  # nor does anybody else get it
                _log.error("what is for %s is exported nowhere: %s", rule.endpoint, wrong)
            return None

    # ---- results

    def observe(self, results: Sequence[Result]) -> None:
        """Count runs, and keep their spans for who wants them."""
        self._totals.observe(results)
        if not self._is_tracing:
            return
        for result in results:
            named = self._totals.named(result.beat_id) if result.stored else None
            to = named.destination if named is not None else None
            if named is not None and isinstance(to, OtlpSettings) and to.spans:
                self._spans.setdefault(to, SpanQueue()).put(encoded_run(result, named))

    # ---- the destinations

    def _wanted(self) -> frozenset[_Key]:
        wanted = {each for each in self._totals.destinations() if isinstance(each, OtlpSettings)}
        if self._default is not None:
            wanted.add(self._default)
        self._totals.keeps_exemplars = any(each.exemplars for each in wanted)
        self._totals.keeps_newest = any(each.names == "openstatus" for each in wanted)
        self._spans = {each: queue for each, queue in self._spans.items() if each in wanted}
        for queue in self._spans.values():
            queue.most_bytes = max(HELD_BYTES // len(self._spans), _LEAST_BYTES)
        return frozenset(_Key(each, self._policy, each == self._default) for each in wanted)

    def _open(self, key: _Key) -> Destination:
        settings, policy, is_installation = key

        async def locate(host: str, port: int, timeout_s: float) -> str:
            with await connect(policy, "relay", host, port, timeout_s) as sock:
                return str(sock.getpeername()[0])

        sender: Sender
        if settings.protocol == "grpc":
            from exporters.otlp_grpc import GrpcSender  # a large library: only where it is spoken

            sender = GrpcSender(locate, settings, self.tally)
        else:
            sender = HttpSender(
                lambda: open_session(policy, "relay", timeout_s=settings.timeout_s), settings, self.tally
            )
        engine = None
        if is_installation:
            engine = self._engine_metrics(settings.temporality)
        spans = self._spans.setdefault(settings, SpanQueue()) if settings.spans else None
        return Destination(
            settings, sender, self._totals, self._resource, self.tally, spans=spans, engine=engine
        )

    def _engine_metrics(self, temporality: Temporality) -> Callable[[], Awaitable[bytes]]:
        """One for all destinations there ever are: another one would begin anew, with all there was as its first difference."""
        if temporality not in self._engines:
            from exporters.otlp_engine import EngineMetrics  # the SDK: only where it has something to do

            self._engines[temporality] = EngineMetrics(self._engine, self._resource, temporality).request
        return self._engines[temporality]

    def families(self) -> Iterable[Family]:
        """What there is to say of the exports themselves."""
        tally, destinations = self.tally, self.exports.destinations
        yield counter(
            "upbeat_otlp_requests_total",
            "Export requests, by what came of them.",
            (tally.delivered, (("outcome", "delivered"),)),
            (tally.failed, (("outcome", "failed"),)),
        )
        yield counter(
            "upbeat_otlp_refused_total",
            "What destinations refused for good, in part or whole.",
            (tally.refused_points, (("what", "data points"),)),
            (tally.refused_spans, (("what", "spans"),)),
        )
        said = "Runs without a trace, their destination being away."
        yield counter("upbeat_otlp_runs_dropped_total", said, tally.dropped_spans)
        yield gauge("upbeat_otlp_destinations", "Destinations.", len(destinations))
        failing = sum(each.is_failing for each in destinations)
        said = "Destinations that did not take their last export."
        yield gauge("upbeat_otlp_destinations_failing", said, failing)
        yield gauge("upbeat_series", "Beats times their regions.", self._totals.series_count())
