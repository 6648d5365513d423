"""The HTTP server's own doings: a client that never finishes its request is hung up on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.rig.process import until
from upbeat.web import MOST_HEAD_BYTES, MOST_HEADERS, bind, serve_http

REQUEST_S = 0.4
MOST = 40


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await asyncio.sleep(2 * REQUEST_S if scope["path"] == "/slow-answer" else 0)
    await PlainTextResponse(body)(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(
        serve_http(echo, listener, end_streams=lambda: None, request_s=REQUEST_S, most=MOST)
    )
    yield listener.getsockname()[1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


WHOLE = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nhost:", id="half a head"),
        pytest.param(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf", id="half a body"),
    ],
)
async def test_who_does_not_finish_a_request_is_hung_up_on(port: int, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await hung_up(reader)
    writer.close()


async def test_a_second_request_is_waited_for_no_longer_than_the_first(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(WHOLE)
    await reader.readuntil(b"hi")
    writer.write(b"GET / HT")
    await hung_up(reader)
    writer.close()


async def hung_up(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(10 * REQUEST_S):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(100_000)


async def test_who_asks_again_and_again_or_waits_for_an_answer_is_not(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(8):
        writer.write(WHOLE if number % 4 else WHOLE.replace(b"/ ", b"/slow-answer ", 1))
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(REQUEST_S / 3)
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /" + b"x" * 10 * MOST_HEAD_BYTES + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(
            b"GET / HTTP/1.1\r\nx: " + b"x" * 10 * MOST_HEAD_BYTES + b"\r\n\r\n", id="a long header"
        ),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MOST_HEADERS + 1) + b"\r\n", id="many headers"),
    ],
)
async def test_a_head_of_more_than_there_may_be_is_refused(port: int, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for start in range(0, len(head), 20_000):  # as it comes over a wire
        writer.write(head[start : start + 20_000])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):  # closed while the rest of it was still coming
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await whole(port)).startswith(b"HTTP/1.1 200")


async def test_a_head_in_pieces_may_come_with_much_of_the_body(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nho")
    await asyncio.sleep(REQUEST_S / 8)
    body = b"x" * 3 * MOST_HEAD_BYTES
    writer.write(b"st: h\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(20):
        assert (await reader.readuntil(body)).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("is_in_one", [True, False], ids=["in one piece", "the body later"])
async def test_an_offer_of_another_protocol_is_declined_and_its_body_is_read(
    port: int, is_in_one: bool
) -> None:
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAA"
    head, body = WHOLE.replace(b"host: h", b"host: h\r\n" + offer)[:-2], b"hi"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(head + body if is_in_one else head)
        if not is_in_one:
            await asyncio.sleep(REQUEST_S / 8)
            writer.write(body)
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_clients_that_send_nothing_are_in_nobodys_way(port: int) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3 * MOST)]
    for _, writer in slow:
        with contextlib.suppress(ConnectionError):
            writer.write(WHOLE[:-1])

    async def served() -> bool:
        return (await whole(port)).startswith(b"HTTP/1.1 200")

    await until(served, "somebody else is served")
    for reader, writer in slow:
        await hung_up(reader)
        writer.close()


async def whole(port: int) -> bytes:
    """What a client that dawdles with nothing is answered; nothing where it is hung up on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        return await reader.read()
    finally:
        writer.close()
