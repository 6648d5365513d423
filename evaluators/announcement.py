"""What customers are to be told of announced maintenance: that it is planned, near, moved, begun, over; and in which words. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal

from evaluators.lifecycle import ENDED
from rules.language import Language
from rules.maintenance import Announce, Maintenance, Span

SAME_S: Final = 1.0
"""Times that differ by less are one."""
MOVED_S: Final = 43200.0
"""A time of what comes again and again was moved by so much at most; else it is another one."""
_ROUNDED_S: Final = 0.001  # what was ended just now is kept to the microsecond

Does = Literal["announce", "remind", "move", "begin", "complete", "cancel"]


@dataclass(frozen=True, slots=True)
class Told:
    """One time of a window that customers were told of, last at `said_at`. Seconds since the epoch."""

    id: str
    status: str
    start: float
    end: float
    said_at: float

    @property
    def is_live(self) -> bool:
        """Whether more is to be said of it."""
        return self.status not in ENDED


@dataclass(frozen=True, slots=True)
class Step:
    """Something to say: of what was told before, or (`told` None) of a time that nobody heard of. `status`: what it is then."""

    does: Does
    told: str | None
    span: Span
    status: str


def due(rule: Maintenance, told: Sequence[Told], now: float, *, is_removed: bool = False) -> list[Step]:
    """What is to be said now, in order. After a time in which nobody looked, nothing is said of what is over but its end."""
    announce = rule.announce or Announce()
    live = sorted((one for one in told if one.is_live), key=lambda one: one.start)
    since = min([now, *(one.start for one in live)])
    spans = [] if is_removed else rule.spans(since, now + announce.before + SAME_S)
    if live and rule.rrule is None and not is_removed and (after := rule.next(now)) and after not in spans:
        spans.append(after)  # put off for longer than it is announced before
    places, free = _placed(rule, live, spans, [one for one in told if not one.is_live], now)
    steps = [step for one in live for step in _of(rule, announce, one, places.get(one.id), now)]
    for start, end in free if rule.announce is not None else ():
        if start <= now + announce.before:
            status = "in_progress" if start <= now and announce.start == "auto" else "scheduled"
            steps.append(Step("announce", None, (start, end), status))
    return steps


def _placed(
    rule: Maintenance, live: Sequence[Told], spans: Sequence[Span], over: Collection[Told], now: float
) -> tuple[dict[str, Span], list[Span]]:
    """When what was told takes place now, by id; and times still to come that nobody was told of."""
    places: dict[str, Span] = {}
    free = [span for span in spans if not any(abs(one.start - span[0]) < SAME_S for one in over)]
    for one in live:
        if same := next((span for span in free if abs(span[0] - one.start) < SAME_S), None):
            places[one.id] = same
            free.remove(same)
    free = [span for span in free if span[1] > now]
    for one in live:
        if one.id in places:
            continue
        reach = MOVED_S if rule.rrule is not None else float("inf")
        if moved := next((span for span in free if abs(span[0] - one.start) <= reach), None):
            places[one.id] = moved
            free.remove(moved)
    return places, free


def _of(rule: Maintenance, announce: Announce, told: Told, span: Span | None, now: float) -> list[Step]:
    if span is None:
        ends: Does = "cancel" if told.status == "scheduled" else "complete"
        status = "cancelled" if ends == "cancel" else "completed"
        return [Step(ends, told.id, (told.start, max(told.start, min(told.end, now))), status)]
    start, end = span
    if end <= now + _ROUNDED_S:
        by_hand = any(abs(rule.at(moment) - end) < SAME_S for moment in rule.ended)
        is_said = announce.complete == "auto" or by_hand
        return [Step("complete", told.id, span, "completed")] if is_said else []
    steps, status = [], told.status
    if abs(start - told.start) >= SAME_S or abs(end - told.end) >= SAME_S:
        status = "scheduled" if start > now else status
        steps.append(Step("move", told.id, span, status))
    if status == "scheduled" and start <= now and announce.start == "auto":
        steps.append(Step("begin", told.id, span, "in_progress"))
    elif status == "scheduled" and announce.remind is not None and not steps:
        near = start - announce.remind
        if told.said_at < near <= now < start:
            steps.append(Step("remind", told.id, span, status))
    return steps


def title(rule: Maintenance, words: Language) -> str:
    """What customers read it is called."""
    return (rule.announce and rule.announce.title) or rule.name or words.say("window_title")


def text(rule: Maintenance, step: Step, names: Sequence[str], words: Language, zone: tzinfo) -> str:
    """What customers read, in the page's language and by its clocks; `names` are of the components that it is about."""
    if step.does == "announce" and rule.announce and rule.announce.text:
        return rule.announce.text
    start, end = (words.moment(datetime.fromtimestamp(at, UTC), zone) for at in step.span)
    key: str = step.does
    if step.status == "in_progress":
        key = {"announce": "begin", "move": "extend"}.get(key, key)
    what = words.say("window_of", names=words.listed(names)) if names else words.say("window_of_none")
    return words.say(f"window_{key}", what=what, start=start, end=end)
