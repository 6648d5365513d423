"""Fuzzing by coverage, by hand: `python -m tests.fuzz TARGET [SECONDS]`. What it finds goes to `corpus/TARGET/`."""

import sys
from pathlib import Path

from tests.fuzz.seeds import SEEDS


def main(name: str, seconds: str = "60") -> None:
    import atheris

    with atheris.instrument_imports(
        include=["rules", "engine.probes", "evaluators", "jsonpath_rfc9535", "cssselect"]
    ):
        from tests.fuzz.targets import TARGETS
    found, begun = Path(__file__).parent / "corpus" / name, Path(f".fuzz/{name}")
    found.mkdir(parents=True, exist_ok=True)
    begun.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (begun / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/", str(begun), str(found)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
