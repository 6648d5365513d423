"""The probe role: runs the beats of its regions on schedule and on order, and hands each result to the spool.

It decides nothing about a beat. Which part of a region's beats is its own, it learns from leases.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from engine.browser.pool import Browsers
from engine.bus import Bus, Listening
from engine.catalog import Catalog, Vantage
from engine.clock import Clock
from engine.keeping import Keeping
from engine.leases import RENEW_S, TTL_S, Leases
from engine.probed import Compiler, ProbedBeat
from engine.probes.context import Context
from engine.probes.run import RunOutcome, run, troubled
from engine.schedule import fraction_of
from engine.scheduler import SLOTS, Scheduler
from engine.secrets import Secrets
from engine.spool import Spool
from engine.store.database import Pool
from engine.store.ids import PARTITIONS, derived_id, new_run_id, partition_of
from engine.tasks import end
from evaluators.model import ConfirmOrder, Kind, Result
from rules.component import Egress

UNITS: Final = tuple(str(partition) for partition in range(PARTITIONS))
MOST_RUNS: Final = 20  # of one order, whatever it says
RETOLD_S: Final = 6 * 3600.0  # certificates and records that do not change are kept anew so often

_log = logging.getLogger(__name__)
Key = tuple[UUID, str]  # a beat in a region
Share = tuple[str, int]  # a region's partition


@dataclass(frozen=True, slots=True)
class _Cause:
    """Why a run is made."""

    kind: Kind
    request: str | None = None
    n: int = 0


_SCHEDULED: Final = _Cause(Kind.SCHEDULED)


class Prober:
    """Probes `regions` (None: all there are), as the member `holder`, one boot long. It runs the spool as well."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        spool: Spool,
        context: Context,
        clock: Clock,
        *,
        holder: str,
        secrets: Secrets,
        regions: Sequence[str] | None = None,
        slots: int = SLOTS,
        ttl_s: float = TTL_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self.spool, self.keeping = spool, Keeping(pool)
        self.skipped = 0  # turns of a beat whose run before was still in progress
        self.scheduler: Scheduler[Key] = Scheduler(clock, self._run_due, slots=slots)
        self.catalog: Catalog[ProbedBeat] = Catalog(
            pool, Compiler(secrets), on_change=self._changed, on_regions=self._regroup
        )
        secrets.on_change.append(self.catalog.recompile)
        self._pool, self._bus, self._context, self._clock = pool, bus, context, clock
        self._holder, self._only, self._ttl_s, self._renew_s = holder, regions, ttl_s, renew_s
        self._leases: dict[str, tuple[Leases, asyncio.Task[None]]] = {}
        self._listening: dict[Share, Listening] = {}
        self._mine: set[Share] = set()  # held, and scheduled
        self._stale: set[UUID] = set()  # beats to look at
        self._own: dict[str, tuple[Egress, Context]] = {}  # of regions with an egress policy of their own
        self._moved = asyncio.Event()
        self._busy: set[Key] = set()
        self._standing: dict[Key, tuple[int, float]] = {}  # what good runs showed, and when it was kept
        self._ordered: set[asyncio.Task[None]] = set()
        self._seq = 0

    @property
    def leases(self) -> list[Leases]:
        """Those of each region, for their `held` and `trouble`."""
        return [leases for leases, _ in self._leases.values()]

    @property
    def browsers(self) -> Browsers | None:
        """Those that do journeys."""
        return self._context.browsers

    async def run(self) -> None:
        """Probe until cancelled; then runs in progress are cut, leases given back and results drained."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.spool.run())
                group.create_task(self.keeping.run())
                group.create_task(self.catalog.run())
                group.create_task(self.scheduler.run())
                group.create_task(self._reconcile(group))
        finally:
            await self._leave()
            await asyncio.gather(self.spool.drain(), self.keeping.drain())

    async def _leave(self) -> None:
        await end(self._ordered)
        for listening in self._listening.values():
            await listening.stop()
        await asyncio.gather(*(leases.release() for leases in self.leases))

    # ---- what is mine to run

    def _changed(self, beat_id: UUID, _: ProbedBeat | None) -> None:
        self._stale.add(beat_id)
        self._moved.set()

    def _regroup(self) -> None:
        self._moved.set()

    async def _reconcile(self, group: asyncio.TaskGroup) -> None:
        """Keep schedule and subscriptions in step with the catalog and the leases, many changes at a time."""
        await self.catalog.loaded.wait()
        while True:
            self._moved.clear()
            await self._follow_regions(group)
            held = {
                (region, int(unit)) for region, (leases, _) in self._leases.items() for unit in leases.held
            }
            moved, self._mine = held ^ self._mine, held
            stale, self._stale = self._stale, set()
            self._reschedule(stale, moved)
            await self._listen(held)
            await self._moved.wait()

    def _reschedule(self, stale: set[UUID], moved: set[Share]) -> None:
        """See to `stale` beats in every region, to the others only where a share of theirs came or went."""
        everywhere = self._leases.keys() | self.catalog.regions.keys()
        moved_in: dict[int, list[str]] = {}
        for region, partition in moved:
            moved_in.setdefault(partition, []).append(region)
        wanted: list[tuple[Key, float, float]] = []
        for beat_id in {*stale, *self.catalog.entries} if moved else stale:
            entry, partition = self.catalog.entries.get(beat_id), partition_of(beat_id)
            regions = entry.regions if entry is not None else ()
            for region in everywhere if beat_id in stale else moved_in.get(partition, ()):
                if entry is not None and region in regions and (region, partition) in self._mine:
                    place = fraction_of(beat_id, regions.index(region), len(regions))
                    wanted.append(((beat_id, region), entry.interval_s, place))
                else:
                    self._drop((beat_id, region))
        self.scheduler.entries.put(wanted)
        self.scheduler.wake()

    async def _follow_regions(self, group: asyncio.TaskGroup) -> None:
        wanted = {slug for slug in self.catalog.regions if self._only is None or slug in self._only}
        for region in wanted - self._leases.keys():
            leases = Leases(
                self._pool,
                f"probe:{region}",
                UNITS,
                self._holder,
                on_change=lambda *_: self._moved.set(),
                ttl_s=self._ttl_s,
                renew_s=self._renew_s,
            )
            self._leases[region] = leases, group.create_task(leases.run())
        for region in self._leases.keys() - wanted:
            leases, task = self._leases.pop(region)
            await end([task])
            await leases.release()
            for key in [key for key in self.scheduler.entries if key[1] == region]:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        self.scheduler.entries.drop(key)
        self._standing.pop(key, None)

    async def _listen(self, held: set[Share]) -> None:
        for share in self._listening.keys() - held:
            await self._listening.pop(share).stop()
        for share in held - self._listening.keys():
            self._listening[share] = await self._bus.orders(*share, self._take_order(share[0]))

    # ---- runs

    async def _run_due(self, key: Key, scheduled_at: float) -> None:
        if key in self._busy:
            self.skipped += 1
            return
        self._busy.add(key)
        try:
            await self._run(key, _SCHEDULED, new_run_id(), scheduled_at)
        finally:
            self._busy.discard(key)

    async def _run(self, key: Key, cause: _Cause, run_id: str, scheduled_at: float) -> None:
        beat_id, _ = key
        entry = self.catalog.entries.get(beat_id)
        if entry is not None:
            now_s = self._clock.monotonic_s()
            known, kept_s = self._standing.get(key, (None, now_s))
            if now_s - kept_s >= RETOLD_S:
                known = None
            outcome = await self._measure(entry, key, cause, known)
            if outcome.standing is not None and outcome.standing != known:
                self._standing[key] = outcome.standing, now_s
            self._hand_in(key, cause, run_id, scheduled_at, outcome, entry.revision)
            self.keeping.keep(run_id, beat_id, scheduled_at, outcome.artifacts)

    async def _measure(self, entry: ProbedBeat, key: Key, cause: _Cause, known: int | None) -> RunOutcome:
        if entry.check is None:
            failure = entry.failure
            return troubled("probe.config", failure.message if failure else "the check cannot be run here")
        try:
            beat_id, region = key
            vantage = self.catalog.regions.get(region, Vantage())
            context = self._context_by(region, vantage.egress)
            return await run(
                entry.check,
                context,
                reference=vantage.reference,
                keeps_all=cause.kind is Kind.MANUAL,
                known=known,
                key=beat_id,
                records=cause.kind is not Kind.SCHEDULED,
            )
        except Exception as bug:
            _log.exception("a run failed in a way it must not")
            return troubled("probe.internal", f"{type(bug).__name__}: {bug}")

    def _context_by(self, region: str, egress: Egress | None) -> Context:
        if egress is None:
            return self._context
        known = self._own.get(region)
        if known is None or known[0] != egress:
            known = self._own[region] = egress, self._context.judged_by(egress.policy())
        return known[1]

    def _hand_in(
        self,
        key: Key,
        cause: _Cause,
        run_id: str,
        scheduled_at: float,
        outcome: RunOutcome,
        revision: int,
        *,
        is_stored: bool = True,
    ) -> None:
        beat_id, region = key
        self._seq += 1
        result = Result(
            run_id=run_id,
            beat_id=str(beat_id),
            region=region,
            kind=cause.kind,
            verdict=outcome.verdict,
            scheduled_at=scheduled_at,
            at=self._clock.epoch_s(),
            seq=self._seq,
            attempts=outcome.attempts,
            timings=outcome.timings,
            outcomes=outcome.outcomes,
            failure=outcome.failure,
            evidence=outcome.evidence,
            request=cause.request,
            n=cause.n,
            check_version=revision,
            trace_id=outcome.trace_id,
            certificate_days=outcome.certificate_days,
            tried=outcome.tried,
            stored=is_stored,
        )
        self.spool.add(partition_of(beat_id), result)

    # ---- orders

    def _take_order(self, region: str) -> Callable[[ConfirmOrder], Awaitable[None]]:
        async def take(order: ConfirmOrder) -> None:
            task = asyncio.get_running_loop().create_task(self._obey(region, order))
            self._ordered.add(task)
            task.add_done_callback(self._ordered.discard)

        return take

    async def _obey(self, region: str, order: ConfirmOrder) -> None:
        """Run now and every `spacing_s` after it. A run there is no room for is answered as dropped."""
        try:
            key = UUID(order.beat_id), region
        except ValueError:
            _log.warning("an order for %r, which is no beat", order.beat_id)
            return
        # Two probes may answer one order for a moment, and a row is known by its time and its id.
        sent_at = order.at or self._clock.epoch_s()
        for n in range(min(order.runs, MOST_RUNS)):
            if n:
                await asyncio.sleep(order.spacing_s)
            cause = _Cause(order.kind, order.request, n)
            run_id, at = str(derived_id(order.request, region, n)), sent_at + n * order.spacing_s
            if not self.scheduler.run_extra(partial(self._run, key, cause, run_id, at)):
                dropped = troubled("probe.dropped", "this probe has no room for more runs out of schedule")
                entry = self.catalog.entries.get(key[0])
                revision = entry.revision if entry is not None else 0
                is_stored = order.kind is not Kind.CONFIRM
                self._hand_in(key, cause, run_id, at, dropped, revision, is_stored=is_stored)
