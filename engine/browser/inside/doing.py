"""Does what one step says on the page that a journey is on. Which steps are done, and what follows of it, is `journey`."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urljoin

from playwright.async_api import FilePayload, Page
from playwright.async_api import Locator as Found
from playwright.async_api import TimeoutError as TooLate

from engine.browser.inside.page import Pages, find
from engine.browser.inside.seeing import Sight
from engine.browser.inside.words import of_waiting
from evaluators.model import Failure
from evaluators.operators import TESTS, hold_together, why_not
from rules.capture import CAPTURED_MAX_BYTES
from rules.expectation import Expectation, compile_comparison
from rules.journey import Expect, JourneyStep, Store, Wait
from rules.pattern import compile_pattern
from rules.secret import cut

_TRY_S: Final = (
    1.0  # then the page may be another, e.g. a window that opened late; a huge page needs longer ones
)
_POLL_S: Final = (0.03, 0.4)
_ACTUAL_CHARS: Final = 200
_FAILED: Final = 400


class StepError(Exception):
    """A step did not do what it was to do."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)


class Doer:
    """Acts on the newest of `pages`; paths are of `url`. What is stored is handed to `captured`."""

    def __init__(
        self,
        pages: Pages,
        sight: Sight,
        url: str,
        hide: Callable[[str], str],
        captured: Callable[[Store, str], None],
    ) -> None:
        self._pages, self._sight, self._url, self._hide, self._captured = pages, sight, url, hide, captured

    async def do(self, step: JourneyStep, within_s: float) -> None:
        """Raises `StepError`, Playwright's errors, and `LookupError` where no page is open."""
        page, late_ms = self._pages.current, within_s * 1000
        if step.goto is not None:
            await self._goto(page, step.goto, late_ms)
        elif step.click is not None:
            click = step.click
            await find(page, click).click(button=click.button, click_count=click.times, timeout=late_ms)
        elif step.fill is not None:
            await find(page, step.fill).fill(step.fill.value, timeout=late_ms)
        elif step.select is not None:
            await find(page, step.select).select_option(step.select.option, timeout=late_ms)
        elif step.check is not None:
            await find(page, step.check).set_checked(step.check.on, timeout=late_ms)
        elif step.press is not None and step.press.at is not None:
            await find(page, step.press.at).press(step.press.key, timeout=late_ms)
        elif step.press is not None:
            await page.keyboard.press(step.press.key)
        elif step.hover is not None:
            await find(page, step.hover).hover(timeout=late_ms)
        elif step.upload is not None:
            files: list[FilePayload] = [
                {"name": one.name, "mimeType": one.type, "buffer": one.content.encode()}
                for one in step.upload.files
            ]
            await find(page, step.upload).set_input_files(files, timeout=late_ms)
        elif step.wait is not None:
            await self._wait(page, step.wait, late_ms)
        elif step.expect is not None:
            await self._expect(step.expect, within_s)
        elif step.store is not None:
            await self._store(page, step.store, late_ms)

    async def _goto(self, page: Page, url: str, late_ms: float) -> None:
        answer = await page.goto(urljoin(self._url, url), timeout=late_ms)
        if answer is not None and answer.status >= _FAILED:
            raise StepError(
                "status", f"HTTP {answer.status} {answer.status_text}".rstrip() + "; below 400 is expected"
            )

    async def _wait(self, page: Page, wait: Wait, late_ms: float) -> None:
        if wait.duration is not None:
            await asyncio.sleep(wait.duration)
        elif (at := wait.visible or wait.hidden) is not None:
            await find(page, at).wait_for(state="visible" if wait.visible else "hidden", timeout=late_ms)
        elif wait.url is not None:
            fits = globbed(wait.url)
            await page.wait_for_url(fits, timeout=late_ms, wait_until="commit")
        else:
            await page.wait_for_load_state(wait.load, timeout=late_ms)

    async def _expect(self, expect: Expect, within_s: float) -> None:
        """Raises `StepError` with the last that was seen, where it does not become true."""
        until, pause_s, try_s = time.monotonic() + within_s, _POLL_S[0], _TRY_S
        subject = f"{expect.of} of {expect.url or expect.at}" if expect.url or expect.at else expect.of
        expectation = (
            compile_comparison(expect.of, expect) if expect.model_fields_set & set(expect.operators) else None
        )
        while True:
            left_s = max(until - time.monotonic(), _POLL_S[0])
            try:
                wrong = await self._wrong(expect, expectation, subject, min(left_s, try_s))
            except TooLate as late:
                wrong, try_s = of_waiting(late.message, expect.at), try_s * 2
            if not wrong:
                return
            if left_s <= pause_s:
                raise StepError("assertion.expect", f"{wrong}; waited {within_s:.3g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_S[1])

    async def _wrong(self, expect: Expect, e: Expectation | None, subject: str, left_s: float) -> str:
        """What keeps it from being true now; empty where it is."""
        page, late_ms = self._pages.current, left_s * 1000
        found = find(page, expect.at) if expect.at is not None else page.locator("body")
        values: list[Any]
        if expect.of in ("visible", "hidden"):
            try:
                await found.wait_for(state="visible" if expect.of == "visible" else "hidden", timeout=late_ms)
            except TooLate as late:
                return (
                    of_waiting(late.message, expect.at)
                    if expect.of == "visible"
                    else f"{expect.at} is visible"
                )
            return ""
        if expect.of in ("checked", "unchecked"):
            is_so = await found.is_checked(timeout=late_ms) is (expect.of == "checked")
            return "" if is_so else f"{expect.at} is {'un' * (expect.of == 'checked')}checked"
        if expect.of in ("enabled", "disabled"):
            is_so = await found.is_enabled(timeout=late_ms) is (expect.of == "enabled")
            return "" if is_so else f"{expect.at} is {'disabled' if expect.of == 'enabled' else 'enabled'}"
        if expect.of == "response":
            fits = globbed(expect.url or "")
            values = [status for url, status in self._sight.responses if fits(url)]
            if not values:
                return f"no response of {expect.url} was seen"
            if e is None:
                good = any(200 <= status < 300 for status in values)
                return "" if good else f"response of {expect.url} is {values[-1]}; 200 to 299 is expected"
        elif expect.of == "count":
            values = [await found.count()]
        else:
            values = [await self._text(page, found, expect.of, "", late_ms)]
        assert e is not None
        if any(holds(value, e) for value in values):
            return ""
        actual = values[-1]
        shown = repr(cut(self._hide(actual), _ACTUAL_CHARS)) if isinstance(actual, str) else actual
        wanted = f"{'' if e.wanted else 'not '}{e.operator} {e.expected!r}"
        return f"{subject} is {shown}{why_not(actual, e)}; expected {wanted}"

    async def _text(self, page: Page, found: Found, of: str, attribute: str, late_ms: float) -> str:
        if of == "url":
            return page.url
        if of == "title":
            return await page.title()
        if of == "value":
            return await found.input_value(timeout=late_ms)
        if of == "attribute":
            value = await found.get_attribute(attribute, timeout=late_ms)
            if value is None:
                raise StepError("capture.missing", f"it has no attribute {attribute}")
            return value
        return " ".join((await found.inner_text(timeout=late_ms)).split())

    async def _store(self, page: Page, store: Store, late_ms: float) -> None:
        found = find(page, store.at) if store.at is not None else page.locator("body")
        value = await self._text(page, found, store.of, store.attribute or "", late_ms)
        if store.matches is not None:
            match = compile_pattern(store.matches).search(value.encode("utf-8", "replace"))
            if match is None or match.group(1) is None:
                shown = "" if store.is_hidden(store.name) else f" in {cut(value, _ACTUAL_CHARS)!r}"
                raise StepError("capture.missing", f"{store.matches!r} finds nothing{shown}")
            value = match.group(1).decode("utf-8", "replace")
        if len(value.encode("utf-8", "replace")) > CAPTURED_MAX_BYTES:
            raise StepError("capture.refused", f"what is there has more than {CAPTURED_MAX_BYTES} bytes")
        self._captured(store, value)


def holds(value: Any, e: Expectation) -> bool:
    """Whether a value is as it is to be."""
    test = TESTS.get(e.operator)
    return test(value, e) is e.wanted if test else hold_together([value], e)


def globbed(glob: str) -> Callable[[str], bool]:
    """Whether an address fits: `**` is anything, `*` anything but a slash, `{a,b}` one of them."""
    parts = {"**": ".*", "*": "[^/]*", "{": "(?:", "}": ")", ",": "|"}
    depth, pattern = 0, ""
    for part in re.findall(r"\*\*|.", glob, re.DOTALL):
        depth += (part == "{") - (part == "}")
        is_plain = part not in parts or (part == "," and not depth)
        pattern += re.escape(part) if is_plain else parts[part]
    fits = compile_pattern(f"(?s)^{pattern}$")
    return lambda url: fits.search(url.encode("utf-8", "replace")) is not None
