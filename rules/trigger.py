"""External Beat Triggers: rules that turn received events into signals on a beat or group. What decides by them is `evaluators.trigger`."""

import hashlib
import json
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from rules.condition import Condition, Conditions
from rules.duration import Duration
from rules.incident import IncidentPolicy, Mode
from rules.pattern import compile_pattern
from rules.reference import Template, ValueRef, parse_reference, parse_template
from rules.selection import compile_path
from rules.shape import WRITTEN, Named, Rule, Slug, Tag, expect_one, spec_of
from rules.wording import Templates, expect_among
from rules.zone import zone_name

MAX_ITEMS: Final = 1000
"""Items of one event that are looked at; more are an error that is shown."""
MAX_KEYS: Final = 10_000
"""Fingerprints that one trigger keeps in mind at a time."""
SINGLE: Final = "single"
_BESIDE: Final = frozenset({"slug", "name", "description", "tags", "incidents", "templates", "enabled"})

ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


def _path(text: str) -> str:
    compile_path(text)
    return text


Path = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_path)]


def _identifies(text: str) -> str:
    parts = parse_template(text)
    if text != SINGLE and all(isinstance(part, str) for part in parts):
        raise ValueError(
            f"fingerprint {text!r} names no value, so that all events would be one; write such as "
            f"{{$.host}}/{{$.check}}, or {SINGLE} where that is meant"
        )
    return text


def _listed(value: object) -> object:
    return (
        {"values": value if isinstance(value, list) else [value]} if isinstance(value, str | list) else value
    )


def _valued(value: object) -> object:
    return {"value": value} if isinstance(value, str) else value


class NamedValue(Rule):
    """A value that conditions and texts of the trigger may name: taken from an event, and cut out of its text if wanted."""

    value: ValueRef = Field(description="Where it is taken from.")
    matches: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        default=None, description="RE2 with one group: what that finds in the text is the value."
    )
    as_: Literal["lower"] | None = Field(
        default=None, alias="as", description="Its text in lower case: some senders write WEB-1 and web-1."
    )
    or_: list[ValueRef] = Field(
        default=[],
        alias="or",
        max_length=5,
        description="Where it is taken from instead, while it is missing, null or empty: the first of these that is not.",
    )
    default: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="What it is where all of them are missing, null or empty."
    )

    @property
    def references(self) -> list[str]:
        """All that it may be taken from, in order."""
        return [self.value, *self.or_]

    @model_validator(mode="after")
    def _has_one_group(self) -> Self:
        if self.matches is not None and compile_pattern(self.matches).groups != 1:
            raise ValueError(
                f"matches {self.matches!r} has one group that says what is cut out, such as host=(\\S+); write others as (?:...)"
            )
        for text in self.references:
            if parse_reference(text).source == "value":
                raise ValueError(f"value {text!r} is a named value itself; take it from the event")
        return self


class EventTime(Rule):
    """When it happened, as the sender says; where nothing can be read as a time, that of receipt, and the trace says so."""

    values: list[ValueRef] = Field(
        min_length=1, max_length=5, description="The first that holds a time; null and the year 1 are none."
    )
    format: Annotated[str, StringConstraints(min_length=1, max_length=60)] = Field(
        default="auto",
        description="auto (RFC 3339, RFC 2822, or seconds, ms, us or ns since the epoch), or a strptime format.",
    )
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="Of times that do not say theirs."
    )

    @model_validator(mode="after")
    def _has_a_directive(self) -> Self:
        if self.format != "auto" and "%" not in self.format:
            raise ValueError(
                f"format {self.format!r} says nothing of a time; write one such as %Y-%m-%d %H:%M:%S"
            )
        return self


class Repeats(Rule):
    """So many events of a fingerprint within some time, before anything opens."""

    count: int = Field(ge=2, le=1000, description="Events, each counted once.")
    within: Duration = Field(ge=1, le=7 * 86400, description="By their own time.")


class Absence(Rule):
    """No event for so long is a signal itself; the next event ends it. Counted from when the trigger was enabled."""

    after: Duration = Field(
        ge=60, le=400 * 86400, description="Without an event that the trigger's `when` takes."
    )
    severity: Literal["warning", "critical"] = Field(default="critical", description="How bad that is.")


class Target(Rule):
    """What the signals are about: one of `beat`, `group` and `external`."""

    beat: Slug | None = Field(default=None, description="A beat of its page, of any type.")
    group: Slug | None = Field(
        default=None, description="A group of its page: one more, virtual member of it."
    )
    external: Slug | None = Field(
        default=None, description="An external beat of its page, which is made where there is none."
    )
    per_fingerprint: int | None = Field(
        default=None,
        ge=1,
        le=500,
        description="With `external`: each fingerprint gets a beat like that one, at most so many; what is over goes to itself.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        keys = ("beat", "group", "external")
        expect_one("target", keys, [key for key in keys if getattr(self, key) is not None])
        if self.per_fingerprint is not None and self.external is None:
            raise ValueError("per_fingerprint makes external beats; it needs external")
        return self


class TriggerPolicy(IncidentPolicy):
    """`incidents:` of a trigger; where a step rests on its signals, the more careful of this and the target's counts.

    `auto` counts once somebody has promoted the trigger, seeing its record; until then it is `draft`.
    """

    resolve: Mode = Field(default="draft", description="The end, after recovery.")


class Trigger(Named):
    """A rule over the events of an inbox. New ones are not enabled, and all they propose is drafts."""

    enabled: bool = Field(
        default=False, description="Whether it opens signals; false lets recoveries of open ones pass."
    )
    tags: list[Tag] = Field(default=[], max_length=50, description="For filters and metrics.")
    inbox: Slug = Field(description="The inbox of its page whose events it is over.")
    unwrap: list[Path] = Field(
        default=[],
        max_length=10,
        description="JSONPaths of texts that are JSON themselves, also in base64: read before all else.",
    )
    each: Path | None = Field(
        default=None,
        description=f"JSONPath of the items of one event, at most {MAX_ITEMS}; without it the body is one.",
    )
    values: dict[ValueName, Annotated[NamedValue, BeforeValidator(_valued)]] = Field(
        default={},
        max_length=20,
        description="Values with a name: `value:host` in conditions, `{value:host}` in texts.",
    )
    when: Conditions | None = Field(default=None, description="Which items it takes; all when not given.")
    critical: Conditions | None = Field(
        default=None,
        description="When an item says that it is critical; `true` for all. Looked at after `recovery`.",
    )
    warning: Conditions | None = Field(
        default=None,
        description="When it says that it is a warning. Looked at last; what is none of all three is ignored.",
    )
    recovery: Conditions | None = Field(
        default=None,
        description="When it says that it is over. `false`: never, only a person ends what it opened.",
    )
    truncated: Conditions | None = Field(
        default=None, description="When the sender says that it left items out; such events are marked."
    )
    suppress: Conditions | None = Field(
        default=None, description="Items that open nothing; what they recover is recovered all the same."
    )
    fingerprint: Annotated[Template, AfterValidator(_identifies)] = Field(
        description=f"What an item is about, the same when it fires and when it recovers, such as `{{$.host}}`. A value "
        f"that is missing or null is an error. `{SINGLE}`: all events are about one thing."
    )
    time: Annotated[
        EventTime | None,
        BeforeValidator(_listed, json_schema_input_type=EventTime | ValueRef | list[ValueRef]),
    ] = Field(default=None, description="When it happened; the time of receipt when not given.")
    message: Template = Field(
        default="", description="What operators are told of it; values that are missing are left out."
    )
    publish: list[ValueName] = Field(
        default=[],
        max_length=20,
        description="Named values that templates may show to customers, as captures.NAME: the first 200 characters.",
    )
    repeats: Repeats | None = Field(default=None, description="How many events it takes to open.")
    for_: Duration = Field(
        default=0.0,
        alias="for",
        le=86400,
        description="How long it must fire without recovery before it opens.",
    )
    silence: Duration | None = Field(
        default=None, ge=30, le=30 * 86400, description="Without another event for so long it is over."
    )
    expires: Duration | None = Field(
        default=None, ge=60, le=400 * 86400, description="Open for so long it is over, whatever comes."
    )
    cooldown: Duration = Field(
        default=0.0,
        le=7 * 86400,
        description="After it was over, nothing opens for so long; what still fires opens then.",
    )
    absence: Absence | None = Field(default=None, description="When no event at all is a signal.")
    target: Target = Field(description="What its signals are about.")
    incidents: TriggerPolicy = Field(
        default=TriggerPolicy(), description="What may be said in public on its word."
    )
    templates: Templates = Field(
        default=Templates(),
        description="What customers read where a step rests on its signals alone, instead of what its target says.",
    )

    @property
    def digest(self) -> str:
        """Of what it decides by: another one where more changed than how it is called, or what it may do."""
        decides = {key: value for key, value in spec_of(self).items() if key not in _BESIDE}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]

    @model_validator(mode="after")
    def _is_whole(self, info: ValidationInfo) -> Self:
        expect_among("publish", self.publish, self.values, "named value")
        if info.context == WRITTEN:
            expect_among("templates: captures", self.templates.captures(), self.publish, "published value")
        if self.truncated is not None and any(one.changed is not None for one in self.truncated.leaves()):
            raise ValueError("truncated: changed is of one fingerprint; this is of the event as a whole")
        if self.critical is None and self.warning is None:
            if self.absence is None:
                raise ValueError("critical: a trigger says when it is critical or warning, or has an absence")
            if self.recovery is not None:
                raise ValueError("recovery: nothing opens but by absence, which the next event ends")
            return self
        if self.recovery is None and self.silence is None and self.expires is None:
            raise ValueError(
                "recovery: say when it is over, or give silence or expires; `recovery: false` leaves it to a person"
            )
        self._expect_named_values()
        return self

    def _expect_named_values(self) -> None:
        texts = [condition.value or "" for condition in self.conditions()]
        for template in (self.fingerprint, self.message):
            texts += (part.text for part in parse_template(template) if not isinstance(part, str))
        texts += self.time.values if self.time else ()
        for text in texts:
            name = text.removeprefix("value:")
            if name != text and name not in self.values:
                known = ", ".join(sorted(self.values)) or "none"
                raise ValueError(f"values: {text} is not among the named values; known: {known}")

    def conditions(self) -> list[Condition]:
        """Every comparison in it."""
        trees = (self.when, self.critical, self.warning, self.recovery, self.truncated, self.suppress)
        return [leaf for tree in trees if tree is not None for leaf in tree.leaves()]
