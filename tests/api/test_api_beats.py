"""Beats in motion: results, manual runs, pausing, history; and live news of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import pytest
from msgspec.structs import replace

from api import events
from engine.bus import LIVE
from engine.store import objects, results, rollups, states
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, partition_of, read
from engine.store.objects import Stored
from evaluators.model import ConfirmOrder, Failure, Kind, Outcome, Result, Stage, Timings, Tried, Verdict

if TYPE_CHECKING:
    from tests.api.conftest import Server

BOOT = str(new_id())


@pytest.fixture
async def beat(server: "Server") -> Stored:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {
            "slug": f"b-{new_id().hex[-8:]}",
            "type": "http",
            "url": "https://x.example/",
            "regions": ["eu", "us"],
        }
        return await objects.create(db, Actor("t", "api"), "beat", page.id, spec)


def _result(beat: Stored, at: float, region: str = "eu", **more: Any) -> Result:
    made = Result(
        run_id=str(new_id()),
        beat_id=str(beat.id),
        region=region,
        kind=Kind.SCHEDULED,
        verdict=Verdict.OK,
        scheduled_at=at,
        at=at + 0.2,
        seq=1,
        attempts=1,
        timings=Timings(dns=0.01, connect=0.02, total=0.123456789),
        outcomes=(Outcome("status", True, 200),),
    )
    return replace(made, **more)


async def _store(server: "Server", *made: Result) -> None:
    async with transaction(server.services.pool) as db:
        await results.insert(db, [(BOOT, result.at, result) for result in made], made[-1].at)


async def test_results_are_shown_newest_first_as_the_contract_says(server: "Server", beat: Stored) -> None:
    now = server.services.clock.epoch_s()
    bad = _result(
        beat,
        now - 10,
        verdict=Verdict.CRITICAL,
        failure=Failure("http.status", "500 is not 200"),
        outcomes=(Outcome("status", False, 500, "500 is not 200"),),
        evidence={"status": 500},
    )
    await _store(server, _result(beat, now - 20), bad)
    answer = await server.call("GET", f"/api/v1/beats/{beat.slug}/results?limit=10")
    newest, oldest = answer.body["items"]
    assert newest["verdict"] == "critical"
    assert newest["error"] == {"type": "http.status", "message": "500 is not 200"}
    assert newest["assertions"] == [
        {"of": "status", "ok": False, "actual": 500, "message": "500 is not 200"}
        | {"severity": "critical", "step": "", "key": ""}
    ]
    assert newest["evidence"] == {"status": 500}
    assert oldest["error"] is None
    assert list(oldest["timings"]) == ["dns", "connect", "tls", "ttfb", "transfer", "total"]
    assert oldest["timings"]["tls"] is None
    assert oldest["timings"]["total"] == 0.123457
    assert datetime.fromisoformat(oldest["at"]).tzinfo == UTC
    assert read("run", oldest["run"])


async def test_results_are_filtered_and_paged(server: "Server", beat: Stored) -> None:
    now = server.services.clock.epoch_s()
    await _store(server, *(_result(beat, now - n, "eu" if n % 2 else "us") for n in range(9, 0, -1)))
    path = f"/api/v1/beats/{beat.slug}/results?region=eu&limit=2"
    first = (await server.call("GET", path)).body
    second = (await server.call("GET", f"{path}&cursor={first['next']}")).body
    third = (await server.call("GET", f"{path}&cursor={second['next']}")).body
    at = [item["at"] for page in (first, second, third) for item in page["items"]]
    assert len(at) == 5
    assert at == sorted(at, reverse=True)
    assert third["next"] is None
    none = await server.call("GET", f"/api/v1/beats/{beat.slug}/results?kind=manual")
    assert none.body == {"items": [], "next": None}


@contextlib.asynccontextmanager
async def _probing(server: "Server", beat: Stored, *regions: str) -> AsyncIterator[list[ConfirmOrder]]:
    """Something that answers orders for `beat` in these regions, as probes and the evaluator do together."""
    heard: list[ConfirmOrder] = []
    listening = []
    for region in regions:

        async def obey(order: ConfirmOrder, region: str = region) -> None:
            heard.append(order)
            at = server.services.clock.epoch_s()
            await _store(server, _result(beat, at, region, kind=order.kind, request=order.request))

        listening.append(await server.services.bus.orders(region, partition_of(beat.id), obey))
    yield heard
    for one in listening:
        await one.stop()


async def test_a_manual_run_asks_every_region_of_the_beat_once(server: "Server", beat: Stored) -> None:
    async with _probing(server, beat, "eu", "us", "ap") as heard:
        answer = await server.call("POST", f"/api/v1/beats/{beat.slug}/run?wait=10")
    assert answer.status == 200, answer.body
    assert sorted(item["region"] for item in answer.body["results"]) == ["eu", "us"]
    assert {item["kind"] for item in answer.body["results"]} == {"manual"}
    assert {(o.kind, o.runs, o.request) for o in heard} == {(Kind.MANUAL, 1, answer.body["request"])}
    verbs = [i["verb"] for i in (await server.call("GET", "/api/v1/audit?limit=3")).body["items"]]
    assert "beat.run" in verbs


async def test_a_manual_run_is_202_while_results_are_missing(server: "Server", beat: Stored) -> None:
    async with _probing(server, beat, "eu"):
        answer = await server.call("POST", f"/api/v1/beats/{beat.slug}/run?wait=0.5")
    assert answer.status == 202
    assert [item["region"] for item in answer.body["results"]] == ["eu"]
    request = answer.body["request"]
    later = await server.call("GET", f"/api/v1/beats/{beat.slug}/results?request={request}")
    assert [item["run"] for item in later.body["items"]] == [answer.body["results"][0]["run"]]


async def test_a_beat_is_paused_for_a_while_and_resumed(server: "Server", beat: Stored) -> None:
    path = f"/api/v1/beats/{beat.slug}"
    paused = (await server.call("POST", f"{path}/pause", {"for": "1h"})).body
    assert paused["paused"] is True
    assert paused["paused_until"] is not None
    forever = (await server.call("POST", f"{path}/pause", {})).body
    assert (forever["paused"], forever["paused_until"]) == (True, None)
    resumed = (await server.call("POST", f"{path}/resume")).body
    assert (resumed["paused"], resumed["paused_until"]) == (False, None)
    past = await server.call("POST", f"{path}/pause", {"until": "2020-01-01T00:00:00Z"})
    assert past.status == 422
    naive = await server.call("POST", f"{path}/pause", {"until": "2030-01-01T00:00:00"})
    assert naive.status == 422
    both = await server.call("POST", f"{path}/pause", {"until": "2030-01-01T00:00:00Z", "for": "1h"})
    assert both.status == 422


async def test_history_and_latency_follow_what_was_stored(server: "Server", beat: Stored) -> None:
    now = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        for at, was, stage in [
            (now - 4000, Stage.UNKNOWN, Stage.OK),
            (now - 2000, Stage.OK, Stage.CRITICAL),
            (now - 1000, Stage.CRITICAL, Stage.OK),
        ]:
            await states.record_transitions(db, [states.Transition(beat.id, at, was, stage, {"eu": stage})])
    await _store(server, _result(beat, now - 30), _result(beat, now - 20))
    path = f"/api/v1/beats/{beat.slug}"
    shown = (await server.call("GET", f"{path}/transitions")).body["items"]
    assert [item["stage"] for item in shown] == ["ok", "critical", "ok"]
    assert shown[0]["at"] > shown[-1]["at"]
    latency = (await server.call("GET", f"{path}/latency?hours=1")).body
    assert sum(item["runs"] for item in latency["items"]) == 2
    assert latency["items"][0]["p50"] == pytest.approx(0.123457)


class Stream:
    """A client of the live news."""

    def __init__(self, server: "Server", who: str) -> None:
        headers = {"Authorization": f"Bearer {server.tokens[who]}"}
        self._got = server.session.get(server.url + "/api/v1/events", headers=headers)

    async def __aenter__(self) -> Self:
        self.answer = await self._got.__aenter__()
        assert await self.answer.content.readline() == b"retry: 2000\n"
        await self.answer.content.readline()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer.close()

    async def next(self) -> tuple[str, dict[str, Any]] | None:
        """(event, data), or None once the stream has ended."""
        event = ""
        async with asyncio.timeout(10):
            async for line in self.answer.content:
                if line.startswith(b"event: "):
                    event = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    return event, json.loads(line[6:])
        return None


async def test_news_reach_only_who_may_read_their_page(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        pages = {slug: (await objects.find(db, "page", slug)).id for slug in ("shop", "blog")}
    async with Stream(server, "viewer") as stream, Stream(server, "other") as foreign:
        while len(server_clients(server)) < 2:
            await asyncio.sleep(0.01)
        for slug, page in pages.items():
            news = [{"event": "stage", "page": str(page), "beat": f"of-{slug}", "stage": "critical"}]
            await server.services.bus.announce(LIVE, json.dumps(news).encode())
        assert await stream.next() == (
            "stage",
            {"page": str(pages["shop"]), "beat": "of-shop", "stage": "critical"},
        )
        heard = await foreign.next()
        assert heard is not None
        assert heard[1]["beat"] == "of-blog"


def server_clients(server: "Server") -> dict[Any, str]:
    """The queues of the application's live clients."""
    clients: dict[Any, str] = server.app.state.hub.clients
    return clients


async def test_one_viewer_cannot_take_every_live_stream(
    server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_OF_ONE", 1)
    headers = {"Authorization": f"Bearer {server.tokens['viewer']}"}
    async with server.session.get(server.url + "/api/v1/events", headers=headers) as stream:
        assert await stream.content.readline()
        while not server_clients(server):
            await asyncio.sleep(0.01)
        assert (await server.call("GET", "/api/v1/events", who="viewer")).status == 503
        headers = {"Authorization": f"Bearer {server.tokens['editor']}"}
        async with server.session.get(server.url + "/api/v1/events", headers=headers) as other:
            assert other.status == 200


async def test_a_live_stream_ends_when_its_token_is_revoked(server: "Server") -> None:
    made = await server.call("POST", "/api/v1/tokens", {"name": "live", "page": "shop"})
    server.tokens["live"] = made.body["token"]
    async with Stream(server, "live") as stream:
        assert (await server.call("DELETE", f"/api/v1/tokens/{made.body['id']}")).status == 204
        assert await stream.next() is None


async def test_live_streams_end_when_the_server_stops(server: "Server") -> None:
    async with Stream(server, "viewer") as stream:
        while not server_clients(server):
            await asyncio.sleep(0.01)
        hub = server.app.state.hub
        hub.close()
        assert await stream.next() is None
    server.app.state.hub = type(hub)()


async def test_the_same_key_at_the_same_time_is_409_for_one_of_them(server: "Server", beat: Stored) -> None:
    path, key = f"/api/v1/beats/{beat.slug}/run?wait=0.5", {"Idempotency-Key": "at-once"}
    answers = await asyncio.gather(*(server.call("POST", path, headers=key) for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [202, 409, 409]


async def test_a_summary_counts_scheduled_runs_per_region_and_of_all(server: "Server", beat: Stored) -> None:
    now = server.services.clock.epoch_s()
    bad = {"verdict": Verdict.CRITICAL, "failure": Failure("http.status", "500 is not 200")}
    await _store(
        server,
        *(_result(beat, now - n, timings=Timings(ttfb=0.1, total=0.2 * n)) for n in range(1, 10)),
        _result(beat, now - 20, "us", timings=Timings(total=4.0), **bad),
        _result(beat, now - 30, "us", verdict=Verdict.ERROR),
        _result(beat, now - 3, "us", kind=Kind.CONFIRM),
        _result(beat, now - 2, "us", kind=Kind.MANUAL),
        _result(beat, now - 9 * 86400),
    )
    path = f"/api/v1/beats/{beat.slug}/summary"
    said = (await server.call("GET", path)).body
    eu, us = said["regions"]
    assert (eu["region"], eu["runs"], eu["ok"], eu["runs_up_ratio"]) == ("eu", 9, 9, 1.0)
    assert {key: us[key] for key in ("runs", "critical", "error", "runs_up_ratio", "errors")} == {
        "runs": 2,
        "critical": 1,
        "error": 1,
        "runs_up_ratio": 0.0,
        "errors": {"http.status": 1},
    }
    assert us["last"]["verdict"] == "critical"
    whole = said["all"]
    assert (whole["runs"], whole["runs_up_ratio"], whole["last"]["verdict"]) == (11, 0.9, "ok")
    assert list(whole["quantiles"]) == ["ttfb", "total"]
    assert list(eu["quantiles"]["total"]) == ["p50", "p75", "p90", "p95", "p99"]
    assert eu["quantiles"]["total"]["p50"] == pytest.approx(1.0, rel=0.01)
    assert whole["quantiles"]["total"]["p99"] == pytest.approx(1.8, rel=0.01)  # of ten: the ninth
    one = (await server.call("GET", f"{path}?range=30d&region=eu")).body
    assert [region["region"] for region in one["regions"]] == ["eu"]
    assert one["all"]["runs"] == 10
    assert (await server.call("GET", f"{path}?range=2d")).status == 422


async def test_latency_of_a_month_is_read_from_roll_ups_and_what_is_not_rolled_up_yet(
    server: "Server", beat: Stored
) -> None:
    now = server.services.clock.epoch_s()
    await _store(
        server, *(_result(beat, now - day * 86400, timings=Timings(total=0.5)) for day in (1, 2, 25))
    )
    await rollups.roll(server.services.pool)
    await _store(server, _result(beat, now, timings=Timings(total=0.5)))
    said = (await server.call("GET", f"/api/v1/beats/{beat.slug}/latency?hours=720")).body
    assert said["step"] == 8 * 3600
    assert [item["runs"] for item in said["items"]] == [1, 1, 1, 1]
    assert [item["p95"] for item in said["items"]] == pytest.approx([0.5] * 4, rel=0.01)


async def test_a_run_shows_its_trace_its_certificate_and_the_attempts_before(
    server: "Server", beat: Stored
) -> None:
    now = server.services.clock.epoch_s()
    before = Tried(0.0, Timings(connect=0.5, total=0.5), Failure("connect.timeout", "no connection in 0.5 s"))
    told = _result(beat, now, attempts=2, tried=(before,), trace_id="0af7651916cd43dd8448eb211c80319c")
    await _store(server, replace(told, certificate_days=12.25), _result(beat, now - 5))
    plain, shown = reversed((await server.call("GET", f"/api/v1/beats/{beat.slug}/results")).body["items"])
    assert (shown["trace_id"], shown["certificate_days"]) == ("0af7651916cd43dd8448eb211c80319c", 12.25)
    assert [(t["after"], t["timings"]["total"], t["error"]["type"]) for t in shown["tried"]] == [
        (0.0, 0.5, "connect.timeout")
    ]
    assert (plain["trace_id"], plain["certificate_days"], plain["tried"]) == (None, None, [])
