"""What every benchmark needs: one JSON line, and the CPU and memory of processes. It measures nothing itself."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.rig.installation import family

_TICKS = os.sysconf("SC_CLK_TCK")


def line(
    name: str,
    figure: float,
    *,
    unit: str,
    baseline: float | None,
    target: str,
    is_met: bool,
    ran: str,
    higher_is_better: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Print the line, and return it. `ratio` is figure over baseline, whichever way is better."""
    said = {
        "name": name,
        "figure": round(figure, 4),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 4),
        "ratio": None if not baseline else round(figure / baseline, 3),
        "better": "higher" if higher_is_better else "lower",
        "target": target,
        "met": is_met,
        "ran": ran,
        **more,
    }
    print(json.dumps(said), flush=True)
    return said


def cpu_s(pids: Iterable[int]) -> float:
    """User and system seconds of these processes and of their children that ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            total += sum(int(stat[place]) for place in (11, 12, 13, 14))
    return total / _TICKS


def pss_mb(pids: Iterable[int]) -> float:
    """Proportional memory of these processes, in MB; shared pages count once among them."""
    total_kb = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for text in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if text.startswith("Pss:"):
                    total_kb += int(text.split()[1])
    return total_kb / 1024


def by_program(root: int) -> dict[str, list[int]]:
    """Pids of `root`'s tree as `upbeat`, `postgres` and `nats`."""
    found: dict[str, list[int]] = {"upbeat": [], "postgres": [], "nats": []}
    for pid in family(root):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            kind = (
                "postgres"
                if "postgres" in words.split(" ")[0]
                else "nats"
                if "nats-server" in words
                else "upbeat"
            )
            found[kind].append(pid)
    return found


def quantile(values: Iterable[float], q: float) -> float:
    """The value a part `q` of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]
