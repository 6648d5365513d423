"""Does a journey in a context of its own, step by step, and says what became of it. How a step's words are made is `words`."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit

from msgspec import structs
from playwright.async_api import Browser, BrowserContext, Error, Page, Playwright
from playwright.async_api import TimeoutError as TooLate

from engine.browser.inside.doing import Doer, StepError
from engine.browser.inside.headers import TRACEPARENT, Headers, origin
from engine.browser.inside.keeping import Keeper
from engine.browser.inside.page import Pages, find
from engine.browser.inside.script import play
from engine.browser.inside.seeing import MOST_CHARS, Sight
from engine.browser.inside.words import first_line, of_net, of_several, of_waiting, said
from engine.browser.wire import Go, Order, Report, Said, Stepped
from evaluators.model import Failure
from evaluators.observation import StepDone
from rules.auth import compile_auth
from rules.capture import PLACE_FIRST, fill, places
from rules.journey import Journey, JourneyStep, Named, Store, Wait, named
from rules.locator import Locator
from rules.secret import hidden_forms, hide

OPEN_S: Final = 20.0
CLOSE_S: Final = 8.0
_LEAST_S: Final = 0.05  # with less left a step is not begun
_EXPLAINED: Final = ("step.failed", "step.timeout", "assertion.expect")
_SPARE_S: Final = 0.5  # Playwright's own time-outs come first, where the page still answers
_ANSWER_S: Final = 1.0
_DEVICES: Final = {"desktop": "Desktop Chrome", "phone": "Pixel 7", "tablet": "Galaxy Tab S9"}
_CHROME: Final = re.compile(r"Chrome/[\d.]+")


class Worker(NamedTuple):
    """What there is for any journey."""

    browser: Browser
    playwright: Playwright
    headers: Headers
    say: Callable[[Said], None]
    go: Callable[[], Awaitable[Go]]


def options(journey: Journey, playwright: Playwright, version: str) -> dict[str, Any]:
    """What a context of this journey looks like to sites, as Playwright takes it."""
    given = {
        key: value
        for key, value in playwright.devices[_DEVICES[journey.device]].items()
        if key != "default_browser_type"
    }
    chrome = f"Chrome/{version.partition('.')[0]}.0.0.0"
    given["user_agent"] = journey.user_agent or _CHROME.sub(chrome, given["user_agent"])
    given |= {
        "locale": journey.locale,
        "timezone_id": journey.timezone,
        "ignore_https_errors": not journey.verify,
    }
    if journey.viewport is not None:
        given["viewport"] = given["screen"] = journey.viewport.model_dump()
    if journey.geolocation is not None:
        given |= {"geolocation": journey.geolocation.model_dump(), "permissions": ["geolocation"]}
    return given


class Walk:
    """One journey, once."""

    def __init__(self, worker: Worker, order: Order, folder: Path) -> None:
        """`folder` is for files of this journey. Raises `pydantic.ValidationError`."""
        self._browser, self._playwright, self._headers, self._say, self._go = worker
        self._order, self._folder = order, folder
        self._journey = Journey.model_validate(order.journey)
        self._named = named(self._journey)
        self._secrets = order.secrets
        self._captured: dict[str, str] = {}
        self._hidden: list[str] = []  # names captured that nobody is shown
        self._steps: list[StepDone] = []
        self._failure: Failure | None = None
        self._began = self._ends = self._step_began = 0.0
        self._is_hung = False
        self._limit = asyncio.timeout(None)  # of the step that is being done
        self._is_spent = False  # whether the browser is not to be used again
        self._pages: Pages
        self._sight: Sight
        self._doer: Doer
        self._options = options(self._journey, self._playwright, self._browser.version)
        self._keeper = Keeper(self._say, lambda: self._secrets, self._options["device_scale_factor"])
        addresses = [self._journey.url, *(one.step.goto for one in self._named)]
        self._site = tuple(dict.fromkeys(filter(None, (origin(address) for address in addresses if address))))

    def hide(self, text: str) -> str:
        """Without what is secret by now."""
        hidden: str = hide(text, self._secrets)
        return hidden

    async def walk(self) -> Report:
        """Do it all. Trouble of the browser is in the report, too."""
        self._began = time.monotonic()
        try:
            async with asyncio.timeout(OPEN_S):
                context = await self._open()
                await self._send_headers()
        except (Error, TimeoutError) as trouble:
            failure = Failure("probe.browser", f"no page opens: {first_line(str(trouble))}")
            return Report(failure=failure, is_spent=True)
        try:
            await self._go_through(context)
        finally:
            if not self._is_spent:  # what is broken may answer nothing
                await self._headers.off()
            await self._close(context)
        self._is_spent |= self._pages.has_crashed
        return self._report()

    async def _open(self) -> BrowserContext:
        given = self._options
        if self._records:
            given |= {"record_har_path": self._folder / "network.har", "record_har_content": "omit"}
        self._playwright.selectors.set_test_id_attribute(self._journey.test_id_attribute)
        context = await self._browser.new_context(**given)
        context.set_default_timeout(self._journey.step_timeout * 1000)  # of what a script does
        hosts = [urlsplit(one).hostname or "" for one in self._site]
        self._pages = Pages(context, self._journey.dialogs, self._stop)
        self._sight = Sight(context, self._journey, hosts, self.hide)
        self._doer = Doer(self._pages, self._sight, self._journey.url or "", self.hide, self._store)
        await context.new_page()
        if self._records:
            await self._keeper.record(context)
        return context

    @property
    def _records(self) -> bool:
        return self._order.records and not self._order.keeps_nothing

    async def _send_headers(self) -> None:
        more = dict(self._journey.headers)
        if self._order.traceparent:
            more[TRACEPARENT] = self._order.traceparent
        by_origin = {one: dict(more) for one in self._site}
        if self._journey.auth is not None and self._journey.url is not None:
            by_origin[origin(self._journey.url)]["Authorization"] = (
                compile_auth(self._journey.auth, {})[0] or ""
            )
        await self._headers.on(by_origin)

    async def _go_through(self, context: BrowserContext) -> None:
        steps = [one for one in self._named if not one.is_teardown]
        self._ends = time.monotonic() + self._order.steps_s
        if self._journey.script is not None:
            await self._play(context)
        elif self._order.is_stepped:
            await self._as_told()
        for number, one in enumerate(() if self._order.is_stepped else steps, 1):
            if self._failure is not None:
                self._steps.append(StepDone(one.name, self.hide(said(one.step)), "skipped"))
                continue
            await self._one(one, number)
        page = self._page()
        if self._order.keeps and not self._order.keeps_nothing and page is not None:
            await self._show(page, len(steps))
        self._ends = time.monotonic() + self._order.teardown_s
        if (page is None or self._is_hung) and len(steps) < len(self._named):
            self._is_hung = False
            with suppress(Error, TimeoutError):
                async with asyncio.timeout(_ANSWER_S * 2):
                    await context.new_page()
        for number, one in enumerate(self._named[len(steps) :], len(steps) + 1):
            if set(places(one.step.model_dump(exclude_defaults=True))) <= self._captured.keys():
                await self._one(one, number)
            else:
                self._steps.append(StepDone(one.name, self.hide(said(one.step)), "skipped", is_teardown=True))

    async def _play(self, context: BrowserContext) -> None:
        def told(line: str) -> None:
            self._sight.lines.append(self.hide(line))

        page, within_s = self._pages.current, self._order.steps_s
        failure = await play(self._journey, page, context, within_s, self._played, told)
        if self._pages.has_crashed or not await self._has_driver():
            failure = Failure("probe.browser", "the browser or its page crashed, or was ended")
        self._failure = self._hidden_in(failure)

    async def _played(self, name: str, began: float, failure: Failure | None) -> None:
        """A step of a script is over."""
        took_s, page, picture = time.monotonic() - began, self._page(), ""
        failure = self._hidden_in(failure)
        if page is not None and not any(one.state == "failed" for one in self._steps):
            if failure is None:
                await self._sight.read_vitals(page, name, waits=False)
            is_own = Named(name, JourneyStep(press="Enter"), is_teardown=False)
            picture = await self._evidence(page, is_own, len(self._steps) + 1, (), failure)
        done = self._step(name, self.hide(name), began, took_s, failure, picture)
        self._steps.append(done)
        self._say(Stepped(done))

    def _hidden_in(self, failure: Failure | None) -> Failure | None:
        return failure and Failure(failure.type, self.hide(failure.message))

    def _step(
        self, name: str, words: str, began: float, took_s: float, failure: Failure | None, picture: str
    ) -> StepDone:
        state: Literal["ok", "failed"] = "failed" if failure else "ok"
        page, error = self._page(), failure.message if failure else ""
        url = self.hide(page.url[:MOST_CHARS]) if page is not None else ""
        return StepDone(name, words, state, began - self._began, took_s, error, url=url, picture=picture)

    def _stop(self) -> None:
        with suppress(RuntimeError, AssertionError):  # it ends just now, or there was none yet
            self._limit.reschedule(0)

    def _page(self) -> Page | None:
        with suppress(LookupError):
            return self._pages.current
        return None

    async def _one(self, named: Named, number: int) -> None:
        done, failure = await self._done(named, number)
        self._steps.append(done)
        if failure is not None and not named.is_teardown and not done.is_soft:
            self._failure = failure
        waits = self._order.is_stepped and not named.is_teardown
        self._say(Stepped(done, waits, self._failure))

    async def _as_told(self) -> None:
        """Steps that somebody asks for one by one, each with all the time there is; of tries in a row the last counts."""
        while (go := await self._go()).step is not None:
            self._ends, self._failure = time.monotonic() + self._order.steps_s, None
            if self._steps and self._steps[-1].name == go.name:
                self._steps.pop()
            one = Named(go.name, JourneyStep.model_validate(go.step), is_teardown=False)
            await self._one(one, len(self._steps) + 1)

    async def _done(self, named: Named, number: int) -> tuple[StepDone, Failure | None]:
        name, step, is_teardown = named
        words, began = self.hide(said(step)), time.monotonic()
        around, self._step_began = self._step_began, began
        left_s = max(self._ends - began, 0.001)  # Playwright takes 0 for ever
        passes_s = step.wait.duration if step.wait else None
        within_s = min(step.timeout or (left_s if passes_s else self._journey.step_timeout), left_s)
        wrong, found = None, tuple[Locator, ...]()
        try:
            if left_s < _LEAST_S:
                raise StepError("step.timeout", "the attempt's time was over before this step")
            step = self._filled(step)
            found = _locators(step)
            async with (
                self._keeper.named(f"{name}: {words}"),
                asyncio.timeout(within_s + _SPARE_S) as self._limit,
            ):
                await self._doer.do(step, within_s)
                if passes_s and not await self._has_driver():  # while nothing was asked of it
                    raise StepError("probe.browser", "the browser crashed, or was ended")
        except (StepError, Error, TimeoutError, LookupError) as trouble:
            wrong = trouble
        took_s = time.monotonic() - began
        failure = await self._failed(wrong, step, found, within_s) if wrong else None
        if failure is not None and failure.type in _EXPLAINED:
            causes = self._sight.wrong_since(around)  # since the step before began
            failure = Failure(failure.type, "; ".join((failure.message, *causes)))
        failure = self._hidden_in(failure)
        is_ours = failure is not None and failure.type.startswith("probe.")
        self._is_spent |= is_ours
        page = self._page()
        picture = ""
        if page is not None and not is_ours:
            if failure is None:
                await self._sight.read_vitals(page, name, waits=step.goto is not None)
            async with self._keeper.named("evidence"):
                picture = await self._evidence(page, named, number, found, failure)
        done = self._step(name, words, began, took_s, failure, picture)
        is_soft = failure is not None and step.soft and not is_ours
        return structs.replace(done, is_soft=is_soft, is_teardown=is_teardown), failure

    async def _evidence(
        self, page: Page, named: Named, number: int, found: tuple[Locator, ...], failure: Failure | None
    ) -> str:
        """What is kept of a step as it ended: the name of its picture."""
        if self._order.keeps_nothing or self._pages.has_crashed or not self._browser.is_connected():
            return ""
        if self._is_hung and failure is not None:
            self._keeper.notes.append("failure.jpg and page.html are missing: the page does not answer")
            return ""
        if named.step.screenshot and failure is None:
            return await self._keeper.picture(page, f"{named.step.screenshot}.jpg")
        if failure is not None and not named.step.soft and not named.is_teardown:
            around = [find(page, one) for one in found] + [page.locator("body")]
            picture = await self._keeper.picture(page, "failure.jpg")
            await self._keeper.page(tuple(around))
            return picture
        if self._records or failure is not None:
            return await self._keeper.picture(page, f"step-{number}.jpg", is_small=True)
        return ""

    async def _show(self, page: Page, number: int) -> None:
        """A picture of how a good journey ended."""
        if self._failure is None and self._steps and not self._steps[-1].picture:
            picture = await self._keeper.picture(page, f"step-{number}.jpg", is_small=True)
            self._steps[-1] = structs.replace(self._steps[-1], picture=picture)

    def _filled(self, step: JourneyStep) -> JourneyStep:
        """With what was captured in its places. Raises `StepError`."""
        given = step.model_dump(exclude_defaults=True)
        names = set(places(given))
        if not names:
            return step
        if missing := sorted(names - self._captured.keys()):
            raise StepError("capture.missing", f"nothing was captured as {', '.join(missing)}")

        def put(value: Any, quoted: Callable[[str], str]) -> Any:
            if isinstance(value, dict):
                return {key: put(inner, quoted) for key, inner in value.items()}
            if isinstance(value, list):
                return [put(inner, quoted) for inner in value]
            return fill(value, self._captured, quoted) if isinstance(value, str) else value

        is_part = step.goto is not None and not step.goto.startswith(PLACE_FIRST)
        try:
            return JourneyStep.model_validate(
                put(given, (lambda value: quote(value, safe="")) if is_part else str)
            )
        except ValueError:
            raise StepError(
                "capture.refused", f"what was captured as {', '.join(names)} cannot stand there"
            ) from None

    def _store(self, store: Store, value: str) -> None:
        self._captured[store.name] = value
        if store.is_hidden(store.name):
            self._hidden.append(store.name)
            self._secrets = tuple(sorted({*self._secrets, *hidden_forms([value])}, key=len, reverse=True))

    async def _failed(
        self, wrong: Exception, step: JourneyStep, found: tuple[Locator, ...], within_s: float
    ) -> Failure:
        """Why a step failed, in words."""
        if isinstance(wrong, StepError):
            return wrong.failure
        if not self._browser.is_connected() or "Connection closed" in str(wrong):  # by the driver
            return Failure("probe.browser", "the browser crashed, or was ended")
        if self._pages.has_crashed or "Target crashed" in str(wrong):
            return Failure("probe.browser", "the page crashed")
        if "closed" in str(wrong) and not await self._has_driver():
            return Failure("probe.browser", "the browser's driver ended")
        if self._pages.is_flooded:
            self._is_hung = True
            return Failure("step.failed", "the page opens windows or dialogs without end")
        if isinstance(wrong, LookupError):
            return Failure("step.failed", str(wrong))
        if step.wait is not None and step.wait.duration is not None:
            return Failure(
                "step.timeout", f"of the time for the steps only {within_s:.3g} s were left for it"
            )
        if isinstance(wrong, TimeoutError) or (isinstance(wrong, TooLate) and not await self._answers()):
            if not await self._has_driver():
                return Failure("probe.browser", "the browser does not answer")
            self._is_hung = True
            return Failure(
                "step.timeout", f"the page does not answer, its scripts are busy; waited {within_s:.3g} s"
            )
        assert isinstance(wrong, Error)
        what = found[0] if found else "it"
        if several := of_several(wrong.message, what):
            return Failure("step.failed", several)
        if isinstance(wrong, TooLate):
            if step.goto is not None:
                return Failure("step.timeout", f"the page was not loaded after {within_s:.3g} s")
            if not found:
                return Failure("step.timeout", f"it did not happen within {within_s:.3g} s")
            return Failure("step.failed", f"{of_waiting(wrong.message, what)}; waited {within_s:.3g} s")
        if step.goto is not None:
            if "Download is starting" in wrong.message:
                return Failure("http.protocol", "what is there is a download and no page")
            return of_net(wrong.message) or Failure("step.failed", first_line(wrong.message))
        if "has been closed" in wrong.message:
            return Failure("step.failed", "the page closed itself meanwhile")
        return Failure("step.failed", first_line(wrong.message))

    async def _has_driver(self) -> bool:
        """Whether what drives the browser is there; when it ends every page seems closed."""
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(2 * _ANSWER_S):
                await (await self._browser.new_browser_cdp_session()).detach()
            return True
        return False

    async def _answers(self) -> bool:
        """Whether scripts run on the page."""
        with suppress(Error, LookupError):
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await self._keeper.stop(self._pages.current)
                    await self._pages.current.evaluate("1")
            except TimeoutError:
                return False
        return True

    async def _close(self, context: BrowserContext) -> None:
        if self._records:
            await self._keeper.recorded(context, self._folder)
        try:
            async with asyncio.timeout(CLOSE_S):
                await context.close()
        except (Error, TimeoutError):
            self._is_spent = True
        if self._records:
            async with self._keeper.trying("network.har", CLOSE_S):
                self._keeper.keep_file(self._folder / "network.har", "application/json")
        has_news = self._failure is not None or any(one.is_soft for one in self._steps)
        if (has_news or self._order.keeps) and not self._order.keeps_nothing and self._sight.lines:
            self._keeper.keep(
                "console.txt", "text/plain", "\n".join(self._sight.lines).encode("utf-8", "replace")
            )

    def _report(self) -> Report:
        sight = self._sight
        public = {name: value for name, value in self._captured.items() if name not in self._hidden}
        return Report(
            tuple(self._steps),
            sight.documents,
            tuple(sight.console),
            sight.console_errors,
            tuple(sight.failures),
            sight.failed_requests,
            sight.requests,
            {name: self.hide(value) for name, value in public.items()},
            tuple(one for one in self._secrets if one not in self._order.secrets),
            self._failure,
            tuple(self.hide(note) for note in self._keeper.notes),
            self._is_spent,
        )


def _locators(step: JourneyStep) -> tuple[Locator, ...]:
    """The element a step is about, then those that it is inside."""
    given: Any = getattr(step, step.action)
    if isinstance(given, Locator):
        at: Locator | None = given
    elif isinstance(given, Wait):
        at = given.visible or given.hidden
    else:
        at = getattr(given, "at", None)
    found = []
    while at is not None:
        found.append(at)
        at = at.inside
    return tuple(found)
