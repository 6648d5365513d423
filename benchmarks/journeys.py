"""Journeys in a browser: what one costs beside plain Playwright, what HTTP runs feel of them, and how many there can be."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Final

import uvloop
from playwright.async_api import async_playwright

from benchmarks.bench import cpu_s, line, pss_mb
from engine.browser.find import find_chromium
from engine.browser.pool import Browsers
from engine.clock import SystemClock
from engine.probes.context import Context
from engine.probes.run import run
from engine.scheduler import Scheduler
from evaluators.model import Verdict
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import Check, compile_check
from tests.rig.installation import family

JOURNEYS: Final = 30
PER_S: Final = 500
SECONDS: Final = 30.0
EVERY_S: Final = 6.0
PAGE: Final = b"""<!doctype html><title>Shop</title><h1>Shop</h1><label>Name <input id=name></label>
<button onclick="document.querySelector('p').textContent='Thanks, '+document.querySelector('input').value">Buy</button><p></p>"""
STEPS: Final[list[dict[str, Any]]] = [
    {"goto": "/"},
    {"fill": {"label": "Name", "value": "Ada"}},
    {"click": {"role": "button", "name": "Buy"}},
    {"expect": {"of": "visible", "at": {"text": "Thanks, Ada"}}},
]


async def serve() -> None:
    """The shop, until stdin ends; says its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(PAGE)}\r\n\r\n"
                writer.write(head.encode() + PAGE)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def plain(url: str) -> None:
    """The same steps by Playwright alone, in a warm browser, each in a fresh context; says what one took."""
    chromium = find_chromium(os.environ)
    assert chromium is not None
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=str(chromium.path), args=arguments)

        async def journey() -> None:
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(url)
            await page.get_by_label("Name").fill("Ada")
            await page.get_by_role("button", name="Buy").click()
            await page.get_by_text("Thanks, Ada").wait_for()
            await context.close()

        await journey()
        began, used = time.perf_counter(), cpu_s(family(os.getpid()))
        for _ in range(JOURNEYS):
            await journey()
        took = time.perf_counter() - began, cpu_s(family(os.getpid())) - used, pss_mb(family(os.getpid()))
        print(json.dumps([took[0] / JOURNEYS, took[1] / JOURNEYS, took[2]]))
        await browser.close()


def check(url: str, kind: str = "browser", **more: Any) -> Check:
    spec = {"type": kind, "name": "Shop", "slug": "shop", "url": url} | more
    return compile_check(BEAT.validate_python(spec), {})


async def ok(beat: Check, context: Context, key: str = "") -> None:
    outcome = await run(beat, context, key=key)
    assert outcome.verdict is Verdict.OK, outcome.failure


def by_playwright(url: str) -> list[float]:
    """Seconds, CPU seconds and MB."""
    command = [sys.executable, "-m", "benchmarks.journeys", "plain", url]
    return [float(figure) for figure in json.loads(subprocess.check_output(command))]


async def cost(url: str, by_plain: list[float], shop: int) -> bool:
    def ours() -> set[int]:
        return {*family(os.getpid())} - {shop}

    beat, browsers = check(url, steps=STEPS), Browsers(os.environ, slots=1)
    context = Context(EgressPolicy(), browsers=browsers)
    await ok(beat, context)
    await browsers.close()  # how it is confined is known from now on
    browsers = context.browsers = Browsers(os.environ, slots=1)
    began, used = time.perf_counter(), cpu_s(ours())
    await ok(beat, context)
    cold_s, cold_cpu_s = time.perf_counter() - began, cpu_s(ours()) - used
    began, used = time.perf_counter(), cpu_s(ours())
    for _ in range(JOURNEYS):
        await ok(beat, context)
    took_s = (time.perf_counter() - began) / JOURNEYS
    figure = (cpu_s(ours()) - used) / JOURNEYS
    memory = pss_mb(ours() - {os.getpid()})  # as plain Playwright has no probe
    await browsers.close()
    context.close()
    is_met = figure <= 1.2 * by_plain[1]
    line(
        "journey cost", figure, unit="CPU s per journey, warm", baseline=by_plain[1],
        target="<= 1.2x plain Playwright", is_met=is_met, ran=f"{JOURNEYS} journeys of {len(STEPS)} steps",
        took_s=round(took_s, 3), plain_took_s=round(by_plain[0], 3), cold_s=round(cold_s, 2),
        cold_cpu_s=round(cold_cpu_s, 2), memory_mb=round(memory), plain_memory_mb=round(by_plain[2]),
    )  # fmt: skip
    return is_met


async def late(url: str, *, has_journeys: bool) -> tuple[float, int]:
    """The p99 lateness of HTTP runs in seconds, and how many journeys there were beside them."""
    browsers = Browsers(os.environ, slots=2)
    context, clock = Context(EgressPolicy(), browsers=browsers), SystemClock()
    beat, quick, done = check(url, steps=STEPS), check(url, "http"), 0
    await ok(beat, context)

    async def run_one(_: int, __: float) -> None:
        await run(quick, context)

    async def journeys() -> None:
        nonlocal done
        while has_journeys:
            await asyncio.gather(ok(beat, context), asyncio.sleep(EVERY_S))
            done += 1

    scheduler: Scheduler[int] = Scheduler(clock, run_one)
    scheduler.entries.put([(n, 1.0, n / PER_S) for n in range(PER_S)])
    tasks = [asyncio.create_task(scheduler.run()), asyncio.create_task(journeys())]
    await asyncio.sleep(SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await browsers.close()
    context.close()
    return scheduler.lateness.quantile_s(0.99), done


async def many(url: str) -> None:
    browsers, done = Browsers(os.environ, slots=2), 0
    context, beat = Context(EgressPolicy(), browsers=browsers), check(url, steps=STEPS)
    ends_s = time.monotonic() + SECONDS

    async def again(key: str) -> None:
        nonlocal done
        while time.monotonic() < ends_s:
            await ok(beat, context, key)
            done += 1

    await asyncio.gather(*map(again, "abc"))
    p99_s = browsers.lateness.quantile_s(0.99)
    await browsers.close()
    context.close()
    line(
        "journeys held", done / SECONDS * 60, unit="journeys per minute", baseline=None, target="none",
        is_met=True, ran=f"{SECONDS:g} s, 3 beats on 2 slots", higher_is_better=True, p99_wait_s=round(p99_s, 3),
    )  # fmt: skip


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.journeys", "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
    try:
        is_met = uvloop.run(cost(url, by_playwright(url), server.pid))
        alone_s, _ = uvloop.run(late(url, has_journeys=False))
        beside_s, journeys = uvloop.run(late(url, has_journeys=True))
        is_near = beside_s - alone_s <= 0.010
        line(
            "lateness beside journeys", beside_s * 1000, unit="ms, p99", baseline=alone_s * 1000,
            target="<= 10 ms more", is_met=is_near, ran=f"{PER_S} HTTP runs/s for {SECONDS:g} s", journeys=journeys,
        )  # fmt: skip
        uvloop.run(many(url))
    finally:
        server.communicate()
    sys.exit(not (is_met and is_near))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve())
    elif sys.argv[1:2] == ["plain"]:
        asyncio.run(plain(sys.argv[2]))
    else:
        main()
