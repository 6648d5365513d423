"""One process of an installation: builds the roles it was asked for, and knows how they are doing."""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api.context import ApiSettings, Guide, Health, Services
from engine.browser.pool import Browsers, slots_here
from engine.bus import Bus
from engine.catalog import Catalog
from engine.clock import SystemClock
from engine.delivery import Delivery, Target
from engine.embedded.supervisor import Embedded
from engine.evaluator import Evaluator
from engine.followups import Followups
from engine.janitor import Janitor
from engine.jobs import Jobs
from engine.mailing import Mailing
from engine.metering import Metering
from engine.prober import Prober
from engine.probes.context import Context
from engine.relations import Relations
from engine.secrets import Secrets
from engine.sickness import Sickness
from engine.spool import Spool
from engine.store import events, installation, objects
from engine.store.database import DATABASE_AWAY, Connection, Pool, follow
from engine.store.ids import new_id
from engine.store.objects import Stored
from engine.subject import Subject, compile_subject
from engine.triggering import Triggering
from evaluators.model import Notice, Stage
from exporters import prometheus
from exporters.letters.mail import preview
from exporters.measurement import Named, Standing, Totals
from exporters.otlp import resource
from exporters.outcome import Outcome
from rules.beat import AnyBeat
from rules.otlp import Otlp
from rules.secret import UnsetReferenceError, expand
from rules.settings import Settings, Watchdog
from upbeat import __version__
from upbeat.check import check_now
from upbeat.identity import Identity
from upbeat.imports.codegen import recorded
from upbeat.letters import Letters
from upbeat.names import txt
from upbeat.otlp import OtlpExport
from upbeat.pages import Pages
from upbeat.selfmetrics import queue_families, self_families
from upbeat.settings import ServeSettings
from upbeat.slack import Slack
from upbeat.targets import Targets
from upbeat.watchdog import watch

REFUSING_S = 3.0
"""NATS that could not write for longer than this is restarted, if its disk has ROOM_BYTES."""
ROOM_BYTES = 32 << 20
SETTINGS_S = 30.0
"""How often the settings are looked at without being told of a change."""
STUCK_S = 15.0
"""A finished result uncommitted, or a due run unstarted, for longer than this is not ready."""

_log = logging.getLogger(__name__)


def browsers_of(settings: ServeSettings, number: int = 0) -> int:
    """How many the `number`-th of its workers may run at once, the first of them being itself; at least 1."""
    return max(1, ((settings.browsers or slots_here()) + settings.workers - 1 - number) // settings.workers)


class Node:
    """Holds what the roles share. `kept` are the installation's settings, replaced while running."""

    def __init__(
        self,
        settings: ServeSettings,
        kept: Settings,
        pool: Pool,
        bus: Bus,
        clock: SystemClock,
        database_url: str,
        nats_url: Callable[[], str],
        embedded: Embedded | None,
        secrets: Secrets,
    ) -> None:
        self.settings, self.kept, self.pool, self.bus, self.clock = settings, kept, pool, bus, clock
        self.database_url, self.nats_url, self.embedded = database_url, nats_url, embedded
        self.base_url, self.local_token = "", ""
        self.guide: Callable[[], Guide | None] = lambda: None
        self.applied: tuple[int, int, int] | None = None  # the configuration file, as it was first applied
        self.identity = Identity(settings.data, settings.roles)
        self.holder = self.identity.holder
        self.policy = kept.egress.policy()
        self.secrets, self.sources = secrets, secrets.of(None)
        self.pages = Pages(lambda: self._services or self.services())
        self.secrets.lending = kept.secrets
        self.targets = Targets(self.policy, secrets, self.public_url, self.pages.rendered)
        self.letters = Letters(lambda: self.kept.mail, lambda: self.policy, secrets)
        self.slack = Slack(lambda: self.kept.slack, lambda: self.policy, secrets)
        self.targets.slack_api = self.slack.api
        self.relations = Relations()
        self.catalog: Catalog[Subject] = Catalog(
            pool, compile_subject, relations=self.relations, on_change=self._changed
        )
        self.evaluator: Evaluator | None = None
        self.triggering: Triggering | None = None
        self.prober: Prober | None = None
        self.delivery: Delivery | None = None
        self.mailing: Mailing | None = None
        self._pages: dict[UUID, str] = {}
        self._pages_read = asyncio.Event()
        self.totals = Totals(self._named)
        self.otlp = OtlpExport(
            self.totals,
            self.policy,
            settings.environment,
            secrets,
            resource(self.holder, __version__),
            self._self_families,
        )
        self.otlp.declare(kept.otlp, {})
        secrets.on_change.append(self.otlp.refresh)
        self._context: Context | None = None
        self._services: Services | None = None
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.targets.close,
            self.letters.close,
        ]

    # ---- roles

    def parts(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs in this process until cancelled, all but `probe`."""
        roles = self.settings.roles
        yield self._follow_settings()
        yield self.secrets.run(self.pool)
        yield self.otlp.exports.run()
        if self.embedded is not None:
            yield self._heal_bus(self.embedded)
        if roles & {"evaluator", "exporter"}:
            yield self.catalog.run()
        if "evaluator" in roles:
            self.evaluator = Evaluator(
                self.pool,
                self.bus,
                self.clock,
                self.catalog.entries,
                holder=self.holder,
                refresh=self.catalog.refresh,
                public_url=self.public_url,
                children=lambda subject_id: self.relations.children.get(subject_id, ()),
            )
            yield self._after_catalog(self.evaluator.run)
            self.triggering = Triggering(self.pool, self.bus, holder=self.holder)
            yield self.triggering.run()
            yield Sickness(self.pool, self.clock, holder=self.holder, public_url=self.public_url).run()
        if "exporter" in roles:
            self.delivery = Delivery(
                self.pool,
                self.targets.send,
                holder=self.holder,
                clock=self.clock,
                public_url=self.public_url,
            )
            yield self.delivery.run()
            self.mailing = Mailing(
                self.pool,
                self.letters.send,
                holder=self.holder,
                base_url=self.public_url,
                mail=lambda: self.kept.mail,
                clock=self.clock,
            )
            yield self.mailing.run()
            yield Followups(self.pool, self.clock, holder=self.holder, public_url=self.public_url).run()
            yield Janitor(self.pool, self.clock, holder=self.holder, keep=lambda: self.kept.retention).run()
            metering = Metering(self.pool, self.bus, observe=self.otlp.observe, stand=self._stand)
            yield self._after_pages(metering.run)
            if self.kept.watchdog is not None:
                yield self._watch(self.kept.watchdog)
        if parent := self.settings.environment.get("UPBEAT_PARENT"):
            yield _end_with(int(parent))

    async def probe(self) -> None:
        """The probe role, until cancelled: that is done first, for its last results need an evaluator."""
        self.prober = self._prober()
        await self.prober.run()

    async def close(self) -> None:
        """Give back what the roles shared."""
        if self._context is not None:
            if self._context.browsers is not None:
                await self._context.browsers.close()
            self._context.close()
        for close in reversed(self._closers):
            await close()
        self.identity.close()

    async def _after_catalog(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.catalog.loaded.wait()
        await run()

    async def _after_pages(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._pages_read.wait()
        await self._after_catalog(run)

    def _changed(self, beat_id: UUID, subject: Subject | None) -> None:
        self.totals.renamed(str(beat_id))
        if self.evaluator is not None:
            self.evaluator.changed(beat_id)

    def context(self) -> Context:
        """What probes share on this loop."""
        if self._context is None:
            slots = browsers_of(self.settings)
            self._context = Context(self.policy, browsers=Browsers(self.settings.environment, slots=slots))
        return self._context

    def _prober(self) -> Prober:
        return Prober(
            self.pool,
            self.bus,
            Spool(self.bus, self.pool, str(new_id()), clock=self.clock),
            self.context(),
            self.clock,
            holder=self.holder,
            regions=self.settings.regions,
            secrets=self.secrets,
        )

    async def _watch(self, watchdog: Watchdog) -> None:
        try:
            url = expand(watchdog.url, self.sources)
        except UnsetReferenceError as unset:
            _log.error("the watchdog is told nothing: %s", unset)
            return
        await watch(watchdog, url, self.policy, self._commits)

    async def _heal_bus(self, embedded: Embedded) -> None:
        """A full disk makes NATS refuse every message from then on, room or not: it is restarted once there is some."""
        while True:
            await asyncio.sleep(2.0)
            if self.bus.refusing_s < REFUSING_S:
                continue
            if await asyncio.to_thread(has_room, self.settings.data):
                _log.warning(
                    "NATS does not write to its disk since %.0f s; it is restarted", self.bus.refusing_s
                )
                embedded.restart_nats()
                await asyncio.sleep(10.0)

    # ---- settings that change while running

    async def _follow_settings(self) -> None:
        """Take up the installation's settings when they change."""

        async def look(connection: Connection) -> float:
            await self._take_settings(await installation.read_settings(connection))
            self._take_pages(await objects.listing(connection, "page"))
            return SETTINGS_S

        await follow(self.pool, [installation.CHANGED, objects.CHANGED], look)

    async def _take_settings(self, spec: dict[str, Any]) -> None:
        try:
            kept = Settings.model_validate(spec)
        except ValidationError as wrong:  # another version's: that is no reason to stop
            _log.error("the installation's settings are not taken up: %s", wrong)
            return
        if kept == self.kept:
            return
        if kept.egress != self.kept.egress:
            self.policy = kept.egress.policy()
            await self.targets.judge_by(self.policy)
            self.context().judge_by(self.policy)
            self.otlp.judge_by(self.policy)
        if kept.watchdog != self.kept.watchdog:
            _log.warning("the watchdog settings changed; they take effect at the next start")
        self.kept, self.secrets.lending = kept, kept.secrets
        self.targets.slack_api = self.slack.api
        if self._services is not None:
            self._services.settings = self._api_settings()

    def _take_pages(self, pages: Sequence[Stored]) -> None:
        slugs = {page.id: page.slug for page in pages}
        is_renamed, self._pages = slugs != self._pages, slugs
        rules = {page.id: Otlp.model_validate(page.spec["otlp"]) for page in pages if page.spec.get("otlp")}
        self.otlp.declare(self.kept.otlp, rules)
        if is_renamed:
            self.totals.renamed()
        self._pages_read.set()

    def public_url(self) -> str:
        """How people reach this installation, without a slash at the end."""
        return (self.settings.public_url or self.kept.public_url or self.base_url).rstrip("/")

    # ---- labels of metrics

    def _named(self, beat_id: str) -> Named | None:
        subject = self.catalog.entries.get(UUID(beat_id))
        if subject is None or subject.page_id not in self._pages:  # nobody knows yet where it goes
            return None
        to = self.otlp.destination(subject.page_id, subject.otlp)
        page = self._pages[subject.page_id]
        return Named(
            subject.slug, page, subject.type, subject.address, subject.method, to, subject.policy.regions
        )

    def _stand(self, subject_id: str, stage: Stage, flapping: bool, suppressed: bool) -> None:
        self.totals.stand(subject_id, Standing(stage, flapping, suppressed))

    async def _self_families(self) -> list[prometheus.Family]:
        shared = await queue_families(self.pool, self.bus) if self.delivery is not None else []
        own = self_families(
            self.bus, self.evaluator, self.triggering, self.delivery, self.mailing, self.prober
        )
        return [*own, *shared, *self.otlp.families()]

    # ---- what the ways in are handed

    def services(self) -> Services:
        """For `api.app.create_app`."""

        async def check(rule: AnyBeat, page_id: UUID | None) -> dict[str, Any]:
            return await check_now(rule, self.context(), self.secrets.of(page_id))

        jobs = Jobs(self.pool, lambda: self.database_url)
        self._closers.append(jobs.close)
        self._services = Services(
            self.pool,
            self.bus,
            self.clock,
            self._api_settings(),
            self._test_channel,
            check,
            self.health,
            self._metrics_text,
            self.secrets,
            jobs.start,
            self.targets,
            self.slack,
            txt,
            preview,
            recorded,
            self.guide,
        )
        return self._services

    def _api_settings(self) -> ApiSettings:
        return ApiSettings(
            public_url=self.public_url(),
            trusted_proxies=tuple(self.kept.trusted_proxies),
            admin_token=self.settings.admin_token,
            local_token=self.local_token or None,
            can_mail=self.kept.mail is not None,
        )

    async def _test_channel(self, spec: Mapping[str, Any], page_id: UUID | None) -> Outcome:
        notice = Notice(
            id=str(new_id()),
            told="test",
            title="This is a test from Upbeat: the channel works",
            at=self.clock.epoch_s(),
            link=f"{self.public_url()}/console/channels",
        )
        return await self.targets.send(Target("channel", spec, page_id), notice)

    async def _metrics_text(self) -> str:
        return prometheus.render(
            (
                *await self._self_families(),
                *prometheus.families(self.totals),
            )
        )

    # ---- health

    async def health(self, role: str | None, verbose: bool) -> Health:
        """Whether the asked role (None: every role of this process) does its work."""
        roles = {role} & self.settings.roles if role else self.settings.roles
        if role and not roles:
            return Health(False, (f"this process does not have the role {role}",))
        reasons: list[str] = []
        if "api" in roles and (away := await self._database_trouble()):
            reasons.append(f"api: {away}")
        if "evaluator" in roles and self.evaluator is not None:
            if self.evaluator.health.trouble:
                reasons.append(f"evaluator: {self.evaluator.health.trouble}")
            if not self.bus.connected:
                reasons.append("evaluator: the bus is away")
            if self.triggering is not None and (unjudged := await self._unjudged(self.triggering)):
                reasons.append(f"evaluator: {unjudged}")
        if "probe" in roles and self.prober is not None:
            reasons += self._probe_trouble(self.prober)
        detail = {"roles": sorted(self.settings.roles), "version": __version__} if verbose else {}
        return Health(not reasons, tuple(reasons), detail)

    def _probe_trouble(self, prober: Prober) -> Iterator[str]:
        if prober.spool.oldest_uncommitted_s > STUCK_S:
            yield f"probe: a finished result is not committed for {prober.spool.oldest_uncommitted_s:.0f} s"
        if prober.scheduler.overdue_s > STUCK_S:
            yield f"probe: a due run is not started for {prober.scheduler.overdue_s:.0f} s"

    async def _unjudged(self, triggering: Triggering) -> str | None:
        if triggering.health.trouble:
            return triggering.health.trouble
        with contextlib.suppress(*DATABASE_AWAY):  # else who renews leases says so
            async with asyncio.timeout(2), self.pool.acquire() as connection:
                if (oldest_s := await events.oldest_s(connection)) > STUCK_S:
                    return f"a received event is not judged for {oldest_s:.0f} s"
        return None

    async def _database_trouble(self) -> str | None:
        try:
            async with asyncio.timeout(2), self.pool.acquire() as connection:
                await connection.fetchval("SELECT 1")
        except DATABASE_AWAY as failure:
            return f"the database does not answer ({str(failure) or type(failure).__name__})"
        return None

    async def _commits(self) -> bool:
        return (await self.health(None, False)).ready


def has_room(data: Path) -> bool:
    """Whether a disk that was full can be written to again; False where that cannot be known."""
    try:
        return shutil.disk_usage(data).free >= ROOM_BYTES
    except OSError:
        return False


async def _end_with(parent: int) -> None:
    """A worker whose parent is gone has nobody to end it."""
    while os.getppid() == parent:
        await asyncio.sleep(1.0)
    raise SystemExit(0)
