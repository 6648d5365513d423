"""The pages of a journey: which one it is on, and how elements are found on it. What is done with them is `journey`."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Literal

from playwright.async_api import BrowserContext, Dialog, Error, FrameLocator, Page
from playwright.async_api import Locator as Found

from rules.locator import Locator

MOST_PAGES: Final = 8
MOST_ASKED: Final = 100
"""Windows and dialogs that are opened."""


def find(page: Page, locator: Locator) -> Found:
    """The locator as Playwright's."""
    scope: Page | Found | FrameLocator = find(page, locator.inside) if locator.inside else page
    if locator.frame:
        scope = scope.frame_locator(f"css={locator.frame}")
    exact = locator.exact
    if locator.role is not None:
        role: Any = locator.role
        found = scope.get_by_role(role, name=locator.name, exact=exact)
    elif locator.label is not None:
        found = scope.get_by_label(locator.label, exact=exact)
    elif locator.text is not None:
        found = scope.get_by_text(locator.text, exact=exact)
    elif locator.test_id is not None:
        found = scope.get_by_test_id(locator.test_id)
    elif locator.placeholder is not None:
        found = scope.get_by_placeholder(locator.placeholder, exact=exact)
    elif locator.alt is not None:
        found = scope.get_by_alt_text(locator.alt, exact=exact)
    elif locator.title is not None:
        found = scope.get_by_title(locator.title, exact=exact)
    else:
        found = scope.locator(f"css={locator.css}")
    if locator.has_text is not None:
        found = found.filter(has_text=locator.has_text)
    return found if locator.nth is None else found.nth(locator.nth)


class Pages:
    """Those that are open. The journey is on the newest."""

    def __init__(
        self, context: BrowserContext, dialogs: Literal["accept", "dismiss"], stop: Callable[[], None]
    ) -> None:
        """`stop` is called when the site opens more than is sensible, and when a page crashes."""
        self._answer, self._stop = dialogs, stop
        self._open: list[Page] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._asked = 0
        self.has_crashed = False
        context.on("page", self._opened)
        context.on("dialog", self._dialog)

    @property
    def current(self) -> Page:
        """The newest that is open. Raises `LookupError` where none is."""
        if not self._open:
            raise LookupError("the page closed itself, and no other is open")
        return self._open[-1]

    @property
    def is_flooded(self) -> bool:
        """Whether that was so; then dialogs are answered no more."""
        return self._asked > MOST_ASKED

    def _opened(self, page: Page) -> None:
        self._count()
        if len(self._open) >= MOST_PAGES:
            self._soon(page.close())
            return
        self._open.append(page)
        page.on("close", self._closed)
        page.on("crash", self._crashed)

    def _count(self) -> None:
        self._asked += 1
        if self.is_flooded:
            self._stop()

    def _closed(self, page: Page) -> None:
        with suppress(ValueError):
            self._open.remove(page)

    def _crashed(self, page: Page) -> None:
        self.has_crashed = True
        self._stop()

    def _dialog(self, dialog: Dialog) -> None:
        self._count()
        if not self.is_flooded:  # then it stays, and the page with it
            accepts = self._answer == "accept" or dialog.type == "beforeunload"  # else there is no way on
            self._soon(dialog.accept() if accepts else dialog.dismiss())

    def _soon(self, doing: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            with suppress(Error):
                await doing

        task = asyncio.ensure_future(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
