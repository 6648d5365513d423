"""What a person should know of a rule before they trust it, told by what became of past events. What that was is `evaluators.preview`'s."""

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

from evaluators.matching import Matched
from evaluators.trigger import ABSENCE, LATE, REPEAT, UNOPENED, Outcome, Signalled
from rules.duration import format_duration
from rules.redaction import MASK, hidden_text, is_hidden
from rules.reference import parse_reference
from rules.trigger import SINGLE, Trigger

Kind = Literal[
    "matches_everything",
    "matches_nothing",
    "missing_recovery",
    "unmatched_recovery",
    "key_cardinality",
    "single_key",
    "duplicates",
    "flapping",
    "errors",
    "unmapped",
    "truncated",
    "late",
    "times",
    "auto_post_risk",
    "absence",
    "silence",
]
MOST_EXAMPLES: Final = 5
MOST_FINGERPRINTS: Final = 20_000
"""More are counted, and not told apart."""
MOST_REASONS: Final = 200
MOST_VALUES: Final = 50
MOST_ORPHANS: Final = 20
"""Recoveries of something that was not open, for which what is open is looked through."""
MOST_OPEN: Final = 200
ENOUGH: Final = 20
"""Items, before anything is said of what they have in common."""
NEARLY_ALL: Final = 0.9
ALIKE: Final = 0.6
FLAPS: Final = 4
FLAPS_WITHIN_S: Final = 3600.0
FEW: Final = 5
"""Openings, with fewer of which little is known of a rule."""
BUSY: Final = 5
"""Incidents of a day, of which more are a lot."""
_OTHER: Final = "other reasons"
_MISSING: Final = "(missing)"
_FIRES: Final = frozenset({"opened", "escalated", "deescalated", "refreshed", "counted", "held", "cooling"})
_NO_VALUE: Final = frozenset({"all", "any", "none", "true", "false"})
_JUDGED_BY: Final = frozenset({"critical", "warning", "recovery"})


class Advice(Struct, frozen=True):
    """One thing to know, in plain words; `examples` are ids of events."""

    kind: Kind
    severity: Literal["info", "warning"]
    text: str
    examples: tuple[str, ...] = ()


class Count(Struct, frozen=True):
    """How many items came to the same, and why."""

    kind: str
    reason: str
    count: int
    examples: tuple[str, ...] = ()


class Unmapped(Struct, frozen=True):
    """A value that says neither what is wrong nor that it is over; counted in the first such events."""

    reference: str
    value: str
    count: int
    examples: tuple[str, ...] = ()


class _Key:
    """What is counted of one fingerprint."""

    __slots__ = ("changes", "event", "flaps", "is_late", "items", "opened", "recovered")

    def __init__(self, event: str) -> None:
        self.event = event  # the first
        self.items = self.opened = self.recovered = 0
        self.changes: tuple[float, ...] = ()
        self.flaps = self.is_late = False  # late: its last word was, and changed nothing


class Examples:
    """Things counted by what they have in common, with the first events of each."""

    def __init__(self, most: int) -> None:
        self.counts, self._most = Counter[tuple[str, str]](), most
        self.events: dict[tuple[str, str], list[str]] = {}

    def add(self, what: str, which: str, event: str) -> None:
        """One more; past the most there may be, of others."""
        name = (what, which)
        if name not in self.counts and len(self.counts) >= self._most:
            name = (what, _OTHER)
        self.counts[name] += 1
        if self.counts[name] <= MOST_EXAMPLES:
            self.events.setdefault(name, []).append(event)

    def of(self, what: str, which: str) -> tuple[str, ...]:
        """The first events."""
        return tuple(self.events.get((what, which), ()))


class Tally:
    """Counts what became of events, and says what that means."""

    def __init__(self, rule: Trigger, hidden: Sequence[str] = ()) -> None:
        self._rule, self._hidden = rule, hidden
        self.outcomes, self._values = Examples(MOST_REASONS), Examples(MOST_VALUES)
        self._keys: dict[str, _Key] = {}
        # recovered and not open: the event, and what is open like it
        self._orphans: dict[str, tuple[str, str]] = {}
        self._causes, self._truncated = Counter[str](), list[str]()
        self._events = self._truncations = self._empty = 0
        self._times, self._untimed = Examples(MOST_REASONS), dict[str, str]()  # the first, by reference

    def see(
        self,
        event: str,
        matched: Matched,
        outcomes: Iterable[Outcome],
        said: Iterable[Signalled],
        open_signals: Callable[[], Collection[str]],
    ) -> None:
        """Count an event; `open_signals` names what is open now."""
        self._events += 1
        self._empty += not matched.items and not matched.error
        if matched.is_truncated:
            self._truncations += 1
            self._truncated += [event] if len(self._truncated) < MOST_EXAMPLES else []
        for outcome in outcomes:
            kind, reason = outcome.kind, outcome.reason if outcome.kind in ("ignored", "error") else ""
            self.outcomes.add(kind, reason, event)
            is_late = reason == LATE
            if outcome.fingerprint and (
                is_late or kind in _FIRES or kind == "resolved" or reason == UNOPENED
            ):
                if (key := self._key(outcome.fingerprint, event)) is not None:
                    key.items += not is_late
                    key.is_late = is_late
                if (
                    reason == UNOPENED
                    and len(self._orphans) < MOST_ORPHANS
                    and outcome.fingerprint not in self._orphans
                ):
                    like = _nearest(outcome.fingerprint, open_signals())
                    self._orphans[outcome.fingerprint] = (event, like)
        self.hear(said)

    def hear(self, said: Iterable[Signalled]) -> None:
        """Count what became of signals."""
        for signalled in said:
            self._causes[signalled.cause] += 1
            if signalled.fingerprint == ABSENCE:
                continue
            if (key := self._key(signalled.fingerprint, signalled.event)) is not None:
                key.opened += signalled.severity is not None
                key.recovered += signalled.cause == "recovery"
                key.changes = (*key.changes, signalled.at)[-FLAPS:]
                key.flaps |= len(key.changes) == FLAPS and key.changes[0] >= signalled.at - FLAPS_WITHIN_S

    def trace(self, event: str, matched: Matched) -> None:
        """Of a traced event: which values say nothing, and which are no time."""
        for item in matched.items:
            for one in item.trace if item.says else ():
                if one.part == "time" and one.holds is False and one.actual is not None:
                    self._times.add("time", one.of, event)
                    self._untimed.setdefault(one.of, self._shown(one.of, one.actual))
            if item.ignored != "unmapped":
                continue
            seen, wanted = dict[str, str](), set[str]()
            none_depth = math.inf
            for one in item.trace:
                if one.depth <= none_depth:
                    none_depth = one.depth if one.of == "none" else math.inf
                if one.part not in _JUDGED_BY or one.of in _NO_VALUE:
                    continue
                if one.holds and one.depth <= none_depth:
                    wanted.add(one.of)  # it says something, and another value is why that is not enough
                elif one.holds is False:
                    seen[one.of] = self._shown(one.of, one.actual)
            for reference, value in seen.items():
                if reference not in wanted:
                    self._values.add(reference, value, event)

    def _shown(self, reference: str, value: object) -> str:
        if value == []:
            return _MISSING
        hides = is_hidden(self._rule, parse_reference(reference), self._hidden)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return MASK if hides else hidden_text(text)[:200]

    def _key(self, fingerprint: str, event: str) -> _Key | None:
        if (key := self._keys.get(fingerprint)) is None and len(self._keys) < MOST_FINGERPRINTS:
            key = self._keys[fingerprint] = _Key(event)
        return key

    # ---- what it comes to

    def counts(self) -> list[Count]:
        """Outcomes, the most frequent first."""
        found = self.outcomes
        return [Count(*name, count, found.of(*name)) for name, count in found.counts.most_common()]

    def unmapped(self) -> list[Unmapped]:
        """Values that say nothing, the most frequent first."""
        found = self._values
        return [Unmapped(*name, count, found.of(*name)) for name, count in found.counts.most_common()]

    def advice(self) -> list[Advice]:
        """What there is to say of it, the gravest first."""
        found = [*self._of_matching(), *self._of_recovery(), *self._of_keys(), *self._of_order()]
        return sorted(found, key=lambda one: one.severity == "info")

    def risks(self, opened: int, brief: int, busiest: int) -> list[str]:
        """Why posting without review is risky; of so many incidents, so many over at once, the most on one day."""
        found = [f"it opened only {_times(opened)}"] if opened < FEW else []
        if opened and not self._causes["recovery"]:
            found.append("no event ever ended what it opened")
        if any(key.flaps for key in self._keys.values()):
            found.append("signals came and went within the hour")
        if brief * 2 > opened:
            found.append(f"{brief} of {opened} incidents were over within two minutes")
        if busiest > BUSY:
            found.append(f"up to {busiest} incidents on one day")
        if self._count("error"):
            found.append("some events cannot be read")
        return found

    def _count(self, kind: str) -> int:
        return sum(count for (what, _), count in self.outcomes.counts.items() if what == kind)

    def _of_matching(self) -> Iterable[Advice]:
        counts = self.outcomes.counts
        fires, items = sum(self._count(kind) for kind in _FIRES), sum(counts.values())
        rule = self._rule
        if self._events and not fires and (rule.critical or rule.warning):
            taken = items - counts["ignored", "unmatched"]
            why = f"`when` took {_many(taken, 'item')}, and none fires" if taken else "`when` takes none"
            if rule.when is None:
                why = f"of {_many(taken, 'item')} none does"
            if self._empty == self._events:
                why = f"`each` finds no item at {rule.each}"
            yield Advice(
                "matches_nothing", "warning", f"None of {_many(self._events, 'event')} fires: {why}."
            )
        if items >= ENOUGH and fires >= NEARLY_ALL * items:
            text = f"{fires} of {items} items fire: nearly all there are. Is that meant, or is a condition missing?"
            yield Advice("matches_everything", "warning", text)
        for (kind, reason), count in counts.most_common():
            if kind == "error":
                text = f"{_many(count, 'item')} cannot be judged: {reason}."
                yield Advice("errors", "warning", text, self.outcomes.of(kind, reason))
        if (count := counts["ignored", "unmapped"]) and (rule.critical or rule.warning):
            named = ", ".join(f"{one.reference} is {one.value!r}" for one in self.unmapped()[:3])
            text = f"What {_many(count, 'item')} said is neither that something is wrong nor that it is over"
            yield Advice(
                "unmapped",
                "warning",
                f"{text}: {named}." if named else f"{text}.",
                self.outcomes.of("ignored", "unmapped"),
            )
        if self._truncations:
            text = f"{_many(self._truncations, 'event')} left items out: what those said is not known."
            yield Advice("truncated", "warning", text, tuple(self._truncated))

    def _of_recovery(self) -> Iterable[Advice]:
        opened = {name: key for name, key in self._keys.items() if key.opened}
        lacking = [name for name, key in opened.items() if not key.recovered]
        recovery = self._rule.recovery
        if lacking and recovery is not None and recovery.always is not False:
            text = f"{len(lacking)} of {_many(len(opened), 'fingerprint')} opened and no event ended them: {_some(lacking)}."
            yield Advice("missing_recovery", "warning", text, self._events_of(lacking))
        if count := self.outcomes.counts["ignored", UNOPENED]:
            # What opened once, or is ended by its own events, is called as it should be.
            like = [
                (name, near)
                for name, (_, near) in self._orphans.items()
                if near and not self._keys[name].opened and not self._keys[near].recovered
            ]
            text = f"{_many(count, 'recovery')} of what was not open"
            if like:
                text += f". {like[0][0]!r} is like {like[0][1]!r}, which was open: do both come from the same values?"
                events = tuple(self._orphans[name][0] for name, _ in like[:MOST_EXAMPLES])
                yield Advice("unmatched_recovery", "warning", text, events)
            else:
                text += ": they end nothing, which is fine where a sender says regularly that all is well."
                yield Advice("unmatched_recovery", "info", text, self.outcomes.of("ignored", UNOPENED))

    def _of_keys(self) -> Iterable[Advice]:
        once = [name for name, key in self._keys.items() if key.items == 1]
        items = sum(key.items for key in self._keys.values())
        if len(self._keys) >= ENOUGH and len(once) >= NEARLY_ALL * len(self._keys):
            text = (
                f"{len(once)} of {len(self._keys)} fingerprints came only once, such as {_some(once)}: nothing that "
                "fires is recognised again. Is a time or the number of a run in them?"
            )
            yield Advice("key_cardinality", "warning", text, self._events_of(once))
        if items >= ENOUGH and len(self._keys) == 1 and self._rule.fingerprint != SINGLE:
            only = next(iter(self._keys))
            yield Advice("single_key", "info", f"All {items} items have the fingerprint {only!r}.")
        flapping = [name for name, key in self._keys.items() if key.flaps]
        if flapping:
            text = (
                f"{_many(len(flapping), 'fingerprint')} changed {FLAPS} times or more within an hour: {_some(flapping)}. "
                "`for`, `repeats` or `cooldown` make it calmer."
            )
            yield Advice("flapping", "warning", text, self._events_of(flapping))

    def _of_order(self) -> Iterable[Advice]:
        counts, causes, rule = self.outcomes.counts, self._causes, self._rule
        same = self._count("refreshed") + counts["ignored", REPEAT]
        if same >= ENOUGH:
            text = f"{same} items said again what was known: they change nothing but that it is not silent."
            yield Advice("duplicates", "info", text)
        if count := counts["ignored", LATE]:
            text = f"{_many(count, 'item')} came after one of the same fingerprint that happened later, and changed nothing."
            if last := [name for name, key in self._keys.items() if key.is_late]:
                text += (
                    f" It was the last word of {_some(last)}: is `time` when it began, or of several clocks?"
                )
            yield Advice("late", "warning" if last else "info", text, self.outcomes.of("ignored", LATE))
        for of, value in self._untimed.items():
            text = f"{of} is {value!r}, which is no time, or not one yet: such an event happened when it was received."
            yield Advice("times", "warning", text, self._times.of("time", of))
        if causes["silence"] and rule.silence:
            text = f"{_many(causes['silence'], 'signal')} ended because nothing came for {format_duration(rule.silence)}."
            yield Advice("silence", "info", text)
        if causes["absence"] and rule.absence:
            text = f"No event for {format_duration(rule.absence.after)}: that was so {_times(causes['absence'])}."
            yield Advice("absence", "info", text)

    def _events_of(self, fingerprints: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._keys[name].event for name in fingerprints[:MOST_EXAMPLES])


def _nearest(fingerprint: str, others: Collection[str]) -> str:
    """The one of others that has most of its begin and end in common with it, if that is enough to wonder."""
    best, found = ALIKE, ""
    for _, other in zip(range(MOST_OPEN), others, strict=False):
        one, two = fingerprint.lower(), other.lower()
        head = _common(one, two)
        tail = _common(one[head:][::-1], two[head:][::-1])
        alike = (head + tail) / max(len(fingerprint), len(other), 1)
        if alike >= best:
            best, found = math.nextafter(alike, math.inf), other
    return found


def _common(text: str, other: str) -> int:
    pairs = enumerate(zip(text, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(text), len(other)))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:100]) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _many(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
