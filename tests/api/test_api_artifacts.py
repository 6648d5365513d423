"""Files of runs: listed with their state, read by operators only, never a page of ours, and nowhere in public."""

import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from api.shapes import ShownArtifacts, ShownResult
from engine.clock import SystemClock
from engine.store import artifacts, objects, results
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from evaluators.model import Failure, Kind, Result, Timings, Verdict
from evaluators.observation import Artifact

if TYPE_CHECKING:
    from tests.api.conftest import Server

CANARY = b"evidence-canary-4711"
FILES = (
    Artifact("failure.jpg", "image/jpeg", b"JFIF" + CANARY),
    Artifact("page.html", "text/html; charset=utf-8", b"<script>alert(1)</script>" + CANARY),
    Artifact("trace.zip", "application/zip", b"PK" + CANARY),
)


@pytest.fixture(scope="module")
async def beat(server: "Server") -> Stored:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": "checkout", "type": "browser", "steps": [{"goto": "https://shop.example/"}]}
        spec |= {"components": ["site"]}
        return await objects.create(db, Actor("t", "api"), "beat", page.id, spec)


async def ran(server: "Server", beat: Stored, ago_s: float = 0.0) -> UUID:
    """A run that failed, and says that it made FILES."""
    run, at = new_id(), SystemClock().epoch_s() - ago_s
    said = [{"name": one.name, "type": one.type, "size_bytes": len(one.data)} for one in FILES]
    made = Result(
        *(str(run), str(beat.id), "eu", Kind.SCHEDULED, Verdict.CRITICAL, at, at, 1, 1, Timings(total=1.0)),
        failure=Failure("step.timeout", "the button never came"),
        evidence={"artifacts": said},
    )
    async with transaction(server.services.pool) as db:
        await results.insert(db, [(str(new_id()), at, made)], at)
    return run


async def kept(server: "Server", beat: Stored, run: UUID, *files: Artifact) -> None:
    async with server.services.pool.acquire() as db:
        at = await db.fetchval(
            "SELECT extract(epoch FROM scheduled_at)::float8 FROM results WHERE run_id = $1", run
        )
        await artifacts.keep(db, run, beat.id, at, files)


def path(beat: Stored, run: UUID, name: str = "") -> str:
    return f"/api/v1/beats/{show('beat', beat.id)}/results/{show('run', run)}/artifacts{name and '/' + name}"


async def shown(server: "Server", run: UUID) -> list[dict[str, Any]]:
    answer = await server.call("GET", "/api/v1/beats/checkout/results?page=shop", who="viewer")
    assert answer.status == 200, answer.body
    msgspec.convert(answer.body["items"], list[ShownResult])
    (one,) = [item for item in answer.body["items"] if item["run"] == show("run", run)]
    found: list[dict[str, Any]] = one["artifacts"]
    return found


async def test_a_run_says_which_of_its_files_are_kept_on_their_way_and_gone(
    server: "Server", beat: Stored
) -> None:
    run = await ran(server, beat)
    assert {one["name"]: (one["state"], one["href"]) for one in await shown(server, run)} == {
        one.name: ("awaited", None) for one in FILES
    }
    await kept(server, beat, run, FILES[0])
    picture, *others = await shown(server, run)
    assert picture == {
        "name": "failure.jpg",
        "type": "image/jpeg",
        "size_bytes": len(FILES[0].data),
        "sha256": hashlib.sha256(FILES[0].data).hexdigest(),
        "state": "kept",
        "href": path(beat, run, "failure.jpg"),
    }
    assert {one["state"] for one in others} == {"awaited"}
    old = await ran(server, beat, ago_s=3600)
    assert {one["state"] for one in await shown(server, old)} == {"gone"}


async def test_a_file_is_read_as_it_is_and_never_as_a_page_of_ours(server: "Server", beat: Stored) -> None:
    run = await ran(server, beat)
    await kept(server, beat, run, *FILES)
    listed = await server.call("GET", path(beat, run), who="viewer")
    assert [one["name"] for one in listed.body["items"]] == [one.name for one in FILES]
    msgspec.convert(listed.body, ShownArtifacts)
    for one in FILES:
        async with server.session.get(
            server.url + path(beat, run, one.name),
            headers={"Authorization": f"Bearer {server.tokens['viewer']}"},
        ) as answer:
            assert await answer.read() == one.data
            said = answer.headers
        how = "inline" if one.name.endswith("jpg") else "attachment"
        assert said["Content-Disposition"] == f'{how}; filename="{one.name}"'
        assert said["Content-Type"] == one.type
        assert said["X-Content-Type-Options"] == "nosniff"
        assert said["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert said["Cross-Origin-Resource-Policy"] == "same-origin"
        assert said["Cache-Control"] == "private, max-age=31536000, immutable"
        assert said["Vary"] == "Authorization, Cookie"
        assert said["ETag"] == f'"{hashlib.sha256(one.data).hexdigest()}"'
        again = await server.call(
            "GET", path(beat, run, one.name), who="viewer", headers={"If-None-Match": said["ETag"]}
        )
        assert (again.status, again.body) == (304, "")


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("expired", 401), ("other", 404), ("viewer", 200)], ids=str
)
async def test_a_file_is_read_only_by_who_may_read_its_beat(
    server: "Server", beat: Stored, who: str | None, status: int
) -> None:
    run = await ran(server, beat)
    await kept(server, beat, run, *FILES)
    for name in ("", "failure.jpg", "trace.zip"):
        answer = await server.call("GET", path(beat, run, name), who=who)
        assert answer.status == status
        assert status == 200 or CANARY.decode() not in str(answer.body)


async def test_a_file_of_another_beats_run_is_not_there(server: "Server", beat: Stored) -> None:
    run = await ran(server, beat)
    await kept(server, beat, run, *FILES)
    home = f"/api/v1/beats/home/results/{show('run', run)}/artifacts"
    for ref in (
        f"{home}/trace.zip?page=shop",
        path(beat, run, "other.zip"),
        path(beat, new_id(), "trace.zip"),
        path(beat, run, "..%2Ftrace.zip"),
        f"/api/v1/beats/{show('beat', beat.id)}/results/nonsense/artifacts/trace.zip",
    ):
        assert (await server.call("GET", ref)).status == 404, ref
    assert (await server.call("GET", f"{home}?page=shop")).body == {"items": []}


async def test_nothing_of_it_is_in_public(server: "Server", beat: Stored) -> None:
    run = await ran(server, beat)
    await kept(server, beat, run, *FILES)
    traces = [
        CANARY.decode(),
        show("run", run),
        run.hex,
        *(hashlib.sha256(one.data).hexdigest() for one in FILES),
    ]
    tail = path(beat, run, "failure.jpg").removeprefix("/api/v1")
    for public in (
        *("/p/shop", "/p/shop/status.json", "/p/shop/history", "/p/shop/feed.atom", "/p/shop/embed"),
        *(f"/p/shop{tail}", f"/p/shop/artifacts/{traces[-1]}", f"/p/shop/pictures/{traces[-3]}.jpg"),
    ):
        answer = await server.call("GET", public, who=None)
        said = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        assert not [one for one in traces if one in said and "/beats/" not in public], public
        assert answer.status != 200 or "status.json" in public or public.count("/") <= 3
