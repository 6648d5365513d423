"""The demo's shop: HTTP, TCP and DNS servers on loopback that are well, slow or down as they are told. No story here."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import dns.flags
import dns.message
import dns.rrset
from aiohttp import web

from upbeat.demo.pages import MUTE, ORDER, PAGE, PAYING, SHOWN, STYLE

HOST: Final = "127.0.0.1"
SLOW_S: Final = 0.6
SHOP_ADDRESS: Final = "192.0.2.10"


class Targets:
    """The shop's servers. They `become` well, slow, down or mute; `on_notice` hears the JSON of what operators are told."""

    def __init__(self, on_notice: Callable[[dict[str, Any]], None]) -> None:
        self.is_slow = self.is_down = self.is_mute = False
        self.http_port = self.db_port = self.dns_port = 0
        self._on_notice = on_notice
        self._stack = contextlib.AsyncExitStack()
        self._database: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on ports the system chooses."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/checkout/health", self._checkout),
                web.get("/search", self._search),
                web.get("/checkout.js", self._script),
                web.get("/shop.css", self._style),
                web.post("/pay", self._pay),
                *(web.get(path, self._page) for path in SHOWN),
                web.post("/hook", self._hook),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        listener = socket.create_server((HOST, 0))
        self.http_port = listener.getsockname()[1]
        await web.SockSite(runner, listener).start()
        await self._open_database()
        self._stack.push_async_callback(self._close_database)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Dns, (HOST, 0))
        self.dns_port = transport.get_extra_info("sockname")[1]
        self._stack.callback(transport.close)

    async def stop(self) -> None:
        """Close everything."""
        await self._stack.aclose()

    async def become(self, *, slow: bool, down: bool, mute: bool = False) -> None:
        """Change how the shop is. A database that is down refuses connections; a mute shop has a button that does nothing."""
        self.is_slow, self.is_down, self.is_mute = slow, down, mute
        if down:
            await self._close_database()
        elif self._database is None:
            with contextlib.suppress(OSError):  # its port is taken for a moment: the next call tries again
                await self._open_database()

    async def _open_database(self) -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        self._database = await asyncio.start_server(hang_up, HOST, self.db_port)
        self.db_port = self._database.sockets[0].getsockname()[1]

    async def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def _checkout(self, _: web.Request) -> web.Response:
        if self.is_down:
            return web.json_response({"status": "error", "reason": "the database is away"}, status=503)
        return web.json_response({"status": "ok"})

    async def _search(self, _: web.Request) -> web.Response:
        if self.is_slow:
            await asyncio.sleep(SLOW_S)
        return web.json_response({"hits": 3})

    async def _page(self, request: web.Request) -> web.Response:
        title, body = SHOWN[request.path]
        return web.Response(text=PAGE.format(title=title, body=body), content_type="text/html")

    async def _style(self, _: web.Request) -> web.Response:
        return web.Response(text=STYLE, content_type="text/css")

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(text=MUTE if self.is_mute else PAYING, content_type="text/javascript")

    async def _pay(self, _: web.Request) -> web.Response:
        return web.json_response({"order": ORDER}, status=503 if self.is_down else 200)

    async def _hook(self, request: web.Request) -> web.Response:
        self._on_notice(await request.json())
        return web.Response(status=204)


class _Dns(asyncio.DatagramProtocol):
    """Answers every question for an address with the shop's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is no subclass of it

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            question = dns.message.from_wire(data)
        except Exception:  # whatever a stranger sends to a local port
            return
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        answer.answer = [dns.rrset.from_text(q.name, 60, "IN", "A", SHOP_ADDRESS) for q in question.question]
        self._transport.sendto(answer.to_wire(), addr)
