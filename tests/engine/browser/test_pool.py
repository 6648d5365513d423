"""Turns and browsers: who is the next, what is lost when something breaks, and what nobody is believed."""

import asyncio
import http.server
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from engine.browser import hearing, pool
from engine.browser.find import find_chromium
from engine.browser.gate import Traffic
from engine.browser.hearing import MOST_MESSAGES, Heard, hear_out, order_of
from engine.browser.pool import MOST_WAITING, Browsers, Turn
from engine.browser.wire import Alive, Kept, Report, Stepped, WireError, packed
from engine.probes.context import Context
from engine.probes.evidence import JOURNEY_BYTES, evidence
from engine.probes.run import RunOutcome, run
from engine.probes.trouble import TroubleError
from evaluators.model import Failure, Verdict
from evaluators.observation import Artifact, Journeyed, Observation, StepDone
from rules.address import EgressPolicy
from rules.beat import BEAT
from rules.check import compile_check
from rules.kinds.browser import BrowserCheck
from tests.rig.installation import family

PAGE = b"""<title>Shop</title><h1>Shop</h1><button onclick="document.body.append('bought')">Buy</button>
<button onclick="for(;;){}">Hang</button>"""


def check(**given: Any) -> BrowserCheck:
    spec = {"type": "browser", "name": "Shop", "slug": "shop", "url": "http://127.0.0.1:1/", "retries": 0}
    spec |= {
        "evidence": {"trace": "never"},
        "steps": [{"goto": "/"}, {"click": "Buy", "timeout": "5s"}],
    } | given
    compiled = compile_check(BEAT.validate_python(spec), {})
    assert isinstance(compiled, BrowserCheck)
    return compiled


# ---- turns, without a browser


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Browsers]:
    """Slots that have no browsers."""

    async def started(_: object, __: object) -> None:
        return None

    monkeypatch.setattr(Browsers, "started", started)
    return lambda slots: Browsers({}, slots=slots)


@asynccontextmanager
async def held(browsers: Browsers, key: str, within_s: float = 60.0) -> AsyncIterator[None]:
    async with browsers.turn(check(), key, within_s):
        yield


async def in_order(browsers: Browsers, keys: str) -> str:
    """Who came, in which order, when all of `keys` asked while the slots were taken."""
    came = ""

    async def one(key: str) -> None:
        nonlocal came
        async with held(browsers, key):
            came += key
            await asyncio.sleep(0)

    async with held(browsers, "first"):
        asked = [asyncio.create_task(one(key)) for key in keys]
        await asyncio.sleep(0)
    await asyncio.gather(*asked)
    return came


def test_a_beat_with_many_waiting_runs_takes_turns_with_the_others(turns: Callable[[int], Browsers]) -> None:
    assert asyncio.run(in_order(turns(1), "aaaabbc")) == "abcabaa"


def test_who_has_no_slot_comes_before_who_has_one(turns: Callable[[int], Browsers]) -> None:
    async def told() -> list[str]:
        browsers, came = turns(2), list[str]()

        async def one(key: str) -> None:
            async with held(browsers, key):
                came.append(key)

        async with held(browsers, "a"):
            async with held(browsers, "b"):
                asked = [asyncio.create_task(one(key)) for key in "ab"]
                await asyncio.sleep(0)
            await asyncio.gather(*asked)
        return came

    assert asyncio.run(told()) == ["b", "a"]


def test_a_run_without_a_turn_in_time_is_busy(turns: Callable[[int], Browsers]) -> None:
    async def told() -> tuple[str, int, int]:
        browsers = turns(1)
        async with held(browsers, "a"):
            with pytest.raises(TroubleError, match="none of 1 browsers was free") as busy:
                async with held(browsers, "b", within_s=0.01):
                    raise AssertionError
        return busy.value.kind, browsers.busy, browsers.running

    assert asyncio.run(told()) == ("probe.busy", 1, 0)


def test_more_than_can_wait_are_busy_at_once(turns: Callable[[int], Browsers]) -> None:
    async def told() -> str:
        browsers = turns(1)

        async def one() -> None:
            async with held(browsers, "b"):
                pass

        async with held(browsers, "a"):
            waiting = [asyncio.create_task(one()) for _ in range(MOST_WAITING)]
            await asyncio.sleep(0)
            with pytest.raises(TroubleError) as busy:
                await one()
        await asyncio.gather(*waiting)
        assert browsers.waiting == browsers.running == 0
        return busy.value.kind

    assert asyncio.run(told()) == "probe.busy"


@pytest.mark.parametrize("is_granted", [False, True], ids=["that waits", "whose turn has just come"])
def test_a_cancelled_run_loses_no_slot(turns: Callable[[int], Browsers], is_granted: bool) -> None:
    async def told() -> tuple[int, int]:
        browsers = turns(1)

        async def one() -> None:
            async with held(browsers, "b"):
                pass

        async with held(browsers, "a"):
            task = asyncio.create_task(one())
            await asyncio.sleep(0)
            if not is_granted:
                task.cancel()
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return browsers.running, browsers.waiting

    assert asyncio.run(told()) == (0, 0)


class Worn:
    """A browser that uses as much memory as is said."""

    def __init__(self) -> None:
        self.ended, self.size = "", 100

    def usage(self) -> tuple[float, int]:
        return 1.0, self.size

    async def kill(self) -> None:
        self.ended = "killed"

    close = kill

    def cleanup(self) -> None:
        pass


@pytest.mark.parametrize(
    ("limit", "most", "why"),
    [
        ("MOST_RUNS", 3, "worn"),
        ("OLDEST_S", -1.0, "worn"),
        ("GROWN_BYTES", 9, "worn"),
        ("IDLE_S", 0.0, "idle"),
    ],
)
def test_a_browser_is_renewed_when_it_is_worn_and_ended_when_idle(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: float, why: pool.Reason
) -> None:
    monkeypatch.setattr(pool, limit, most)

    async def told() -> None:
        browsers, made = Browsers({}, slots=1, idle_s=pool.IDLE_S), list[Any]()

        async def start(_: BrowserCheck) -> Any:
            worn: Any = Worn()
            made.append(pool._Browser(worn, worn, worn, worn, "", asyncio.get_running_loop().time()))
            browsers._all.add(made[-1])
            return made[-1]

        monkeypatch.setattr(browsers, "_start", start)
        for _ in range(3):
            async with held(browsers, "a"):
                made[-1].runs += 1
            made[-1].sandbox.size += 5
        for _ in range(2):  # whoever is idle is ended by a timer
            await asyncio.sleep(0.001)
        assert browsers.ends[why] >= 1
        await browsers.close()
        assert all(one.sandbox.ended for one in made)
        assert browsers.usage() == (float(len(made)), 0)

    asyncio.run(told())


# ---- what a worker says, who may be lying


class Mouth:
    """A sandbox that says what it was given."""

    def __init__(self, *said: bytes, lives: bool = False) -> None:
        self.reader = asyncio.StreamReader()
        self.reader.feed_data(b"".join(said))
        if not lives:
            self.reader.feed_eof()
        self.writer: Any = SimpleNamespace(write=lambda _: None, drain=self._drain)

    async def _drain(self) -> None:
        pass


def heard_of(
    *said: bytes, ended: str = "", traffic: Traffic | None = None, lives: bool = False
) -> tuple[bool, Observation]:
    async def told() -> tuple[bool, Observation]:
        beat = check()
        so_far, seen = Heard(beat, "Chromium", "bubblewrap"), Observation()
        order = order_of(
            beat, 60.0, is_first=True, keeps_all=False, records=False, traceparent="", is_stepped=False
        )
        mouth: Any = Mouth(*said, lives=lives)
        is_whole = await hear_out(so_far, mouth, order, 60.0, None)
        so_far.tell(seen, traffic or Traffic(), ended)
        return is_whole, seen

    return asyncio.run(told())


GONE = StepDone("goto-1", "goto /", "ok", 0.0, 1.0)
FAILED = StepDone("goto-1", "goto /", "failed", 0.0, 1.0, "no")
BOUGHT = StepDone("click-2", "click Buy", "ok", 1.0, 1.0)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xff\xff\xff",
        (9).to_bytes(4, "big") + b"no msgpac",
        (3 << 20).to_bytes(4, "big") + bytes(3 << 20),
        packed(Stepped(StepDone("another", "", "ok"))),
        packed(Kept(Artifact("../../etc/passwd", "text/plain", b""))),
        packed(Kept(Artifact("page.html", "text/html", bytes(9 << 20)))),
        packed(Stepped(GONE)) * (MOST_MESSAGES + 1),
        packed(Kept(Artifact("a.jpg", "image/jpeg", bytes(7 << 20)))) * 8,
    ],
    ids=[
        "nothing",
        "huge",
        "noise",
        "long",
        "another step",
        "a path",
        "a large file",
        "without end",
        "too much",
    ],
)
def test_a_worker_that_lies_is_our_own_trouble_and_is_not_used_again(said: bytes) -> None:
    is_whole, seen = heard_of(said)
    assert seen.failure is not None
    assert (is_whole, seen.failure.type) == (False, "probe.browser")
    assert sum(len(one.data) for one in (seen.artifacts or ())) <= 48 << 20


@pytest.mark.parametrize(
    ("said", "ends_as"),
    [
        (b"", "probe.browser"),
        (packed(Alive()), "step.timeout"),
        (packed(Stepped(FAILED, failure=Failure("step.failed", "no"))) + packed(Alive()), "step.failed"),
        (packed(Stepped(GONE)) + packed(Stepped(BOUGHT)) + packed(Alive()), "probe.browser"),
    ],
    ids=["is silent", "lives", "said what failed", "did it all and does not report"],
)
def test_a_worker_without_a_report(monkeypatch: pytest.MonkeyPatch, said: bytes, ends_as: str) -> None:
    monkeypatch.setattr(hearing, "_SILENT_S", 60.0 if said else 0.0)
    monkeypatch.setattr(hearing, "_SPARE_S", 59.8)
    is_whole, seen = heard_of(said, lives=True)
    assert seen.failure is not None
    assert (is_whole, seen.failure.type) == (False, ends_as)


def test_lies_in_a_report_are_cut_to_what_can_be() -> None:
    report = Report(
        (
            StepDone("goto-1", "x" * 9000, "ok", float("nan"), -3.0, url="a\0b" * 9000),
            StepDone("no", "", "ok"),
        ),
        console=("e\0" * 900,) * 500,
        console_errors=-1,
        notes=("trace.zip is left out\0" * 40,) * 200,
        captured={"hidden": "x"},
        secrets=("a", "a longer one"),
        failure=Failure("Not A Type\n", "m" * 9000),
    )
    is_whole, seen = heard_of(packed(report))
    assert seen.journey is not None
    step = seen.journey.steps[0]
    assert (is_whole, len(seen.journey.steps), step.after_s, step.took_s) == (True, 1, 0.0, 0.0)
    assert (len(seen.journey.console), seen.journey.console_errors, seen.captured) == (50, 0, {})
    assert "\0" not in step.url + seen.journey.console[0] + seen.journey.notes[0]
    assert seen.journey.notes[49].startswith("trace.zip is left out")
    assert "a" not in seen.secrets
    assert seen.failure is not None
    assert (seen.failure.type, len(seen.failure.message) <= 501) == ("probe.browser", True)


def test_a_file_that_nobody_can_read_is_left_out_and_said() -> None:
    turn, seen = Turn(Browsers({}), check(), keeps_all=False, records=False), Observation(journey=Journeyed())
    turn._artifacts = (Artifact("trace.zip", "", b"no archive"), Artifact("console.txt", "", b"said"))
    asyncio.run(turn.show(seen, ()))
    assert [one.name for one in seen.artifacts] == ["console.txt"]
    assert seen.journey is not None
    assert seen.journey.notes == ("trace.zip: left out, as nobody can tell that no secret is there",)


def test_what_was_heard_before_the_end_is_kept_with_why_it_ended() -> None:
    _, seen = heard_of(packed(Stepped(GONE)), ended="more than 2048 MiB of memory were used")
    assert [step.name for step in seen.steps] == ["goto-1"]
    assert seen.failure == Failure(
        "probe.browser", "the browser broke: more than 2048 MiB of memory were used"
    )


def test_a_page_that_is_not_reached_fails_as_the_gate_knows() -> None:
    failed = StepDone("goto-1", "goto /", "failed", 0.0, 1.0, "net::ERR_TUNNEL_CONNECTION_FAILED")
    report = packed(Report((failed,), failure=Failure("http.protocol", "the tunnel failed")))
    known = Traffic(failures={"127.0.0.1:1": Failure("connect.refused", "Connection refused")})
    assert heard_of(report, traffic=known)[1].failure == Failure(
        "connect.refused", "127.0.0.1: Connection refused"
    )


def test_too_much_traffic_is_the_targets_failure() -> None:
    failure = heard_of(packed(Report()), traffic=Traffic(is_cut=True))[1].failure
    assert failure is not None
    assert failure.type == "browser.too_large"


def test_the_step_that_failed_is_in_the_evidence_however_much_there_is() -> None:
    steps = [{"name": f"s{n}", "goto": f"/{n}"} for n in range(100)]
    beat = check(steps=steps)
    so_far, seen = Heard(beat, "Chromium", "bubblewrap"), Observation()
    long = "x" * 300
    done = tuple(StepDone(f"s{n}", long, "ok", 1.0, 1.0, url=long, picture="a.jpg") for n in range(99))
    failed = StepDone("s99", long, "failed", 1.0, 1.0, "why")
    so_far.take(Report((*done, failed), console=(long,) * 50, failures=(long,) * 50))
    so_far.tell(seen, Traffic(), "")
    journey = evidence(beat, seen)["journey"]
    assert len(str(journey)) < JOURNEY_BYTES * 1.2
    assert journey["steps"][-1] == {
        "name": "s99", "said": long, "state": "failed", "after_s": 1.0, "took_s": 1.0, "error": "why"
    }  # fmt: skip


# ---- with a real one

ASKED: list[str] = []


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    class Shop(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ASKED.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(PAGE)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def on_browsers(
    told: Callable[[Browsers, Context], Coroutine[Any, Any, None]], slots: int = 1, **environment: str
) -> None:
    if find_chromium(os.environ) is None:
        pytest.skip("no Chromium")

    async def staged() -> None:
        browsers = Browsers({**os.environ, **environment}, slots=slots)
        context = Context(EgressPolicy(), browsers=browsers)
        try:
            await told(browsers, context)
        finally:
            await browsers.close()
            context.close()
        assert (browsers.running, browsers.waiting, browsers.warm) == (0, 0, 0)

    uvloop.run(staged())


def inside(named: str) -> list[int]:
    """Processes of this test's browsers whose command has `named` in it."""
    found = []
    for pid in family(os.getpid())[1:]:
        with suppress(OSError):
            if named in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(pid)
    return found


@pytest.mark.browser
def test_a_warm_browser_does_the_next_journey_and_one_that_breaks_is_our_own_trouble(shop: str) -> None:
    async def told(browsers: Browsers, context: Context) -> None:
        beat = check(url=shop)
        assert (await run(beat, context)).verdict is Verdict.OK
        first = inside("engine.browser")
        assert (await run(beat, context)).verdict is Verdict.OK
        assert first
        assert (inside("engine.browser"), browsers.runs, browsers.warm) == (first, 2, 1)
        waits = check(url=shop, timeout="60s", steps=[{"goto": "/"}, {"wait": {"duration": "40s"}}])
        looks = check(url=shop, timeout="60s", steps=[{"goto": "/"}, {"click": {"text": "Nope"}}])
        steps = [{"goto": "/"}, {"click": {"text": "Nope"}, "timeout": "1s"}]
        freezes = check(url=shop, timeout="8s", steps=steps)
        for victim, sent, journey in (
            ("--type=renderer", signal.SIGKILL, waits),
            ("--headless", signal.SIGKILL, looks),
            ("run-driver", signal.SIGKILL, looks),
            ("engine.browser", signal.SIGKILL, looks),
            ("run-driver", signal.SIGSTOP, freezes),
        ):
            asked = len(ASKED)
            running = asyncio.create_task(run(journey, context))
            while len(ASKED) == asked and not running.done():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)  # the page is there
            for pid in inside(victim):
                with suppress(OSError):
                    os.kill(pid, sent)
            outcome = await running
            assert (outcome.verdict, outcome.failure and outcome.failure.type) == (
                Verdict.ERROR,
                "probe.browser",
            ), (victim, sent, outcome.failure)
        assert browsers.ends["trouble"] == 5

    on_browsers(told)
    assert not inside("engine.browser")


@pytest.mark.browser
def test_a_run_that_is_cancelled_leaves_no_browser_and_no_slot_taken(shop: str) -> None:
    async def told(browsers: Browsers, context: Context) -> None:
        running = asyncio.create_task(
            run(check(url=shop, steps=[{"goto": "/"}, {"wait": {"duration": "30s"}}]), context)
        )
        while not inside("--type=renderer"):
            assert not running.done(), running.result()
            await asyncio.sleep(0.05)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert browsers.running == 0
        await browsers.close()
        assert not inside("chrom")

    on_browsers(told)


@pytest.mark.browser
def test_a_page_that_hangs_is_the_targets_failure_and_the_browser_is_ended(shop: str) -> None:
    async def told(browsers: Browsers, context: Context) -> None:
        steps = [{"goto": "/"}, {"click": "Hang"}, {"expect": {"at": "Shop"}}]
        outcome = await run(check(url=shop, steps=steps, timeout="4s"), context)
        assert outcome.failure is not None
        assert (outcome.verdict, outcome.failure.type) == (Verdict.CRITICAL, "step.timeout")
        assert outcome.evidence is not None
        assert outcome.evidence["journey"]["steps"][0]["state"] == "ok"

    on_browsers(told)


@pytest.mark.browser
def test_a_journey_is_not_begun_again_where_its_time_would_be_cut(shop: str) -> None:
    async def told(browsers: Browsers, context: Context) -> None:
        steps = [{"goto": "/"}, {"click": "Sell", "timeout": "4s"}]
        outcome = await run(check(url=shop, steps=steps, interval="10s", timeout="6s", retries=1), context)
        assert outcome.failure is not None
        assert (outcome.attempts, outcome.tried) == (1, ())

    on_browsers(told)


@pytest.mark.browser
def test_a_script_has_a_browser_of_its_own_where_scripts_are_allowed(shop: str) -> None:
    script = f"async def journey(page, context, values, step):\n    await page.goto({shop!r})\n"
    beat = check(url=shop, steps=[], script=script)

    async def refused(browsers: Browsers, context: Context) -> None:
        outcome = await run(beat, context)
        assert outcome.failure is not None
        assert (outcome.verdict, outcome.failure.type) == (Verdict.ERROR, "probe.scripts")
        assert browsers.runs == 0

    async def allowed(browsers: Browsers, context: Context) -> None:
        assert (await run(check(url=shop), context)).verdict is Verdict.OK
        outcome = await run(beat, context)
        assert outcome.verdict is Verdict.OK, outcome.failure
        assert (browsers.ends["crowded"], browsers.ends["script"], browsers.warm) == (1, 1, 0)

    on_browsers(refused, UPBEAT_BROWSER_SCRIPTS="")
    on_browsers(allowed, UPBEAT_BROWSER_SCRIPTS="1")


def outcome_of(**environment: str) -> RunOutcome:
    async def told() -> RunOutcome:
        browsers = Browsers(environment, slots=1)
        context = Context(EgressPolicy(), browsers=browsers)
        outcome = await run(check(), context)
        assert (await run(check(), context)).failure == outcome.failure  # it is not tried again at once
        await browsers.close()
        context.close()
        return outcome

    return asyncio.run(told())


def test_a_missing_browser_is_our_own_trouble_and_says_what_to_install() -> None:
    outcome = outcome_of(UPBEAT_CHROMIUM="/nowhere")
    assert outcome.failure is not None
    assert (outcome.verdict, outcome.failure.type) == (Verdict.ERROR, "probe.browser")
    assert pool._MISSING in outcome.failure.message


def test_who_is_shown_no_message_of_a_kind_that_nobody_asked_for() -> None:
    with pytest.raises(WireError):
        Heard(check(), "", "").take(object())
