"""What a rule, or two of them, would have made of a stream of events: outcomes, episodes, drafts. Pure; it says nothing to anybody.

The same `Course` as live, then the same fold of the target's policy over what it says, and the same review. Left out is
what events do not tell: votes, members, dependencies and maintenance. All but the signals is taken as ok. Nobody knows
what people would have said to a draft: one that has waited for `APPROVED_AFTER_S` is taken as approved.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from evaluators import replay, words
from evaluators.advice import Advice, Count, Tally, Unmapped
from evaluators.event import Document
from evaluators.facts import Cause as Ending
from evaluators.facts import (
    Effect,
    EpisodeClosed,
    EpisodeOpened,
    Fact,
    FlappingStarted,
    MemberChanged,
    PolicyChanged,
    SeverityChanged,
    SignalChanged,
    StepProposed,
    Tick,
)
from evaluators.model import Severity, Stage
from evaluators.modes import Modes, least
from evaluators.policy import Bound, compile_policy
from evaluators.quorum import newborn
from evaluators.review import Action, Approve, Propose, Revise, Status, Withdraw, propose
from evaluators.trigger import (
    ABSENCE,
    DISABLED,
    REPEAT,
    Course,
    Head,
    Outcome,
    Signalled,
    Verdict,
    verdict_of,
)
from rules.beat import AnyBeat
from rules.group import Group
from rules.incident import Step
from rules.kinds.external import ExternalBeat
from rules.trigger import Trigger

MOST_LINES: Final = 1000
MOST_EPISODES: Final = 500
MOST_DRAFTS: Final = 200
MOST_CHANGES: Final = 200
MOST_OUTCOMES: Final = 20
"""Outcomes of one line."""
MOST_TRACED: Final = 200
"""Events with unmapped values that are looked at again, to name them."""
MOST_UNTIMED: Final = 20
"""Events that happened when they were received, though the rule has `time`, likewise."""
MOST_NAMED: Final = 20
"""Fingerprints of an episode that are named."""
MOST_OF_A_NAME: Final = 200
BRIEF_S: Final = 120.0
APPROVED_AFTER_S: Final = 300.0
_DAY_S: Final = 86400.0
_TELLING: Final = frozenset({"opened", "escalated", "deescalated", "resolved", "held", "cooling", "error"})
_PLAIN: Final = frozenset({"unmatched", REPEAT, DISABLED})


class Line(Struct, frozen=True, omit_defaults=True):
    """What became of one event; of many `items` the telling ones first."""

    id: str
    at: float
    verdict: Verdict
    outcomes: tuple[Outcome, ...] = ()
    items: int = 0
    is_repeat: bool = False


class Episode(Struct, omit_defaults=True):
    """One episode of the target, or of the beat of one fingerprint (`beat`)."""

    number: int
    opened: float
    severity: Severity  # the worst it had
    event: str  # that opened it
    closed: float | None = None
    cause: Ending | None = None
    beat: str = ""
    fingerprints: list[str] = []  # the first of them
    signals: int = 0  # that opened or changed in it
    reopened: int = 0
    is_flapping: bool = False


class Draft(Struct, omit_defaults=True):
    """One step in public: waiting for a person, or (`auto`) approved by policy. `ended_at`: it does not wait since."""

    episode: int
    at: float
    step: Step
    severity: Severity
    mode: Literal["draft", "auto"]
    title: str
    text: str
    status: Status = Status.PENDING
    revisions: int = 0
    ended_at: float | None = None
    why: str = ""


class Findings(Struct):
    """What came of it, within bounds: the newest episodes and drafts, and `lines` of the first, the last and the telling events."""

    since: float
    until: float
    events: int = 0
    verdicts: dict[str, int] = {}
    counts: list[Count] = []
    lines: list[Line] = []
    left_out: int = 0  # events without a line
    episodes: list[Episode] = []
    opened: int = 0
    drafts: list[Draft] = []
    drafted: int = 0
    open_signals: int = 0
    unmapped: list[Unmapped] = []
    advice: list[Advice] = []
    assumed: list[str] = []


class _Owner:
    """The target, or the beat of one fingerprint: its policy folded over signals."""

    def __init__(self, preview: "Preview", target: AnyBeat | Group, title: str, beat: str = "") -> None:
        self._preview, self._title, self._beat = preview, title, beat
        self.policy = compile_policy(target, Bound())
        self.state = newborn(self.policy, preview.since)
        self._episode: Episode | None = None
        self._actions: list[tuple[Action, Draft]] = []
        self._before: list[Draft] = []  # that wait still, of episodes that are over
        self._event = ""
        self._signals, self._counts = dict[str, Severity](), Counter[Severity | None]()
        self._worst: Severity | None = None
        self.fold(PolicyChanged(preview.since))
        for number in range(preview.members if isinstance(target, Group) else 0):
            self.fold(MemberChanged(preview.since, f"member {number}", Stage.OK))

    def hear(self, said: Signalled, modes: Modes) -> None:
        """Fold a signal. All allow the same, so that the worst of them says what all do, however many are open."""
        self._event = said.event
        self._counts[self._signals.pop(said.fingerprint, None)] -= 1
        if said.severity is not None:
            self._signals[said.fingerprint] = said.severity
        self._counts[said.severity] += 1
        worst: Severity | None = "critical" if self._counts["critical"] else None
        worst = worst or ("warning" if self._counts["warning"] else None)
        if worst != self._worst:
            self._worst = worst
            self.fold(SignalChanged(said.at, "preview", worst, modes))
        if said.severity is not None and self.state.severity is not None and self._episode is not None:
            self._episode.signals += 1
            named = self._episode.fingerprints
            if said.fingerprint not in named and len(named) < MOST_NAMED:
                named.append(said.fingerprint)

    def fold(self, fact: Fact) -> None:
        """Fold a fact, after the deadlines before it."""
        self.state, steps = replay.fold(self.policy, self.state, fact)
        for _, effects in steps:
            for effect in effects:
                self._note(effect)

    def _note(self, effect: Effect) -> None:
        episode = self._episode
        if isinstance(effect, EpisodeOpened):
            if effect.reopened and episode is not None:
                episode.closed, episode.cause, episode.reopened = None, None, episode.reopened + 1
                return
            self._episode = self._preview.opened(effect, self._event, self._beat)
            self._before += [draft for action, draft in self._actions if action.status is Status.PENDING]
            self._actions = []
        elif isinstance(effect, SeverityChanged) and episode is not None:
            episode.severity = "critical" if effect.severity == "critical" else episode.severity
        elif isinstance(effect, EpisodeClosed) and episode is not None:
            episode.closed, episode.cause = effect.at, effect.cause
            self._preview.closed(episode)
        elif isinstance(effect, FlappingStarted) and episode is not None:
            episode.is_flapping = True
        elif isinstance(effect, StepProposed) and episode is not None:
            self._propose(effect, episode)

    def _propose(self, asked: StepProposed, episode: Episode) -> None:
        self.approve(asked.at)
        actions = [action for action, _ in self._actions]
        incidents = self.policy.incidents
        for command in propose(actions, incidents, asked.step, asked.severity, most=asked.most, of=asked.of):
            if isinstance(command, Propose):
                self._draft(command, asked.at, episode)
                continue
            place = int(command.action)
            action, draft = self._actions[place]
            if isinstance(command, Revise):
                action = replace(action, severity=command.severity)
                self._write(draft, action)
                draft.revisions += 1
            elif isinstance(command, Approve):
                action = replace(action, status=Status.DONE)
                draft.status, draft.mode, draft.ended_at = Status.DONE, "auto", asked.at
            elif isinstance(command, Withdraw):
                action = replace(action, status=Status.WITHDRAWN)
                draft.status, draft.why, draft.ended_at = Status.WITHDRAWN, command.why, asked.at
            self._actions[place] = (action, draft)

    def _draft(self, command: Propose, at: float, episode: Episode) -> None:
        status = Status.DONE if command.mode == "auto" else Status.PENDING
        action = Action(str(len(self._actions)), command.step, status, command.severity, command.of)
        draft = Draft(episode.number, at, command.step, command.severity, command.mode, "", "", status)
        if command.mode == "auto":
            draft.ended_at = at
        self._write(draft, action)
        self._actions.append((action, draft))
        self._preview.drafted(draft)

    def _write(self, draft: Draft, action: Action) -> None:
        """The text as it would be by default."""
        about = (self._title, self._preview.components)
        draft.severity = action.severity
        draft.title = words.public_title(action.severity, *about)
        draft.text = words.public_text(action.step, action.severity, *about, action.of)

    def approve(self, at: float) -> None:
        """What has waited long enough by then is taken as approved."""
        for place, (action, draft) in enumerate(self._actions):
            if action.status is Status.PENDING and _is_approved(draft, at):
                self._actions[place] = (replace(action, status=Status.APPROVED), draft)
        self._before = [draft for draft in self._before if not _is_approved(draft, at)]


def _is_approved(draft: Draft, at: float) -> bool:
    """Whether it has waited long enough by then; it says so."""
    if (ended_at := draft.at + APPROVED_AFTER_S) > at:
        return False
    draft.status, draft.ended_at = Status.APPROVED, ended_at
    return True


_Numbered = tuple[int, Line]


class Preview:
    """One rule over a stream of events, in the order in which they were judged; enabled from `start` on.

    `target`: the rule of its target, None where that is an external beat that is yet to be made; `components`: names of
    those that it feeds; `members`: of a group; `hidden`: paths of the inbox that people are not shown.
    """

    def __init__(
        self,
        rule: Trigger,
        target: AnyBeat | Group | None = None,
        *,
        start: float,
        components: Sequence[str] = (),
        members: int = 0,
        hidden: Sequence[str] = (),
    ) -> None:
        self.since, self.components, self.members = start, components, members
        self.course = Course(rule, Head(), {})
        self.course.switch(start, enabled=True)
        self._rule, self._per = rule, rule.target.per_fingerprint or 0
        allowed = rule.incidents.open, rule.incidents.update, rule.incidents.resolve
        self._modes = Modes(*allowed)
        self._assumed = ["It is taken as promoted to what it asks for."] if "auto" in allowed else []
        self._target, title = self._stand_in(target)
        self._owner = _Owner(self, self._target, title)
        self._owners = dict[str, _Owner]()
        self._title = title
        self._tally, self._verdicts = Tally(rule, hidden), Counter[str]()
        self._first, self._last = list[_Numbered](), deque[_Numbered](maxlen=MOST_LINES // 5)
        self._told, self._telling = list[_Numbered](), deque[_Numbered](maxlen=MOST_LINES * 3 // 10)
        self._events = self._traced = self._drafted = self._opened = self._brief = 0
        self._untimed = MOST_UNTIMED if rule.time else 0  # still to be looked at
        self._episodes = deque[Episode](maxlen=MOST_EPISODES)
        self._drafts = deque[Draft](maxlen=MOST_DRAFTS)
        self._opened_on = Counter[int]()  # by day

    def _stand_in(self, target: AnyBeat | Group | None) -> tuple[AnyBeat | Group, str]:
        """What the signals are folded into: where nothing votes, that is an external beat of the same policy."""
        of = self._rule.target
        slug = of.external or of.beat or of.group or ""
        if target is None:
            return ExternalBeat(slug=slug, type="external"), slug
        if isinstance(target, Group):
            self._assumed.append(f"All {self.members} members of the group are taken as ok.")
        elif not isinstance(target, ExternalBeat):
            self._assumed.append("What its own checks say is taken as ok.")
        self._assumed.append("Its maintenance, and what it depends on or belongs to, are left out.")
        if isinstance(target, Group | ExternalBeat):
            return target, target.name or target.slug
        kept = {"episodes": target.episodes, "incidents": target.incidents}
        return ExternalBeat(slug=target.slug, type="external", **kept), target.name or target.slug

    def hear(self, began_at: float, ended_at: float) -> None:
        """Nobody could hear from then until then: what was due before happened before."""
        self._pass_time(began_at)
        self.course.hear(ended_at)

    def see(
        self, at: float, event: str, document: Document, *, is_repeat: bool = False
    ) -> tuple[Line, Sequence[Outcome]]:
        """Fold an event at the time at which it was, or would have been, judged; its line, and all outcomes."""
        matched, outcomes, said = self.course.see(at, event, document, is_repeat=is_repeat)
        verdict, items, is_telling = verdict_of(outcomes), len(outcomes), False
        if verdict != "unmatched":  # which most are
            is_telling = any(map(_is_telling, outcomes))
            is_unmapped = self._traced < MOST_TRACED and any(one.reason == "unmapped" for one in outcomes)
            is_untimed = self._untimed > 0 and any(item.at == self.course.head.at for item in matched.items)
            if is_unmapped or is_untimed:
                self._traced += is_unmapped
                self._untimed -= is_untimed
                traced = self.course.matcher.match(document, at, self.course.before, is_traced=True)
                self._tally.trace(event, traced)
        self._events += 1
        self._verdicts[verdict] += 1
        self._tally.see(event, matched, outcomes, said, lambda: self.course.open)
        if said:
            self._tell(said)
        shown = outcomes
        if items > MOST_OUTCOMES:
            shown = sorted(outcomes, key=lambda outcome: not _is_telling(outcome))[:MOST_OUTCOMES]
        line = Line(event, self.course.head.at, verdict, tuple(shown), items, is_repeat)
        numbered = (self._events, line)
        if len(self._first) < MOST_LINES // 5:
            self._first.append(numbered)
        elif is_telling and len(self._told) < MOST_LINES * 3 // 10:
            self._told.append(numbered)
        elif is_telling:
            self._telling.append(numbered)
        self._last.append(numbered)
        return line, outcomes

    def _pass_time(self, until: float) -> None:
        said = self.course.pass_time(until)
        self._tally.hear(said)
        self._tell(said)

    def _tell(self, said: Iterable[Signalled]) -> None:
        for signalled in said:
            self._owner_of(signalled.fingerprint).hear(signalled, self._modes)

    def _owner_of(self, fingerprint: str) -> _Owner:
        if fingerprint == ABSENCE or not self._per:
            return self._owner
        if (owner := self._owners.get(fingerprint)) is None and len(self._owners) < self._per:
            name = " ".join(fingerprint.split())[:MOST_OF_A_NAME]  # as such beats are called
            owner = _Owner(self, self._target, name or self._title, fingerprint)
            self._owners[fingerprint] = owner
        return owner or self._owner

    # ---- told by owners

    def opened(self, effect: EpisodeOpened, event: str, beat: str) -> Episode:
        """An episode opened."""
        self._opened += 1
        self._opened_on[int(effect.at // _DAY_S)] += 1
        episode = Episode(self._opened, effect.at, effect.severity, event, beat=beat, fingerprints=[])
        self._episodes.append(episode)
        return episode

    def closed(self, episode: Episode) -> None:
        """It closed."""
        self._brief += episode.closed is not None and episode.closed <= episode.opened + BRIEF_S

    def drafted(self, draft: Draft) -> None:
        """Something would have been said, or asked."""
        self._drafted += 1
        self._drafts.append(draft)

    # ---- what was found

    def finish(self, until: float) -> Findings:
        """All of it, after what time alone does until then."""
        self._pass_time(until)
        for owner in (self._owner, *self._owners.values()):
            owner.fold(Tick(until))
            owner.approve(until)
        return self.found()

    def found(self) -> Findings:
        """What was found so far."""
        lines = dict([*self._first, *self._told, *self._telling, *self._last])
        advice = self._tally.advice()
        mode = least(self._modes.open, self._target.incidents.open)
        busiest = max(self._opened_on.values(), default=0)
        if mode == "auto" and (risks := self._tally.risks(self._opened, self._brief, busiest)):
            text = f"It may open incidents without review, and {'; '.join(risks)}."
            advice.insert(0, Advice("auto_post_risk", "warning", text))
        return Findings(
            since=self.since,
            until=self.course.head.at,
            events=self._events,
            verdicts=dict(self._verdicts),
            counts=self._tally.counts(),
            lines=[lines[number] for number in sorted(lines)],
            left_out=self._events - len(lines),
            episodes=list(self._episodes),
            opened=self._opened,
            drafts=list(self._drafts),
            drafted=self._drafted,
            open_signals=len(self.course.open),
            unmapped=self._tally.unmapped(),
            advice=advice,
            assumed=self._assumed,
        )


def _is_telling(outcome: Outcome) -> bool:
    return outcome.kind in _TELLING or (outcome.kind == "ignored" and outcome.reason not in _PLAIN)


# ---- one rule beside another


class Changed(Struct, frozen=True):
    """An event of which two rules make something else."""

    id: str
    at: float
    old: tuple[Outcome, ...]
    new: tuple[Outcome, ...]


class Difference(Struct):
    """Two rules over the same events. Episodes are named by their numbers; lists are cut, what counts them is not."""

    old: Findings
    new: Findings
    only_old: list[Line]  # events that did something under one rule only
    only_new: list[Line]
    changed: list[Changed]  # and other events of which they make something else
    counts: dict[str, int]  # of these three
    episodes: replay.Compared
    drafts_only_old: list[Draft]
    drafts_only_new: list[Draft]


class Comparison:
    """Two previews of the same events."""

    def __init__(self, old: Preview, new: Preview) -> None:
        self._old, self._new = old, new
        self._only_old, self._only_new, self._changed = list[Line](), list[Line](), list[Changed]()
        self._counts = Counter[str]()

    def hear(self, began_at: float, ended_at: float) -> None:
        """Nobody could hear from then until then."""
        self._old.hear(began_at, ended_at)
        self._new.hear(began_at, ended_at)

    def see(self, at: float, event: str, document: Document, *, is_repeat: bool = False) -> None:
        """Fold an event under both."""
        old, before = self._old.see(at, event, document, is_repeat=is_repeat)
        new, after = self._new.see(at, event, document, is_repeat=is_repeat)
        if before == after:
            return
        was, now = old.verdict == "matched", new.verdict == "matched"
        if was == now:
            changed = Changed(event, old.at, _first(before, after), _first(after, before))
            self._list("changed", self._changed, changed)
        elif was:
            self._list("only_old", self._only_old, old)
        else:
            self._list("only_new", self._only_new, new)

    def _list(self, name: str, listed: list[Any], item: Any) -> None:
        self._counts[name] += 1
        if len(listed) < MOST_CHANGES:
            listed.append(item)

    def finish(self, until: float) -> Difference:
        """All of it, after what time alone does until then."""
        self._old.finish(until)
        self._new.finish(until)
        return self.found()

    def found(self) -> Difference:
        """What was found so far."""
        old, new = self._old.found(), self._new.found()
        episodes = _compared(old, new)
        same = [([one.old], [one.new]) for one in episodes.moved] + episodes.merged + episodes.split
        same += [([number], []) for number in episodes.only_old]
        same += [([], [number]) for number in episodes.only_new]
        only_old, only_new = list[Draft](), list[Draft]()
        cut = (found.drafts[0].at for found in (old, new) if found.drafted > len(found.drafts))
        listed_from = max(cut, default=-math.inf)
        for olds, news in same:
            before = [one for one in old.drafts if one.episode in olds and one.at >= listed_from]
            after = [one for one in new.drafts if one.episode in news and one.at >= listed_from]
            only_old += _without(before, after)
            only_new += _without(after, before)
        return Difference(
            old,
            new,
            self._only_old,
            self._only_new,
            self._changed,
            dict(self._counts),
            episodes,
            only_old,
            only_new,
        )


def _first(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Of very many, those that are not among the others."""
    if len(outcomes) > MOST_OUTCOMES:
        known = frozenset(others)
        outcomes = sorted(outcomes, key=lambda outcome: outcome in known)[:MOST_OUTCOMES]
    return tuple(outcomes)


def _compared(old: Findings, new: Findings) -> replay.Compared:
    """The episodes of each beat side by side."""
    found = replay.Compared([], [], [], [], [])
    for beat in sorted({episode.beat for episode in (*old.episodes, *new.episodes)}):
        olds = [episode for episode in old.episodes if episode.beat == beat]
        news = [episode for episode in new.episodes if episode.beat == beat]
        one = replay.compare(
            _outcome(olds, is_cut=old.opened > len(old.episodes)),
            _outcome(news, is_cut=new.opened > len(new.episodes)),
        )
        found.only_old.extend(olds[place].number for place in one.only_old)
        found.only_new.extend(news[place].number for place in one.only_new)
        for clusters, into in ((one.merged, found.merged), (one.split, found.split)):
            into.extend(
                ([olds[a].number for a in mine], [news[b].number for b in theirs])
                for mine, theirs in clusters
            )
        found.moved.extend(
            replace(moved, old=olds[moved.old].number, new=news[moved.new].number) for moved in one.moved
        )
    return found


def _outcome(episodes: Sequence[Episode], *, is_cut: bool) -> replay.Outcome:
    listed = [replay.Episode(episode.opened, episode.closed, episode.severity) for episode in episodes]
    return replay.Outcome(listed, opened=len(listed) + (is_cut and bool(listed)))


def _without(drafts: Iterable[Draft], others: Iterable[Draft]) -> list[Draft]:
    """Those that have no like among the others."""
    left = Counter((one.step, one.severity, one.mode, one.text) for one in others)
    found = list[Draft]()
    for draft in drafts:
        said = (draft.step, draft.severity, draft.mode, draft.text)
        if left[said]:
            left[said] -= 1
        else:
            found.append(draft)
    return found
