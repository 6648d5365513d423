"""Beats and groups that speak to each other, in pure time: pictures of what is seen go in, pictures of what is said come out.

A picture has one column per minute. A row of what is seen belongs to a beat of one region that believes every result:

    .  ok    w  warning    x  critical    blank  no result

and others say what goes on beside: `maintenance a`, `paused a`, `removed a` (# while it is so), `in a` (the group's name
while `a` is its member, - while it is in none), `reported a` (w or x while somebody says so).

What is said of a beat or group, one letter per column, the first of these that holds of it:

    C  the episode closed: recovered    L  its bad members left    I  inactive    G  removed
    O  it opened    R  it was reopened    F  flapping began    f  it ended    X W  severity is critical, warning now
    u  an update for another member    A a  an advisory was raised, cleared    D  frozen    N  nobody ever answered
    s  bad, and suppressed    o w x ?  the stage
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from evaluators import facts
from evaluators.facts import Effect, Fact
from evaluators.model import Kind, Result, Severity, Stage, Timings, Verdict
from evaluators.policy import Bound, Policy, Window, compile_policy
from evaluators.quorum import decide, newborn, next_deadline, signal_key
from evaluators.relay import heard
from evaluators.state import State
from rules.beat import BEAT
from rules.group import Group

COLUMN_S: Final = 60.0
VERDICTS: Final = {".": Verdict.OK, "w": Verdict.WARNING, "x": Verdict.CRITICAL, "e": Verdict.ERROR}
SEVERITIES: Final[Mapping[str, Severity]] = {"w": "warning", "x": "critical"}
STAGES: Final = {Stage.OK: "o", Stage.WARNING: "w", Stage.CRITICAL: "x", Stage.UNKNOWN: "?"}
CAUSES: Final = {"recovered": "C", "left": "L", "inactive": "I", "removed": "G"}
PLAIN: Final[Mapping[str, Any]] = {"confirm": "off", "consecutive": {"open": 1, "close": 1}, "max_age": "90s"}
REGION: Final = "eu"


class Told:
    """One effect, with who said it and the state it left behind."""

    __slots__ = ("effect", "state", "who")

    def __init__(self, who: str, effect: Effect, state: State) -> None:
        self.who, self.effect, self.state = who, effect, state


class Timeline:
    """`specs`: of each beat and group its keys. A group has `type: group`; a beat believes every result unless told otherwise."""

    def __init__(self, specs: Mapping[str, Mapping[str, Any]]) -> None:
        self.now, self.log = 0.0, list[Told]()
        self._rules = {name: _rule(name, spec) for name, spec in specs.items()}
        self._parents = {name: tuple(spec.get("depends_on", ())) for name, spec in specs.items()}
        self.groups = {name: str(spec.get("group", "")) for name, spec in specs.items()}
        self._windows = {name: tuple[Window, ...]() for name in specs}
        self._gone, self._seq = set[str](), 0
        self._down: dict[str, str] = {}  # what a look at each beat sees now
        self._due: list[tuple[float, str, Fact]] = []
        self.policies = {name: self._compiled(name) for name in specs}
        self.states = {name: newborn(policy, 0.0) for name, policy in self.policies.items()}
        for name in specs:
            self.fold(name, facts.PolicyChanged(0.0))

    # ---- what happens

    def fold(self, who: str, fact: Fact) -> None:
        """One fact, with the ticks before it, and all that is said because of it."""
        self.now = max(self.now, fact.at)
        policy = self.policies[who]
        while not isinstance(fact, facts.Returned) and (due := next_deadline(policy, self.states[who])):
            if due > fact.at:
                break
            assert due > self.states[who].at or self.states[who].at == 0.0, "deadlines lie ahead"
            self._decide(who, facts.Tick(due))
        self._decide(who, fact)

    def _decide(self, who: str, fact: Fact) -> None:
        before, at = self.states[who], fact.at
        self.states[who], effects = decide(self.policies[who], before, fact)
        self.log += (Told(who, effect, self.states[who]) for effect in effects)
        for effect in effects:
            children = [name for name, policy in self.policies.items() if who in policy.parents]
            for whom, said in heard(effect, who, children):
                if whom not in self._gone:
                    self.fold(whom, said)
            if isinstance(effect, facts.ConfirmWanted):
                for n in range(effect.runs):
                    run = self._result(self._down.get(who, "."), at + 1.0 + n, effect.request, n)
                    self._due.append((run.at, who, run))

    def see(self, who: str, letter: str, at: float) -> None:
        """A scheduled result."""
        if letter in VERDICTS:
            self._down[who] = letter
            self.fold(who, self._result(letter, at))

    def _result(self, letter: str, at: float, request: str | None = None, n: int = 0) -> facts.ResultSeen:
        self._seq += 1
        kind = Kind.CONFIRM if request else Kind.SCHEDULED
        result = Result(
            f"run{self._seq}", "b", REGION, kind, VERDICTS[letter], at, at, self._seq, 1, Timings(),
            request=request, n=n,
        )  # fmt: skip
        return facts.ResultSeen(at, result, "boot", at)

    def report(self, who: str, severity: Severity | None, at: float) -> None:
        """Somebody says so."""
        self.fold(who, facts.SignalChanged(at, signal_key("report", "x"), severity))

    def bind(self, who: str, at: float, *, group: str | None = None, windows: Iterable[Window] = ()) -> None:
        """It is in another group, or under maintenance at other times."""
        if group is not None:
            self.groups[who] = group
        self._windows[who] = tuple(windows) or self._windows[who]
        self.policies[who] = self._compiled(who)
        self.fold(who, facts.RelationsChanged(at))

    def edit(self, who: str, spec: Mapping[str, Any], at: float) -> None:
        """Its policy is another one."""
        self._rules[who] = _rule(who, spec)
        self.policies[who] = self._compiled(who)
        self.fold(who, facts.PolicyChanged(at))

    def remove(self, who: str, at: float) -> None:
        """It is taken away, and out of what others are bound to."""
        self.fold(who, facts.Suspended(at, removed=True))
        self._gone.add(who)
        for name, policy in self.policies.items():
            if name not in self._gone and (who in policy.parents or policy.group == who):
                self.policies[name] = self._compiled(name)
                self.fold(name, facts.RelationsChanged(at))

    def wait(self, until: float) -> None:
        """Time passes."""
        while self._due and min(self._due)[0] <= until:
            first = min(self._due, key=lambda item: item[0])
            self._due.remove(first)
            self.fold(first[1], first[2])
        for name in self.states:
            self.fold(name, facts.Tick(until))

    def _compiled(self, name: str) -> Policy:
        group = self.groups[name] if self.groups[name] not in self._gone else ""
        shared = self._parents.get(group, ())
        parents = tuple(
            one for one in dict.fromkeys((*self._parents[name], *shared)) if one not in self._gone
        )
        bound = Bound(regions=(REGION,), group=group, parents=parents, windows=self._windows[name])
        return compile_policy(self._rules[name], bound)

    # ---- pictures

    def play(self, rows: Mapping[str, str]) -> dict[str, str]:
        """What is said of each, column by column, while this is seen. Rows are looked at in their order, a second apart."""
        width = max(map(len, rows.values()))
        for row, picture in rows.items():
            what, _, who = row.rpartition(" ")
            if what == "maintenance":
                for one in [who] if who in self.states else list(self.states):
                    self.bind(one, 0.0, windows=_windows(picture))
        said = dict.fromkeys(self.states, "")
        for column in range(width):
            began, at = len(self.log), COLUMN_S * (column + 1)
            for place, (row, picture) in enumerate(rows.items()):
                self._cell(row, picture.ljust(width), column, at + place)
            self.wait(at + COLUMN_S - 1.0)
            for name in said:
                said[name] += self._letter(name, self.log[began:])
        return said

    def _cell(self, row: str, picture: str, column: int, at: float) -> None:
        what, _, who = row.rpartition(" ")
        letter, before = picture[column], picture[column - 1] if column else " "
        if not what:
            self.wait(at)
            self.see(who, letter, at)
        elif what == "down":
            self._down[who] = letter
        elif what == "in" and letter != before:
            self.bind(who, at, group=letter.strip(" -"))
        elif what == "paused" and letter != before:
            self.fold(who, facts.Suspended(at) if letter == "#" else facts.Continued(at))
        elif what == "removed" and letter == "#" != before:
            self.remove(who, at)
        elif what == "reported" and letter != before:
            self.report(who, SEVERITIES.get(letter), at)

    def _letter(self, name: str, told: list[Told]) -> str:
        letters = "".join(_said(one.effect) for one in told if one.who == name)
        state = self.states[name]
        stage = "s" if state.suppressed_by else STAGES[state.stage]
        return next((letter for letter in "CLIGORfFXWuAaDN" if letter in letters), stage)


def _rule(name: str, spec: Mapping[str, Any]) -> Any:
    given = {"slug": name, **spec}
    given["depends_on"] = [
        f"group:{parent}" if parent.startswith("g") else parent for parent in spec.get("depends_on", ())
    ]
    if given.pop("type", None) == "group":
        return Group.model_validate(given)
    quorum = {**PLAIN, **given.pop("quorum", {})}
    return BEAT.validate_python({"type": "tcp", "host": "h", "port": 1, "quorum": quorum, **given})


def _windows(picture: str) -> list[Window]:
    """One per stretch of `#`; the columns begin when their results come."""
    edges = [
        at
        for at in range(len(picture) + 1)
        if (at < len(picture) and picture[at] == "#") != (at > 0 and picture[at - 1] == "#")
    ]
    starts = [COLUMN_S * (edge + 1) - 0.5 for edge in edges]
    return [Window(start, end, "m") for start, end in zip(starts[::2], starts[1::2], strict=True)]


def _said(effect: Effect) -> str:
    if isinstance(effect, facts.EpisodeClosed):
        return CAUSES[effect.cause]
    if isinstance(effect, facts.EpisodeOpened):
        return "R" if effect.reopened else "O"
    if isinstance(effect, facts.SeverityChanged):
        return "X" if effect.severity == "critical" else "W"
    if isinstance(effect, facts.StepProposed):
        return "u" if effect.of == "member" else ""
    plain = {
        facts.FlappingStarted: "F",
        facts.FlappingEnded: "f",
        facts.AdvisoryRaised: "A",
        facts.AdvisoryCleared: "a",
        facts.EpisodeFrozen: "D",
        facts.NeverAnswered: "N",
    }
    return plain.get(type(effect), "")
