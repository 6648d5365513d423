"""Event streams and JSON-RPC: read as far as is needed, and an MCP server watched as the docs show it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.probes.eventstream import EventStream
from engine.probes.run import RunOutcome
from evaluators.model import Verdict

Play = Callable[..., RunOutcome]
URL = "http://127.0.0.1:{port}/"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
PAGE = Path(__file__).parents[3] / "docs/how-to/monitor-an-mcp-server.md"


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def streaming(*parts: bytes, ends: bool = False) -> Any:
    """A server that sends parts with pauses and then neither more nor an end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        if not ends:
            await asyncio.sleep(3600)

    return serve


def test_a_stream_is_read_up_to_its_first_event(play: Play) -> None:
    serve = streaming(
        STREAM, b": hello\n\nid: 7\nevent: tick\nda", b'ta: {"n":\r\ndata:  1}\r', b"\n\r\n", b"data: 2\n\n"
    )
    seen = [
        {"of": "json", "path": "$[0].json.n", "eq": 1},
        {"of": "json", "path": "$[0].event", "eq": "tick"},
        {"of": "json", "path": "$[0].id", "eq": "7"},
        {"of": "json", "path": "$[1]", "exists": False},
    ]
    assert play(serve, url=URL, assertions=seen).verdict is Verdict.OK


def test_as_many_events_are_read_as_are_asked_for(play: Play) -> None:
    serve = streaming(STREAM + b"data: a\n\ndata: b\n\n", b"data: c\n\n")
    seen = [
        {"of": "json", "path": "$[*].data", "in": ["a", "b", "c"]},
        {"of": "json", "path": "$[2]", "exists": True},
    ]
    assert play(serve, url=URL, events=3, assertions=seen).verdict is Verdict.OK


def test_events_that_come_with_the_last_wanted_one_are_left_out(play: Play) -> None:
    head = STREAM.replace(b"text/event-stream", b"Text/Event-Stream")[:-2]
    chunks = b"".join(b"9\r\ndata: %d\n\n\r\n" % number for number in range(3))
    seen = [{"of": "json", "path": "$[*].json", "count": 1}, {"of": "json", "path": "$[0].json", "eq": 0}]
    outcome = play(streaming(head + b"transfer-encoding: chunked\r\n\r\n" + chunks), url=URL, assertions=seen)
    assert outcome.verdict is Verdict.OK, outcome


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(streaming(STREAM), "body.timeout", id="says nothing"),
        pytest.param(streaming(STREAM + b"data: a\n\n", ends=True), "http.closed", id="ends too early"),
        pytest.param(
            streaming(STREAM + b"data: " + b"x" * 2_000_000), "body.too_large", id="one endless event"
        ),
        pytest.param(
            streaming(STREAM[:-2] + b"content-encoding: gzip\r\n\r\nxx"),
            "body.decode",
            id="with a content encoding",
        ),
    ],
)
def test_a_stream_that_is_no_good_is_a_failure(play: Play, serve: Any, expected: str) -> None:
    timeout_s = 0.4 if "timeout" in expected else 5.0
    seen = [{"of": "json", "path": "$", "exists": True}]
    assert kind(play(serve, url=URL, events=2, assertions=seen, timeout_s=timeout_s)) == expected


def test_events_cut_anywhere_are_the_same_events() -> None:
    text = b"data: a\r\ndata: b\rid: 1\r\n\n: c\n\nevent: x\ndata:y\n\n"
    for size in range(1, len(text)):
        stream = EventStream(2, None)
        fed = [stream.feed(text[begin : begin + size]) for begin in range(0, len(text), size)]
        assert fed[-1]
        assert stream.events == [
            {"event": "message", "id": "1", "data": "a\nb"},
            {"event": "x", "data": "y"},
        ]


class Mcp:
    """An MCP server over Streamable HTTP: sessions, answers as events or JSON, notifications accepted."""

    def __init__(self, *, in_events: bool = True, tools: tuple[str, ...] = ("search",)) -> None:
        self._in_events, self._tools = in_events, tools
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        call = json.loads(await reader.readexactly(int(length or 0)) or b"{}")
        method = call.get("method", head.split()[0])
        self.asked.append(method)
        has_session = "mcp-session-id: s-1" in head
        accepts = "accept: application/json, text/event-stream" in head
        if method == "delete":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" if has_session else b"HTTP/1.1 404 X\r\n\r\n")
        elif not accepts or (method != "initialize" and not has_session):
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        elif "id" not in call:
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        else:
            answer = json.dumps({"jsonrpc": "2.0", "id": call["id"], **self._answer(method)}).encode()
            session = b"mcp-session-id: s-1\r\n" if method == "initialize" else b""
            if not self._in_events:
                size = b"content-length: %d\r\n" % len(answer)
                writer.write(b"HTTP/1.1 200 OK\r\n" + session + size + b"\r\n" + answer)
                return
            note = b'data: {"jsonrpc": "2.0", "method": "notifications/progress"}\n\n'
            writer.write(
                STREAM[:-2] + session + b"\r\n" + note + b"event: message\ndata: " + answer + b"\n\n"
            )
            await asyncio.sleep(3600)  # a server may keep the stream open

    def _answer(self, method: str) -> dict[str, Any]:
        if method == "initialize":
            return {"result": {"protocolVersion": "2025-06-18", "serverInfo": {"name": "test"}}}
        if method == "tools/list":
            return {"result": {"tools": [{"name": name} for name in self._tools]}}
        return {"error": {"code": -32601, "message": "no such method"}}


def example() -> dict[str, Any]:
    """The beat of the page, aimed at the server of the test."""
    text = PAGE.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    (beat,) = yaml.safe_load(text)["beats"]
    written = json.dumps({"steps": beat["steps"]})
    steps: dict[str, Any] = json.loads(written.replace("https://mcp.example.com", "http://127.0.0.1:{port}"))
    return steps


@pytest.mark.parametrize("in_events", [True, False])
def test_an_mcp_server_is_watched_as_the_page_shows(play: Play, in_events: bool) -> None:
    server = Mcp(in_events=in_events)
    assert play(server, **example()).verdict is Verdict.OK
    assert server.asked == ["initialize", "notifications/initialized", "tools/list", "delete"]


def test_an_mcp_server_without_its_tool_is_bad_and_its_session_is_still_ended(play: Play) -> None:
    server = Mcp(tools=())
    outcome = play(server, **example())
    assert kind(outcome) == "assertion.json"
    assert server.asked[-1] == "delete"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}', "jsonrpc.error"),
        (b'{"jsonrpc":"2.0","id":2,"result":{}}', "jsonrpc.invalid"),
        (b'{"jsonrpc":"2.0","id":1}', "jsonrpc.invalid"),
        (b"hello", "jsonrpc.invalid"),
        (b'{"jsonrpc":"2.0","id":1,"result":null}', None),
    ],
)
def test_a_call_needs_its_response(play: Play, answer: bytes, expected: str | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("POST")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + answer)

    assert kind(play(serve, url=URL, jsonrpc={"method": "ping", "params": [1]})) == expected
