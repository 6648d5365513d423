"""`upbeat evidence`: what is kept of runs is listed, written to a folder, and a trace handed to its viewer."""

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from engine.clock import SystemClock
from engine.store import artifacts, objects, results
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, show
from evaluators.model import Failure, Kind, Result, Timings, Verdict
from evaluators.observation import Artifact
from tests.api.conftest import server as api_server  # noqa: F401 - a fixture
from tests.upbeat.conftest import Cli
from upbeat.cli.client import RefusedError
from upbeat.cli.evidence import place_of

if TYPE_CHECKING:
    from tests.api.conftest import Server

FILES = (
    Artifact("failure.jpg", "image/jpeg", b"a picture"),
    Artifact("trace.zip", "application/zip", b"a trace"),
)


@pytest.fixture
async def runs(api_server: "Server") -> list[UUID]:  # noqa: F811
    """Two runs of a beat of its own, the older first; of both there are files."""
    now, made = SystemClock().epoch_s(), []
    async with transaction(api_server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": "checkout", "type": "browser", "steps": [{"goto": "https://shop.example/"}]}
        beat = await objects.create(db, Actor("t", "api"), "beat", page.id, spec)
        for at in (now - 60, now):
            run = new_id()
            made.append(run)
            what = (str(run), str(beat.id), "eu", Kind.SCHEDULED, Verdict.CRITICAL, at, at, 1, 1)
            failure = Failure("step.timeout", "the button never came")
            result = Result(*what, Timings(total=1.0), failure=failure)
            await results.insert(db, [(str(new_id()), at, result)], at)
            await artifacts.keep(db, run, beat.id, at, FILES)
    return made


@pytest.mark.parametrize("run", ["..", ".", "", "a/b", "..\\x", "/tmp", "run_1\n"])
def test_a_server_that_lies_writes_nothing_beside_the_folder(run: str, tmp_path: Path) -> None:
    for pair in ((run, ".bashrc"), (run, "trace.zip"), ("run_1", run), ("run_1", ".bashrc")):
        with pytest.raises(RefusedError, match="none of Upbeat's"):
            place_of(tmp_path, *pair)
    assert place_of(tmp_path, "run_1", "step-1.jpg") == tmp_path / "run_1" / "step-1.jpg"


async def test_files_are_listed_fetched_and_a_trace_is_opened_where_there_is_a_display(
    api_server: "Server",  # noqa: F811
    runs: list[UUID],
    tmp_path: Path,
) -> None:
    asked = Cli({"UPBEAT_SERVER": api_server.url, "UPBEAT_TOKEN": api_server.tokens["viewer"]})
    older, newer = (show("run", run) for run in runs)
    listed = await asked("evidence", "checkout")
    assert listed.code == 0, listed.err
    assert [line.split()[-3:] for line in listed.out.splitlines()[1:]] == [
        ["failure.jpg", "0.0", "kB"],
        ["trace.zip", "0.0", "kB"],
    ] * 2
    of_one = await asked("evidence", "checkout", "--run", older, "--quiet")
    assert of_one.out.split() == [f"{older}/failure.jpg", f"{older}/trace.zip"]

    written = await asked("evidence", "checkout", "--to", tmp_path / "new", "--json")
    assert written.json["files"] == [str(tmp_path / "new" / newer / one.name) for one in FILES]
    assert [Path(path).read_bytes() for path in written.json["files"]] == [one.data for one in FILES]

    opened = await asked("evidence", "checkout", "--run", older, "--trace", DISPLAY="", WAYLAND_DISPLAY="")
    assert opened.code == 0, opened.err
    (path,) = opened.out.split()
    assert Path(path).read_bytes() == b"a trace"
    assert f"playwright show-trace {path}" in opened.err

    none = await asked("evidence", "home", "--page", "shop", "--trace")
    assert (none.code, "No trace is kept of its newest runs." in none.err) == (2, True)
    (tmp_path / "file").touch()
    refused = await asked("evidence", "checkout", "--to", tmp_path / "file" / "below")
    assert (refused.code, "cannot be written" in refused.err) == (2, True)
