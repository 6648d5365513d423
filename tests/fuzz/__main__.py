"""Fuzzing by coverage, by hand: `python -m tests.fuzz TARGET [SECONDS]`, then `python -m tests.fuzz keep`."""

import sys
from base64 import b64encode
from pathlib import Path

from tests.fuzz.corpus import CORPUS, inputs

WORK = Path(".fuzz")


def fuzz(name: str, seconds: str = "60") -> None:
    """Goes on from what is kept; an input that raises, hangs or needs too much memory is kept as well."""
    import atheris

    with atheris.instrument_imports(
        include=["rules", "engine.probes", "evaluators", "jsonpath_rfc9535", "cssselect"]
    ):
        from tests.fuzz.targets import TARGETS
    work = WORK / name
    work.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs(name)):
        (work / f"kept-{number}").write_bytes(data)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={work}/found-", str(work)], TARGETS[name])
    atheris.Fuzz()


def keep() -> None:
    """Writes what fuzzing came by to `kept/`, one input per line."""
    for work in WORK.iterdir():
        lines = sorted({b64encode(path.read_bytes()).decode() for path in work.iterdir()})
        (CORPUS / f"{work.name}.b64").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    keep() if sys.argv[1] == "keep" else fuzz(*sys.argv[1:])
