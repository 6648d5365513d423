"""Upbeat's metrics about itself, read off the parts that run in this process; where they go is not known here."""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from engine.browser.pool import Browsers
from engine.bus import Bus, BusError
from engine.delivery import Delivery
from engine.evaluator import Evaluator
from engine.leases import Leases
from engine.mailing import Mailing
from engine.prober import Prober
from engine.store import artifacts, events, letters, objects, outbox, pushed, regions, targets
from engine.store.database import DATABASE_AWAY, Pool, Row
from engine.triggering import Triggering
from exporters.prometheus import Family, LabelPairs, Sample
from upbeat import __version__

ANSWER_S = 2.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def self_families(
    bus: Bus,
    evaluator: Evaluator | None,
    triggering: Triggering | None,
    delivery: Delivery | None,
    mailing: Mailing | None,
    prober: Prober | None,
) -> Iterator[Family]:
    """The families of the roles this process has; None: it has not."""
    yield gauge("upbeat_build_info", "Always 1.", (1, (("version", __version__),)))
    yield gauge("upbeat_bus_connected", "Whether the bus is there.", bus.connected)
    yield from _process()
    leases: list[Leases] = []
    if evaluator is not None:
        seen = evaluator.health
        leases.append(evaluator.leases)
        yield counter("upbeat_results_committed_total", "Results committed.", seen.results)
        yield counter(
            "upbeat_results_duplicate_total", "Results that had been committed before.", seen.duplicates
        )
        yield counter(
            "upbeat_state_conflicts_total", "Folds rolled back since another was first.", seen.conflicts
        )
        buried = seen.dead_letters + (triggering.health.dead_letters if triggering else 0)
        yield counter("upbeat_dead_letters_total", "Messages and events nobody could use.", buried)
        yield counter("upbeat_skewed_probe_boots_total", "Probe boots with a wrong clock.", seen.skewed_boots)
        yield gauge("upbeat_partitions_held", "Partitions evaluated here.", len(evaluator.leases.held))
    if triggering is not None:
        judged = triggering.health
        leases.append(triggering.leases)
        if judged.verdicts:
            said = "Received events that were judged, by the worst that became of them."
            named = [
                (count, (("page", page), ("inbox", inbox), ("verdict", verdict)))
                for (page, inbox, verdict), count in judged.verdicts.items()
            ]
            yield counter("upbeat_events_total", said, *named)
        yield counter("upbeat_signals_total", "Signals told to beats and groups.", judged.signals)
        yield counter(
            "upbeat_judging_conflicts_total", "Batches rolled back since another was first.", judged.conflicts
        )
    if delivery is not None:
        sent = delivery.health
        leases.append(delivery.lease)
        yield counter("upbeat_notices_delivered_total", "Notices delivered.", sent.delivered)
        yield counter("upbeat_notices_retried_total", "Deliveries that will be tried again.", sent.retried)
        yield counter("upbeat_notices_dead_total", "Notices given up.", sent.dead)
        yield counter("upbeat_notices_digested_total", "Notices told together in a digest.", sent.digested)
    if mailing is not None:
        leases.append(mailing.lease)
        for name, text in (
            ("sent", "Letters that subscribers were sent."),
            ("retried", "Letters that will be tried again."),
            ("failed", "Letters that were given up."),
        ):
            each = ((mailing.counts[name, kind], (("kind", kind),)) for kind in ("email", "webhook", "slack"))
            yield counter(f"upbeat_letters_{name}_total", text, *each)
    if prober is not None:
        spool = prober.spool
        leases += prober.leases
        yield gauge("upbeat_results_uncommitted", "Results waiting to be committed.", spool.held)
        yield gauge("upbeat_oldest_uncommitted_seconds", "Age of the oldest.", spool.oldest_uncommitted_s)
        yield counter("upbeat_results_dropped_total", "Results lost for want of memory.", spool.dropped)
        yield counter("upbeat_batches_repeated_total", "Batches published again.", spool.repeated)
        keeping = prober.keeping
        yield gauge(
            "upbeat_artifacts_held_bytes", "Files of browser runs, not yet stored.", keeping.held_bytes
        )
        yield counter(
            "upbeat_artifacts_dropped_total", "Files of browser runs that were lost.", keeping.dropped
        )
        yield from _schedule(prober)
        if prober.browsers is not None and prober.browsers.runs:
            yield from _browsers(prober.browsers)
    if leases:
        changes = sum(each.changes for each in leases)
        yield counter("upbeat_lease_changes_total", "Units of work gained or lost.", changes)


async def queue_families(pool: Pool, bus: Bus) -> list[Family]:
    """The queues all processes share, as the database and the bus say now; what is away says nothing."""
    found: list[Family] = []
    try:
        async with asyncio.timeout(ANSWER_S), pool.acquire() as connection:
            pending, dead, age_s = await outbox.waiting(connection)
            unsent = await letters.waiting(connection)
            unfolded, oldest_s = await pushed.waiting(connection)
            unjudged, unjudged_s = await events.waiting(connection)
            sick = await regions.suspended(connection)
            declared = [stored.slug for stored in await objects.listing(connection, "region")]
            health = await targets.health(connection, None)
            kept_bytes = await artifacts.size_bytes(connection)
    except DATABASE_AWAY:
        pass
    else:
        found += (
            gauge("upbeat_outbox_pending", "Notices that wait for their delivery.", pending),
            gauge("upbeat_outbox_dead", "Notices that were given up.", dead),
            gauge("upbeat_outbox_oldest_seconds", "Age of the oldest pending notice.", age_s),
            *_of_targets(health),
            *_of_letters(unsent),
            gauge(
                "upbeat_pushed_pending", "Pings, reports and what members say, not yet evaluated.", unfolded
            ),
            gauge("upbeat_pushed_oldest_seconds", "Age of the oldest of them.", oldest_s),
            gauge("upbeat_events_pending", "Received events, not yet judged.", unjudged),
            gauge("upbeat_events_oldest_seconds", "Age of the oldest of them.", unjudged_s),
            gauge("upbeat_artifacts_bytes", "Files kept of browser runs.", kept_bytes),
            gauge(
                "upbeat_region_suspended",
                "Whether the votes of a region do not count, since it is sick.",
                *((slug in sick, (("region", slug),)) for slug in declared),
            ),
        )
    with contextlib.suppress(BusError):
        found.append(gauge("upbeat_bus_pending", "Batches not yet evaluated.", await bus.pending()))
    return found


def _of_targets(health: Sequence[Row]) -> Iterator[Family]:
    names = [(("kind", row["kind"]), ("page", row["page"]), ("target", row["slug"])) for row in health]
    for name, text, column in (
        ("failures", "Deliveries in a row that a channel or publisher did not take.", "failures"),
        ("pending", "What waits for it.", "pending"),
        ("dead", "What it was given up for.", "dead"),
    ):
        values = zip((row[column] for row in health), names, strict=True)
        yield gauge(f"upbeat_target_{name}", text, *values)
    stopped = zip((row["stopped_at"] is not None for row in health), names, strict=True)
    yield gauge("upbeat_target_stopped", "Whether it said that it is gone for good.", *stopped)


def _of_letters(unsent: Mapping[str, tuple[int, float]]) -> Iterator[Family]:
    for name, text, place in (
        ("pending", "Letters to subscribers that wait.", 0),
        ("oldest_seconds", "Age of the oldest of them.", 1),
    ):
        kinds = ("email", "webhook", "slack")
        named = ((unsent.get(kind, (0, 0.0))[place], (("kind", kind),)) for kind in kinds)
        yield gauge(f"upbeat_letters_{name}", text, *named)


def _process() -> Iterator[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    modes = (
        (used.ru_utime, (("cpu_mode", "user"),)),
        (used.ru_stime, (("cpu_mode", "system"),)),
    )
    yield counter("process_cpu_time_seconds_total", "CPU time of this process.", *modes)
    yield gauge(
        "process_memory_usage_bytes", "Resident memory of this process.", _resident_bytes(used.ru_maxrss)
    )


def _resident_bytes(most: int) -> int:
    """Now, where Linux says it; elsewhere the most there was, which macOS counts in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return most if sys.platform == "darwin" else most * 1024


def _schedule(prober: Prober) -> Iterator[Family]:
    scheduler = prober.scheduler
    yield gauge("upbeat_runs_in_flight", "Runs now.", scheduler.in_progress)
    yield counter("upbeat_runs_started_total", "Scheduled runs started.", scheduler.started)
    yield counter("upbeat_runs_delayed_total", "Runs that waited for a slot.", scheduler.delayed)
    yield counter("upbeat_runs_skipped_total", "Turns skipped, the run before not over.", prober.skipped)
    yield counter("upbeat_runs_missed_total", "Turns that came and went unstarted.", scheduler.entries.missed)
    yield counter("upbeat_extra_runs_dropped_total", "Confirm and manual runs dropped.", scheduler.refused)
    late = ((scheduler.lateness.quantile_s(q), (("quantile", str(q)),)) for q in (0.5, 0.99, 1.0))
    yield gauge("upbeat_start_lateness_seconds", "How late runs start, by quantile.", *late)


def _browsers(browsers: Browsers) -> Iterator[Family]:
    cpu_s, size = browsers.usage()
    yield gauge("upbeat_browser_slots", "Browser runs that may be at once.", browsers.slots)
    yield gauge("upbeat_browser_runs_in_flight", "Browser runs now.", browsers.running)
    yield gauge("upbeat_browser_runs_waiting", "Browser runs that wait for a slot.", browsers.waiting)
    yield gauge("upbeat_browsers_warm", "Browsers that wait for a run.", browsers.warm)
    yield counter("upbeat_browser_attempts_total", "Attempts of browser runs.", browsers.runs)
    yield counter("upbeat_browser_runs_busy_total", "Browser runs that no slot came free for.", browsers.busy)
    ended = ((count, (("reason", reason),)) for reason, count in browsers.ends.items())
    yield counter("upbeat_browsers_ended_total", "Browsers that were ended, by why.", *ended)
    yield counter("upbeat_browser_cpu_seconds_total", "CPU time of browsers and their sandboxes.", cpu_s)
    yield gauge("upbeat_browser_memory_bytes", "Memory of the browsers there are.", size)
    late = ((browsers.lateness.quantile_s(q), (("quantile", str(q)),)) for q in (0.5, 0.99, 1.0))
    yield gauge("upbeat_browser_lateness_seconds", "How long browser runs waited for a slot.", *late)


def gauge(name: str, text: str, *values: float | tuple[float, LabelPairs]) -> Family:
    """What is so now: one value, or several with their labels."""
    samples = map(_sample, values)  # as fractions, also where there is none: OTLP tells them apart
    return Family(name, "gauge", text, [Sample(float(one.value), one.labels) for one in samples])


def counter(name: str, text: str, *values: float | tuple[float, LabelPairs]) -> Family:
    """What happened since the start, in the same way."""
    return Family(name, "counter", text, [*map(_sample, values)])


def _sample(value: float | tuple[float, LabelPairs]) -> Sample:
    return Sample(*value) if isinstance(value, tuple) else Sample(value)
