"""How much of everything a fleet of N beats needs, from unit costs that were measured. An estimate: it measures nothing itself.

The unit costs are the ones of `benchmarks/`, on two cores of a shared AMD EPYC machine with everything on it, Python
3.11. Yours are others: run the benchmark that is named and scale. Targets far away cost no CPU, only slots.
"""

import math
from typing import Any, Final, NamedTuple

from engine.scheduler import SLOTS
from engine.spool import BATCH, CALM_FLUSH_S
from engine.store.ids import PARTITIONS
from rules.pace import run_deadline_s
from rules.settings import Retention

BUSY: Final = 0.5
"""The share of a core that is planned for; the rest is for outages, restarts and noise."""


class Cost(NamedTuple):
    """A unit cost and the benchmark that measured it."""

    value: float
    unit: str
    measured_by: str


COSTS: Final = {
    "http_run": Cost(373.0, "us of CPU, engine", "throughput paced"),
    "https_run": Cost(1071.0, "us of CPU, engine", "throughput paced --scheme https"),
    "postgres_run": Cost(40.0, "us of CPU", "throughput paced"),
    "nats_run": Cost(92.0, "us of CPU", "throughput paced --scheme https"),
    "fold": Cost(12.0, "us of CPU per result", "fold"),
    "store": Cost(12.0, "us of CPU per row, client and PostgreSQL", "store"),
    "stored_run": Cost(462.0, "bytes on disk, 5 % with evidence", "store"),
    "beat": Cost(1389.0, "bytes in a probe", "idle_memory"),
    "message": Cost(450.0, "bytes per result on the bus", "benchmarks/results.py, encoded"),
    "process": Cost(95e6, "bytes of an Upbeat process", "start"),
}


def size(
    beats: int,
    *,
    interval_s: float,
    regions: int,
    groups: int,
    scheme: str,
    timeout_s: float,
    retries: int,
) -> dict[str, Any]:
    """Probes of each region, evaluators, database and bus for a fleet. All rates are of one second unless they say so."""
    cost = {name: one.value for name, one in COSTS.items()}
    here, runs = beats / interval_s, beats * regions / interval_s
    evaluator_us = cost["fold"] * (1 + groups / max(beats, 1)) + cost["store"]
    probe_us = max(cost[f"{scheme}_run"] - evaluator_us, 0.0)
    probe_cores, evaluator_cores = here * probe_us / 1e6, runs * evaluator_us / 1e6
    hanging = here * run_deadline_s(interval_s, timeout_s, retries)
    evaluators = max(1, math.ceil(evaluator_cores / BUSY))
    probes = max(1, math.ceil(probe_cores / BUSY), math.ceil(hanging / SLOTS))
    # A batch holds the results of one partition for half a second at the most, where they are few.
    batches = regions * max(min(probes * PARTITIONS / CALM_FLUSH_S, here), here / BATCH)
    day_bytes = runs * 86_400 * cost["stored_run"]
    return {
        "estimate": True,
        "runs": round(runs, 2),
        "probes": {
            "per_region": probes,
            "in_all": probes * regions,
            "cores_per_region": round(probe_cores, 3),
            "runs_at_once_if_every_target_hangs": math.ceil(hanging),
            "slots": probes * SLOTS,
            "megabytes_each": round((cost["process"] + beats * cost["beat"]) / 1e6),
        },
        "evaluators": {
            "processes": evaluators,
            "most_that_share": PARTITIONS,
            "is_too_much": evaluators > PARTITIONS,
            "cores": round(evaluator_cores, 3),
        },
        "database": {
            "rows": round(runs, 2),
            "cores": round(runs * cost["postgres_run"] / 1e6, 3),
            "gigabytes_per_day": round(day_bytes / 1e9, 2),
            "gigabytes_per_30_days": round(day_bytes * 30 / 1e9, 1),
            "days_in_the_default_retention_size": round(Retention().size / day_bytes, 1),
        },
        "bus": {
            "messages": round(batches, 2),
            "bytes": round(runs * cost["message"]),
            "cores": round(runs * cost["nats_run"] / 1e6, 3),
        },
        "unit_costs": {name: one._asdict() for name, one in COSTS.items()},
        "left_out": "roll-ups, browser beats, exports, viewers, replicas of NATS and PostgreSQL, and what goes wrong at once",
    }
