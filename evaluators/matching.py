"""What a trigger sees in an event: per item what it says, of what, and when, with a trace of why. It remembers nothing: see `evaluators.trigger`.

A condition of several values holds if every one does; what is missing holds for none but `exists: false`,
`empty: true` and `count: 0`, negated or not. A number and a text that writes it are one in fingerprints: 5 is `5`, and
so is 5.0, as they are equal.
"""

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

from evaluators.event import Document, expect_bounded, parse_json
from evaluators.moment import moment_of
from evaluators.operators import TESTS, hold_together, is_empty, is_number, kind_of
from evaluators.subjects import number_of
from rules.comparison import NEVER_KEPT, is_kept, parts_of
from rules.condition import Condition
from rules.expectation import compile_condition
from rules.markdown import one_line
from rules.pattern import compile_pattern
from rules.reference import Reference, parse_reference, parse_template
from rules.selection import (
    Budget,
    BudgetError,
    UnreadableError,
    compile_path,
    is_definite,
    places,
    search,
    steps_a_character,
)
from rules.sentence import compared
from rules.trigger import MAX_ITEMS, EventTime, NamedValue, Trigger
from rules.wording import MAX_PUBLISHED

OVER_BUDGET: Final = "over budget: "
"""How an error begins that says that a rule asks too much of an event."""
MAX_FINGERPRINT: Final = 500
MAX_MESSAGE: Final = 500
_A_STEP: Final = 64  # characters that are copied or compared
_SHOWN: Final = 200  # characters of a value in a trace
_SHOWN_VALUES: Final = 10
_REMEMBERED: Final = 200  # characters of a value that `changed` looks at; of more, a digest
_UNWRAPPED: Final = 3  # texts in texts in texts

_AHEAD_S: Final = 300.0  # clocks differ; what is later than that is worth a word
_NO_TIME: Final = "none of them holds a time: it is when the event was received"
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SHORT: Final = json.JSONDecoder(parse_int=lambda text: int(text) if len(text) < 19 else text)

Says = Literal["critical", "warning", "recovery"]
Ignored = Literal["unmatched", "unmapped", "suppressed"]
_ORDER: Final[tuple[Says, ...]] = ("recovery", "critical", "warning")

Before = Callable[[str], Mapping[str, str]]
"""By fingerprint, what the values were that `changed` looks at, in the event before; empty where there was none."""


class Traced(Struct, frozen=True):
    """One condition as it was judged. `part`: when, critical, warning, recovery, suppress, truncated, fingerprint, time."""

    part: str
    of: str  # the reference, or `all`, `any`, `none`
    wanted: str  # in words: `is one of critical, page`
    holds: bool | None  # None: not looked at, as it was decided before
    actual: Any = None  # what was found, cut; [] where nothing was
    depth: int = 0
    note: str = ""


class Item(Struct, frozen=True, omit_defaults=True):
    """One item of an event: it `says` something, or is `ignored`, or there is an `error` in words."""

    index: int
    says: Says | None = None
    ignored: Ignored | None = None
    error: str = ""  # such as `fingerprint: $.host is missing`
    fingerprint: str = ""
    at: float = 0.0  # event time: never after the time of receipt
    message: str = ""
    values: dict[str, str] = {}  # what `changed` looks at now, by reference
    published: dict[str, str] = {}  # what customers may be shown
    trace: tuple[Traced, ...] = ()


class Matched(Struct, frozen=True):
    """What a trigger sees in one event. `error`: of the event as a whole, which then has no items."""

    items: tuple[Item, ...] = ()
    is_truncated: bool = False
    error: str = ""


NOTHING: Final = Matched((Item(0, ignored="unmatched"),))
"""What most events are to most triggers: `when` takes none of their items, however many there are."""


class _WrongError(Exception):
    """An item that cannot be judged; the message says why."""


class _Absent:
    """The item and body of an event that is nothing but text."""


_ABSENT: Final = _Absent()


class _Look:
    """One item after the other as it is being looked at, and what was found out so far."""

    __slots__ = (
        "before",
        "body",
        "budget",
        "document",
        "fingerprint",
        "found",
        "item",
        "shared",
        "trace",
        "why",
    )

    def __init__(
        self, document: Document, body: Any, before: Before, budget: Budget, trace: list[Traced] | None
    ) -> None:
        self.document, self.body, self.before, self.budget, self.trace = document, body, before, budget, trace
        self.shared: dict[Any, Any] = {}  # what is the same for every item
        self.found: dict[str, list[Any]] = {}  # named values
        self.turn_to(body)

    def turn_to(self, item: Any) -> None:
        """Look at another item: nothing is known of it."""
        self.item, self.fingerprint = item, ""
        self.why: str | None = None  # it has none; empty where it has one, None where nobody asked
        if self.found:
            self.found = {}


_Get = Callable[[_Look], list[Any]]


class Matcher:
    """A compiled trigger."""

    def __init__(self, rule: Trigger) -> None:
        named: dict[str, tuple[_Get, bool]] = {}
        for name, value in rule.values.items():
            named[name] = _named(name, value)
        self._unwrap, self._each_path = rule.unwrap, rule.each or ""
        stem = self._each_path.removesuffix("[*]")  # the same for a list, and takes a tenth of the time
        self._is_list = bool(stem) and not stem.endswith("..") and is_definite(stem)
        self._is_any = self._is_list and stem != self._each_path
        self._each = compile_path(stem if self._is_list else self._each_path) if stem else None
        changing: list[_Leaf] = []
        trees = {
            part: _tree(part, condition, named, changing)
            for part in ("when", *_ORDER, "truncated", "suppress")
            if (condition := getattr(rule, part)) is not None
        }
        self._when, self._suppress = trees.get("when"), trees.get("suppress")
        self._truncated = trees.get("truncated")
        self._says = [(says, trees[says]) for says in _ORDER if says in trees]
        self._changing = changing
        self._fingerprint = _Fingerprint(rule.fingerprint, named)
        for leaf in changing:
            leaf.fingerprint = self._fingerprint
        self._message = _parts(rule.message, named)
        self._published = {name: _parts(f"value:{name}", named) for name in rule.publish}
        self._time = _Time(rule.time, named) if rule.time else None

    def match(
        self, document: Document, received_at: float, before: Before, *, is_traced: bool = False
    ) -> Matched:
        """What it sees in `document`. Total: nothing raises, and no document takes longer than its budget."""
        budget = Budget()
        body = document.body if document.form != "text" else _ABSENT
        try:
            if self._unwrap:
                body = unwrapped(body, self._unwrap, budget)
            items = [body] if self._each is None else self._fan_out(body, budget)
            look = _Look(document, body, before, budget, [] if is_traced else None)
            is_truncated = self._truncated is not None and self._truncated.holds(look)
        except BudgetError as over:
            return Matched(error=f"{OVER_BUDGET}{over}")
        except _WrongError as wrong:
            return Matched(error=str(wrong))
        seen: list[Item | None] = []
        for index, item in enumerate(items):
            look.turn_to(item)
            seen.append(self._look_at(index, look, received_at))
            if is_traced:
                look.trace = []
        if seen and not any(seen) and not is_truncated:
            return NOTHING
        return Matched(
            tuple(item or Item(index, ignored="unmatched") for index, item in enumerate(seen)), is_truncated
        )

    def _fan_out(self, body: Any, budget: Budget) -> list[Any]:
        assert self._each is not None
        found = self._each(body, budget) if body is not _ABSENT else []
        if self._is_list and found:
            inner = found[0]
            if isinstance(inner, list):
                found = inner
            elif self._is_any:
                found = list(inner.values()) if isinstance(inner, dict) else []
            budget.spend(len(found))
        if len(found) > MAX_ITEMS:
            raise _WrongError(f"each: {self._each_path} has {len(found)} items; {MAX_ITEMS} are looked at")
        return found

    def _look_at(self, index: int, look: _Look, received_at: float) -> Item | None:
        """What it sees in an item; None where `when` does not take it, and there is no more to tell."""
        says: Says | None = None
        ignored: Ignored | None = None
        error, message, at = "", "", 0.0
        values: dict[str, str] = {}
        published: dict[str, str] = {}
        try:
            if self._when is not None and not self._when.holds(look):
                if look.trace is None and not look.fingerprint:
                    return None
                ignored = "unmatched"
            else:
                says = self._said(look)
                at = received_at if self._time is None else self._time.read(look, received_at)
                if says is None:
                    ignored = "unmapped"
                elif says != "recovery" and self._suppress is not None and self._suppress.holds(look):
                    says, ignored = None, "suppressed"
                self._identify(look, is_needed=ignored != "unmapped")
            if says is not None and self._message:
                message = _rendered(self._message, look)
            if says is not None and says != "recovery":
                for name, parts in self._published.items():
                    published[name] = one_line(_rendered(parts, look))[:MAX_PUBLISHED]
            if look.fingerprint:
                values = {leaf.key: now for leaf in self._changing if (now := leaf.now(look)) is not None}
        except BudgetError as over:
            says, ignored, error = None, None, f"{OVER_BUDGET}{over}"
        except _WrongError as wrong:
            says, ignored, error = None, None, str(wrong)
        trace = tuple(look.trace or ())
        if look.trace is not None and look.why is not None:
            found = look.fingerprint
            told = Traced(
                "fingerprint", self._fingerprint.template, "", bool(found), found or [], note=look.why
            )
            trace = (*trace, told)
        return Item(index, says, ignored, error, look.fingerprint, at, message, values, published, trace)

    def _said(self, look: _Look) -> Says | None:
        """The first that holds; what comes after it is not looked at."""
        said: Says | None = None
        for says, tree in self._says:
            if said is not None:
                if look.trace is None:
                    break
                tree.pass_over(look)
            elif tree.holds(look):
                said = says
        return said

    def _identify(self, look: _Look, *, is_needed: bool) -> None:
        """Its fingerprint; what says nothing may have none, such as the test messages of many senders."""
        try:
            self._fingerprint.read(look)
        except _WrongError:
            if is_needed:
                raise


class _Group:
    """All, any or none of further conditions; those after the one that decides are not looked at. `true` is all of none."""

    def __init__(self, part: str, depth: int, name: str, inner: "list[_Tree]") -> None:
        self.part, self.depth, self.name, self.inner = part, depth, name, inner
        self.decides = name != "all"  # what an inner one says that settles it
        self.if_decided = name in ("any", "false")

    def holds(self, look: _Look) -> bool:
        if look.trace is None:
            for tree in self.inner:
                if tree.holds(look) is self.decides:
                    return self.if_decided
            return not self.if_decided
        place, holds = len(look.trace), None
        self.pass_over(look, is_whole=False)
        try:
            for tree in self.inner:
                if holds is not None:
                    tree.pass_over(look)
                elif tree.holds(look) is self.decides:
                    holds = self.if_decided
            holds = not self.if_decided if holds is None else holds
        finally:
            look.trace[place] = Traced(self.part, self.name, "", holds, depth=self.depth)
        return holds

    def pass_over(self, look: _Look, *, is_whole: bool = True) -> None:
        assert look.trace is not None
        look.trace.append(Traced(self.part, self.name, "", None, depth=self.depth))
        for tree in self.inner if is_whole else ():
            tree.pass_over(look)


class _Leaf:
    """One comparison."""

    fingerprint: "_Fingerprint"

    def __init__(self, part: str, depth: int, condition: Condition, get: _Get, *, is_plural: bool) -> None:
        self.part, self.depth, self.of, self.wanted = part, depth, condition.value or "", compared(condition)
        self.get, self.as_ = get, condition.as_
        self.is_shared = not self.of.startswith(("$", "value:")) and condition.changed is None
        self.expected = compile_condition(condition, is_plural=is_plural)
        self.key = f"{self.of} as {self.as_}" if self.as_ else self.of
        self.test = TESTS.get(self.expected.operator)
        wanted = self.expected.expected if self.expected.operator == "in" else [self.expected.expected]
        nested = (part for part in wanted if isinstance(part, dict | list))
        self.weight = 1 + sum(1 for part in nested for _ in parts_of(part))
        self.cost = {"contains": 1 / _A_STEP}.get(self.expected.operator, 0.0)  # steps a character
        if self.expected.pattern is not None:
            self.cost = steps_a_character(self.expected.pattern)
        self.is_plain = self.weight == 1 and not self.cost and self.as_ is None

    def holds(self, look: _Look) -> bool:
        if look.trace is not None:
            return self._noted(look, look.trace)
        look.budget.spend()
        values = self.get(look)
        return self._judged_once(values, look) if self.is_shared else self._judge(values, look)

    def _judged_once(self, values: list[Any], look: _Look) -> bool:
        if (holds := look.shared.get(self)) is None:
            holds = look.shared[self] = self._judge(values, look)
        return bool(holds)

    def _noted(self, look: _Look, trace: list[Traced]) -> bool:
        values: list[Any] = []
        holds, note = None, ""
        try:
            look.budget.spend()
            values = self.get(look)
            holds = self._judged_once(values, look) if self.is_shared else self._judge(values, look)
        except (BudgetError, _WrongError) as wrong:
            note = str(wrong)
            raise
        finally:
            shown = [_shown(value) for value in values[:_SHOWN_VALUES]]
            actual = shown[0] if len(shown) == 1 else shown
            trace.append(Traced(self.part, self.of, self.wanted, holds, actual, self.depth, note))
        return holds

    def pass_over(self, look: _Look) -> None:
        assert look.trace is not None
        look.trace.append(Traced(self.part, self.of, self.wanted, None, depth=self.depth))

    def now(self, look: _Look) -> str | None:
        """What `changed` remembers of its values; None where there is none."""
        values = self._as(self.get(look))
        if not values:
            return None
        texts = [_written(value, look.budget) for value in values]
        text = texts[0] if len(texts) == 1 else _ENCODER.encode(texts)
        if len(text) <= _REMEMBERED and is_kept(text):
            return text
        return f"sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def _as(self, values: list[Any]) -> list[Any]:
        if self.as_ is None:
            return values
        if self.as_ == "number":
            return [number_of(value) for value in values]
        texts = [text_of(value) for value in values]
        return [text.lower() if text and self.as_ == "lower" else text for text in texts]

    def _judge(self, values: list[Any], look: _Look) -> bool:
        e = self.expected
        if self.test is None:
            return self._judge_together(values, look)
        if not values:
            return False
        if self.is_plain and len(values) == 1:  # nearly always
            return self.test(values[0], e) is e.wanted
        look.budget.spend(len(values) * self.weight)
        if self.cost:
            look.budget.spend(int(self.cost * sum(len(value) for value in values if isinstance(value, str))))
        for value in self._as(values):
            if self.test(value, e) is not e.wanted:
                return False
            if self.as_ is not None and not (is_number(value) if e.is_number else isinstance(value, str)):
                return False  # what cannot be read so is as good as missing
        return True

    def _judge_together(self, values: list[Any], look: _Look) -> bool:
        """What is asked of all values at once."""
        e = self.expected
        if e.operator == "changed":
            now, then = self.now(look), look.before(self.fingerprint.read(look)).get(self.key)
            return now is not None and then is not None and (now != then) is e.expected
        return hold_together(values, e)


_Tree = _Group | _Leaf


def _tree(
    part: str,
    condition: Condition,
    named: dict[str, tuple[_Get, bool]],
    changing: list[_Leaf],
    depth: int = 0,
) -> _Tree:
    if condition.always is not None:
        return _Group(part, depth, "true" if condition.always else "false", [])
    if (group := condition.group) is not None:
        name, inner = group
        return _Group(part, depth, name, [_tree(part, one, named, changing, depth + 1) for one in inner])
    get, is_plural = _getter(parse_reference(condition.value or ""), named)
    leaf = _Leaf(part, depth, condition, get, is_plural=is_plural)
    if leaf.expected.operator == "changed":
        changing.append(leaf)
    return leaf


def _getter(reference: Reference, named: Mapping[str, tuple[_Get, bool]]) -> tuple[_Get, bool]:
    """What gets the values of `reference`, and whether there may be several."""
    name = reference.name
    if reference.source == "header":
        return lambda look: [look.document.headers[name]] if name in look.document.headers else [], False
    if reference.source == "query":
        return lambda look: [look.document.query[name]] if name in look.document.query else [], False
    if reference.source == "text":
        return lambda look: [look.document.text], False
    if reference.source == "value":
        return named[name]
    select, is_one = compile_path(name), is_definite(name)
    if reference.source == "item":
        if name == "$":
            return lambda look: [] if look.item is _ABSENT else [look.item], False
        return lambda look: select(look.item, look.budget), not is_one

    def get(look: _Look) -> list[Any]:
        if name not in look.shared:  # the same for every item
            look.shared[name] = [] if look.body is _ABSENT else select(look.body, look.budget)
        found: list[Any] = look.shared[name]
        return found

    return get, not is_one


def _named(name: str, value: NamedValue) -> tuple[_Get, bool]:
    getters = [_getter(parse_reference(text), {}) for text in value.references]
    pattern = compile_pattern(value.matches) if value.matches is not None else None

    def get(look: _Look) -> list[Any]:
        if name not in look.found:
            tried = []
            for get_all, _ in getters:
                values = get_all(look)
                tried.append(values if pattern is None else list(_cut_out(values, pattern, look.budget)))
                if not all(map(is_empty, tried[-1])):
                    look.found[name] = [_lower(one) for one in tried[-1]] if value.as_ else tried[-1]
                    break
            else:
                look.found[name] = tried[0] if value.default is None else [value.default]
        return look.found[name]

    return get, any(is_plural for _, is_plural in getters)


def _lower(value: Any) -> Any:
    text = text_of(value)
    return value if text is None else text.lower()


def _cut_out(values: Iterable[Any], pattern: Any, budget: Budget) -> Iterator[str]:
    for value in values:
        text = text_of(value)
        found = None if text is None else search(pattern, text, budget)
        if found is not None and found.group(1) is not None:
            yield found.group(1).decode("utf-8", "replace")


def unwrapped(body: Any, paths: Iterable[str], budget: Budget) -> Any:
    """A copy of `body` with texts that are JSON replaced by what they hold. Raises `BudgetError`, and `ValueError` for a wrong path."""
    holder, fresh = [body], set[int]()
    for path in paths:
        for steps in places(path, holder[0], budget):
            *way, last = (0, *steps)
            inner: Any = holder
            for step in way:
                if id(inner[step]) not in fresh:
                    inner[step] = inner[step].copy()
                    fresh.add(id(inner[step]))
                inner = inner[step]
            inner[last] = _held(inner[last], budget)
    if fresh or holder[0] is not body:
        expect_bounded(holder[0])
    return holder[0]


def _held(value: Any, budget: Budget) -> Any:
    found = value
    for _ in range(_UNWRAPPED):
        if not isinstance(found, str):
            break
        budget.spend(1 + len(found) // _A_STEP)
        try:
            found = parse_json(found)
        except UnreadableError:
            found = _decoded(found)
    return found if isinstance(found, dict | list) else value


def _decoded(text: str) -> str | None:
    """The text that `text` writes in base64, as Google's Pub/Sub and CloudEvents do."""
    try:
        return b64decode(text, validate=True).decode()
    except ValueError:
        return None


def text_of(value: Any) -> str | None:
    """A scalar as text, as JSON writes it, a whole number without a fraction; None for null, a list and an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value) if isinstance(value, int) else None


def _written(value: Any, budget: Budget | None, most: float = float("inf")) -> str:
    """`value` as text, or a little more than `most` characters of it."""
    chunks, size = [], 0
    for chunk in (text,) if (text := text_of(value)) is not None else _ENCODER.iterencode(value):
        if budget is not None:
            budget.spend(1 + len(chunk) // _A_STEP)
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            break
    return "".join(chunks)


def _cut(text: str, most: int) -> str:
    text = text if len(text) <= most else text[: most - 1] + "…"
    return NEVER_KEPT.sub("\ufffd", text)


def _shown(value: Any) -> Any:
    """`value` where it is short and everything keeps it as it is, otherwise the beginning of its text."""
    if value is None or isinstance(value, bool):
        return value
    if is_number(value) and abs(value) < 2**63:
        return value
    text = _written(value, None, _SHOWN)
    if not isinstance(value, list | dict) or len(text) > _SHOWN or NEVER_KEPT.search(text):
        return _cut(text, _SHOWN)
    return _SHORT.decode(text)


_Part = str | tuple[str, _Get]


def _parts(template: str, named: Mapping[str, tuple[_Get, bool]]) -> list[_Part]:
    return [
        part if isinstance(part, str) else (part.text, _getter(part, named)[0])
        for part in parse_template(template)
    ]


def _rendered(parts: Iterable[_Part], look: _Look) -> str:
    """A message: what is missing or null is left out."""
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        values = islice((value for value in part[1](look) if value is not None), MAX_MESSAGE)
        texts.append(", ".join(_written(value, look.budget, MAX_MESSAGE) for value in values))
    return _cut("".join(texts).strip(), MAX_MESSAGE)


class _Fingerprint:
    """What an item is about."""

    def __init__(self, template: str, named: Mapping[str, tuple[_Get, bool]]) -> None:
        self.template, self.parts = template, _parts(template, named)

    def read(self, look: _Look) -> str:
        """The fingerprint; it is kept. Raises `_WrongError`, `BudgetError`."""
        if look.fingerprint:
            return look.fingerprint
        try:
            text = "".join(part if isinstance(part, str) else _identity(*part, look) for part in self.parts)
            if len(text) > MAX_FINGERPRINT:
                raise _WrongError(
                    f"fingerprint: it has {len(text)} characters; {MAX_FINGERPRINT} are allowed"
                )
        except (_WrongError, BudgetError) as wrong:
            look.why = str(wrong)
            raise
        look.fingerprint, look.why = text, ""
        return text


def _identity(of: str, get: _Get, look: _Look) -> str:
    values = get(look)
    if len(values) != 1:
        raise _WrongError(f"fingerprint: {of} {f'has {len(values)} values' if values else 'is missing'}")
    text = text_of(values[0])
    if not text:
        raise _WrongError(f"fingerprint: {of} is {'empty' if text == '' else kind_of(values[0])}")
    if not is_kept(text):
        raise _WrongError(f"fingerprint: {of} has NUL or half a surrogate pair in it")
    return text


class _Time:
    """When it happened."""

    def __init__(self, time: EventTime, named: Mapping[str, tuple[_Get, bool]]) -> None:
        self.format, self.zone = time.format, ZoneInfo(time.timezone)
        self.values = [(text, _getter(parse_reference(text), named)[0]) for text in time.values]

    def read(self, look: _Look, received_at: float) -> float:
        """Seconds since the epoch, never after `received_at`, which it is where there is no time."""
        at, told, note = None, (self.values[-1][0], None), _NO_TIME
        for named in ((of, actual) for of, get in self.values for actual in get(look)):
            try:
                at = moment_of(named[1], self.format, self.zone)
            except ValueError as wrong:
                told, note = named, f"{wrong}: it is when the event was received"
            if at is not None:
                told, note = named, ""
                break
        if look.trace is not None:
            of, actual = told
            if at is not None and at > received_at + _AHEAD_S:
                note = "it is in the future: it is when the event was received"
            look.trace.append(Traced("time", of, self.format, not note, _shown(actual), note=note))
        return received_at if at is None else min(at, received_at)
