"""Heartbeats: what pings and silence say."""

from collections.abc import Iterable
from itertools import product

import pytest

from evaluators import heartbeat
from evaluators.heartbeat import SETTLE_S, Changed, Fact, Ping, Plan, Said, State, Tick, compile_plan, decide
from evaluators.model import Verdict
from rules.kinds.heartbeat import HeartbeatBeat

T0 = 1_800_000_000.0


def plan(**more: object) -> Plan:
    """Due every 100 s, with 20 s of grace; a run may take 30 s."""
    return compile_plan(
        HeartbeatBeat.model_validate(
            {"slug": "a", "type": "heartbeat", "every": 100, "grace": 20, "max_duration": 30} | more
        )
    )


class Telling:
    """A fold as the engine folds: ticks before facts."""

    def __init__(self, given: Plan) -> None:
        self.plan, self.state = given, State()
        self.told: list[Said] = []

    def fold(self, fact: Fact, deaf: tuple[float, float] = (0.0, 0.0)) -> None:
        while (d := heartbeat.next_deadline(self.plan, self.state)) is not None and d <= fact.at:
            before = self.state
            self._one(Tick(d, *deaf))
            assert self.state != before, "a tick that is due changes something, or it is due for ever"
        if not isinstance(fact, Tick):
            self._one(fact)

    def _one(self, fact: Fact) -> None:
        self.state, said = decide(self.plan, self.state, fact)
        self.told += [said] if said else []

    def said(self) -> str:
        """One word each: when, verdict and why."""
        return ", ".join(
            f"{said.at - T0:g} {said.verdict}" + (f" {said.failure.type[10:]}" if said.failure else "")
            for said in self.told
        )


def tell(given: Plan, pings: str, until: float) -> Telling:
    """`pings` such as `0 150 200s 210 220f` (start, fail, or success), with `/run` behind it; then time passes."""
    telling = Telling(given)
    for word in pings.split():
        text, _, run = word.partition("/")
        kind = {"s": "start", "f": "fail", "l": "log"}.get(text[-1], "success")
        at = T0 + float(text.rstrip("sfl"))
        telling.fold(Ping(at, f"ping {word}", kind, run, said="out of space" if kind == "fail" else ""))  # type: ignore[arg-type]
    telling.fold(Tick(T0 + until))
    return telling


STORIES = [
    pytest.param({}, "", 10_000, "", id="before the first ping nothing is due"),
    pytest.param({}, "0 100 200", 300, "0 ok, 100 ok, 200 ok", id="pings in time are ok"),
    pytest.param({}, "0 115 200", 300, "0 ok, 115 ok, 200 ok", id="within the grace is in time"),
    pytest.param({}, "0", 900, "0 ok, 120 critical missed", id="silence is missed once"),
    pytest.param({}, "0 500", 510, "0 ok, 120 critical missed, 500 ok", id="the next ping ends it"),
    pytest.param(
        {}, "0 500 500", 700, "0 ok, 120 critical missed, 500 ok, 500 ok, 620 critical missed", id="again"
    ),
    pytest.param(
        {"severity": {"late": "warning"}},
        "0 115",
        200,
        "0 ok, 100 warning late, 115 ok",
        id="late can be a warning",
    ),
    pytest.param(
        {"severity": {"late": "warning"}},
        "0",
        200,
        "0 ok, 100 warning late, 120 critical missed",
        id="and is missed afterwards",
    ),
    pytest.param({}, "0 50f", 60, "0 ok, 50 critical failed", id="a failure is told at once"),
    pytest.param({}, "0 50l", 500, "0 ok, 120 critical missed", id="a log line is no sign of life"),
    pytest.param({}, "0s 20", 50, "20 ok", id="a start says nothing by itself"),
    pytest.param(
        {},
        "0s 40 60s 80",
        90,
        "30 warning overlong, 40 warning overlong, 80 ok",
        id="overlong, while and after",
    ),
    pytest.param({"severity": {"overlong": "ignore"}}, "0s 40", 50, "40 ok", id="overlong can be ignored"),
    pytest.param(
        {}, "0s 25s 30", 40, "25 warning overlong, 30 ok", id="begun again before it ended: it never ends"
    ),
    pytest.param({}, "0s 10s 25", 40, "25 ok", id="a start that is sent twice is one"),
    pytest.param({}, "0s/a 20s/b 25/b 28/a", 60, "25 ok, 28 ok", id="runs overlap under their ids"),
    pytest.param(
        {},
        "0s/a 25s/b 45/b 50s/c 60/c",
        70,
        "30 warning overlong, 45 ok, 60 ok",
        id="a killed run is given up",
    ),
    pytest.param({"max_duration": None}, "0s", 300, "120 critical missed", id="a hung run is missed"),
    pytest.param(
        {"max_duration": None},
        "0s/a 90s/b",
        130,
        "120 warning overlong",
        id="without a limit until the next is due",
    ),
    pytest.param(
        {}, "0 10s/a 20f/b", 60, "0 ok, 20 critical failed", id="time alone makes nothing better than it is"
    ),
    pytest.param({}, "0 200s", 205, "0 ok, 120 critical missed", id="a start does not end what is missed"),
    pytest.param({"every": 100, "grace": 0}, "0", 200, "0 ok, 100 critical missed", id="no grace"),
]


@pytest.mark.parametrize(("more", "pings", "until", "expected"), STORIES)
def test_a_story(more: dict[str, object], pings: str, until: float, expected: str) -> None:
    assert tell(plan(**more), pings, until).said() == expected


def test_why_is_told() -> None:
    told = tell(plan(), "0 50f 60", 300).told
    assert [said.failure.message for said in told if said.failure] == [
        "the job says that it failed: out of space",
        "no ping since 2027-01-15 08:01:00 UTC, one was due 2027-01-15 08:02:40 UTC",
    ]
    telling = Telling(plan())
    telling.fold(Ping(T0, "p", "fail", code=3, said="disk full"))
    assert telling.told[0].failure
    assert telling.told[0].failure.message == "exit code 3: disk full"


def test_the_time_a_run_took_and_how_late_it_was_are_told() -> None:
    assert tell(plan(), "0s 20", 30).told[0].took_s == 20.0
    assert [said.late_s for said in tell(plan(), "0 110", 120).told] == [0.0, 10.0]


def test_a_deadline_waits_for_pings_on_their_way() -> None:
    assert tell(plan(), "0", 120 + SETTLE_S - 0.1).said() == "0 ok"


def test_what_could_not_be_heard_is_not_missed() -> None:
    telling = tell(plan(), "0", 90)
    telling.fold(Tick(T0 + 200), deaf=(T0 + 95, T0 + 150))
    assert telling.said() == "0 ok, 120 error unheard"
    telling.fold(Tick(T0 + 400), deaf=(T0 + 95, T0 + 150))
    assert telling.said() == "0 ok, 120 error unheard, 270 critical missed"


def test_after_a_pause_a_miss_is_told_whatever_was_said_before() -> None:
    telling = tell(plan(severity={"missed": "warning"}), "0f", 50)
    telling.fold(Changed(T0 + 60, anew=True))
    telling.fold(Tick(T0 + 300))
    assert telling.said() == "0 critical failed, 180 warning missed"


def test_what_nobody_could_hear_is_not_late_either() -> None:
    telling = tell(plan(severity={"late": "warning"}), "0", 50)
    telling.fold(Tick(T0 + 110), deaf=(T0 + 95, T0 + 105))
    telling.fold(Tick(T0 + 200), deaf=(T0 + 95, T0 + 105))
    assert telling.said() == "0 ok, 120 error unheard"


@pytest.mark.parametrize(
    ("begin", "end"), [(10, 90), (130, 150)], ids=["before it was due", "after it was missed"]
)
def test_a_deafness_of_another_time_excuses_nothing(begin: float, end: float) -> None:
    telling = tell(plan(), "0", 90)
    telling.fold(Tick(T0 + 200), deaf=(T0 + begin, T0 + end))
    assert telling.said() == "0 ok, 120 critical missed"


def test_the_end_of_a_run_that_could_not_be_heard_is_not_awaited() -> None:
    telling = tell(plan(), "0s", 5)
    telling.fold(Tick(T0 + 90), deaf=(T0 + 10, T0 + 20))
    assert not telling.told
    assert not telling.state.runs


def test_after_a_pause_everything_is_due_anew() -> None:
    telling = tell(plan(), "0s", 10)
    telling.fold(Changed(T0 + 25, anew=True))
    telling.fold(Tick(T0 + 140))
    assert telling.said() == ""
    telling.fold(Tick(T0 + 150))
    assert telling.said() == "145 critical missed"


def test_another_schedule_counts_from_the_edit_and_another_grace_at_once() -> None:
    telling = tell(plan(every=1000), "0", 10)
    telling.plan = plan(every=50)
    telling.fold(Changed(T0 + 20))
    telling.fold(Tick(T0 + 100))
    assert telling.said() == "0 ok, 90 critical missed"
    telling = tell(plan(), "0", 10)
    telling.plan = plan(grace=60)
    telling.fold(Changed(T0 + 20))
    telling.fold(Tick(T0 + 200))
    assert telling.said() == "0 ok, 160 critical missed"


def test_runs_that_are_awaited_are_bounded() -> None:
    telling = Telling(plan(max_duration=90))
    for n in range(200):
        telling.fold(Ping(T0 + n / 10, f"p{n}", "start", f"run{n}"))
    assert len(telling.state.runs) == heartbeat.MOST_RUNS
    assert "run199" in telling.state.runs


def _sequences() -> Iterable[tuple[str, ...]]:
    return product(("ok", "start", "fail", "log", "a", "pause"), repeat=5)


def _silences(words: tuple[str, ...]) -> int:
    """How often nothing was heard for 120 s, the end included: three words apart or more."""
    heard = [n for n, word in enumerate(words) if word != "log"]
    first = next((n for n in heard if words[n] != "pause"), None)
    ends = [n for n in heard if first is not None and n >= first]
    return sum(after - before >= 3 for before, after in zip(ends, [*ends[1:], 99], strict=False))


def test_laws_over_every_short_sequence() -> None:
    """Whatever comes, every 45 s: an ok was earned by an end, silence is said once, the last word is in the state."""
    given = plan()
    for words in _sequences():
        telling = Telling(given)
        for n, word in enumerate(words):
            at = T0 + 45 * n
            if word == "pause":
                telling.fold(Changed(at, anew=True))
            else:
                kind = word if word in ("start", "fail", "log") else "success"
                telling.fold(Ping(at, f"p{n}", kind, "a" if word == "a" else ""))  # type: ignore[arg-type]
        telling.fold(Tick(T0 + 10_000))
        names = [
            (said.verdict, said.failure.type if said.failure else None, said.key) for said in telling.told
        ]
        for verdict, why, key in names:
            assert (verdict is Verdict.OK) == (why is None)
            assert verdict is not Verdict.OK or key.startswith("p")
        missed = [why for _, why, _ in names if why == "heartbeat.missed"]
        assert len(missed) == _silences(words)
        assert len({key for _, _, key in names}) == len(names)
        if telling.told:
            assert telling.state.verdict is telling.told[-1].verdict
