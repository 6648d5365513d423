"""What a journey sees beside its steps: console, requests, web vitals. Everything of it is counted, and little of it kept."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import structs
from playwright.async_api import BrowserContext, ConsoleMessage, Error, Page, Request, Response, WebError

from evaluators.observation import Document
from rules.blocking import is_blocked
from rules.journey import Journey
from rules.pattern import compile_pattern
from rules.secret import cut

MOST_ERRORS: Final = 50
MOST_FAILURES: Final = 50
MOST_LINES: Final = 500
MOST_RESPONSES: Final = 5000
MOST_DOCUMENTS: Final = 50
LINE_CHARS: Final = 500
MOST_OWN: Final = 50
SHORT_CHARS: Final = 160  # of what is said beside a step's failure
MOST_CHARS: Final = 2000  # of an address
VITALS_S: Final = 1.0
_PAINT_MS: Final = 300  # what a page that was just opened is given to paint
_FAILED: Final = 400  # statuses from here on

_VITALS: Final = Path(__file__).with_name("vitals.js").read_text("utf-8")


class Sight:
    """Looks at all pages of a context."""

    def __init__(
        self, context: BrowserContext, journey: Journey, site: Sequence[str], hide: Callable[[str], str]
    ) -> None:
        self._hide, self._block, self._site = hide, journey.block, site
        self._ignored = [compile_pattern(pattern) for pattern in journey.ignore_console]
        self._documents: dict[float, Document] = {}
        self.console: list[str] = []
        self.console_errors = self.failed_requests = self.requests = 0
        self.failures: list[str] = []
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self._own: deque[tuple[float, bool, str]] = deque(maxlen=MOST_OWN)  # when, whether a request, what
        self.responses: deque[tuple[str, int]] = deque(maxlen=MOST_RESPONSES)
        context.on("console", self._said)
        context.on("weberror", self._threw)
        context.on("response", self._answered)
        context.on("requestfailed", self._failed)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The pages that it was on."""
        return tuple(self._documents.values())

    def wrong_since(self, began: float) -> tuple[str, ...]:
        """Of the site itself, the last request that failed and the last error of the console since then."""
        last = {is_request: text for when, is_request, text in self._own if when >= began}
        return tuple(last[key] for key in (True, False) if key in last)

    async def read_vitals(self, page: Page, step: str, *, waits: bool) -> None:
        """Of the page as it is now. Says nothing of a page that does not answer."""
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(VITALS_S):
                found: Any = await page.evaluate(_VITALS, _PAINT_MS if waits else 0)
            began, *times, cls = found if isinstance(found, list) and len(found) == 5 else [None] * 5
            if not isinstance(began, int | float) or page.url == "about:blank":
                return
            known = self._documents.get(began) or Document(step, self._hide(page.url[:MOST_CHARS]))
            if began in self._documents or len(self._documents) < MOST_DOCUMENTS:
                ttfb, fcp, lcp = (_seconds(time) for time in times)
                self._documents[began] = structs.replace(known, ttfb=ttfb, fcp=fcp, lcp=lcp, cls=_number(cls))

    def _said(self, message: ConsoleMessage) -> None:
        text = message.text[:LINE_CHARS]
        where = message.location.get("url", "")
        if message.type == "error" and not self._is_blocked(where):
            # A request that failed is known as such, and a third party's trouble is seldom the cause.
            is_own = not text.startswith("Failed to load resource") and self._is_own(where)
            self._err(text, is_own=is_own)
        self.lines.append(self._hide(f"{message.type}: {text}" + (f" ({where[:200]})" if where else "")))

    def _threw(self, error: WebError) -> None:
        text = str(error.error).strip().partition("\n")[0][:LINE_CHARS]
        self._err(f"uncaught: {text}", is_own=True)
        self.lines.append(self._hide(f"uncaught: {text}"))

    def _err(self, text: str, *, is_own: bool) -> None:
        if any(pattern.search(text.encode("utf-8", "replace")) for pattern in self._ignored):
            return
        self.console_errors += 1
        if is_own:
            self._own.append((time.monotonic(), False, self._short(f"console: {text}")))
        if len(self.console) < MOST_ERRORS:
            self.console.append(self._hide(text))

    def _answered(self, response: Response) -> None:
        self.requests += 1
        self.responses.append((response.url[:MOST_CHARS], response.status))
        if response.status >= _FAILED and not self._is_blocked(response.url):
            self._fail(response.request, str(response.status))

    def _failed(self, request: Request) -> None:
        why = request.failure or "failed"
        answer = request.existing_response
        self.requests += answer is None  # else it was counted, and broke in its body
        if answer is not None and answer.status >= _FAILED:
            return
        # What a navigation or the page itself called off is no failure.
        if "ERR_ABORTED" not in why and not self._is_blocked(request.url):
            self._fail(request, why.removeprefix("net::"))

    def _fail(self, request: Request, why: str) -> None:
        self.failed_requests += 1
        if self._is_own(request.url):
            address = request.url.partition("?")[0][:LINE_CHARS]
            self._own.append((time.monotonic(), True, self._short(f"{request.method} {address}: {why}")))
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(self._hide(f"{request.method} {request.url[:LINE_CHARS]}: {why}"))

    def _short(self, text: str) -> str:
        return cut(self._hide(text), SHORT_CHARS)

    def _is_own(self, url: str) -> bool:
        return not self._is_among(url, ("third-party",))

    def _is_blocked(self, url: str) -> bool:
        return bool(self._block) and self._is_among(url, self._block)

    def _is_among(self, url: str, block: Sequence[str]) -> bool:
        try:
            host = urlsplit(url).hostname
        except ValueError:
            return False
        return host is not None and is_blocked(host, block, self._site)


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return round(float(value), 6) if known else None  # type: ignore[arg-type]


def _seconds(value: object) -> float | None:
    number = _number(value)
    return None if number is None or number < 0 else round(number / 1000, 6)
