"""Does a script: Playwright for Python that an operator wrote, in a sandbox where nothing else is ever done.

Nothing in here confines it. It may say of itself what it likes; what it cannot change is the sandbox, the gate and the time.
"""

import asyncio
import io
import linecache
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stdout
from typing import Any, Final

from playwright.async_api import BrowserContext, Page, expect
from playwright.async_api import TimeoutError as TooLate

from engine.browser.inside.words import first_line, of_net
from evaluators.model import Failure
from rules.journey import MOST_STEPS, Journey
from rules.secret import cut

_NAME: Final = "<script>"
_LINE_CHARS: Final = 1000
_STEP_CHARS: Final = 100

Done = Callable[[str, float, Failure | None], Awaitable[None]]
"""A step is over: its name, when it began by `time.monotonic`, and why it failed."""


async def play(
    journey: Journey,
    page: Page,
    context: BrowserContext,
    within_s: float,
    done: Done,
    told: Callable[[str], None],
) -> Failure | None:
    """Why it failed, or None. `told` is given what it prints, line by line."""
    source, told_failures = journey.script or "", set[int]()
    began, steps = time.monotonic(), 0

    @asynccontextmanager
    async def step(name: str) -> AsyncIterator[None]:
        nonlocal steps
        steps += 1
        if steps > MOST_STEPS:
            raise ValueError(f"a journey has at most {MOST_STEPS} steps")
        step_began, failure = time.monotonic(), None
        try:
            yield
        except BaseException as wrong:
            failure = _failure(wrong, within_s)
            told_failures.add(id(wrong))
            raise
        finally:
            await done(cut(str(name), _STEP_CHARS), step_began, failure)

    failure = None
    linecache.cache[_NAME] = (len(source), None, source.splitlines(keepends=True), _NAME)
    try:
        with redirect_stdout(_Lines(told)):
            space: dict[str, Any] = {"__name__": "journey", "expect": expect}
            exec(compile(source, _NAME, "exec"), space)  # noqa: S102 - it is what this sandbox is for
            if not asyncio.iscoroutinefunction(space.get("journey")):
                raise ValueError("the script has no `async def journey(page, context, values, step)`")
            async with asyncio.timeout(within_s):
                await space["journey"](page, context, dict(journey.values), step)
    except BaseException as wrong:  # SystemExit is its failure, too
        failure = _failure(wrong, within_s)
    if not steps or (failure is not None and not told_failures):
        await done("script", began, failure)
    return failure


def _failure(wrong: BaseException, within_s: float) -> Failure:
    """What went wrong, with the script's own line."""
    where = [frame.lineno for frame in traceback.extract_tb(wrong.__traceback__) if frame.filename == _NAME]
    text, kind = first_line(str(wrong)), "step.failed"
    if "Target crashed" in text:
        kind = "probe.browser"
    elif isinstance(wrong, AssertionError):
        kind, text = "assertion.expect", text or "an assertion does not hold"
    elif isinstance(wrong, TooLate):
        kind = "step.timeout"
    elif isinstance(wrong, TimeoutError | asyncio.CancelledError):
        kind, text = "step.timeout", f"the script was not done within {within_s:.3g} s"
    elif known := of_net(text):
        kind, text = known.type, known.message
    else:
        text = f"{type(wrong).__name__}: {text}" if text else type(wrong).__name__
    return Failure(kind, f"line {where[-1]}: {text}" if where else text)


class _Lines(io.TextIOBase):
    """What it prints."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told, self._rest = told, ""

    def write(self, text: str) -> int:
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[:_LINE_CHARS]
        for line in lines:
            self._told(line[:_LINE_CHARS])
        return len(text)
