"""The rules of other monitors beside ours, fed the same traces of results: the table of docs/explanation/compared.md.

    python -m benchmarks.compared [--write]

The rules are our own re-statements, from what their source or documentation does at the place that is named, without
their code. They are rules only: none of the products is run, and none has all its settings. Each rule yields what it
would alert of, in order; ours is `evaluators.replay.fold` with the default policy.
"""

import argparse
import heapq
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from evaluators import facts, quorum, replay
from evaluators.facts import Fact
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, compile_policy
from rules.beat import BEAT

PAGE: Final = Path(__file__).parents[1] / "docs" / "explanation" / "compared.md"
MARK: Final = "<!-- Written by `python -m benchmarks.compared --write`. -->"
INTERVAL_S: Final = 30.0
TAKES_S: Final = 0.2


class Seen(NamedTuple):
    """A scheduled result as it arrives. After retries: all of them let a check try again at once."""

    at: float
    measured_at: float
    region: str
    is_bad: bool


class Change(NamedTuple):
    """`who` (an instance, or all together) begins or ends to alert."""

    at: float
    who: str
    is_down: bool


Rule = Callable[[Sequence[Seen], Sequence[str]], Iterator[Change]]

# ---- re-statements


def gatus(seen: Iterable[Seen], _: Sequence[str], failures: int = 3, successes: int = 2) -> Iterator[Change]:
    """Gatus, watchdog/alerting.go: so many failures in a row trigger, so many successes in a row resolve; each
    instance for itself. README: failure-threshold 3, success-threshold 2 unless said otherwise.
    """
    streaks: dict[str, tuple[bool, int]] = {}
    alerting = set[str]()
    for one in seen:
        was_bad, count = streaks.get(one.region, (False, 0))
        count = count + 1 if was_bad is one.is_bad else 1
        streaks[one.region] = one.is_bad, count
        is_alerting = one.region in alerting
        if one.is_bad and count >= failures and not is_alerting:
            alerting.add(one.region)
            yield Change(one.at, one.region, is_down=True)
        elif not one.is_bad and count >= successes and is_alerting:
            alerting.discard(one.region)
            yield Change(one.at, one.region, is_down=False)


def uptime_kuma(seen: Iterable[Seen], _: Sequence[str], retries: int = 1) -> Iterator[Change]:
    """Uptime Kuma, server/model/monitor.js: pending for `maxretries` more failures, then down; up at the first
    success. One instance is one place, so that each alerts for itself.
    """
    failed: dict[str, int] = {}
    for one in seen:
        was = failed.get(one.region, 0)
        failed[one.region] = was + 1 if one.is_bad else 0
        if one.is_bad and was == retries:
            yield Change(one.at, one.region, is_down=True)
        elif not one.is_bad and was > retries:
            yield Change(one.at, one.region, is_down=False)


def openstatus(seen: Iterable[Seen], regions: Sequence[str]) -> Iterator[Change]:
    """OpenStatus, apps/workflows/src/checker/index.ts: a region that changes stores its status; half of the regions
    with that stored status, however old, make it the monitor's.
    """
    stored: dict[str, bool] = {}
    is_down = False
    for one in seen:
        if stored.get(one.region, False) is one.is_bad:
            continue
        stored[one.region] = one.is_bad
        agree = sum(stored.get(region) is one.is_bad for region in regions)
        if agree >= len(regions) / 2 and is_down is not one.is_bad:
            is_down = one.is_bad
            yield Change(one.at, "all", is_down)


def oneuptime(seen: Iterable[Seen], regions: Sequence[str], agreement: int | None = None) -> Iterator[Change]:
    """OneUptime, Common/Server/Utils/Monitor/MonitorResource.ts: with each result the last log of every probe,
    however old; what most say holds where `minimumProbeAgreement` of them do, all of them while it is not set.
    """
    last: dict[str, bool] = {}
    is_down = False
    for one in seen:
        last[one.region] = one.is_bad
        bad = sum(last.values())
        winner = bad > len(last) - bad
        votes = bad if winner else len(last) - bad
        if votes >= min(agreement or len(regions), len(regions)) and winner is not is_down:
            is_down = winner
            yield Change(one.at, "all", is_down)


def grafana(seen: Iterable[Seen], _: Sequence[str], share: float = 0.1) -> Iterator[Change]:
    """Grafana Synthetic Monitoring, medium sensitivity (docs, "Configure legacy alerts"): a tenth of the executions
    of the last 5 minutes failed, and that for 5 minutes; looked at every minute.
    """
    recent, since, is_down, look_at = deque[Seen](), 0.0, False, 60.0
    for one in seen:
        while one.at >= look_at:
            while recent and recent[0].at <= look_at - 300:
                recent.popleft()
            is_high = bool(recent) and sum(old.is_bad for old in recent) / len(recent) >= share
            since = (since or look_at) if is_high else 0.0
            if is_down is not (is_high and look_at >= since + 300):
                is_down = not is_down
                yield Change(look_at, "all", is_down)
            look_at += 60
        recent.append(one)


PEERS: Final[Mapping[str, Rule]] = {
    "Gatus, an instance per region": gatus,
    "Uptime Kuma, an instance per region": uptime_kuma,
    "OpenStatus": openstatus,
    "OneUptime, as it comes": oneuptime,
    "OneUptime, 2 must agree": partial(oneuptime, agreement=2),
    "Grafana SM, medium": grafana,
}

# ---- ours


@dataclass
class Said:
    """What Upbeat makes of a trace."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def upbeat(trace: "Trace") -> Said:
    """The default policy, with confirm runs answered by what is the case when they are made."""
    regions = list(trace.rows)
    beat = BEAT.validate_python({"slug": "b", "type": "tcp", "host": "h", "port": 1, "interval": INTERVAL_S})
    policy = compile_policy(beat, Bound(regions=tuple(regions)))
    state, said, number = quorum.newborn(policy, 0.0), Said(), 0
    waiting: list[tuple[float, int, Fact]] = []

    def await_result(
        at: float, measured_at: float, region: str, is_bad: bool, request: str | None, n: int
    ) -> None:
        nonlocal number
        number += 1
        kind = Kind.CONFIRM if request else Kind.SCHEDULED
        verdict = Verdict.CRITICAL if is_bad else Verdict.OK
        seq = round(measured_at * 1000)
        result = Result(
            f"{number}",
            "b",
            region,
            kind,
            verdict,
            measured_at,
            measured_at,
            seq,
            1,
            Timings(),
            request=request,
            n=n,
        )
        heapq.heappush(waiting, (at, number, facts.ResultSeen(at, result, region, measured_at)))

    def hear(steps: Sequence[tuple[object, tuple[facts.Effect, ...]]]) -> None:
        for _, effects in steps:
            for effect in effects:
                match effect:
                    case facts.EpisodeOpened(at=at) | facts.EpisodeClosed(at=at):
                        said.changes.append(Change(at, "all", isinstance(effect, facts.EpisodeOpened)))
                    case facts.Transitioned(at=at, stage=Stage.UNKNOWN):
                        said.notes.append("unknown")
                    case facts.AdvisoryRaised():
                        said.notes.append("advisory")
                    case facts.FlappingStarted():
                        said.notes.append("flapping")
                    case facts.ConfirmWanted():
                        for region in effect.regions:
                            for n in range(effect.runs):
                                begin = state.at + 0.02 + n * effect.spacing_s
                                is_bad = trace.is_bad(region, begin)
                                if is_bad is not None:
                                    end = begin + TAKES_S
                                    await_result(end + 0.1, end, region, is_bad, effect.request, n)

    for one in trace.seen():
        await_result(one.at, one.measured_at, one.region, one.is_bad, None, 0)
    while waiting:
        _, _, fact = heapq.heappop(waiting)
        state, steps = replay.fold(policy, state, fact)
        hear(steps)
    state, steps = replay.fold(policy, state, facts.Tick(trace.end))
    hear(steps)
    return said


# ---- traces


@dataclass(frozen=True)
class Trace:
    """One row per region, one column per interval: `.` ok, `X` bad for as long, `x` one failure by chance, blank: silent.

    `late`: results by (region, column) that arrive so many columns later. `truth`: the columns of a real outage.
    """

    name: str
    said: str
    rows: Mapping[str, str]
    truth: tuple[int, int] | None = None
    late: Mapping[tuple[str, int], float] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """When it is over."""
        return INTERVAL_S * max(map(len, self.rows.values()))

    def seen(self) -> list[Seen]:
        """The scheduled results, regions staggered, in the order of their arrival."""
        found = []
        for place, (region, row) in enumerate(self.rows.items()):
            for column, letter in enumerate(row):
                if letter != " ":
                    ended = (column + (place + 0.5) / len(self.rows)) * INTERVAL_S + TAKES_S
                    arrived = ended + 0.1 + self.late.get((region, column), 0) * INTERVAL_S
                    found.append(Seen(arrived, ended, region, letter in "xX"))
        return sorted(found)

    def is_bad(self, region: str, at: float) -> bool | None:
        """What a run at that time would say there; None: it is silent."""
        column = int(at / INTERVAL_S)
        letter = self.rows[region][column] if column < len(self.rows[region]) else "."
        return None if letter == " " else letter == "X"


def _noise(columns: int) -> dict[str, str]:
    chance = random.Random(1)
    return {
        region: "".join("x" if chance.random() < 0.005 else "." for _ in range(columns)) for region in "abc"
    }


OK: Final = "." * 10
TRACES: Final = (
    Trace(
        "a real outage",
        "all regions fail for 10 minutes",
        dict.fromkeys("abc", OK + "X" * 20 + OK * 3),
        (10, 30),
    ),
    Trace(
        "a real outage, one region silent",
        "b and c fail for 10 minutes, a sends nothing any more since before",
        {"a": OK + " " * 60, **dict.fromkeys("bc", OK * 2 + "X" * 20 + OK * 3)},
        (20, 40),
    ),
    Trace(
        "a region falls silent after failing",
        "a failed twice and sends nothing since; later a run of b fails by chance",
        {"a": OK + "XX" + " " * 48, "b": OK * 3 + "x" + "." * 29, "c": OK * 6},
    ),
    Trace(
        "an even split",
        "2 of 4 regions fail for 20 minutes",
        dict.fromkeys("ab", OK + "X" * 40 + OK * 3) | dict.fromkeys("cd", "." * 80),
    ),
    Trace(
        "an even split with a run that fails by chance",
        "2 of 4 regions fail for 20 minutes, and a run of c now and then",
        dict.fromkeys("ab", OK + "X" * 40 + OK * 3) | {"c": OK + "....x....." * 4 + OK * 3, "d": "." * 80},
    ),
    Trace(
        "one region is always bad",
        "a fails for half an hour",
        {"a": OK + "X" * 60 + OK, **dict.fromkeys("bc", OK * 8)},
    ),
    Trace(
        "a fault of a region",
        "a fails for 3 minutes",
        {"a": OK + "X" * 6 + OK, **dict.fromkeys("bc", "." * 26)},
    ),
    Trace(
        "a target that flaps",
        "all regions fail for a minute, are well for a minute, and so on for 20 minutes",
        dict.fromkeys("abc", OK + "XX.." * 10 + OK * 4),
        (10, 50),
    ),
    Trace(
        "no data at all", "all regions fall silent for 10 minutes", dict.fromkeys("abc", OK + " " * 20 + OK)
    ),
    Trace(
        "late results",
        "two runs each of a and b that failed 10 minutes ago, while they were cut off, arrive between newer ones",
        dict.fromkeys("ab", OK + "xx" + "." * 28) | {"c": "." * 40},
        late={("a", 10): 20.6, ("a", 11): 19.6, ("b", 10): 20.3, ("b", 11): 19.3},
    ),
    Trace("chance", "0.5 % of runs fail by chance, for 100 hours", _noise(12_000)),
)

# ---- the table


def outcome(trace: Trace, changes: Sequence[Change]) -> str:
    """What a rule does, in a few words."""
    opened = [change for change in changes if change.is_down]
    never = ", never ends" if len(opened) * 2 > len(changes) else ""
    alerts = f"{len(opened)} alerts" if len(opened) > 1 else "1 alert"
    if trace.truth is None:
        return f"**{alerts}**{never}" if opened else "quiet"
    begin, end = (column * INTERVAL_S for column in trace.truth)
    seen = [change.at - begin for change in opened if begin <= change.at < end + 60]
    if not seen:
        return "**missed**"
    return f"after {min(seen):.0f} s" + (f", {alerts}" if len(opened) > 1 else "") + never


def table() -> str:
    """The table in Markdown."""
    names = ["Upbeat", *PEERS]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for trace in TRACES:
        ours = upbeat(trace)
        notes = "".join(f", says *{note}*" for note in dict.fromkeys(ours.notes))
        cells = [outcome(trace, ours.changes) + notes]
        cells += [outcome(trace, list(rule(trace.seen(), list(trace.rows)))) for rule in PEERS.values()]
        lines.append(f"| **{trace.name}**: {trace.said} | {' | '.join(cells)} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """The page with the table as it is now."""
    return re.sub(
        rf"{re.escape(MARK)}\n\n.*?\n\n", lambda _: f"{MARK}\n\n{table()}\n\n", page, count=1, flags=re.DOTALL
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="write the page")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
