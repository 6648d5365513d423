"""What a trigger makes of what it sees: signals, by fingerprint and in event time. Pure; the deadlines of its clocks are folded as ticks.

Time `at` is the server's and never goes back: hold, cooldown, silence, expiry and absence are counted in it. Order is the
events' own: one that happened before the last of its fingerprint that was applied is late and changes nothing, but that
it may still be one of those that are counted. Only a recovery of the same trigger and fingerprint, silence, expiry or a
person ends a signal; what an event does not name is as it was. docs/explanation/triggers.md tells it with pictures.

A refresh tells the target nothing, whatever its message: a sender that repeats itself every minute must not stir it. The
newest message is in the key, and goes along with the next change.
"""

import math
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from evaluators.event import Document
from evaluators.matching import NOTHING, Item, Matched, Matcher
from evaluators.model import Severity
from rules.duration import format_duration
from rules.trigger import MAX_KEYS, Trigger

ABSENCE: Final = ""
"""The fingerprint of the signal of absence: no item has it."""
KEPT_S: Final = 86400.0
"""At least so long a fingerprint is remembered of which nothing is open: late events are known as such till then."""
FORGETTING_S: Final = 600.0
"""What is forgotten is forgotten together, so that nobody is woken for each."""
_ABSENT, _ENDS, _FADES = range(3)
LATE: Final = "late"
REPEAT: Final = "repeat"
DISABLED: Final = "disabled"
UNOPENED: Final = "no open signal"
WAITED: Final = "no open signal, it waited to open"
TOO_MANY: Final = "too many fingerprints"

Kind = Literal[
    "opened",
    "escalated",
    "deescalated",
    "refreshed",
    "resolved",
    "counted",  # towards `repeats`
    "held",  # waits for `for`
    "cooling",  # waits for the end of `cooldown`
    "ignored",
    "error",
]
Cause = Literal[
    "event", "held", "cooled", "recovery", "silence", "expiry", "absence", "present", "ended", "disabled"
]


class Key(Struct, frozen=True, array_like=True):
    """What is remembered of one fingerprint."""

    severity: Severity | None = None  # of the open signal
    since: float = 0.0  # when it opened
    event_at: float = 0.0  # event time of the last one that was applied
    seen_at: float = 0.0  # when the last one came that was applied, or said that it is still so
    pending: Severity | None = None  # it fires, and is not open yet
    opens_at: float = 0.0  # then it opens, if it still fires; 0: once it was counted often enough
    counted: tuple[float, ...] = ()  # event times, towards `repeats`
    over_at: float = 0.0  # event time until which all is over: what happened then counts no more
    closed_at: float = 0.0
    event: str = ""  # the last one that fired
    message: str = ""
    values: dict[str, str] = {}
    published: dict[str, str] = {}  # what customers may be shown of the last one that fired


class Head(Struct, frozen=True):
    """What is remembered of the trigger as a whole."""

    at: float = 0.0  # of the last fact
    enabled_at: float = 0.0  # 0: it is not enabled; absence is counted from then
    seen_at: float = 0.0  # when an event came that it took
    heard_from: float = 0.0  # nobody could hear until then: silence begins anew
    is_absent: bool = False


class Signalled(Struct, frozen=True):
    """For the target: a signal opened, changed its severity or (None) ended. `event` says so, or where time does fired last."""

    at: float
    fingerprint: str
    severity: Severity | None
    cause: Cause
    event: str = ""
    message: str = ""
    published: dict[str, str] = {}


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What became of one item of an event; kept with the event and shown to people."""

    kind: Kind
    index: int = 0
    reason: str = (
        ""  # of `ignored` and `error`: unmapped, suppressed, late, repeat, no open signal, disabled, ...
    )
    fingerprint: str = ""
    severity: Severity | None = None


_UNMATCHED: Final = Outcome("ignored", 0, "unmatched")
Verdict = Literal["matched", "ignored", "unmatched", "error"]


def verdict_of(outcomes: Iterable[Outcome]) -> Verdict:
    """What became of an event as a whole: an error is seen first, then what did something, then what could have."""
    found: Verdict = "unmatched"
    for outcome in outcomes:
        if outcome.kind == "error":
            return "error"
        if outcome.kind != "ignored":
            found = "matched"
        elif outcome.reason != "unmatched" and found == "unmatched":
            found = "ignored"
    return found


class _Soonest:
    """Names by when they are `due` (infinite: not at all), the soonest first. What became due sooner has to be `put`."""

    def __init__(self, due: Callable[[str], float], names: Iterable[str]) -> None:
        self._due = due
        self._queued = {name: at for name in names if (at := due(name)) < math.inf}
        self._heap = [(at, name) for name, at in self._queued.items()]
        heapify(self._heap)

    def put(self, name: str) -> float:
        """When it is due."""
        at = self._due(name)
        if at < self._queued.get(name, math.inf):
            self._queued[name] = at
            heappush(self._heap, (at, name))
        return at

    def first(self) -> tuple[float, str]:
        """The one that is due first; infinite where there is none."""
        while self._heap:
            queued, name = self._heap[0]
            if self._queued.get(name) == queued:
                if self._due(name) == queued:
                    return queued, name
                del self._queued[name]
                self.put(name)
            heappop(self._heap)
        return math.inf, ""


class Course:
    """One trigger's way through time: live, in preview and in a comparison alike.

    `changed` names the fingerprints whose keys are new since it was last cleared; one that is no longer in `keys` is gone.
    What is to come depends on `head` and `keys` alone.
    """

    def __init__(self, rule: Trigger, head: Head, keys: Mapping[str, Key]) -> None:
        self._head, self._at = head, head.at
        self.keys, self.changed = dict(keys), set[str]()
        self._rule, self._count, self._within_s = rule, 1, math.inf
        if rule.repeats:
            self._count, self._within_s = rule.repeats.count, rule.repeats.within
        self._silence_s, self._expires_s = rule.silence or math.inf, rule.expires or math.inf
        self._absence = rule.absence
        kept_s = max(KEPT_S, rule.for_, rule.cooldown)  # of which nothing is open
        self._kept_s = max(kept_s, self._within_s) if rule.repeats else kept_s
        self._ending = _Soonest(self._ends_at, self.keys)
        self._fading = _Soonest(self._fades_at, self.keys)
        self._calm_until = -math.inf  # nothing is due before

    @property
    def head(self) -> Head:
        """What it remembers as a whole. Of most events it only remembers when they came: that is put in once it is asked for."""
        if self._at > self._head.at:
            self._head = replace(self._head, at=self._at)
        return self._head

    @head.setter
    def head(self, head: Head) -> None:
        self._head, self._at = head, head.at

    @cached_property
    def matcher(self) -> Matcher:
        """What says what it sees."""
        return Matcher(self._rule)

    def switch(self, at: float, *, enabled: bool) -> list[Signalled]:
        """It was enabled or disabled: disabled it opens nothing, and what is open may end.

        What waits to open is dropped then, and an absence ends, of the cause `disabled`: nobody knows that it is over.
        """
        said = self.pass_time(at)
        if enabled == (self.head.enabled_at > 0):
            return said
        self.head, at = replace(self.head, enabled_at=self.head.at if enabled else 0.0), self.head.at
        self._calm_until = -math.inf
        if not enabled:
            self._end_absence(at, "disabled", said)
            for fingerprint in [name for name, key in self.keys.items() if key.pending]:
                self._put(fingerprint, _calmed(self.keys[fingerprint]))
        return said

    def hear(self, at: float) -> None:
        """Nobody could hear until `at`: what was silent or absent by then is not. Called before time passes."""
        self.head = replace(self.head, heard_from=max(self.head.heard_from, at))

    def pass_time(self, until: float) -> list[Signalled]:
        """Fold a tick for every deadline up to `until`, the soonest first, of the same time by fingerprint."""
        said: list[Signalled] = []
        if until >= self._calm_until:
            while (due := self._due())[0] <= until:
                self._tick(*due, said)
            self._calm_until = due[0]
        if until > self._at:
            self._at = until
        return said

    def see(
        self, at: float, event: str, document: Document, *, is_repeat: bool = False
    ) -> tuple[Matched, list[Outcome], list[Signalled]]:
        """Fold an event at `at`, after all deadlines up to then. A repeat only says that it is still there.

        An event that does not say when it happened happened then: clocks of several servers make none of them late.
        """
        said = self.pass_time(at)
        matched = self.matcher.match(document, self._at, self.before)
        return matched, self._take(event, matched, is_repeat, said), said

    def fold(
        self, at: float, event: str, matched: Matched, *, is_repeat: bool = False
    ) -> tuple[list[Outcome], list[Signalled]]:
        """Fold what was seen in an event."""
        said = self.pass_time(at)
        return self._take(event, matched, is_repeat, said), said

    def _take(self, event: str, matched: Matched, is_repeat: bool, said: list[Signalled]) -> list[Outcome]:
        """What becomes of each item, now."""
        if matched is NOTHING:
            return [_UNMATCHED]
        at = self.head.at
        outcomes: list[Outcome] = []
        is_taken = False
        for item in matched.items:
            if item.ignored == "unmatched":
                if not item.values:
                    outcomes.append(Outcome("ignored", item.index, "unmatched", item.fingerprint))
                    continue
            elif not is_taken:
                is_taken, self.head = True, replace(self.head, seen_at=at)
                self._end_absence(at, "present", said, event)
            outcomes.append(self._judge(at, event, item, is_repeat, said))
        if matched.error:
            outcomes.append(Outcome("error", 0, matched.error))
        return outcomes

    def end(self, at: float, fingerprint: str) -> list[Signalled]:
        """A person says that it is over. An absence is counted from then on anew.

        Time does not pass by that: what would be silence then may be waiting to be judged.
        """
        said, at = list[Signalled](), max(at, self.head.at)
        if fingerprint == ABSENCE:
            if self.head.is_absent:
                self.head = replace(self.head, enabled_at=at)
                self._end_absence(at, "ended", said)
        elif (key := self.keys.get(fingerprint)) is not None and (key.severity or key.pending):
            self._end(at, fingerprint, key, "ended", said)
        return said

    def end_all(self, at: float) -> list[Signalled]:
        """All that is open ends, every fingerprint is forgotten, absence begins anew: the rule is another one, or gone."""
        said = self.pass_time(at)
        at = self.head.at
        self._end_absence(at, "ended", said)
        self.head = replace(self.head, enabled_at=at if self.head.enabled_at else 0.0)
        for fingerprint in sorted(self.keys):
            self._end(at, fingerprint, self.keys[fingerprint], "ended", said)
        self.changed |= self.keys.keys()
        self.keys.clear()
        return said

    @property
    def open(self) -> dict[str, Severity]:
        """The open signals by fingerprint, that of absence among them."""
        found = {name: key.severity for name, key in self.keys.items() if key.severity is not None}
        absent: Severity = self._absence.severity if self._absence else "critical"
        return {ABSENCE: absent, **found} if self.head.is_absent else found

    @property
    def next_deadline(self) -> float | None:
        """When time alone does something."""
        due = self._due()[0]
        return due if due < math.inf else None

    # ---- time

    def _due(self) -> tuple[float, int, str]:
        """The next deadline, of what, and whose."""
        head, (ends_at, ending), (fades_at, _) = self.head, self._ending.first(), self._fading.first()
        due = (ends_at, _ENDS, ending)
        if fades_at < math.inf:
            due = min(due, ((fades_at // FORGETTING_S + 1) * FORGETTING_S, _FADES, ""))
        if self._absence and head.enabled_at and not head.is_absent:
            last_at = max(head.enabled_at, head.seen_at, head.heard_from)
            due = min(due, (last_at + self._absence.after, _ABSENT, ABSENCE))
        return due

    def _tick(self, due: float, what: int, fingerprint: str, said: list[Signalled]) -> None:
        at = max(due, self.head.at)
        self.head = replace(self.head, at=at, is_absent=self.head.is_absent or what == _ABSENT)
        if what == _ABSENT:
            assert self._absence is not None
            message = f"no event for {format_duration(self._absence.after)}"
            said.append(Signalled(at, ABSENCE, self._absence.severity, "absence", "", message))
        elif what == _FADES:
            while (fading := self._fading.first())[0] <= at:
                self._forget(fading[1])
        else:
            key = self.keys[fingerprint]
            if self._silent_at(key) <= due:
                self._end(at, fingerprint, key, "silence", said)
            elif key.severity is not None:
                self._end(at, fingerprint, key, "expiry", said)
            elif key.pending is not None:
                cause: Cause = "cooled" if self._is_cooling(key) else "held"
                self._open(at, fingerprint, key, key.pending, cause, said)

    def _ends_at(self, fingerprint: str) -> float:
        """When the key opens or ends by itself."""
        key = self.keys.get(fingerprint)
        if key is None or (key.severity is None and key.pending is None):
            return math.inf
        ends_at = self._silent_at(key)
        if key.severity is not None:
            return min(ends_at, key.since + self._expires_s)
        return min(ends_at, key.opens_at) if key.opens_at else ends_at

    def _silent_at(self, key: Key) -> float:
        return max(key.seen_at, self.head.heard_from) + self._silence_s

    def _fades_at(self, fingerprint: str) -> float:
        """When the key may be forgotten: nothing of it is open or about to be. Those that are next make room as well."""
        key = self.keys.get(fingerprint)
        if key is None or key.severity is not None or key.opens_at:
            return math.inf
        return max(key.seen_at, key.closed_at) + self._kept_s

    # ---- items

    def _judge(self, at: float, event: str, item: Item, is_repeat: bool, said: list[Signalled]) -> Outcome:
        says, severity = item.says, None if item.says == "recovery" else item.says
        if item.error:
            return Outcome("error", item.index, item.error, item.fingerprint)
        if says is None:
            self._note(at, item)
            if item.ignored == "suppressed":
                self._still(at, item.fingerprint)
            return Outcome("ignored", item.index, item.ignored or "", item.fingerprint)
        if is_repeat:
            reason = REPEAT
        elif severity is None:
            return self._recover(at, event, item, said)
        elif self.head.enabled_at:
            return self._fire(at, event, item, severity, said)
        else:
            self._note(at, item)
            reason = DISABLED
        if severity is not None:
            self._still(at, item.fingerprint)
        return Outcome("ignored", item.index, reason, item.fingerprint, severity)

    def _fire(self, at: float, event: str, item: Item, says: Severity, said: list[Signalled]) -> Outcome:
        index, fingerprint = item.index, item.fingerprint
        if (key := self._key(fingerprint)) is None:
            return Outcome("error", index, TOO_MANY, fingerprint, says)
        was, counted = key, key.counted
        if item.at >= key.event_at:
            key = replace(
                key,
                pending=says,
                event_at=item.at,
                seen_at=at,
                event=event,
                message=item.message,
                values=_known(key, item),
                published=item.published,
            )
        elif not counted or item.at <= key.over_at:
            return Outcome("ignored", index, LATE, fingerprint, says)
        else:
            key = replace(key, event=event)
        if was.severity is not None:
            self._put(fingerprint, replace(key, severity=says, pending=None))
            if says == was.severity:
                return Outcome("refreshed", index, "", fingerprint, says)
            said.append(Signalled(at, fingerprint, says, "event", event, item.message, item.published))
            kind: Kind = "escalated" if says == "critical" else "deescalated"
            return Outcome(kind, index, "", fingerprint, says)
        if not key.opens_at:
            if self._count > 1 and len(counted := self._counted(was, key, event, item.at)) < self._count:
                self._put(fingerprint, replace(key, counted=counted))
                return Outcome("counted", index, f"{len(counted)} of {self._count}", fingerprint, says)
            cooled_at = key.closed_at + self._rule.cooldown if key.closed_at else 0.0
            key = replace(key, counted=(), opens_at=max(at + self._rule.for_, cooled_at))
        if key.opens_at > at:
            self._put(fingerprint, key)
            kind = "cooling" if self._is_cooling(key) else "held"
            return Outcome(kind, index, "", fingerprint, says)
        self._open(at, fingerprint, key, key.pending or says, "event", said)
        return Outcome("opened", index, "", fingerprint, says)

    def _counted(self, was: Key, key: Key, event: str, at: float) -> tuple[float, ...]:
        """The times of the events that count now; one event counts once, however many of its items are of the fingerprint."""
        times = list(was.counted)
        if not times or was.event != event:
            insort(times, at)
        return tuple(time for time in times if time >= key.event_at - self._within_s)

    def _is_cooling(self, key: Key) -> bool:
        """Whether what keeps the key from opening is the cooldown, and not `for`."""
        return key.closed_at > 0 and key.opens_at == key.closed_at + self._rule.cooldown

    def _recover(self, at: float, event: str, item: Item, said: list[Signalled]) -> Outcome:
        """Remembered also where nothing is open: what fired before it may come after it."""
        index, fingerprint = item.index, item.fingerprint
        if (key := self._key(fingerprint)) is None:
            return Outcome("ignored", index, UNOPENED, fingerprint)
        if item.at < key.event_at:
            return Outcome("ignored", index, LATE, fingerprint)
        waited = key.pending is not None
        key = replace(key, event_at=item.at, seen_at=at, values=_known(key, item))
        is_open = key.severity is not None
        self._end(at, fingerprint, key, "recovery", said, event, item.message)
        if is_open:
            return Outcome("resolved", index, "", fingerprint)
        return Outcome("ignored", index, WAITED if waited else UNOPENED, fingerprint)

    def _note(self, at: float, item: Item) -> None:
        """The values of an item that does nothing else: the next one may have changed."""
        if not item.values or not item.fingerprint or (key := self._key(item.fingerprint)) is None:
            return
        if (item.at or at) >= key.event_at:  # what `when` does not take has no time
            seen_at = key.seen_at if key.severity or key.pending else at
            self._put(item.fingerprint, replace(key, values=_known(key, item), seen_at=seen_at))

    def _still(self, at: float, fingerprint: str) -> None:
        """What is open, or waits to, is no silence."""
        key = self.keys.get(fingerprint)
        if key is not None and (key.severity or key.pending):
            self._put(fingerprint, replace(key, seen_at=at))

    # ---- what becomes of a key

    def _open(
        self, at: float, fingerprint: str, key: Key, severity: Severity, cause: Cause, said: list[Signalled]
    ) -> None:
        self._put(fingerprint, replace(_calmed(key), severity=severity, since=at))
        said.append(Signalled(at, fingerprint, severity, cause, key.event, key.message, key.published))

    def _end(
        self,
        at: float,
        fingerprint: str,
        key: Key,
        cause: Cause,
        said: list[Signalled],
        event: str | None = None,
        message: str = "",
    ) -> None:
        """Neither open nor about to be; by `event`, or by time or a person."""
        if key.severity is not None:
            by, text = (key.event, key.message) if event is None else (event, message)
            said.append(Signalled(at, fingerprint, None, cause, by, text))
            key = replace(key, severity=None, closed_at=at)
        self._put(fingerprint, _calmed(key))

    def _end_absence(self, at: float, cause: Cause, said: list[Signalled], event: str = "") -> None:
        if self.head.is_absent:
            self.head, self._calm_until = replace(self.head, is_absent=False), -math.inf
            said.append(Signalled(at, ABSENCE, None, cause, event))

    def _key(self, fingerprint: str) -> Key | None:
        """The key, or an empty one if there is room: what faded longest makes some."""
        if (key := self.keys.get(fingerprint)) is not None:
            return key
        if len(self.keys) >= MAX_KEYS:
            fades_at, oldest = self._fading.first()
            if fades_at == math.inf:
                return None
            self._forget(oldest)
        return Key()

    def _put(self, fingerprint: str, key: Key) -> None:
        self.keys[fingerprint] = key
        self.changed.add(fingerprint)
        self._calm_until = min(self._calm_until, self._ending.put(fingerprint), self._fading.put(fingerprint))

    def _forget(self, fingerprint: str) -> None:
        del self.keys[fingerprint]
        self.changed.add(fingerprint)

    def before(self, fingerprint: str) -> Mapping[str, str]:
        """The values that `changed` looks at, as they were last."""
        key = self.keys.get(fingerprint)
        return key.values if key is not None else {}


def _calmed(key: Key) -> Key:
    return replace(key, pending=None, opens_at=0.0, counted=(), over_at=key.event_at)


def _known(key: Key, item: Item) -> dict[str, str]:
    """Of each value, what it was when it was last there."""
    return {**key.values, **item.values} if item.values else key.values
