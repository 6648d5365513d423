"""The HTTP server's own doings: a client that never finishes its request is hung up on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from upbeat.web import bind, serve_http

REQUEST_S = 0.4


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await asyncio.sleep(2 * REQUEST_S if scope["path"] == "/slow-answer" else 0)
    await PlainTextResponse(body)(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = bind("127.0.0.1", 0)
    task = asyncio.create_task(serve_http(echo, listener, end_streams=lambda: None, request_s=REQUEST_S))
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
