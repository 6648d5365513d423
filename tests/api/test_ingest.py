"""Deliveries to inboxes over real sockets: what is taken, what is refused, and that nothing acknowledged is lost."""

import asyncio
import base64
import hmac
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from starlette.requests import HTTPConnection

from api import ingest
from api.ingest import PATH
from api.origin import address_of
from engine.store import inboxes, objects
from engine.store.database import transaction
from engine.store.ids import read
from engine.store.objects import Stored
from tests.api.conftest import INSTALLER, Answer, Server

_numbers = itertools.count()
FIRED = {"X-Forwarded-For": "203.0.113.9"}


@pytest.fixture(autouse=True)
async def emptied(server: Server) -> AsyncIterator[None]:
    yield
    async with server.services.pool.acquire() as db:
        await db.execute("TRUNCATE events, arrivals, deliveries")


async def opened(server: Server, **spec: Any) -> tuple[Stored, str]:
    """A new inbox with its token."""
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": f"inbox-{next(_numbers)}", **spec}
        inbox = await objects.create(db, INSTALLER, "inbox", page.id, spec)
        return inbox, (await inboxes.issue_token(db, INSTALLER, inbox)).text


async def issued(server: Server, inbox: Stored, overlap_s: float) -> inboxes.Issued:
    async with transaction(server.services.pool) as db:
        return await inboxes.issue_token(db, INSTALLER, inbox, timedelta(seconds=overlap_s))


async def post(
    server: Server, token: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None, query: str = ""
) -> Answer:
    return await server.call("POST", f"{PATH}/{token}{query}", who=None, data=body, headers=headers)


async def stored(server: Server) -> list[Any]:
    async with server.services.pool.acquire() as db:
        return await db.fetch("SELECT * FROM events ORDER BY received_at, id")


async def arrived(server: Server) -> list[Any]:
    async with server.services.pool.acquire() as db:
        return await db.fetch("SELECT * FROM arrivals ORDER BY id")


def event_id(answer: Answer) -> UUID:
    assert answer.status == 202, answer.body
    found = read("event", answer.body["id"])
    assert found is not None
    return found


async def raw(server: Server, sent: bytes) -> bytes:
    """What comes back on a socket of its own, until it is closed or silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    writer.write(sent)
    try:
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await reader.readexactly(size)
    finally:
        writer.close()


# ---- taken


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"a": [1, 2.50, "\xc3\xbc"], "a": null}'),
        ("application/json", b"{not json"),
        ("application/x-www-form-urlencoded", b"payload=%7B%22a%22%3A1%7D&x=+"),
        ("text/plain; charset=UTF-8", b'{"Type": "Notification", "Message": "{\\"a\\": 1}"}'),
        ("application/cloudevents-batch+json", b'[{"id": "1"}, {"id": "2"}]'),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="p"\r\n\r\n{}\r\n--b--',
        ),
        ("application/octet-stream", bytes(range(256)) * 40),
        ("application/json", b""),
    ],
)
async def test_whatever_is_posted_is_stored_byte_by_byte(server: Server, kind: str, body: bytes) -> None:
    inbox, token = await opened(server)
    answer = await post(server, token, body, {"Content-Type": kind, "X-Kind": "\xfc"}, "?source=a%20b&x")
    (event,) = await stored(server)
    assert (event["id"], event["inbox_id"], event["body"]) == (event_id(answer), inbox.id, body)
    assert (event["query"], event["address"], event["is_signed"], event["tested_by"]) == (
        "source=a%20b&x",
        "127.0.0.1",
        False,
        None,
    )
    headers = dict(event["headers"])
    assert headers["content-type"] == kind
    assert headers["x-kind"] in ("\xfc", "\xc3\xbc")  # as aiohttp's sender wrote it, read as latin-1
    (arrival,) = await arrived(server)
    assert (arrival["event_id"], arrival["received_at"], arrival["is_repeat"]) == (
        event["id"],
        event["received_at"],
        False,
    )
    assert arrival["partition"] == inbox.id.int % 8


@pytest.mark.parametrize(
    "header", ["X-External-Event-Token: {}", "Authorization: Bearer {}", "authorization: bearer {}"]
)
async def test_a_token_comes_in_the_path_or_in_a_header_and_is_stored_nowhere(
    server: Server, header: str
) -> None:
    _, token = await opened(server)
    name, _, value = header.format(token).partition(": ")
    also = {"Cookie": "a=b", "X-Original-URI": f"{PATH}/{token}?x", "X-Kept": "1", "Connection": "close"}
    answer = await server.call(
        "POST", f"{PATH}?token={token}&b=1", who=None, data=b"[]", headers={name: value, **also}
    )
    (event,) = await stored(server)
    assert event["id"] == event_id(answer)
    assert token not in str(dict(event))
    assert event["query"] == "token=***&b=1"
    headers = dict(event["headers"])
    assert headers["x-original-uri"] == f"{PATH}/***?x"
    assert headers["x-kept"] == "1"
    assert not headers.keys() & {"cookie", "authorization", "x-external-event-token", "connection"}


async def test_headers_are_kept_up_to_a_bound(server: Server) -> None:
    _, token = await opened(server)
    many = {f"X-{n}": "v" for n in range(150)}
    await post(
        server, token, headers={"X-Large": "x" * 7000, "X-Larger": "y" * 7000, "X-Last": "z" * 7000, **many}
    )
    (event,) = await stored(server)
    headers = dict(event["headers"])
    assert len(headers) <= ingest.MOST_HEADERS
    assert sum(len(name) + len(value) for name, value in headers.items()) <= ingest.MOST_HEADER_BYTES
    assert {"x-large", "x-larger", "x-0"} <= headers.keys()
    assert "x-last" not in headers


async def test_the_address_is_the_clients_behind_trusted_proxies(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await opened(server, allow=["203.0.113.0/24"])
    assert (await post(server, token, headers=FIRED)).status == 403
    trusting = type(server.services.settings)(trusted_proxies=("127.0.0.0/8",))
    monkeypatch.setattr(server.services, "settings", trusting)
    assert (await post(server, token, headers=FIRED)).status == 202
    assert (await post(server, token, headers={"X-Forwarded-For": "203.0.114.9"})).status == 403
    forged = (
        b"X-Forwarded-For: 203.0.113.8\r\nX-Forwarded-For: 203.0.114.9"  # the proxy's own is the last one
    )
    head = f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\n%b\r\nContent-Length: 0\r\n\r\n".encode()
    assert (await raw(server, head % forged)).startswith(b"HTTP/1.1 403 ")
    assert [event["address"] for event in await stored(server)] == ["203.0.113.9"]
    scope = {"type": "http", "client": ("::ffff:127.0.0.1", 1), "app": server.app}
    connection = HTTPConnection(scope | {"headers": [(b"x-forwarded-for", b"203.0.113.7")]})
    assert address_of(connection) == "203.0.113.7", "behind a socket for both"


async def test_whoever_judges_is_told(server: Server) -> None:
    inbox, token = await opened(server)
    told = asyncio.Queue[bytes]()
    listening = await server.services.bus.listen(f"{inboxes.SUBJECT}.*", told.put)
    try:
        await post(server, token)
        async with asyncio.timeout(20):
            assert await told.get() == str(inbox.id.int % 8).encode()
    finally:
        await listening.stop()


# ---- refused


async def test_whatever_opens_nothing_is_one_and_the_same_401(server: Server) -> None:
    inbox, token = await opened(server)
    old = token
    token = (await issued(server, inbox, 0)).text
    gone, removed = await opened(server)
    async with transaction(server.services.pool) as db:
        await objects.remove(db, INSTALLER, gone)
    wrong = [old, removed, token[:-1], f"{token}/x", token.upper(), server.tokens["editor"], "", "x" * 5000]
    answers = [await post(server, one) for one in wrong]
    answers.append(await server.call("POST", PATH, who="editor", data=b"{}"))
    told = {(one.status, json.dumps(one.body)) for one in answers}
    assert len(told) == 1, told
    body = answers[0].body
    assert (answers[0].status, body["detail"], body["instance"]) == (
        401,
        "the token is missing or not valid",
        PATH,
    )
    assert answers[0].headers["WWW-Authenticate"] == "Bearer"
    assert answers[0].headers["Content-Type"] == "application/problem+json"
    assert not await stored(server)
    assert (await post(server, token)).status == 202


async def test_unknown_tokens_are_limited_and_known_ones_are_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "WRONG_PER_MINUTE", 5)
    _, token = await opened(server)
    answers = [await post(server, f"upi_{n}") for n in range(400)]
    assert {answer.status for answer in answers[-20:]} == {429}
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert (await post(server, token)).status == 202


async def test_a_disabled_inbox_takes_nothing(server: Server) -> None:
    _, token = await opened(server, enabled=False)
    answer = await post(server, token)
    assert (answer.status, answer.body["detail"]) == (403, "the inbox is disabled")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_a_post_delivers(server: Server, method: str) -> None:
    _, token = await opened(server)
    answer = await server.call(method, f"{PATH}/{token}", who=None)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert not await stored(server)


async def test_too_large_is_refused_by_length_before_the_body(server: Server) -> None:
    _, token = await opened(server, max_size="1KB")
    head = f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: 11000000\r\n\r\n"
    assert (await raw(server, head.encode())).startswith(b"HTTP/1.1 413 ")
    assert (await post(server, token, b"x" * 1000)).status == 202
    assert len(await stored(server)) == 1


async def test_too_large_in_chunks_is_refused_on_the_way(server: Server) -> None:
    _, token = await opened(server, max_size="1KB")
    head = f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100\r\n" + b"x" * 256 + b"\r\n"
    assert (await raw(server, head.encode() + chunk * 5)).startswith(b"HTTP/1.1 413 ")
    whole = await raw(server, head.encode() + chunk * 3 + b"0\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 202 ")
    (event,) = await stored(server)
    assert event["body"] == b"x" * 768


async def test_after_too_much_the_connection_goes_on(server: Server) -> None:
    _, token = await opened(server, max_size="1KB")
    head = f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: "
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    writer.write(f"{head}300000\r\n\r\n".encode() + b"x" * 300_000)
    async with asyncio.timeout(20):
        assert (await reader.readuntil(b'bytes","instance":"' + PATH.encode() + b'"}')).startswith(
            b"HTTP/1.1 413"
        )
        writer.write(f"{head}2\r\n\r\n{{}}".encode())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 202")
    writer.close()


async def test_encoded_bodies_are_refused(server: Server) -> None:
    _, token = await opened(server)
    for encoding, status in (("gzip", 415), ("br", 415), ("identity", 202)):
        headers = {"Content-Encoding": encoding}
        assert (await post(server, token, b"{}", headers)).status == status, encoding


async def test_more_than_the_rate_is_told_when_to_come_back(server: Server) -> None:
    _, token = await opened(server, rate_limit=3)
    answers = [await post(server, token) for _ in range(8)]
    taken = [answer for answer in answers if answer.status == 202]
    assert {answer.status for answer in answers} == {202, 429}
    assert len(await stored(server)) == len(taken)
    refused = next(answer for answer in answers if answer.status == 429)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.body["detail"].startswith("3 deliveries a minute are allowed; try again in ")


async def test_more_than_can_be_held_is_told_to_come_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "MOST_HELD_BYTES", 5000)
    _, token = await opened(server)
    answer = await post(server, token, b"x" * 6000)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert (await post(server, token, b"x" * 4000)).status == 202, "what was refused is held no more"


# ---- signed


async def test_a_signed_inbox_takes_what_is_signed_and_nothing_else(server: Server) -> None:
    signature = {"preset": "github", "secrets": ["new key", "old key"]}
    _, token = await opened(server, signature=signature)
    wrong = [
        {},
        {"X-Hub-Signature-256": "sha256=00"},
        {"X-Hub-Signature-256": "sha256=" + hmac.digest(b"other", b"{}", "sha256").hex()},
        {"X-Hub-Signature-256": "sha256=" + hmac.digest(b"new key", b"{ }", "sha256").hex()},
    ]
    refused = [await post(server, token, b"{}", headers) for headers in wrong]
    assert {(answer.status, answer.body["detail"]) for answer in refused} == {
        (401, "the signature is not valid")
    }
    for key in (b"new key", b"old key"):
        good = {"x-hub-signature-256": "sha256=" + hmac.digest(key, b"{}", "sha256").hex()}
        assert (await post(server, token, b"{}", good)).status == 202
    assert [event["is_signed"] for event in await stored(server)] == [True, True]


async def test_bad_signatures_lock_out_their_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "FORGED_PER_MINUTE", 3)
    _, token = await opened(server, signature={"preset": "sentry", "secrets": ["a key"]})
    answers = [await post(server, token, b"{}", {"Sentry-Hook-Signature": "00"}) for _ in range(8)]
    assert [answer.status for answer in answers[:3]] == [401] * 3
    assert 429 in {answer.status for answer in answers}
    assert "Retry-After" in next(answer for answer in answers if answer.status == 429).headers
    _, other = await opened(server)
    assert (await post(server, other)).status == 202


async def test_what_nobody_can_verify_is_not_taken_and_not_called_forged(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    _, token = await opened(server, signature={"preset": "sentry", "secrets": ["${env:NOT_SET}"]})
    answer = await post(server, token)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
    assert "takes nothing: ${env:NOT_SET} is not set" in caplog.text


@pytest.mark.parametrize(
    "signature",
    [
        {"preset": "standard-webhooks", "secrets": ["a2V5"]},
        {"preset": "slack", "secrets": ["key"]},
        {"header": "X-S", "signed": "{id}{body}", "id_header": "X-Id", "secrets": ["key"]},
    ],
    ids=["standard-webhooks", "slack", "spelt out"],
)
async def test_a_signed_delivery_that_somebody_sends_again_is_a_repeat(
    server: Server, signature: dict[str, Any]
) -> None:
    _, token = await opened(server, signature=signature, delivery_id=["x-other"])
    now = int(server.services.clock.epoch_s())
    standard = base64.b64encode(hmac.digest(b"key", f"m1.{now}.{{}}".encode(), "sha256")).decode()
    signed = {
        "webhook-id": "m1",
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{standard}",
        "x-slack-request-timestamp": str(now),
        "x-slack-signature": "v0=" + hmac.digest(b"key", f"v0:{now}:{{}}".encode(), "sha256").hex(),
        "x-id": "i1",
        "x-s": hmac.digest(b"key", b"i1{}", "sha256").hex(),
    }
    if signature.get("preset") != "standard-webhooks":
        del signed["webhook-id"]
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    head = f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n{lines}"
    assert b"duplicate" not in (first := await raw(server, f"{head}\r\n{{}}".encode()))
    assert first.startswith(b"HTTP/1.1 202")
    again = "" if signature.get("preset") == "slack" else "X-Other: 2\r\nwebhook-id: m2\r\nX-Id: i2\r\n"
    assert b"duplicate" in await raw(server, f"{head}{again}\r\n{{}}".encode())
    assert len(await stored(server)) == 1


# ---- repeats


@pytest.mark.parametrize(
    "headers",
    [
        {"X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"},
        {"webhook-id": "msg_1"},
        {"Idempotency-Key": "k-1"},
        {"ce-id": "1", "ce-source": "/a"},
        {"X-Mine": "7"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_the_same_delivery_again_is_the_same_event(server: Server, headers: dict[str, str]) -> None:
    _, token = await opened(server, delivery_id=["x-MINE"])
    first = await post(server, token, b'{"try": 1}', headers)
    again = await post(server, token, b'{"try": 1}', headers)
    assert first.body == {"id": first.body["id"]}
    assert (again.status, again.body) == (202, {"id": first.body["id"], "duplicate": True})
    (event,) = await stored(server)
    assert event["body"] == b'{"try": 1}'
    assert event["delivery"] == next(iter(headers.values()))
    assert len(await arrived(server)) == 1
    assert "duplicate" not in (await post(server, token, b'{"try": 2}', headers)).body, (
        "other news is no repeat"
    )
    _, other = await opened(server, delivery_id=["x-MINE"])
    assert "duplicate" not in (await post(server, other, b"{}", headers)).body, (
        "another inbox, another delivery"
    )


async def test_what_may_be_the_same_for_different_events_names_no_delivery(server: Server) -> None:
    _, token = await opened(server)
    shared = {
        "X-Request-Id": "1",
        "traceparent": "1",
        "X-Webhook-Id": "hook",
        "ce-id": "1",
        "X-Gitlab-Event-UUID": "1",
    }
    assert len({event_id(await post(server, token, b"{}", shared)) for _ in range(3)}) == 3
    signed = [shared | {"X-PagerDuty-Signature": f"v1={n}"} for n in (1, 2, 2)]
    assert len({event_id(await post(server, token, b"{}", headers)) for headers in signed}) == 2


async def test_many_tries_at_the_same_time_are_one_event(server: Server) -> None:
    _, token = await opened(server)
    answers = await asyncio.gather(
        *(post(server, token, b"{}", {"webhook-id": f"m{n % 5}"}) for n in range(100))
    )
    assert len({event_id(answer) for answer in answers}) == 5
    assert sum("duplicate" in answer.body for answer in answers) == 95
    assert {event["id"] for event in await stored(server)} == {event_id(answer) for answer in answers}
    assert len(await arrived(server)) == 5


async def test_the_same_body_again_is_seen_but_no_event_where_the_inbox_wants_that(server: Server) -> None:
    _, token = await opened(server, same_body="1h")
    first = await post(server, token, b"down", {"webhook-id": "1"})
    again = await post(server, token, b"down", {"webhook-id": "2"})
    assert again.body == {"id": first.body["id"], "duplicate": True}
    assert (await post(server, token, b"down", {"webhook-id": "2"})).body == again.body, "a retry of it"
    assert "duplicate" not in (await post(server, token, b"up", {"webhook-id": "3"})).body
    assert "duplicate" not in (await post(server, (await opened(server))[1], b"down")).body
    assert len(await stored(server)) == 3
    assert [one["is_repeat"] for one in await arrived(server)] == [False, True, False, False]
    async with server.services.pool.acquire() as db:
        await db.execute("UPDATE deliveries SET until = now()")
        assert "duplicate" not in (await post(server, token, b"down", {"webhook-id": "4"})).body, "later"
        assert "duplicate" in (await post(server, token, b"down", {"webhook-id": "5"})).body
        await db.execute("UPDATE deliveries SET until = now() WHERE event_id = $1", event_id(first))
        before = await db.fetchval("SELECT count(*) FROM deliveries")
        await inboxes.sweep(db)
        assert await db.fetchval("SELECT count(*) FROM deliveries") < before


# ---- tokens


async def test_two_tokens_are_valid_while_one_is_rotated_and_never_three(server: Server) -> None:
    inbox, first = await opened(server)
    second = await issued(server, inbox, 3600)
    assert second.old_until is not None
    assert [(await post(server, token)).status for token in (first, second.text)] == [202, 202]
    third = await issued(server, inbox, 3600)
    async with server.services.pool.acquire() as db:
        rows = await inboxes.tokens(db, [inbox.id])
        audit = await db.fetch("SELECT * FROM audit WHERE object = $1", inbox.slug)
    assert [(row["hint"], row["expires_at"] is None) for row in rows] == [
        (third.text[-4:], True),
        (second.text[-4:], False),
    ]
    assert [row["verb"] for row in audit].count("inbox.issue_token") == 3
    assert not any(token in str([dict(row) for row in audit]) for token in (first, second.text, third.text))
    await asyncio.sleep(1.1)  # what is remembered for a second
    assert [(await post(server, token)).status for token in (first, second.text, third.text)] == [
        401,
        202,
        202,
    ]


async def test_a_revoked_token_opens_nothing_within_a_second(server: Server) -> None:
    inbox, token = await opened(server)
    assert (await post(server, token)).status == 202
    async with transaction(server.services.pool) as db:
        (row,) = await inboxes.tokens(db, [inbox.id])
        assert await inboxes.revoke_token(db, INSTALLER, inbox, row["id"])
        assert not await inboxes.revoke_token(db, INSTALLER, inbox, row["id"])
    await asyncio.sleep(1.1)
    assert (await post(server, token)).status == 401


async def test_what_an_inbox_says_now_holds_within_a_second(server: Server) -> None:
    inbox, token = await opened(server)
    assert (await post(server, token)).status == 202
    async with transaction(server.services.pool) as db:
        await objects.replace(db, INSTALLER, inbox, inbox.spec | {"enabled": False})
    await asyncio.sleep(1.1)
    assert (await post(server, token)).status == 403


async def test_no_token_is_in_any_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, token = await opened(server, rate_limit=2)
    for _ in range(4):
        await post(server, token)
    await post(server, token[:-1] + "!")
    await server.call("GET", f"{PATH}/{token}", who=None)
    await raw(server, f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n".encode())
    # This server has uvicorn's access log; `upbeat serve` has none, which tests/e2e looks at.
    said = [one for one in caplog.records if one.name not in ("uvicorn.access", "asyncio")]
    assert not [one for one in said if token[4:-6] in one.getMessage()]


# ---- what breaks


async def test_who_hangs_up_in_the_middle_leaves_nothing(server: Server) -> None:
    _, token = await opened(server)
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as gone:
        gone.sendall(f"POST {PATH}/{token} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf".encode())
    assert (await post(server, token)).status == 202
    assert len(await stored(server)) == 1
