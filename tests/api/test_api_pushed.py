"""Pings and reports over HTTP: what is taken, from whom, and what is told of it. What they decide is in tests/e2e."""

import asyncio
import contextlib
import gc
import re
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.limits import Limiter
from engine.store import pushed
from engine.store.database import transaction
from engine.store.group import CrowdedError, GroupCommit
from engine.store.pings import KEPT_BODY_BYTES, text_of
from engine.store.pushed import Ping, Report
from tests.api.conftest import Server


@pytest.fixture(scope="module", autouse=True)
async def beats(server: Server) -> AsyncIterator[None]:
    for beat in (
        {"slug": "job", "type": "heartbeat", "every": "5m"},
        {"slug": "supplier", "type": "external"},
    ):
        answer = await server.call("POST", "/api/v1/beats?page=shop", beat)
        assert answer.status == 201, answer.body
    yield
    for slug in ("job", "supplier"):
        await server.call("DELETE", f"/api/v1/beats/{slug}")


async def url_of(server: Server, who: str = "installer") -> Any:
    return (await server.call("GET", "/api/v1/beats/job?page=shop", who=who)).body["ping"]["url"]


async def taken(server: Server) -> list[pushed.Pushed]:
    """What waits for the evaluators, oldest first; nobody evaluates here."""
    async with transaction(server.services.pool) as db:
        found = [one for partition in range(8) for one in await pushed.take(db, partition, 1000)]
    return sorted(found, key=lambda one: one.id)


@pytest.mark.parametrize(
    ("method", "path", "signal", "code", "run"),
    [
        ("GET", "", "success", None, ""),
        ("HEAD", "/", "success", None, ""),
        ("POST", "/start?rid=0192-a.b", "start", None, "0192-a.b"),
        ("GET", "/fail", "fail", None, ""),
        ("GET", "/log", "log", None, ""),
        ("GET", "/0?rid=x&other=1", "success", 0, "x"),
        ("GET", "/137", "fail", 137, ""),
    ],
)
async def test_a_ping_is_kept_when_it_is_answered(
    server: Server, method: str, path: str, signal: str, code: int | None, run: str
) -> None:
    body = b"out of space" if method == "POST" else None
    answer = await server.call(method, await url_of(server) + path, who=None, data=body)
    assert (answer.status, answer.body) == (200, "" if method == "HEAD" else "ok\n")
    (one,) = await taken(server)
    assert isinstance(one.fact, Ping)
    assert (one.fact.signal, one.fact.code, one.fact.run, one.fact.method) == (signal, code, run, method)
    assert (one.fact.address, one.body) == ("127.0.0.1", body)


async def test_a_body_is_kept_up_to_10_kb_and_refused_beyond_1_mb(server: Server) -> None:
    url = await url_of(server)
    assert (await server.call("POST", url, who=None, data=b"x" * 900_000)).status == 200
    (one,) = await taken(server)
    assert one.body == b"x" * KEPT_BODY_BYTES
    assert (await server.call("POST", url, who=None, data=b"x" * 1_020_000)).status == 413
    assert not await taken(server)


async def test_whatever_is_no_ping_is_one_and_the_same_404(server: Server) -> None:
    url = await url_of(server)
    wrong = [url[:-1] + "_", url[:-1], url + "/256", url + "/stop", url + "/0/0", "/ping/", "/ping/x/../y"]
    answers = [await server.call("GET", path, who=None) for path in wrong]
    told = {
        (a.status, a.body, tuple(sorted((k, v) for k, v in a.headers.items() if k.lower() != "date")))
        for a in answers
    }
    assert len(told) == 1, told
    assert answers[0].status == 404
    assert not await taken(server)
    assert (await server.call("GET", url + "?rid=" + "x" * 65, who=None)).status == 400
    assert (await server.call("GET", url + "?rid=a%20b", who=None)).status == 400
    assert (await server.call("DELETE", url, who=None)).status == 405


async def test_unknown_keys_are_limited_and_known_ones_are_not(server: Server) -> None:
    url = await url_of(server)
    guess = f"/ping/{'x' * 32}"
    statuses = [(await server.call("GET", guess, who=None)).status for _ in range(310)]
    assert set(statuses) == {404, 429}
    assert (await server.call("GET", url, who=None)).status == 200
    assert len(await taken(server)) == 1


async def test_the_url_is_for_editors_and_another_one_ends_it(server: Server) -> None:
    url = await url_of(server)
    assert re.fullmatch(r"/ping/[\w-]{32}", url)
    assert await url_of(server, "viewer") is None
    assert await url_of(server, "editor") == url
    path = "/api/v1/beats/job/ping-key/rotate?page=shop"
    assert (await server.call("POST", path, who="viewer")).status == 403
    answer = await server.call("POST", path, who="editor")
    assert answer.status == 200
    assert (fresh := answer.body["ping"]["url"]) != url
    assert (await server.call("GET", url, who=None)).status in (404, 429)
    assert (await server.call("GET", fresh, who=None)).status == 200
    assert len(await taken(server)) == 1
    audit = (await server.call("GET", "/api/v1/audit")).body["items"][0]
    assert (audit["verb"], url[6:] in str(audit), fresh[6:] in str(audit)) == (
        "beat.rotate_ping_key",
        False,
        False,
    )
    assert fresh[6:] not in (await server.call("GET", "/api/v1/export")).body


async def test_what_no_probe_runs_cannot_be_run(server: Server) -> None:
    for slug, waits in (("job", "pings of its URL"), ("supplier", "reports about it")):
        answer = await server.call("POST", f"/api/v1/beats/{slug}/run?page=shop")
        assert (answer.status, answer.body["detail"]) == (
            409,
            f"no probe runs the beat {slug}: it waits for {waits}",
        )
    answer = await server.call("POST", "/api/v1/check", {"type": "heartbeat", "every": "5m"})
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/type")
    answer = await server.call("POST", "/api/v1/beats/home/ping-key/rotate?page=shop")
    assert (answer.status, answer.body["detail"]) == (
        409,
        "home is a beat of type http: it has no URL to ping",
    )


async def test_a_report_is_kept_for_whoever_evaluates(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.subjects.FOLDED_WITHIN_S", 0.1)
    said = {"verdict": "critical", "fingerprint": "db", "message": "gone", "evidence": {"lag": 3}}
    path = "/api/v1/beats/home/report?page=shop"
    answer = await server.call("POST", path, said, who="editor", headers={"Idempotency-Key": "r1"})
    assert (answer.status, answer.body["decided"], answer.body["signals"]) == (202, False, [])
    again = await server.call("POST", path, said, who="editor", headers={"Idempotency-Key": "r1"})
    assert again.status == 202
    (one,) = await taken(server)
    assert isinstance(one.fact, Report)
    assert (one.fact.severity, one.fact.fingerprint, one.fact.message, one.fact.by) == (
        "critical",
        "db",
        "gone",
        "UPBEAT_ADMIN_TOKEN",
    )
    for who, status in (("viewer", 403), ("other", 404), (None, 401)):
        assert (await server.call("POST", path, said, who=who)).status == status
    assert not await taken(server)


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({}, "/verdict"),
        ({"verdict": "down"}, "/verdict"),
        ({"verdict": "ok", "fingerprint": ""}, "/fingerprint"),
        ({"verdict": "ok", "at": "2999-01-01T00:00:00Z"}, "/at"),
        ({"verdict": "ok", "evidence": {"x": "y" * 11_000}}, "/evidence"),
    ],
)
async def test_a_report_that_cannot_be_taken_says_why(
    server: Server, said: dict[str, Any], pointer: str
) -> None:
    answer = await server.call("POST", "/api/v1/beats/supplier/report?page=shop", said)
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"password": "a, b c"}', '{"password": "***"}'),
        ("password: 'a b' ok", "password: '***' ok"),
        ("DB_PASS=x pwd: y pass = z", "DB_PASS=*** pwd: *** pass = ***"),
        ("sent Bearer eyJ.a.b", "sent Bearer ***"),
        ("12 tests passed: all of them", "12 tests passed: all of them"),
    ],
)
def test_whatever_is_written_like_a_secret_is_not_shown(body: str, shown: str) -> None:
    assert text_of(body.encode()) == shown


def test_what_looks_like_a_secret_in_a_body_is_not_shown() -> None:
    body = b'db_password=hunter2 ok\nAuthorization: Bearer abc.def\n{"api_key": "xyz"} pg://u:pw@h/d \xff\0'
    assert text_of(body) == (
        'db_password=*** ok\nAuthorization: Bearer ***\n{"api_key": "***"} pg://***@h/d \ufffd\ufffd'
    )


async def test_what_comes_while_a_commit_is_under_way_goes_with_the_next() -> None:
    batches: list[list[int]] = []

    async def write(items: Any) -> list[int]:
        batches.append(list(items))
        await asyncio.sleep(0.01)
        return [item * 2 for item in items]

    group: GroupCommit[int, int] = GroupCommit(write, most=3, most_waiting=5)
    answers = [asyncio.create_task(group.add(n)) for n in range(6)]
    done = await asyncio.gather(*answers, return_exceptions=True)
    assert done[:5] == [0, 2, 4, 6, 8]
    assert isinstance(done[5], CrowdedError)
    assert batches == [[0, 1, 2], [3, 4]]


async def test_what_nobody_waits_for_any_more_is_not_held_while_a_commit_hangs() -> None:
    class Item:
        pass

    is_over = asyncio.Event()

    async def write(items: Any) -> list[Item]:
        while not is_over.is_set():  # as a driver does that waits for its database to hear it gave up
            with contextlib.suppress(asyncio.CancelledError):
                await is_over.wait()
        return list(items)

    group: GroupCommit[Item, Item] = GroupCommit(write, most=1, within_s=0.1)

    async def given_up() -> "weakref.ref[Item]":
        item = Item()
        with contextlib.suppress(TimeoutError):
            await group.add(item)
        return weakref.ref(item)

    try:
        _, second = await asyncio.gather(given_up(), given_up())
        gc.collect()
        assert second() is None
    finally:
        is_over.set()
    assert isinstance(await group.add(Item()), Item)


async def test_a_commit_that_fails_fails_for_those_in_it_alone() -> None:
    async def write(items: Any) -> list[int]:
        if 1 in items:
            raise ConnectionError("gone")
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write, most=1)
    done = await asyncio.gather(*(group.add(n) for n in range(3)), return_exceptions=True)
    assert [type(one) for one in done] == [int, ConnectionError, int]


async def test_the_answer_kept_under_an_idempotency_key_has_no_url_of_a_heartbeat(server: Server) -> None:
    body, key = {"slug": "keyed", "type": "heartbeat", "every": "5m"}, {"Idempotency-Key": "hb1"}
    first = await server.call("POST", "/api/v1/beats?page=shop", body, headers=key)
    again = await server.call("POST", "/api/v1/beats?page=shop", body, headers=key)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body | {"ping": first.body["ping"] | {"url": None}}
    secret = first.body["ping"]["url"].rsplit("/", 1)[1]
    kept = await server.services.pool.fetch("SELECT convert_from(body, 'UTF8') AS body FROM idempotency")
    assert not [row for row in kept if secret in (row["body"] or "")]
    assert (await server.call("DELETE", "/api/v1/beats/keyed")).status == 204


async def test_nobody_waits_for_a_commit_for_ever() -> None:
    written: list[int] = []
    back = asyncio.Event()

    async def write(items: Any) -> list[int]:
        while not back.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await back.wait()  # a connection that does not let go of a server that stands still
        written.extend(items)
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(write, most=1, within_s=0.05)
    done = await asyncio.gather(*(group.add(n) for n in range(3)), return_exceptions=True)
    assert [type(one) for one in done] == [TimeoutError] * 3
    back.set()
    assert await group.add(3) == 3
    assert written == [0, 3]


def test_the_address_whose_window_ends_first_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.limits._MOST_KEYS", 2)
    limiter = Limiter(60.0)
    for key, now_s in (("a", 0.0), ("b", 1.0), ("a", 60.5), ("c", 60.6)):
        limiter.take(key, 1, now_s)
    assert [limiter.take(key, 1, 60.7)[0] for key in ("a", "c")] == [-1, -1]
