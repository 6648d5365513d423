"""Browsers kept warm, and whose turn it is: a fair queue across beats. Lateness is counted here, apart from the schedule's.

A slot is held for one run. Its browser is taken from those that are warm, or started, before the run's clock is: what a
start takes is nobody's time. What a journey is told and says is `engine.browser.hearing`.
"""

import asyncio
import os
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import structs

from engine.browser.find import find_chromium
from engine.browser.gate import Gate, gate
from engine.browser.hearing import Guide, Heard, hear_out, order_of
from engine.browser.redaction import redacted
from engine.browser.sandbox import Confinement, Sandbox, confinement, place, start
from engine.browser.wire import Ready, WireError, hear
from engine.probes.attempt import Watch
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from engine.scheduler import Lateness
from evaluators.observation import Artifact, Observation
from rules.kinds.browser import BrowserCheck

SLOT_BYTES: Final = 700 << 20
"""Memory that a browser is reckoned to need."""
MOST_WAITING: Final = 100
"""Runs; they are among the scheduler's, whose slots are for the beats of networks as well."""
START_S: Final = 60.0
IDLE_S: Final = 300.0
MOST_RUNS: Final = 100
OLDEST_S: Final = 1800.0
GROWN_BYTES: Final = 400 << 20
"""More than after its first run: then a browser is renewed."""
REST_FIRST_S: Final = 1.0
REST_MAX_S: Final = 60.0
_MISSING: Final = "no Chromium is found; install one (`apt-get install chromium-headless-shell`), or name it by UPBEAT_CHROMIUM"

Reason = Literal["script", "worn", "idle", "trouble", "crowded", "close"]


def slots_here() -> int:
    """One per core and 700 MB of free memory, at least 1."""
    most = os.cpu_count() or 1
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        most = min(most, free // SLOT_BYTES)
    return max(1, most)


@dataclass(slots=True, eq=False)
class _Browser:
    """One that runs, with its way out."""

    sandbox: Sandbox
    gate: Gate
    folder: tempfile.TemporaryDirectory[str]
    confined: Confinement
    version: str
    began_s: float
    runs: int = 0
    first_bytes: int = 0
    idle: asyncio.TimerHandle | None = None


class Turn:
    """A slot that is held for one run, its retries included."""

    def __init__(self, browsers: "Browsers", check: BrowserCheck, *, keeps_all: bool, records: bool) -> None:
        self._browsers, self._check = browsers, check
        self._keeps_all, self._records, self._attempts = keeps_all, records, 0
        self._browser: _Browser | None = None
        self._artifacts: tuple[Artifact, ...] = ()

    async def do(self, check: BrowserCheck, context: Context, watch: Watch, seen: Observation) -> None:
        """One attempt. Raises `TroubleError`; `probe.browser` where browser, sandbox or worker broke, which is never the target's."""
        self._attempts, self._artifacts = self._attempts + 1, ()
        if self._browser is None:
            self._browser = await self._browsers.started(check)
            watch.leave_out()
        browser, self._browser = self._browser, None
        heard, is_whole = Heard(check, browser.version, browser.confined.level), False
        traceparent = context.traceparent()
        seen.trace_id = traceparent[3:35]
        try:
            traffic = await browser.gate.open(context, block=check.journey.get("block", ()), site=heard.hosts)
            try:
                order = order_of(
                    check,
                    watch.ends_s - context.clock(),
                    is_first=self._attempts == 1,
                    keeps_all=self._keeps_all,
                    records=self._records,
                    traceparent=traceparent,
                    is_stepped=self._browsers.is_stepped,
                )
                is_whole = await hear_out(
                    heard, browser.sandbox, order, watch.ends_s - context.clock(), self._browsers.guide
                )
            finally:
                await browser.gate.shut()
                heard.tell(seen, traffic, browser.sandbox.ended)
                self._artifacts = tuple(heard.artifacts)
        finally:
            browser.runs += 1
            self._browsers.runs += 1
            if is_whole and not check.is_script:
                self._browser = browser
            else:
                self._browsers.drop(browser, "script" if is_whole else "trouble")
        if heard.total_s is not None:
            watch.count_only(heard.total_s)
        if seen.failure is not None:
            raise TroubleError(seen.failure.type, seen.failure.message)

    async def show(self, seen: Observation, secrets: tuple[str, ...]) -> None:
        """Give it what was kept of the last attempt, without secrets; and say what is not, as nobody can tell."""
        files = self._artifacts
        found = await asyncio.to_thread(lambda: [redacted(one, secrets) for one in files]) if files else []
        seen.artifacts = tuple(one for one in found if one is not None)
        left = [one.name for one, made in zip(files, found, strict=True) if made is None]
        if seen.journey and left:
            said = f"{', '.join(left)[:200]}: left out, as nobody can tell that no secret is there"
            seen.journey = structs.replace(seen.journey, notes=(*seen.journey.notes, said))

    async def begin(self) -> None:
        """Have a browser. Raises `TroubleError`."""
        self._browser = await self._browsers.started(self._check)

    def end(self) -> None:
        """Give it back."""
        browser, self._browser = self._browser, None
        if browser is not None:
            self._browsers.park(browser)


class Browsers:
    """The pool of a process.

    `guide` is shown each step, and asked for the next where it `is_stepped`; `shown` is the display of a headed one.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        slots: int = 1,
        guide: Guide | None = None,
        is_stepped: bool = False,
        shown: Mapping[str, str] | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self.slots = slots
        self.guide, self.is_stepped = guide, is_stepped
        self.lateness = Lateness()  # of runs that had to have a turn
        self.start_s = 0.0  # of the last browser that was started, its confinement tried before
        self.runs = self.busy = 0  # attempts; runs without a turn
        self.ends: Counter[Reason] = Counter()
        self._environment, self._shown, self._idle_s = environment, shown, idle_s
        self._free = self.slots
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._warm: list[_Browser] = []  # the last used is the last
        self._all: set[_Browser] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._trying = asyncio.Lock()
        self._rest_s, self._rests_until, self._why = REST_FIRST_S, 0.0, ""
        self._ended_cpu_s = 0.0
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Runs that wait for their turn."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Runs that have it."""
        return self.slots - self._free

    @property
    def warm(self) -> int:
        """Browsers that wait for a run."""
        return len(self._warm)

    def usage(self) -> tuple[float, int]:
        """CPU seconds of all browsers there were, and bytes of memory of those that are."""
        used = [one.sandbox.usage() for one in self._all]
        return self._ended_cpu_s + sum(cpu_s for cpu_s, _ in used), sum(size for _, size in used)

    @asynccontextmanager
    async def turn(
        self,
        check: BrowserCheck,
        key: Hashable,
        within_s: float,
        *,
        keeps_all: bool = False,
        records: bool = False,
    ) -> AsyncIterator[Turn]:
        """Wait for a slot, then hold it. Raises `TroubleError` `probe.busy` after `within_s` seconds.

        Of the runs that wait, those of a `key` that holds the fewest slots are the next, and keys take turns.
        """
        if check.is_script and self._environment.get("UPBEAT_BROWSER_SCRIPTS") != "1":
            raise TroubleError(
                "probe.scripts", "this probe runs no scripts; UPBEAT_BROWSER_SCRIPTS=1 allows them"
            )
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                await self._slot(key)
        except TimeoutError:
            self.busy += 1
            raise TroubleError(
                "probe.busy", f"none of {self.slots} browsers was free within {within_s:.3g} s"
            ) from None
        finally:
            self.lateness.record(time.monotonic() - asked_s)
        turn = Turn(self, check, keeps_all=keeps_all, records=records)
        try:
            await turn.begin()
            yield turn
        finally:
            turn.end()
            self._give_back(key)

    async def close(self) -> None:
        """End every browser."""
        self._is_closed = True
        for browser in [*self._all]:
            self.drop(browser, "close")
        await asyncio.gather(*self._ending, return_exceptions=True)

    # ---- whose turn it is

    async def _slot(self, key: Hashable) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            self._held[key] += 1
            return
        if self.waiting >= MOST_WAITING:
            self.busy += 1
            raise TroubleError("probe.busy", f"{MOST_WAITING} runs wait for a browser already")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._forget(key, granted)
            else:  # it came too late
                self._give_back(key)
            raise

    def _forget(self, key: Hashable, granted: asyncio.Future[None]) -> None:
        if among := self._waiting.get(key):
            with suppress(ValueError):
                among.remove(granted)
            if not among:
                del self._waiting[key]

    def _give_back(self, key: Hashable) -> None:
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._free += 1
        while self._free and self._waiting:
            following = min(self._waiting, key=lambda one: self._held[one])  # the first of them waits longest
            among = self._waiting.pop(following)
            granted = among.popleft()
            if among:
                self._waiting[following] = among
            if not granted.done():
                self._free -= 1
                self._held[following] += 1
                granted.set_result(None)

    # ---- browsers

    async def started(self, check: BrowserCheck) -> _Browser:
        """A warm one for steps, else a new one. Raises `TroubleError`."""
        while self._warm and not check.is_script:
            browser = self._warm.pop()
            if browser.idle is not None:
                browser.idle.cancel()
            if not browser.sandbox.ended:
                return browser
            self.drop(browser, "trouble")
        if self._warm and len(self._warm) + self.running > self.slots:
            self.drop(self._warm.pop(0), "crowded")
        if time.monotonic() < self._rests_until or self._is_closed:
            raise TroubleError("probe.browser", self._why or "the probe ends")
        began_s = time.monotonic()
        try:
            browser = await self._start(check)
        except (OSError, WireError) as failure:  # TimeoutError is one
            why = str(failure) or f"it was not ready within {START_S:g} s"
            self._why = f"the browser does not start: {why}"
            self._rests_until = time.monotonic() + self._rest_s
            self._rest_s = min(self._rest_s * 2, REST_MAX_S)
            raise TroubleError("probe.browser", self._why) from None
        self._rest_s, self.start_s = REST_FIRST_S, time.monotonic() - began_s
        return browser

    async def _start(self, check: BrowserCheck) -> _Browser:
        """Raises `OSError`, `WireError`; `TroubleError` where a script cannot be confined."""
        headed = self._shown is not None
        chromium = await asyncio.to_thread(find_chromium, self._environment, headed=headed)
        if chromium is None:
            raise OSError(_MISSING)
        async with self._trying:
            confined = await confinement(chromium)
        if headed:  # a display is of who looks at it: no other user or namespace has it
            own = confined.has_browser_sandbox and os.geteuid() != 0
            confined = replace(confined, level="process", has_browser_sandbox=own)
        if check.is_script and not confined.runs_scripts:
            raise TroubleError(
                "probe.scripts", f"scripts cannot be confined here: {'; '.join(confined.lacks)}"
            )
        folder = await asyncio.to_thread(tempfile.TemporaryDirectory, dir=place())
        way = starting = None
        try:
            way = await gate(Path(folder.name))
            starting = asyncio.ensure_future(
                start(chromium, confined, way.path, is_script=check.is_script, environment=self._shown)
            )
            started = await asyncio.shield(starting)
            try:
                async with asyncio.timeout(START_S):
                    ready = await hear(started.reader)
            except WireError as silent:
                await asyncio.sleep(0.1)  # it says on another pipe why it ended
                raise WireError(started.ended or str(silent)) from None
            if not isinstance(ready, Ready):
                raise WireError("the worker said something else than that it is ready")
        except BaseException:
            self._in_background(_give_up(starting, way, folder))
            raise
        browser = _Browser(started, way, folder, confined, ready.browser[:80], time.monotonic())
        self._all.add(browser)
        return browser

    def park(self, browser: _Browser) -> None:
        """It is warm, unless it is worn."""
        _, size = browser.sandbox.usage()
        browser.first_bytes = browser.first_bytes or size
        is_worn = (
            browser.runs >= MOST_RUNS
            or time.monotonic() - browser.began_s > OLDEST_S
            or size > browser.first_bytes + GROWN_BYTES
        )
        if browser.sandbox.ended:
            self.drop(browser, "trouble")
        elif is_worn or self._is_closed:
            self.drop(browser, "worn")
        else:
            loop = asyncio.get_running_loop()
            browser.idle = loop.call_later(self._idle_s, self.drop, browser, "idle")
            self._warm.append(browser)

    def drop(self, browser: _Browser, reason: Reason) -> None:
        """End it, whoever holds it, and do not wait for that."""
        if browser in self._all:
            self._all.discard(browser)
            self.ends[reason] += 1
            if browser.idle is not None:
                browser.idle.cancel()
            if browser in self._warm:
                self._warm.remove(browser)
            self._in_background(self._end(browser))

    async def _end(self, browser: _Browser) -> None:
        await _ended(browser.sandbox, browser.gate, browser.folder)
        self._ended_cpu_s += browser.sandbox.usage()[0]

    def _in_background(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _give_up(
    starting: asyncio.Future[Sandbox] | None,
    way: Gate | None,
    folder: tempfile.TemporaryDirectory[str],
) -> None:
    """End what may still be starting."""
    started = None
    if starting is not None:
        with suppress(OSError):
            started = await starting
    await _ended(started, way, folder)


async def _ended(started: Sandbox | None, way: Gate | None, folder: tempfile.TemporaryDirectory[str]) -> None:
    if started is not None:
        await started.kill()
    if way is not None:
        await way.close()
    await asyncio.to_thread(folder.cleanup)
