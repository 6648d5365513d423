"""What is kept of a journey for people: pictures without secrets, the page around an element, console, trace and HAR.

A page that does not answer must not stop a report: each piece has its own time and bytes, and what is missing is noted.
A picture is taken only where all that holds a secret was hidden before, and nothing that holds one came up meanwhile.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from playwright.async_api import BrowserContext, CDPSession, Error, Page
from playwright.async_api import Locator as Found

from engine.browser.wire import ARTIFACT_BYTES, MOST_TOTAL_BYTES, Kept
from evaluators.observation import Artifact

PICTURE_S: Final = 4.0
PAGE_S: Final = 2.0
TRACE_S: Final = 8.0
PAGE_CHARS: Final = 65_536
HIDER: Final = "upbeat-hider"
_WIDE, _NARROW = 1280, 640  # pixels of a picture, and of one of a film strip
_TRIES: Final = 3
_REST_BYTES: Final = 4 << 20  # of all that is said, for what are no files

_HERE: Final = Path(__file__).parent
HIDER_SCRIPT: Final = (_HERE / "hider.js").read_text("utf-8")
_AROUND: Final = (_HERE / "around.js").read_text("utf-8")


class Keeper:
    """Keeps what one journey leaves behind."""

    def __init__(
        self, say: Callable[[Kept], None], secrets: Callable[[], tuple[str, ...]], density: float
    ) -> None:
        """`density` is how many pixels a CSS pixel has."""
        self._say, self._secrets, self._density = say, secrets, density
        self._left_bytes = MOST_TOTAL_BYTES - _REST_BYTES
        self._sessions: dict[Page, CDPSession] = {}
        self._traced: BrowserContext | None = None
        self.notes: list[str] = []

    def keep(self, name: str, kind: str, data: bytes) -> bool:
        """Say it, where there is room."""
        if len(data) > min(ARTIFACT_BYTES, self._left_bytes):
            self.notes.append(f"{name} is left out: it is too large")
            return False
        self._left_bytes -= len(data)
        self._say(Kept(Artifact(name, kind, data)))
        return True

    @asynccontextmanager
    async def trying(self, name: str, within_s: float) -> AsyncIterator[None]:
        """Do something for evidence; trouble with it is a note."""
        try:
            async with asyncio.timeout(within_s):
                yield
        except TimeoutError:
            self.notes.append(f"{name} is missing: the page did not answer within {within_s:g} s")
        except (Error, OSError, LookupError) as trouble:
            self.notes.append(f"{name} is missing: {str(trouble).strip().partition(chr(10))[0][:200]}")

    async def picture(self, page: Page, name: str, *, is_small: bool = False) -> str:
        """The window as it is, without secrets, as `name`; empty where there is none."""
        kept = ""
        async with self.trying(name, PICTURE_S):
            data = await self._hidden(page, _NARROW if is_small else _WIDE, 50 if is_small else 70)
            if data is None:
                self.notes.append(f"{name} is missing: secrets or frames came up while it was taken")
            elif self.keep(name, "image/jpeg", data):
                kept = name
        return kept

    async def _hidden(self, page: Page, width: int, quality: int) -> bytes | None:
        secrets = self._secrets()
        for left in reversed(range(_TRIES)):
            try:
                await self._hide(page, secrets, shows=False)
                data = await self._shot(page, width, quality)
            except Error:  # e.g. another page comes just now
                if not left:
                    raise
            else:
                if await self._hide(page, secrets, shows=True) == 0:
                    return data
        return None

    async def _hide(self, page: Page, secrets: tuple[str, ...], *, shows: bool) -> int:
        if not secrets:
            return 0
        engine = f"{HIDER}={json.dumps({'secrets': secrets, 'shows': shows})}"
        # One without an address never came: it shows nothing, and answers nobody.
        looks = (frame.locator(engine).count() for frame in page.frames if frame.url)
        found = await asyncio.gather(*looks, return_exceptions=True)
        return sum(one if isinstance(one, int) else 1 for one in found)  # a frame may go meanwhile

    async def _shot(self, page: Page, width: int, quality: int) -> bytes:
        session = await self._session(page)
        shown = (await session.send("Page.getLayoutMetrics"))["cssVisualViewport"]
        clip = {
            "x": shown["pageX"],
            "y": shown["pageY"],
            "width": shown["clientWidth"],
            "height": shown["clientHeight"],
            "scale": min(1.0, width / (shown["clientWidth"] * self._density)),
        }
        given = {"format": "jpeg", "quality": quality, "clip": clip}
        return base64.b64decode((await session.send("Page.captureScreenshot", given))["data"])

    async def _session(self, page: Page) -> CDPSession:
        if page not in self._sessions:
            self._sessions[page] = await page.context.new_cdp_session(page)
        return self._sessions[page]

    async def stop(self, page: Page) -> None:
        """Load no more: a page that waits for its next one answers nobody."""
        await (await self._session(page)).send("Page.stopLoading")

    async def page(self, found: tuple[Found, ...]) -> None:
        """What stands around the first of these that is there."""
        async with self.trying("page.html", PAGE_S):
            for one in found:
                if await one.count():
                    text = await one.first.evaluate(_AROUND, PAGE_CHARS)
                    self.keep(
                        "page.html", "text/html", str(text).encode("utf-8", "replace")[: PAGE_CHARS * 4]
                    )
                    return

    async def record(self, context: BrowserContext) -> None:
        """Trace from now on."""
        async with self.trying("trace.zip", TRACE_S):
            await context.tracing.start(snapshots=True, screenshots=not self._secrets())
            self._traced = context

    @asynccontextmanager
    async def named(self, name: str) -> AsyncIterator[None]:
        """What is done meanwhile stands under this name in the trace, if there is one."""
        if self._traced is None:
            yield
            return
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(PAGE_S):
                await self._traced.tracing.group(name)
        try:
            yield
        finally:
            with suppress(Error, TimeoutError):
                async with asyncio.timeout(PAGE_S):
                    await self._traced.tracing.group_end()

    async def recorded(self, context: BrowserContext, folder: Path) -> None:
        """Trace no more."""
        async with self.trying("trace.zip", TRACE_S):
            path = folder / "trace.zip"
            await context.tracing.stop(path=path)
            self.keep_file(path, "application/zip")

    def keep_file(self, path: Path, kind: str) -> None:
        """What the browser wrote. Raises `OSError`."""
        with path.open("rb") as file:
            self.keep(path.name, kind, file.read(ARTIFACT_BYTES + 1))
