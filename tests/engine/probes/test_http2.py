"""HTTP/2 against a server made of h2 that behaves, and raw frames that do not."""

import asyncio
import ssl
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from hpack import Encoder

from engine.probes.run import RunOutcome
from evaluators.model import Verdict

Play = Callable[..., RunOutcome]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
URL = "https://127.0.0.1:{port}/p?q"
MIB = 1_048_576


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def serving(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "127.0.0.2").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class Server2:
    """Answers every request alike, and keeps what was sent."""

    def __init__(
        self, body: bytes = b"hi", headers: tuple[tuple[str, str], ...] = ((":status", "200"),)
    ) -> None:
        self.body, self.headers = body, headers
        self.asked: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: Any = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        received = bytearray()
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.asked.append({str(name): str(value) for name, value in event.headers})
                elif isinstance(event, DataReceived):
                    received += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    self.bodies.append(bytes(received))
                    connection.send_headers(1, self.headers)
                    for begin in range(0, len(self.body), 16_384):
                        connection.send_data(1, self.body[begin : begin + 16_384])
                    connection.end_stream(1)
            writer.write(connection.data_to_send())


def test_a_request_is_made_over_http_2(play: Play, authority: trustme.CA) -> None:
    server = Server2()
    outcome = play(
        server,
        tls=serving(authority, "h2"),
        url=URL,
        http=2,
        headers={"X-A": "b", "Connection-Note": "n"},
        auth={"bearer": "tokentoken"},
        assertions=[{"of": "body", "eq": "hi"}, {"of": "protocol", "eq": "h2"}],
    )
    assert outcome.verdict is Verdict.OK, outcome
    sent = server.asked[0]
    assert (sent[":method"], sent[":path"], sent["x-a"]) == ("GET", "/p?q", "b")
    assert sent["authorization"] == "Bearer tokentoken"
    assert sent["user-agent"].startswith("Upbeat/")
    times = outcome.timings
    assert all(getattr(times, phase) > 0 for phase in ("dns", "connect", "tls", "ttfb", "transfer"))


def test_large_bodies_go_both_ways(play: Play, authority: trustme.CA) -> None:
    server = Server2(b"x" * MIB)
    ends = [{"of": "size", "eq": MIB}, {"of": "body", "ends": "xxx"}]
    tls = serving(authority, "h2")
    assert (
        play(server, tls=tls, url=URL, http=2, method="POST", body="y" * 200_000, assertions=ends).verdict
        == "ok"
    )
    assert server.bodies == [b"y" * 200_000]


def test_a_server_may_open_its_windows_in_small_steps(play: Play, authority: trustme.CA) -> None:
    async def stepping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: Any = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, DataReceived):
                    for _ in range(event.flow_controlled_length // 2048):
                        connection.increment_flow_control_window(2048)
                        connection.increment_flow_control_window(2048, 1)
                elif isinstance(event, StreamEnded):
                    connection.send_headers(1, [(":status", "200")], end_stream=True)
            writer.write(connection.data_to_send())

    tls = serving(authority, "h2")
    outcome = play(stepping, tls=tls, url=URL, http=2, method="POST", body="y" * 260_000)
    assert outcome.verdict is Verdict.OK, outcome.failure


def test_redirects_and_cookies_work_over_http_2(play: Play, authority: trustme.CA) -> None:
    server = Server2(headers=((":status", "302"), ("location", "/again"), ("set-cookie", "s=1; Secure")))
    outcome = play(server, tls=serving(authority, "h2"), url=URL, http=2, redirects=1)
    assert kind(outcome) == "redirect.limit"
    assert (server.asked[1][":path"], server.asked[1]["cookie"]) == ("/again", "s=1")


def test_who_gives_out_tokens_need_not_speak_http_2(play: Play, authority: trustme.CA) -> None:
    async def tokens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{"access_token": "tokentoken"}')

    one = {"token_url": "http://127.0.0.1:{other}/", "client_id": "me", "client_secret": "s3cr3t&more"}
    server = Server2()
    outcome = play(server, also=tokens, tls=serving(authority, "h2"), url=URL, http=2, auth={"oauth2": one})
    assert outcome.verdict is Verdict.OK, outcome
    assert server.asked[0]["authorization"] == "Bearer tokentoken"


@pytest.mark.parametrize(
    ("offered", "http", "spoken"),
    [
        ("h2", "auto", "h2"),
        ("http/1.1", "auto", "HTTP/1.1"),
        ("http/1.1", 1.1, "HTTP/1.1"),
        ("", "auto", "HTTP/1.1"),
    ],
)
def test_auto_takes_what_the_server_offers(
    play: Play, authority: trustme.CA, offered: str, http: Any, spoken: str
) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    server: Serve = Server2() if spoken == "h2" else one
    tls = serving(authority, *([offered] if offered else []))
    assert (
        play(server, tls=tls, url=URL, http=http, assertions=[{"of": "protocol", "eq": spoken}]).verdict
        == "ok"
    )


@pytest.mark.parametrize("offered", [("http/1.1",), ()])
def test_http_2_that_is_not_offered_is_told(
    play: Play, authority: trustme.CA, offered: tuple[str, ...]
) -> None:
    assert kind(play(Server2(), tls=serving(authority, *offered), url=URL, http=2)) == "http.version"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
BEGUN = frame(SETTINGS)


def head(*headers: tuple[str, str], flags: int = 4) -> bytes:
    block: bytes = Encoder().encode([(":status", "200"), *headers])
    return frame(HEADERS, flags, 1, block)


def bomb() -> bytes:
    """A table entry of 4,000 bytes, referred to 4,000 times."""
    encoder = Encoder()
    first: bytes = encoder.encode([(":status", "200"), ("x-bomb", "y" * 4000)])
    return frame(HEADERS, 4, 1, first + b"\xbe" * 4000)


def sending(begin: bytes, again: bytes = b"") -> Serve:
    """Raw bytes, and others for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(begin)
        while again:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    return serve


MANY_HEADERS = tuple((f"h{n}", "v") for n in range(1000))


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(sending(b"HTTP/1.1 400 Bad\r\n\r\n"), "http.protocol", id="HTTP/1.1 after all"),
        pytest.param(sending(BEGUN, frame(SETTINGS) * 100), "http.flood", id="a flood of SETTINGS"),
        pytest.param(
            sending(BEGUN, frame(PING, payload=b"12345678") * 100), "http.flood", id="a flood of PING"
        ),
        pytest.param(
            sending(BEGUN + frame(RST, 0, 1, b"\0\0\0\x02")), "http.reset", id="a reset of our stream"
        ),
        pytest.param(
            sending(BEGUN, frame(RST, 0, 3, b"\0\0\0\x02") * 100), "http.flood", id="resets of no stream"
        ),
        pytest.param(
            sending(BEGUN + head(flags=0), frame(CONTINUATION, 0, 1, b"") * 100),
            "http.headers|http.flood|http.protocol",
            id="a flood of empty CONTINUATION",
        ),
        pytest.param(
            sending(BEGUN + head(flags=0), frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 3000)),
            "http.headers",
            id="headers without end",
        ),
        pytest.param(sending(BEGUN + bomb()), "http.headers", id="an HPACK bomb"),
        pytest.param(sending(BEGUN + head(*MANY_HEADERS)), "http.headers", id="1,000 headers"),
        pytest.param(
            sending(BEGUN + head(), frame(DATA, 0, 1) * 500), "http.flood", id="empty DATA without end"
        ),
        pytest.param(
            sending(BEGUN + head(), frame(DATA, 8, 1, b"\xff" + bytes(255)) * 50),
            "http.flood|http.protocol",
            id="nothing but padding",
        ),
        pytest.param(
            sending(BEGUN + head(), frame(DATA, 0, 1, bytes(16_384))), "body.too_large", id="data without end"
        ),
        pytest.param(sending(BEGUN + frame(99, 0, 0, b"") * 300), "http.flood", id="frames of no known kind"),
        pytest.param(sending(b"\xff" * 100), "http.protocol", id="a frame of 16 MiB"),
        pytest.param(sending(BEGUN + frame(5, 4, 1, b"\0\0\0\x02\x88")), "http.protocol", id="a push"),
        pytest.param(
            sending(BEGUN + frame(GOAWAY, payload=bytes(8))), "http.reset", id="goes away before us"
        ),
        pytest.param(
            sending(BEGUN + frame(HEADERS, 4, 1, Encoder().encode([(":status", "000")]))),
            "http.protocol",
            id="status 000",
        ),
        pytest.param(
            sending(BEGUN + frame(HEADERS, 4, 1, Encoder().encode([("a", "b")]))),
            "http.protocol",
            id="no status",
        ),
        pytest.param(
            sending(BEGUN, frame(HEADERS, 4, 1, Encoder().encode([(":status", "103")]))),
            "http.flood",
            id="a flood of 103",
        ),
        pytest.param(sending(BEGUN), "http.timeout", id="never answers"),
    ],
)
def test_every_attack_ends_soon_and_has_its_error_type(
    play: Play, authority: trustme.CA, serve: Serve, expected: str
) -> None:
    timeout_s = 0.4 if "timeout" in expected else 10.0
    reads = [{"of": "body", "contains": "x"}]
    began_s, cpu_s = time.monotonic(), time.process_time()
    tracemalloc.start()
    outcome = play(
        serve, tls=serving(authority, "h2"), url=URL, http=2, timeout_s=timeout_s, assertions=reads
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kind(outcome) in expected.split("|"), outcome.failure
    assert time.monotonic() - began_s < timeout_s + 5.0
    assert time.process_time() - cpu_s < 5.0  # the server's own and tracemalloc's share included
    assert peak < 16 * MIB


def test_a_polite_goaway_does_not_end_the_answer(play: Play, authority: trustme.CA) -> None:
    polite = frame(GOAWAY, payload=(1).to_bytes(4) + bytes(4))
    serve = sending(BEGUN + polite + head() + frame(DATA, 1, 1, b"hi"))
    assert (
        play(
            serve, tls=serving(authority, "h2"), url=URL, http=2, assertions=[{"of": "body", "eq": "hi"}]
        ).verdict
        == "ok"
    )


def test_the_end_before_the_end_is_told(play: Play, authority: trustme.CA) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(BEGUN + head() + frame(DATA, 0, 1, b"hi"))

    assert kind(play(serve, tls=serving(authority, "h2"), url=URL, http=2)) == "http.closed"
