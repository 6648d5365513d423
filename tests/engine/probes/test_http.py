"""The http probe against servers that behave and servers that do not."""

import asyncio
import gzip
import json
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import brotli
import pytest
from backports import zstd

from engine.probes.run import RunOutcome
from evaluators.model import Verdict

Play = Callable[..., RunOutcome]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
URL = "http://127.0.0.1:{port}/"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
MIB = 1_048_576
BODY_HAS_X = {"of": "body", "contains": "x"}
HELLO = {"of": "body", "eq": "hello"}


def answering(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    return serve


def plain(body: bytes, headers: bytes = b"") -> Serve:
    return answering(OK + headers + b"content-length: %d\r\n\r\n" % len(body) + body)


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def speaking_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n")
    await asyncio.sleep(3600)


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(silent, "http.timeout", id="never answers"),
        pytest.param(answering(b""), "http.closed", id="hangs up without an answer"),
        pytest.param(resetting, "http.reset", id="resets"),
        pytest.param(speaking_first, "http.protocol", id="speaks another protocol first and waits"),
        pytest.param(answering(os.urandom(500)), "http.protocol", id="garbage"),
        pytest.param(answering(b"<html>hello</html>"), "http.protocol", id="HTTP/0.9"),
        pytest.param(answering(b"HTTP/1.1 abc OK\r\n\r\n"), "http.protocol", id="a status that is no number"),
        pytest.param(answering(b"HTTP/1.1 000 X\r\n\r\n"), "http.protocol", id="status 000"),
        pytest.param(answering(b"HTTP/1.1 099 X\r\n\r\n"), "http.protocol", id="status 099"),
        pytest.param(
            answering(b"HTTP/2.0 200 OK\r\n\r\n"), "http.protocol", id="a version that is not spoken so"
        ),
        pytest.param(answering(b"HTTP/1.1 200 OK\nx: y\n\nhi"), "http.protocol", id="bare line feeds"),
        pytest.param(
            answering(OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            "http.protocol",
            id="two ways of saying where it ends",
        ),
        pytest.param(
            answering(OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            "http.protocol",
            id="a transfer encoding that was not asked for",
        ),
        pytest.param(answering(OK + b"a: b\rc: d\r\n\r\n"), "http.protocol", id="a bare carriage return"),
        pytest.param(answering(OK + b"a: b\r\n c\r\n\r\n"), "http.protocol", id="a folded header"),
        pytest.param(answering(OK + b"a: b\x00c\r\n\r\n"), "http.protocol", id="a NUL in a header"),
        pytest.param(answering(OK + b"no colon\r\n\r\n"), "http.protocol", id="a header without a colon"),
        pytest.param(answering(OK + b"a: b\r\n"), "http.closed", id="hangs up within the headers"),
        pytest.param(
            answering(OK + b"content-length: 9\r\n\r\nabc"), "http.closed", id="a Content-Length that lies"
        ),
        pytest.param(
            answering(OK + b"content-length: 3\r\ncontent-length: 5\r\n\r\nabc"),
            "http.protocol",
            id="two Content-Lengths",
        ),
        pytest.param(answering(CHUNKED + b"zz\r\n"), "http.protocol", id="a chunk size that is no number"),
        pytest.param(answering(CHUNKED + b"3\r\nabc\r\n"), "http.closed", id="chunks without an end"),
        pytest.param(answering(OK + b"x: " + b"y" * MIB), "http.headers", id="a header of 1 MiB"),
        pytest.param(
            answering(OK + b"".join(b"h%d: 1\r\n" % n for n in range(10_000))),
            "http.headers",
            id="10,000 headers",
        ),
        pytest.param(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "http.flood", id="a flood of 100"),
        pytest.param(
            endless(CHUNKED, b"1;" + b"x" * 9000 + b"\r\na\r\n"), "http.flood", id="chunk extensions"
        ),
        pytest.param(endless(b"", b"H", 0.05), "http.protocol", id="a byte at a time that is no HTTP"),
        pytest.param(endless(OK, b"x", 0.02), "body.timeout", id="headers at a byte a time"),
        pytest.param(endless(CHUNKED, b"1\r\na\r\n", 0.02), "body.timeout", id="never-ending slow chunks"),
        pytest.param(
            endless(OK + b"content-length: 100000\r\n\r\n", b"x", 0.02),
            "body.timeout",
            id="body at a byte a time",
        ),
    ],
)
def test_every_broken_answer_has_its_error_type(play: Play, serve: Serve, expected: str) -> None:
    timeout_s = 0.25 if "timeout" in expected else 3.0
    began_s = time.monotonic()
    outcome = play(serve, url=URL, timeout_s=timeout_s)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)
    assert time.monotonic() - began_s < timeout_s + 1.0


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"content-length: 2\r\n\r\nhi", id="Content-Length"),
        pytest.param(CHUNKED + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", id="chunked"),
        pytest.param(OK + b"\r\nhi", id="until the end"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nhi", id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
            + OK
            + b"content-length: 2\r\n\r\nhi",
            id="after interim answers",
        ),
        pytest.param(OK + b"content-length: 2\r\n\r\nhigarbage", id="with garbage after it"),
        pytest.param(OK + b"content-length: 2\r\n\r\nhiHello", id="with what begins like an answer after it"),
        pytest.param(
            OK + b"content-length: 2\r\n\r\nhi" + b"HTTP/1.1 503 No\r\ncontent-length: 1\r\n\r\nx",
            id="with another answer after it",
        ),
    ],
)
def test_a_whole_body_is_read(play: Play, answer: bytes) -> None:
    seen = [{"of": "body", "eq": "hi"}, {"of": "status", "eq": 200}]
    outcome = play(answering(answer), url=URL, assertions=seen)
    assert outcome.verdict is Verdict.OK, outcome


def test_what_follows_an_answer_takes_back_none_of_its_headers(play: Play) -> None:
    answer = OK + b"x-a: b\r\ncontent-length: 0\r\n\r\nHello"
    outcome = play(answering(answer), url=URL, assertions=[{"of": "header", "name": "x-a", "eq": "b"}])
    assert outcome.verdict is Verdict.OK, outcome


def test_an_answer_without_a_body_may_name_an_encoding(play: Play) -> None:
    answer = b"HTTP/1.1 204 No Content\r\ncontent-encoding: gzip\r\n\r\n"
    outcome = play(answering(answer), url=URL, assertions=[{"of": "body", "empty": True}])
    assert outcome.verdict is Verdict.OK, outcome


def test_an_answer_that_comes_in_single_bytes_is_read(play: Play) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in OK + b"a: b\r\ncontent-length: 2\r\n\r\nhi":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)

    seen = [{"of": "body", "eq": "hi"}, {"of": "header", "name": "A", "eq": "b"}]
    assert play(serve, url=URL, assertions=seen).verdict is Verdict.OK


def test_head_has_no_body(play: Play) -> None:
    outcome = play(answering(OK + b"content-length: 99\r\n\r\n"), url=URL, method="HEAD")
    assert outcome.verdict is Verdict.OK


@pytest.mark.parametrize("status", [b"204 No Content", b"200 "])
def test_a_good_status_is_ok(play: Play, status: bytes) -> None:
    assert play(answering(b"HTTP/1.1 " + status + b"\r\n\r\n"), url=URL).verdict is Verdict.OK


@pytest.mark.parametrize("status", [b"199", b"300", b"404", b"500", b"999"])
def test_a_status_outside_of_2xx_is_critical(play: Play, status: bytes) -> None:
    outcome = play(answering(b"HTTP/1.1 " + status + b" x\r\ncontent-length: 0\r\n\r\n"), url=URL)
    expected = "http.closed" if status == b"199" else "status"  # an interim answer and then nothing
    assert kind(outcome) == expected


def test_switching_protocols_is_an_answer_and_not_ok(play: Play) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    assert kind(play(answering(answer), url=URL)) == "status"


def test_bodies_of_10_gb_are_read_to_the_cap_within_8_mib(play: Play) -> None:
    head = OK + b"content-length: 10000000000\r\n\r\n"
    tracemalloc.start()
    outcome = play(endless(head, b"x" * 65536), url=URL, assertions=[{"of": "size", "ge": MIB}])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (outcome.verdict, outcome.outcomes[0].actual) == (Verdict.OK, MIB)
    assert peak < 8 * MIB


def test_a_body_that_an_assertion_reads_must_fit(play: Play) -> None:
    outcome = play(endless(CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n"), url=URL, assertions=[BODY_HAS_X])
    assert kind(outcome) == "body.too_large"


def test_a_body_of_exactly_the_cap_fits(play: Play) -> None:
    assert play(plain(b"x" * MIB), url=URL, assertions=[BODY_HAS_X]).verdict is Verdict.OK


def test_a_million_tiny_chunks_cost_less_than_8_mib(play: Play) -> None:
    chunks = CHUNKED + b"1\r\nx\r\n" * (MIB - 1) + b"0\r\n\r\n"
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    outcome = play(answering(chunks), url=URL, assertions=[BODY_HAS_X], timeout_s=60.0, deadline_s=60.0)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert outcome.verdict is Verdict.OK
    assert peak < 8 * MIB + len(chunks)  # the server's own copy is in here too


def test_gzip_is_undone_where_the_body_is_read(play: Play) -> None:
    outcome = play(plain(gzip.compress(b"hello"), b"content-encoding: gzip\r\n"), url=URL, assertions=[HELLO])
    assert outcome.verdict is Verdict.OK


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        pytest.param(gzip.compress(bytes(64 * MIB)), b"gzip", "body.too_large", id="a bomb"),
        pytest.param(gzip.compress(b"hello")[:-9], b"gzip", "body.decode", id="cut off"),
        pytest.param(b"hello", b"gzip", "body.decode", id="no gzip at all"),
        pytest.param(gzip.compress(gzip.compress(b"hello")), b"gzip, gzip", "body.decode", id="nested"),
        pytest.param(b"hello", b"br", "body.decode", id="an encoding we did not ask for"),
    ],
)
def test_bad_encodings_have_their_error_type(play: Play, body: bytes, encoding: bytes, expected: str) -> None:
    serve = plain(body, b"content-encoding: " + encoding + b"\r\n")
    assert kind(play(serve, url=URL, assertions=[HELLO])) == expected


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstd.compress)]
)
def test_every_encoding_is_undone_and_its_bomb_ends_at_once(
    play: Play, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    head = f"content-encoding: {encoding}\r\n".encode()
    assert play(plain(compress(b"hello"), head), url=URL, assertions=[HELLO]).verdict is Verdict.OK
    bomb = compress(bytes(8 * MIB))
    cpu_s = time.process_time()
    assert kind(play(plain(bomb, head), url=URL, assertions=[HELLO])) == "body.too_large"
    assert time.process_time() - cpu_s < 1.0
    assert kind(play(plain(bomb[:-5], head), url=URL, assertions=[HELLO])) in (
        "body.too_large",
        "body.decode",
    )
    assert kind(play(plain(compress(b"hello")[:-3], head), url=URL, assertions=[HELLO])) == "body.decode"


def test_a_zstd_window_is_no_larger_than_8_mib(play: Play) -> None:
    wide = zstd.compress(bytes(64 * MIB), options={zstd.CompressionParameter.window_log: 27})
    serve = plain(wide, b"content-encoding: zstd\r\n")
    assert kind(play(serve, url=URL, assertions=[HELLO])) == "body.decode"


def test_trailers_are_no_headers(play: Play) -> None:
    answer = CHUNKED + b"2\r\nhi\r\n0\r\nx-late: 1\r\nset-cookie: a=b\r\n\r\n"
    seen = [
        {"of": "header", "name": "x-late", "exists": False},
        {"of": "cookie", "name": "a", "exists": False},
    ]
    assert play(answering(answer), url=URL, assertions=seen).verdict is Verdict.OK


def test_a_bomb_costs_less_than_8_mib(play: Play) -> None:
    serve = plain(gzip.compress(bytes(64 * MIB)), b"content-encoding: gzip\r\n")
    tracemalloc.start()
    play(serve, url=URL, assertions=[HELLO])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


def test_500_slow_servers_at_once_cost_less_than_64_mib(play: Play) -> None:
    tracemalloc.start()
    outcome = play(silent, url=URL, timeout_s=4.0, copies=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kind(outcome) == "http.timeout"
    assert peak < 64 * MIB


class Recorder:
    """Answers from a table of paths and keeps the requests."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers, self.requests = answers, list[str]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        body = (await reader.readexactly(int(length))).decode() if length else ""
        self.requests.append(head + body)
        port = writer.get_extra_info("sockname")[1]
        answer = self.answers.get(head.split()[1], OK + b"content-length: 2\r\n\r\nhi")
        writer.write(answer.replace(b"{port}", str(port).encode()))


def to(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


def test_the_request_is_what_the_beat_says(play: Play) -> None:
    server = Recorder({})
    play(server, url=URL + "p?q=1", method="POST", headers={"X-A": "b", "Accept": "text/x"}, body="hello")
    lines = server.requests[0].split("\r\n")
    assert lines[0] == "post /p?q=1 http/1.1"
    assert lines[-1] == "hello"
    assert {"x-a: b", "accept: text/x", "content-length: 5", "connection: close"} <= set(lines)
    assert not {"accept: */*", "accept-encoding: gzip"} & set(lines)


def test_every_run_has_a_trace_of_its_own(play: Play) -> None:
    server = Recorder({})
    for _ in range(2):
        play(server, url=URL)
    traces = {line for request in server.requests for line in request.split("\r\n") if "traceparent" in line}
    assert len(traces) == 2
    assert all(len(trace) == len("traceparent: ") + 55 for trace in traces)


def test_gzip_is_asked_for_only_where_the_body_is_read(play: Play) -> None:
    server = Recorder({})
    play(server, url=URL, assertions=[{"of": "body", "eq": "hi"}])
    assert "accept-encoding: gzip" in server.requests[0]


@pytest.mark.parametrize(
    "location", ["/b", "b", "?b", "//127.0.0.1:{port}/b", "http://127.0.0.1:{port}/b#c", "/ü"]
)
def test_redirects_are_followed(play: Play, location: str) -> None:
    server = Recorder({"/": to(location)})
    assert play(server, url=URL).verdict is Verdict.OK
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param("/", "redirect.limit", id="a loop"),
        pytest.param("http://169.254.169.254/latest/meta-data/", "egress.refused", id="cloud metadata"),
        pytest.param("http://[::ffff:169.254.169.254]/", "egress.refused", id="metadata, mapped"),
        pytest.param("http://[64:ff9b::a9fe:a9fe]/", "egress.refused", id="metadata by NAT64"),
        pytest.param("http://2852039166/", "egress.refused", id="metadata in decimal"),
        pytest.param("http://0xa9.0376.169.254/", "egress.refused", id="metadata in hexadecimal and octal"),
        pytest.param("http://0.0.0.0:1/", "egress.refused", id="no unicast address"),
        pytest.param("file:///etc/passwd", "redirect.refused", id="a file"),
        pytest.param("ftp://127.0.0.1/", "redirect.refused", id="another scheme"),
        pytest.param("http://user:pass@127.0.0.1:{port}/", "redirect.refused", id="credentials in the URL"),
        pytest.param("http://127.0.0.1:99999/", "redirect.refused", id="a port that is none"),
        pytest.param("http://:80/", "redirect.refused", id="no host"),
        pytest.param("http://1.2.3.4.5/", "dns.malformed", id="a number that is no address"),
    ],
)
def test_bad_redirects_have_their_error_type(play: Play, location: str, expected: str) -> None:
    server = Recorder({"/": to(location)})
    assert kind(play(server, url=URL)) == expected
    assert len(server.requests) == (6 if expected == "redirect.limit" else 1)


def test_without_redirects_a_redirect_is_the_answer(play: Play) -> None:
    server = Recorder({"/": to("/b")})
    outcome = play(server, url=URL, redirects=0, assertions=[{"of": "status", "eq": 302}])
    assert (outcome.verdict, len(server.requests)) == (Verdict.OK, 1)


SECRETS = {"Authorization": "Bearer abcdefgh", "Cookie": "a=b", "X-Api-Key": "k", "X-Plain": "p"}


def test_secrets_follow_a_redirect_within_the_origin(play: Play) -> None:
    server = Recorder({"/": to("/b")})
    play(server, url=URL, headers=SECRETS)
    assert all(f"{name}: {value}".lower() in server.requests[1] for name, value in SECRETS.items())


def test_secrets_stay_behind_when_the_origin_changes(play: Play) -> None:
    server = Recorder({"/": to("http://127.0.0.2:{port}/b")})
    play(server, url=URL, headers={**SECRETS, "Host": "a.example"})
    sent = server.requests[1]
    assert [name for name in (*SECRETS, "a.example") if name.lower() in sent] == ["X-Plain"]


def test_secrets_do_not_come_back_with_the_origin(play: Play) -> None:
    server = Recorder({"/": to("http://127.0.0.2:{port}/b"), "/b": to("http://127.0.0.1:{port}/c")})
    play(server, url=URL, headers=SECRETS)
    assert "authorization" not in server.requests[2]


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "get", ""), (302, "get", ""), (303, "get", ""), (307, "post", "x"), (308, "post", "x")],
)
def test_only_307_and_308_keep_method_and_body(play: Play, status: int, method: str, body: str) -> None:
    server = Recorder({"/": to("/b", status)})
    play(server, url=URL, method="POST", body="x")
    assert (server.requests[1].split()[0], server.requests[1].partition("\r\n\r\n")[2]) == (method, body)


def test_an_early_answer_is_heard_though_the_request_was_not_taken(play: Play) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")

    outcome = play(serve, url=URL, method="POST", body="x" * 200_000)
    assert kind(outcome) in ("status", "http.reset")  # the kernel may throw the answer away with its reset


def test_an_answer_that_came_while_the_request_was_being_sent_is_heard(play: Play) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 2\r\n\r\nhi")
        await asyncio.sleep(0.05)
        while len(await reader.read(65536)):
            pass

    assert play(serve, url=URL, method="POST", body="x" * 260_000).verdict is Verdict.OK


def test_evidence_of_a_bad_run_is_small_and_without_secrets(play: Play) -> None:
    body = json.dumps({"echo": "Bearer abcdefgh", "fill": "x" * 5000}).encode()
    head = b"HTTP/1.1 500 Broken\r\nset-cookie: sid=1\r\nserver: s\r\ncontent-length: %d\r\n\r\n" % len(body)
    outcome = play(answering(head + body), url=URL, headers={"Authorization": "Bearer abcdefgh"})
    found = outcome.evidence or {}
    assert (found["status"], found["address"]) == (500, "127.0.0.1")
    assert [found["headers"][0], found["headers"][1]] == [["set-cookie", "[redacted]"], ["server", "s"]]
    assert "abcdefgh" not in found["body"]
    assert len(found["body"]) <= 2100


@pytest.mark.parametrize(
    "beat",
    [
        {"assertions": [{"of": "header", "name": "x-echo", "eq": "other"}]},
        {"assertions": [{"of": "header", "name": "x-echo", "exists": True}]},
        {"assertions": [{"of": "json", "path": "$.echo", "eq": 1}]},
        {"assertions": [{"of": "json", "path": "$", "eq": 1}]},
        {"assertions": [{"of": "body", "contains": "other"}]},
        {},
    ],
)
def test_what_a_reference_stands_for_is_nowhere_though_the_target_repeats_it(
    play: Play, beat: dict[str, Any]
) -> None:
    body = b'{"echo": "a canary7731 b"}'
    head = b"HTTP/1.1 500 canary7731\r\nx-echo: canary7731\r\ncanary7731: x\r\ncontent-length: %d\r\n\r\n"
    outcome = play(
        answering(head % len(body) + body),
        url=URL,
        headers={"X-Shop": "${env:T}"},
        environment={"T": "canary7731"},
        **beat,
    )
    assert "redacted" in repr(outcome)
    assert "canary" not in repr(outcome)


def test_a_redirect_that_repeats_a_secret_is_told_without_it(play: Play) -> None:
    server = Recorder({"/": to("/?t=canary7731", 302), "/?t=canary7731": to("/?t=canary7731", 302)})
    outcome = play(server, url=URL, redirects=1, body="${env:T}", environment={"T": "canary7731"})
    assert kind(outcome) == "redirect.limit"
    assert "canary" not in repr(outcome)


@pytest.mark.parametrize("shown", [6, 9, 11])
@pytest.mark.parametrize(
    ("head", "room"),
    [
        pytest.param("HTTP/1.1 500 {}\r\ncontent-length: 0\r\n\r\n", 80, id="reason"),
        pytest.param("HTTP/1.1 302 Found\r\nlocation: ftp://h/{}\r\n\r\n", 192, id="location"),
        pytest.param("HTTP/1.1 302 Found\r\nlocation: http://{}.example/\r\n\r\n", 100, id="host"),
        pytest.param("HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\n\r\nx", 80, id="encoding"),
        pytest.param("HTTP/1.1 200 OK\r\ntransfer-encoding: {}\r\n\r\nx", 80, id="coding"),
    ],
)
def test_no_beginning_of_a_secret_is_told_where_a_message_was_cut(
    play: Play, head: str, room: int, shown: int
) -> None:
    answer = head.format("x" * (room - shown) + "canary7731ab").encode()
    more = {"body": "${env:T}", "environment": {"T": "canary7731ab"}, "assertions": [BODY_HAS_X]}
    outcome = play(answering(answer), url=URL, **more)
    assert outcome.failure is not None
    assert "canary" not in outcome.failure.message


def test_a_header_with_a_reference_stays_behind_when_the_origin_changes(play: Play) -> None:
    server = Recorder({"/": to("http://127.0.0.2:{port}/b")})
    headers = {"X-Shop": "${env:T}", "X-Plain": "seen"}
    play(server, url=URL, headers=headers, environment={"T": "canary7731"})
    assert "canary7731" in server.requests[0]
    assert "x-plain: seen" in server.requests[1]
    assert "canary" not in server.requests[1]


def test_a_body_with_a_secret_is_not_carried_to_another_origin(play: Play) -> None:
    server = Recorder({"/": to("http://127.0.0.2:{port}/b", 307)})
    outcome = play(server, url=URL, method="POST", body="${env:T}", environment={"T": "canary7731"})
    assert (kind(outcome), len(server.requests)) == ("redirect.refused", 1)


def test_a_good_run_leaves_no_evidence(play: Play) -> None:
    assert play(plain(b""), url=URL).evidence is None


def test_phases_are_measured_and_do_not_overlap(play: Play) -> None:
    times = play(plain(b"hi"), url=URL).timings
    phases = [times.dns, times.connect, times.ttfb, times.transfer]
    assert times.tls is None
    assert 0 < sum(phase for phase in phases if phase is not None) <= (times.total or 0)


def test_where_there_is_no_epoll_the_loops_own_readers_do(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("select.epoll")
    server = Recorder({"/": OK + b"content-length: 300000\r\n\r\n" + b"x" * 300_000})
    outcome = play(server, url=URL, method="POST", body="x" * 200_000, assertions=[BODY_HAS_X])
    assert outcome.verdict is Verdict.OK
