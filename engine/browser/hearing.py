"""What a worker is told of a journey, and what is taken of what it says. It may be lying: all is bounded, and judged elsewhere."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urljoin

from engine.browser.gate import MOST_BYTES, Traffic
from engine.browser.redaction import FILE, TYPES
from engine.browser.sandbox import Sandbox
from engine.browser.wire import (
    ARTIFACT_BYTES,
    MOST_TOTAL_BYTES,
    Alive,
    Asked,
    Go,
    Kept,
    Order,
    Report,
    Stepped,
    WireError,
    heard,
    packed,
)
from engine.probes.attempt import MESSAGE_MAX
from evaluators.model import Failure, Outcome, Timings
from evaluators.observation import Artifact, Document, Journeyed, Observation, StepDone, StepSeen
from rules.journey import Journey, JourneyStep, Named, named
from rules.kinds.browser import BrowserCheck
from rules.secret import cut, hidden_forms
from rules.target import parse_target

Guide = Callable[[Stepped | None], Awaitable[Go]]
"""Shown a step that was done, and None before the first of a stepped journey; says what is next, where that is asked."""
MOST_MESSAGES: Final = 1000
MOST_STEPS: Final = 200
_MOST_SAID: Final = 50  # lines of the console, requests that failed, pages, captures
_SILENT_S: Final = 5.0  # then a worker does not live, or has no time to
_SPARE_S: Final = 0.5  # of an attempt, in which its end is told
_LONGEST: Final = 300  # characters
_KIND: Final = re.compile(r"[a-z]+(\.[a-z0-9_]+)?")
_URL: Final = re.compile(r"https?://[^\s\"'<>]+")
_BY_NETWORK: Final = ("http.", "dns.", "connect.", "egress.", "tls.handshake", "step.timeout")


def order_of(
    check: BrowserCheck,
    left_s: float,
    *,
    is_first: bool,
    keeps_all: bool,
    records: bool,
    traceparent: str,
    is_stepped: bool,
) -> Order:
    """What is asked for, in an attempt that has `left_s` seconds. `records`: this run is one to look at closely."""
    steps_s, teardown_s = check.shares_s
    keeping = check.keeping
    looks = records or keeps_all or not is_first or check.pace.retries == 0
    return Order(
        check.journey,
        max(0.1, steps_s - max(0.0, check.pace.timeout_s - left_s)),
        teardown_s,
        keeps=keeping.keep == "always" or keeps_all,
        keeps_nothing=keeping.keep == "never",
        records=keeping.trace == "always" or (keeping.trace == "retry" and looks),
        secrets=check.secrets,
        traceparent=traceparent,
        is_stepped=is_stepped,
    )


class Heard:
    """What was said of one journey so far."""

    def __init__(self, check: BrowserCheck, browser: str, isolation: str) -> None:
        self.artifacts: list[Artifact] = []
        self.hosts: list[str] = []
        self.total_s: float | None = None  # of the steps alone; None where they did not end
        self._browser, self._isolation = _text(browser), isolation
        self._check, self._timeout_s = check, check.pace.timeout_s
        self._known: dict[str, Named] = {}
        self._begins = ""
        if not check.is_script:
            journey = Journey.model_validate(check.journey)
            self._begins = journey.url or ""
            self._known = {one.name: one for one in named(journey)}
        urls = [self._begins or check.journey.get("url") or ""]
        urls += [urljoin(urls[0], one.step.goto or "") for one in self._known.values()]
        self.hosts = list(dict.fromkeys(target[0] for url in urls if (target := _place(url))))
        self._steps: list[StepDone] = []
        self._report: Report | None = None
        self._failed: Failure | None = None  # as the step said that did, until it is reported
        self._wrong = ""

    def take(self, said: object) -> None:
        """Raises `WireError` for what is not to be said now, or too often."""
        if isinstance(said, Stepped):
            self._failed = said.failure
            if len(self._steps) >= MOST_STEPS:
                raise WireError(f"more than {MOST_STEPS} steps")
            if not self._is_known(said.step):
                raise WireError("a step that is not of the journey")
            step = self._step(said.step)
            self._steps = [one for one in self._steps if one.name != step.name] + [step]  # it was done again
        elif isinstance(said, Kept):
            one = said.artifact
            found = FILE.fullmatch(one.name)
            if found is None or len(one.data) > ARTIFACT_BYTES:
                raise WireError("a file that nobody asked for")
            self.artifacts.append(Artifact(one.name, TYPES[found[1]], one.data))
        elif isinstance(said, Report):
            self._report = said
        elif not isinstance(said, Alive):
            raise WireError("something that nobody asked for")

    def expect(self, go: Go) -> None:
        """A step that is asked for, which the journey may not have."""
        if go.step is not None:
            self._known[go.name] = Named(go.name, JourneyStep.model_validate(go.step), is_teardown=False)

    def broke(self, why: str) -> None:
        """It will say nothing more."""
        self._wrong = why

    def tell(self, seen: Observation, traffic: Traffic, ended: str) -> None:
        """Fill in what is known; `ended`: why the sandbox did, if so."""
        report = self._report or Report()
        if report.steps:
            self._steps = [self._step(one) for one in report.steps[:MOST_STEPS] if self._is_known(one)]
        own = [one for one in self._steps if not one.is_teardown and one.state != "skipped"]
        if self._report is not None:
            self.total_s = math.fsum(one.took_s for one in own)
        seen.secrets = hidden_forms(_texts(report.secrets, 4000))
        publish = self._check.journey.get("publish", ())
        seen.captured = {
            name: _text(value, 1000) for name, value in report.captured.items() if name in publish
        }
        seen.journey = Journeyed(
            tuple(self._steps),
            tuple(self._document(one) for one in report.documents[:_MOST_SAID]),
            _texts(report.console),
            _count(report.console_errors),
            _texts(report.failures),
            _count(report.failed_requests),
            _count(report.requests),
            traffic.received_bytes,
            self._browser,
            self._isolation,
            _texts(report.notes),
        )
        seen.failure = self._failure(report, traffic, ended)
        seen.steps = [self._seen(one, seen.failure) for one in self._steps if one.state != "skipped"]

    def _failure(self, report: Report, traffic: Traffic, ended: str) -> Failure | None:
        if traffic.is_cut:
            return Failure("browser.too_large", f"more than {MOST_BYTES >> 20} MiB went over the network")
        if self._report is None:
            if ended or self._wrong:
                return Failure(
                    "probe.browser", _text(f"the browser broke: {ended or self._wrong}", MESSAGE_MAX)
                )
            done = {one.name for one in self._steps}
            left = [name for name, one in self._known.items() if name not in done and not one.is_teardown]
            if self._failed is None and (left or self._check.is_script):
                which = left[0] if left else "a step"
                return Failure("step.timeout", f"{which} did not end within the time of the attempt")
            report = Report(failure=self._failed or Failure("probe.browser", "the browser did not report"))
        if report.failure is None:
            return None
        kind = report.failure.type
        failure = Failure(
            kind if len(kind) < 60 and _KIND.fullmatch(kind) else "probe.browser",
            _text(report.failure.message, MESSAGE_MAX),
        )
        if failure.type.startswith(_BY_NETWORK):
            failure = self._by_gate(failure, report, traffic) or failure
        return failure

    def _by_gate(self, failure: Failure, report: Report, traffic: Traffic) -> Failure | None:
        """Why a page was not reached, as the gate knows it and the browser does not."""
        failed = next((one for one in self._steps if one.state == "failed" and not one.is_soft), None)
        step = self._known.get(failed.name) if failed else None
        if step is not None and step.step.goto is None:
            return None
        urls = [urljoin(self._begins, step.step.goto or "")] if step else []
        if failure.type != "step.timeout":
            urls += [
                url
                for text in (failure.message, *reversed(report.failures[-10:]))
                for url in _URL.findall(text)
            ]
        for url in urls:
            place = _place(url)
            if place and (known := traffic.failures.get(f"{place[0]}:{place[1]}")):
                return Failure(known.type, f"{place[0]}: {known.message}")
        return None

    def _seen(self, step: StepDone, failure: Failure | None) -> StepSeen:
        """As steps of any run; one that may fail is judged as an assertion is."""
        if step.state == "ok":
            return StepSeen(step.name, None, Timings(total=step.took_s))
        known = self._known.get(step.name)
        is_soft = step.is_soft if known is None else known.step.soft and not known.is_teardown
        of = "expect" if known is not None and known.step.expect is not None else "step"
        severity = known.step.severity if known is not None else "critical"
        outcome = Outcome(of, False, None, step.error, severity, step=step.name)
        why = None if is_soft or step.is_teardown else failure or Failure("step.failed", step.error)
        return StepSeen(step.name, None, Timings(total=step.took_s), (outcome,) if is_soft else (), why)

    def _is_known(self, one: StepDone) -> bool:
        return not self._known or one.name in self._known

    def _step(self, one: StepDone) -> StepDone:
        return StepDone(
            _text(one.name, 80),
            _text(one.said),
            one.state,
            _seconds(one.after_s, self._timeout_s),
            _seconds(one.took_s, self._timeout_s),
            _text(one.error, MESSAGE_MAX),
            one.is_soft,
            one.is_teardown,
            _text(one.url),
            one.picture if FILE.fullmatch(one.picture) else "",
        )

    def _document(self, one: Document) -> Document:
        vitals = {
            name: value
            for name in ("ttfb", "fcp", "lcp", "cls")
            if (value := getattr(one, name)) is not None and 0 <= value < 1e6
        }
        return Document(_text(one.step, 80), _text(one.url), **vitals)


async def hear_out(
    heard_so_far: Heard, confined: Sandbox, order: Order, within_s: float, guide: Guide | None
) -> bool:
    """Tell the worker, and listen until it has reported. False where it did not, or cannot be trusted with another."""
    left, clock = MOST_TOTAL_BYTES, asyncio.get_running_loop().time
    last_s = clock()

    async def ask(message: Asked) -> None:
        confined.writer.write(packed(message))
        await confined.writer.drain()

    async def go_on(guide: Guide, done: Stepped | None) -> None:
        go = await guide(done)
        if done is None or (done.waits and order.is_stepped):
            heard_so_far.expect(go)
            await ask(go)

    try:
        async with asyncio.timeout(max(0.0, within_s - _SPARE_S)):
            await ask(order)
            if guide is not None and order.is_stepped:
                await go_on(guide, None)
            for _ in range(MOST_MESSAGES):
                said, size = await heard(confined.reader, min(left, 2 * ARTIFACT_BYTES))
                left, last_s = left - size, clock()
                heard_so_far.take(said)
                if isinstance(said, Report):
                    return not said.is_spent
                if guide is not None and isinstance(said, Stepped):
                    await go_on(guide, said)
        heard_so_far.broke(f"the worker said more than {MOST_MESSAGES} things")
    except TimeoutError:
        is_busy = guide is not None or "script" in order.journey  # one waits for us, one for what it runs
        if not is_busy and clock() - last_s > min(_SILENT_S, within_s / 2):
            heard_so_far.broke("the worker is silent")
    except (WireError, OSError) as broken:
        heard_so_far.broke(str(broken))
        await asyncio.sleep(0.1)  # what ended it is said on another pipe
    return False


def _place(url: str) -> tuple[str, int] | None:
    """Host, as the gate writes it, and port."""
    try:
        target = parse_target(url)
    except ValueError:
        return None
    return (f"[{target.host}]" if ":" in target.host else target.host), target.port


def _text(text: str, most: int = _LONGEST) -> str:
    return cut(text[: 2 * most].replace("\x00", "\ufffd"), most)


def _texts(texts: Sequence[str], most: int = _LONGEST) -> tuple[str, ...]:
    return tuple(_text(one, most) for one in texts[:_MOST_SAID])


def _seconds(value: float, most: float) -> float:
    return round(min(max(value, 0.0), most), 6) if math.isfinite(value) else 0.0


def _count(value: int) -> int:
    return min(max(value, 0), 1_000_000)
