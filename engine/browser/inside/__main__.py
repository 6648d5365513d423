"""The worker: `python -m engine.browser.inside JSON`. Orders on stdin, reports on stdout, until stdin ends.

JSON names the `chromium`, whether it `has_sandbox` of its own, `is_script`, and may name the `gate` and `is_headed`. What
anything else prints goes to stderr, so that nothing but messages is on the pipe.
"""

import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.async_api import ProxySettings, async_playwright
from pydantic import ValidationError

from engine.browser.inside.headers import Headers
from engine.browser.inside.journey import Walk, Worker
from engine.browser.inside.keeping import HIDER, HIDER_SCRIPT
from engine.browser.inside.relay import relay
from engine.browser.wire import Alive, Go, Order, Ready, Report, Said, WireError, asked, packed
from evaluators.model import Failure
from rules.secret import hide

# WebRTC and QUIC would go around the proxy.
_ARGUMENTS = (
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)


async def work(given: dict[str, Any], out: int) -> None:
    """Take orders until there are no more, or the browser is not to be used again."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    def say(message: Said) -> None:
        left = memoryview(packed(message))
        while left:
            left = left[os.write(out, left) :]

    async def live() -> None:
        while True:
            await asyncio.sleep(1.0)
            say(Alive())

    async def go() -> Go:
        if not isinstance(message := await asked(reader), Go):
            raise WireError("an order came amidst another")
        return message

    proxy = None
    if given.get("gate"):
        port = (await relay(given["gate"])).sockets[0].getsockname()[1]
        proxy = ProxySettings(server=f"http://127.0.0.1:{port}")
    async with async_playwright() as playwright:
        await playwright.selectors.register(HIDER, HIDER_SCRIPT, content_script=True)
        browser = await playwright.chromium.launch(
            executable_path=given["chromium"],
            headless=not given.get("is_headed"),
            chromium_sandbox=given["has_sandbox"],
            proxy=proxy,
            args=_ARGUMENTS,
        )
        say(Ready(f"Chromium {browser.version}"))
        worker, report = Worker(browser, playwright, Headers(browser), say, go), Report()
        with suppress(WireError):  # no more orders
            while not report.is_spent:
                if isinstance(order := await asked(reader), Order):
                    living = asyncio.create_task(live())
                    report = await _do(worker, order)
                    living.cancel()
                    say(report)
        await browser.close()


async def _do(worker: Worker, order: Order) -> Report:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            walk = Walk(worker, order, Path(folder))
        except ValidationError as wrong:
            first = wrong.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            said = f"the journey cannot be done as it is: {where}: {first['msg']}"
            return Report(failure=Failure("probe.config", hide(said, order.secrets)))
        return await walk.walk()


if __name__ == "__main__":
    stdout = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(work(json.loads(sys.argv[1]), stdout))
