"""`python -m tests.faults [NAME ...] [--seed N] [--kills N] [--runs N]`: every fault or the named ones, a JSON report, exit 1 if any is not clean."""

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path

from tests.faults.scenarios import ALL, Report, hostile, kills


async def _run(names: list[str], seed: int, count: int, runs: int) -> list[Report]:
    reports = []
    for name in names:
        began_s = time.monotonic()
        print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
        counts = {"kills": lambda seed: kills(seed, count), "hostile": lambda seed: hostile(seed, runs)}
        report = await counts.get(name, ALL[name])(seed)
        report.figures["took_s"] = round(time.monotonic() - began_s, 1)
        reports.append(report)
        print(json.dumps(report.to_json()), flush=True)
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--kills", type=int, default=50, help="of the scenario `kills`")
    parser.add_argument("--runs", type=int, default=500, help="of the scenario `hostile`")
    parser.add_argument("--report", type=Path, default=Path("build/faults.json"))
    given = parser.parse_args()
    if unknown := set(given.names) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    reports = asyncio.run(_run(given.names or list(ALL), given.seed, given.kills, given.runs))
    given.report.parent.mkdir(exist_ok=True)
    given.report.write_text(json.dumps([report.to_json() for report in reports], indent=2) + "\n", "utf-8")
    bad = [report.name for report in reports if not report.is_clean]
    print(f"seed {given.seed}: {', '.join(bad) or 'nothing'} failed; see {given.report}", file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
