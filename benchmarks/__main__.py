"""`python -m benchmarks [NAME ...]`: every benchmark or the named ones, one after the other, each a JSON line or more."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

ALL: dict[str, Sequence[Sequence[str]]] = {
    "http_probe": (("http",), ("https",)),
    "dns_lookup": ((),),
    "scheduler": ((),),
    "idle_memory": ((),),
    "otlp_export": ((),),
    "fold": ((),),
    "store": ((),),
    "many_rules": ((),),
    "storm": ((),),
    "heartbeats": ((), ("--keep-alive",)),
    "ingest": ((),),
    "burst": ((),),
    "start": ((),),
    "list_beats": ((),),
    "page": ((),),
    "letters": ((),),
    "detection": ((),),
    "replay": ((),),
    "preview": ((),),
    "false_incidents": ((),),
    "hostile": ((),),
    "journeys": ((),),
    "throughput": (
        ("paced",),
        ("paced", "--scheme", "https"),
        ("punctual",),
        ("saturated",),
        ("saturated", "--scheme", "https"),
        ("workers",),
    ),
}
"""Module to the arguments of each of its runs."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}")
    given = parser.parse_args()
    if unknown := set(given.names) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    codes = [
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False).returncode
        for name in given.names or ALL
        for arguments in ALL[name]
    ]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
