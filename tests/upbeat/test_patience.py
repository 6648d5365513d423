"""What an application answers while the database is silent."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from upbeat.patience import Patience


class App:
    """Begins to answer when told to, and ends when told to."""

    def __init__(self) -> None:
        self.may_begin, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.may_begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b"done"})


async def ask(app: Patience, path: str = "/api/v1/pages") -> list[Message]:
    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        said.append(message)

    await app({"type": "http", "path": path}, receive, send)
    return said


async def test_while_it_is_silent_a_request_is_refused_at_once() -> None:
    silent = asyncio.Event()
    silent.set()
    said = await ask(Patience(App(), silent))
    assert said[0]["status"] == 503
    assert (b"retry-after", b"2") in said[0]["headers"]


async def test_a_request_under_way_is_given_up_when_it_falls_silent() -> None:
    silent = asyncio.Event()
    asking = asyncio.create_task(ask(Patience(App(), silent)))
    await asyncio.sleep(0)
    silent.set()
    assert (await asking)[0]["status"] == 503


async def test_an_answer_that_has_begun_goes_on() -> None:
    silent, app = asyncio.Event(), App()
    app.may_begin.set()
    asking = asyncio.create_task(ask(Patience(app, silent)))
    while not asking.done() and not app.may_end.is_set():
        await asyncio.sleep(0)
        silent.set()
        app.may_end.set()
    said = await asking
    assert [message.get("status", 200) for message in said] == [200, 200]
    assert said[1]["body"] == b"done"


async def test_health_needs_no_database() -> None:
    silent, app = asyncio.Event(), App()
    silent.set()
    app.may_begin.set()
    app.may_end.set()
    assert (await ask(Patience(app, silent), "/healthz"))[0]["status"] == 200
