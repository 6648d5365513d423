"""A trigger in plain English, for who reads it rather than writes it: console, API and command line say the same."""

from typing import Any, Final

import msgspec

from rules.condition import Condition
from rules.duration import format_duration
from rules.trigger import SINGLE, Trigger

_SAID: Final = {
    "eq": ("is {}", "is not {}"),
    "ne": ("is not {}", "is {}"),
    "lt": ("is below {}", "is not below {}"),
    "le": ("is at most {}", "is not at most {}"),
    "gt": ("is above {}", "is not above {}"),
    "ge": ("is at least {}", "is not at least {}"),
    "in": ("is {}", "is none of {}"),
    "contains": ("contains {}", "does not contain {}"),
    "starts": ("starts with {}", "does not start with {}"),
    "ends": ("ends with {}", "does not end with {}"),
    "matches": ("matches {}", "does not match {}"),
    "between": ("is between {}", "is not between {}"),
    "schema": ("fits its schema", "does not fit its schema"),
}
_ASKED: Final = {
    "exists": ("is there", "is missing"),
    "empty": ("is empty", "is not empty"),
    "changed": ("has changed", "has not changed"),
}
_COUNTED: Final = {
    "eq": "exactly",
    "ne": "not",
    "lt": "fewer than",
    "le": "at most",
    "gt": "more than",
    "ge": "at least",
}
_READ: Final = {"number": " as a number", "text": " as text", "lower": " in lower case"}
_LONG: Final = 80


def sentence(rule: Trigger) -> str:
    """What `rule` does, in one or a few sentences."""
    target = rule.target
    about = f"group {target.group}" if target.group else f"beat {target.beat or target.external}"
    said = []
    levels = [
        (level, condition)
        for level, condition in (("critical", rule.critical), ("a warning", rule.warning))
        if condition is not None and condition.always is not False
    ]
    if levels:
        cases = [level + _if("if", condition) for level, condition in levels]
        thing = f"item of {rule.each} in an event" if rule.each else "event"
        said.append(
            f"For each {thing} of {rule.inbox}{_if('where', rule.when)}, {about} is {', else '.join(cases)}"
        )
        said += _openings(rule) + _ends(rule)
    if rule.absence is not None:
        level = "critical" if rule.absence.severity == "critical" else "a warning"
        waited = f"Without any event of {rule.inbox}{_if('where', rule.when)} for {format_duration(rule.absence.after)}"
        said.append(f"{waited}, {about} is {level} until the next one")
    if levels:
        single = rule.fingerprint == SINGLE
        per = "All events are about one thing" if single else f"There is one signal per {rule.fingerprint}"
        said.append(per + (", each on a beat of its own" if target.per_fingerprint else ""))
    return ". ".join(said) + "."


def _openings(rule: Trigger) -> list[str]:
    waits, said = [], []
    if rule.repeats:
        waits.append(f"{rule.repeats.count} of them came within {format_duration(rule.repeats.within)}")
    if rule.for_:
        waits.append(f"it has lasted {format_duration(rule.for_)}")
    if waits:
        said.append(f"It opens once {' and '.join(waits)}")
    if rule.suppress is not None:
        said.append(f"Nothing opens{_if('where', rule.suppress)}")
    if rule.cooldown:
        said.append(f"After it was over, nothing opens for {format_duration(rule.cooldown)}")
    return said


def _ends(rule: Trigger) -> list[str]:
    ends = []
    if rule.recovery is not None and rule.recovery.always is not False:
        ends.append(f"when {in_words(rule.recovery)}")
    if rule.silence:
        ends.append(f"without another event for {format_duration(rule.silence)}")
    if rule.expires:
        ends.append(f"after {format_duration(rule.expires)} in any case")
    return [f"It is over {' or '.join(ends)}" if ends else "Only a person can say that it is over"]


def _if(word: str, condition: Condition | None) -> str:
    return "" if condition is None or condition.always else f" {word} {in_words(condition)}"


def in_words(condition: Condition, *, nested: bool = False) -> str:
    """A condition, as it stands after `if`."""
    if condition.always is not None:
        return "always" if condition.always else "never"
    if (group := condition.group) is not None:
        name, inner = group
        parts = [in_words(one, nested=True) for one in inner]
        if name == "none":
            return (
                f"{'it is not so that' if len(parts) == 1 else 'none of these holds:'} {' or '.join(parts)}"
            )
        joined = (" and " if name == "all" else " or ").join(parts)
        return f"({joined})" if nested and len(parts) > 1 else joined
    return f"{condition.value}{_READ.get(condition.as_ or '', '')} {compared(condition)}"


def compared(condition: Condition) -> str:
    """What a condition wants of its value: `is one of critical, page`."""
    operator, expected = condition.operator, condition.expected
    if operator in _ASKED:
        return _ASKED[operator][bool(expected) is condition.not_]
    if operator == "count":
        how, number = expected
        return f"has {'not ' if condition.not_ else ''}{_COUNTED[how]} {number} {'item' if number == 1 else 'items'}"
    if operator == "in":
        text = ("one of " if len(expected) > 1 and not condition.not_ else "") + ", ".join(
            map(_shown, expected)
        )
    elif operator == "between":
        text = " and ".join(map(_shown, expected))
    else:
        text = _shown(expected)
    return _SAID[operator][condition.not_].format(_cut(text))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"“{value}”" if value != value.strip() or not value or " " in value else value
    return msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
