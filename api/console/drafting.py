"""A trigger as a form: rows of conditions, fields, and what was picked from an event. What no form can show is kept as it is. Pure."""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from api.body import MAX_INTEGER
from rules.reference import Reference, parse_template
from rules.trigger import SINGLE

SECTIONS: Final[tuple[str, ...]] = ("when", "critical", "warning", "recovery", "suppress", "truncated")
_TIMES: Final = ("for", "silence", "expires", "cooldown")
PLAIN: Final[tuple[str, ...]] = (
    *("slug", "name", "page", "inbox", "each", "fingerprint", "message"),
    *_TIMES,
)
PARTS: Final = {"repeats": ("count", "within"), "absence": ("after", "severity")}
TARGETS: Final = {
    "external": "an external beat, made where there is none",
    "beat": "a beat that is there",
    "group": "a group",
}
FIELDS: Final[tuple[str, ...]] = (
    *PLAIN,
    *(f"{block}_{key}" for block, keys in PARTS.items() for key in keys),
    *("time", "unwrap", "target", "target_slug", "per_fingerprint"),
)
_FLAGS: Final = {
    "exists": {"exists": True},
    "missing": {"exists": False},
    "empty": {"empty": True},
    "filled": {"empty": False},
    "changed": {"changed": True},
    "same": {"changed": False},
}
OPERATORS: Final = {
    "eq": "is",
    "ne": "is not",
    "in": "is one of",
    "not in": "is none of",
    "contains": "has in it",
    "not contains": "does not have in it",
    "starts": "begins with",
    "ends": "ends with",
    "matches": "fits the pattern",
    "not matches": "does not fit the pattern",
    "none eq": "is missing or is not",
    "none in": "is missing or none of",
    "none contains": "is missing or has not in it",
    "gt": "is more than",
    "ge": "is at least",
    "lt": "is less than",
    "le": "is at most",
    "between": "is between",
    "exists": "is there",
    "missing": "is not there",
    "empty": "has nothing in it",
    "filled": "has something in it",
    "changed": "is not what it was",
    "same": "is what it was",
}
MODES: Final = {"all": "all of these hold", "any": "any of these holds", "none": "none of these holds"} | {
    "always": "always",
    "never": "never",
}
READ_AS: Final = {"": "as it is", "number": "as a number", "text": "as text", "lower": "in lower case"}
_VERBATIM: Final = frozenset({"starts", "ends", "matches"})
LEVELS: Final = ("recovery", "critical", "warning")
_SAYS: Final = {
    "critical": "critical crit alarm alerting firing triggered trigger down failed failure fatal error emergency open "
    "p1 disaster page major_outage investigating major",
    "warning": "warning warn degraded degraded_performance p2 p3 minor pending identified",
    "recovery": "recovery resolved resolve ok up normal closed close success recovered inactive operational healthy "
    "passing fixed",
}
_INDEX: Final = re.compile(r"""(\['(?:[^'\\]|\\.)*'\]|\["(?:[^"\\]|\\.)*"\])|\[\d+\]""")
"""A step of a path in quotes, or an index."""


@dataclass(frozen=True, slots=True)
class Row:
    """One condition: a value, an operator, and what it is compared with as somebody types it."""

    value: str = ""
    op: str = "eq"
    text: str = ""
    read_as: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Conditions that are looked at together. `kept`: JSON of what rows cannot show."""

    mode: str = "all"
    rows: tuple[Row, ...] = ()
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is being written. `kept`: keys that the form does not know."""

    plain: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.plain.get(name, "")

    def section(self, name: str) -> Section:
        """The conditions called so."""
        return self.sections.get(name, Section())

    @property
    def is_timed(self) -> bool:
        """Whether anything depends on how long, or how often."""
        return any(self[name] for name in ("repeats_count", *_TIMES, "absence_after"))

    def having(self, **plain: str) -> "Draft":
        """With these fields."""
        return replace(self, plain={**self.plain, **plain})


# ---- values as people type them


def literal(text: str) -> Any:
    """What `text` says: a number, true, false, null or a text in quotes as JSON, all else as it is."""
    try:
        found = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, dict | list) or (isinstance(found, float) and not math.isfinite(found)):
        return text
    return text if isinstance(found, int) and abs(found) > MAX_INTEGER else found


def typed(value: Any, quoted: str = "") -> str:
    """`value` so that `literal` reads it back, also out of a field of a form; in quotes where it has one of `quoted`."""
    if isinstance(value, str) and _is_typable(value) and value and literal(value) == value:
        return value if not set(quoted) & set(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _is_typable(text: str) -> bool:
    """Whether a field of a form gives it back as it is: without blanks around, and line breaks."""
    return text == text.strip() and len(text.splitlines()) < 2


def _parts(text: str) -> list[str]:
    """What stands between commas; not those in quotes."""
    found = re.findall(r'\s*("(?:[^"\\]|\\.)*"|[^,]+)', text)
    return [part.strip() for part in found if part.strip()]


def _paths(text: str) -> list[str]:
    """References between commas; not those in brackets."""
    return [path.strip() for path in re.findall(r"(?:\[[^\]]*\]|[^,\[])+", text) if path.strip()]


def _expected(row: Row, op: str) -> Any:
    def read(text: str) -> Any:
        found = literal(text)
        return text if row.read_as in ("text", "lower") and not isinstance(found, str) else found

    if op in _VERBATIM:
        return row.text
    return [read(part) for part in _parts(row.text)] if op in ("in", "between") else read(row.text)


def _condition(row: Row) -> dict[str, Any]:
    made: dict[str, Any] = {"value": row.value} | ({"as": row.read_as} if row.read_as else {})
    if row.op in _FLAGS:
        return made | _FLAGS[row.op]
    if row.op.startswith("none "):
        return {"none": [_condition(replace(row, op=row.op.removeprefix("none ")))]}
    op = row.op.removeprefix("not ")
    return made | ({"not": True} if op != row.op else {}) | {op: _expected(row, op)}


def _row(condition: Mapping[str, Any]) -> Row | None:
    """None: it is more than a row."""
    if set(condition) == {"none"}:
        inner = _row(condition["none"][0]) if len(condition["none"]) == 1 else None
        return replace(inner, op=f"none {inner.op}") if inner and f"none {inner.op}" in OPERATORS else None
    rest = {key: value for key, value in condition.items() if key not in ("value", "as")}
    value, read_as = str(condition.get("value", "")), str(condition.get("as") or "")
    op, text = next((op for op, flag in _FLAGS.items() if rest == flag), ""), ""
    if not op:
        negated = rest.pop("not", False)
        if len(rest) != 1:
            return None
        ((op, wanted),) = rest.items()
        if op in ("in", "between") and isinstance(wanted, list):
            text = ", ".join(typed(item, ',"') for item in wanted)
        else:
            text = str(wanted) if op in _VERBATIM else typed(wanted)
        op = f"not {op}" if negated else op
    made = Row(value, op, text, read_as)
    is_whole = op in OPERATORS and _is_typable(value) and _is_typable(text)
    return made if is_whole and _condition(made) == dict(condition) else None


def _section(given: Any) -> Section:
    if isinstance(given, bool):
        given = {"always": given}
    if isinstance(given, list):
        given = {"all": given}
    kept = Section(kept=json.dumps(given, ensure_ascii=False))
    if not isinstance(given, dict):
        return kept
    if set(given) == {"always"}:
        return Section("always" if given["always"] else "never")
    mode = next((name for name in ("all", "any", "none") if set(given) == {name}), None)
    rows = [_row(one) for one in (given[mode] if mode else [given])]
    whole = tuple(row for row in rows if row is not None)
    return Section(mode or "all", whole) if len(whole) == len(rows) else kept


def _conditions(section: Section) -> Any:
    """None where there are none. A row without a value stays: it was begun, and is told of."""
    if section.kept:
        return json.loads(section.kept)
    if section.mode in ("always", "never"):
        return section.mode == "always"
    rows = [_condition(row) for row in section.rows if row.value or row.text]
    if len(rows) == 1 and section.mode == "all":
        return rows[0]
    return {section.mode: rows} if rows else None


# ---- a rule as a form, and back


def draft_of(spec: Mapping[str, Any]) -> Draft:
    """The form of a declared trigger, or of some of it."""
    left = dict(spec)
    plain = {name: str(left.pop(name)) for name in PLAIN if name in left and _is_typable(str(left[name]))}
    for block in PARTS:
        for key, value in dict(left.pop(block, None) or {}).items():
            plain[f"{block}_{key}"] = str(value)
    target = dict(left.pop("target", None) or {})
    kind = next((name for name in TARGETS if target.get(name)), None)
    if kind:
        plain |= {"target": kind, "target_slug": target[kind]}
        plain["per_fingerprint"] = str(target.get("per_fingerprint") or "")
    times = left.get("time")
    values = times.get("values") if isinstance(times, dict) and set(times) == {"values"} else times
    values = [values] if isinstance(values, str) else values
    if isinstance(values, list) and _paths(", ".join(values)) == values:
        plain["time"] = ", ".join(values)
        del left["time"]
    if "unwrap" in left:
        plain["unwrap"] = "\n".join(left.pop("unwrap"))
    sections = {name: _section(left.pop(name)) for name in SECTIONS if name in left}
    return Draft(plain, sections, left)


def spec_of(draft: Draft) -> dict[str, Any]:
    """What the form declares, as REST takes it; what was not filled in is left out."""
    spec: dict[str, Any] = dict(draft.kept) | {name: draft[name] for name in PLAIN if draft[name]}
    for block, keys in PARTS.items():
        values = {key: literal(draft[f"{block}_{key}"]) for key in keys if draft[f"{block}_{key}"]}
        if values.keys() - {"severity"}:  # that has a value always
            spec[block] = values
    spec.setdefault("slug", slug_of(draft["name"]))
    kind = draft["target"] or "external"
    spec["target"] = {kind: draft["target_slug"] or spec["slug"]}
    if draft["per_fingerprint"]:
        spec["target"]["per_fingerprint"] = literal(draft["per_fingerprint"])
    if draft["time"]:
        spec["time"] = _paths(draft["time"])
    if draft["unwrap"]:
        spec["unwrap"] = [line.strip() for line in draft["unwrap"].splitlines() if line.strip()]
    for name, section in draft.sections.items():
        if (conditions := _conditions(section)) is not None:
            spec[name] = conditions
    return spec


def slug_of(name: str) -> str:
    """A slug that a name suggests; empty where it has nothing for one."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")


def read_draft(pairs: Iterable[tuple[str, str]]) -> Draft:
    """The form as it came back. Raises `ValueError` where what was kept is no JSON."""
    sent: dict[str, list[str]] = {}
    for name, value in pairs:
        sent.setdefault(name, []).append(value.strip().replace("\r\n", "\n"))
    sections = {}
    for name in SECTIONS:
        columns = [sent.get(f"{name}.{key}", []) for key in ("value", "op", "text", "as")]
        rows = tuple(
            Row(value, op if op in OPERATORS else "eq", text, read_as if read_as in READ_AS else "")
            for value, op, text, read_as in zip(*columns, strict=False)
            if value or text
        )
        mode, kept = sent.get(f"{name}.mode", ["all"])[-1], _kept(sent.get(f"{name}.kept", [""])[-1])
        sections[name] = Section(mode if mode in MODES else "all", rows, kept and json.dumps(kept))
    plain = {name: sent[name][-1] for name in FIELDS if name in sent}
    return Draft(plain, sections, _kept(sent.get("kept", [""])[-1]) or {})


def _kept(text: str) -> Any:
    kept = json.loads(text) if text else ""
    if text and not isinstance(kept, dict):
        raise ValueError("what was kept is no mapping")
    return kept


# ---- picking from an event


def starred(path: str) -> str:
    """`path` in every item of the lists it goes through."""
    return _INDEX.sub(lambda found: found[1] or "[*]", path)


def reference(path: str, each: str) -> str:
    """A path of the body as conditions name it: of the item, where `each` has it among its items."""
    if not path.startswith("$") or not each:
        return path
    items = re.escape(each.removesuffix("[*]")).replace(r"\[\*\]", r"\[\d+\]")
    found = re.fullmatch(items + r"\[\d+\](.*)", path)
    return f"${found[1]}" if found else f"body:{path}"


def lists_in(path: str) -> list[str]:
    """The lists a path goes through, the innermost first, each as `each` says it."""
    return [starred(path[: found.end()]) for found in _INDEX.finditer(path) if not found[1]][::-1]


def picked(draft: Draft, use: str, path: str, value: Any) -> Draft:
    """`draft` with a value of an event in it: `path` is of the whole body, `header:` or `query:`."""
    named = reference(path, draft["each"])
    match use:
        case "each":
            return _by_item(draft, starred(path))
        case "unwrap":
            return draft.having(unwrap="\n".join(filter(None, (draft["unwrap"], path))))
        case "fingerprint":
            before = "" if draft["fingerprint"] == SINGLE else _braced(draft["fingerprint"])
            return draft.having(fingerprint="/".join(filter(None, (before, f"{{{named}}}"))))
        case "message":
            return draft.having(message=f"{_braced(draft['message'])} {{{named}}}".strip())
        case "time":
            return draft.having(time=", ".join(filter(None, (draft["time"], named))))
        case _ if use in SECTIONS:
            return _holding(draft, use, named, [value])
        case _:
            return draft


def mapped(draft: Draft, path: str, says: Sequence[tuple[Any, str]]) -> Draft:
    """`draft` where the values of one path say critical, warning or recovery, and nothing else any more."""
    named, known = reference(path, draft["each"]), {typed(value) for value, _ in says}
    for name in LEVELS:
        draft = _holding(draft, name, named, [value for value, said in says if said == name], gone=known)
    return draft


def levels_of(draft: Draft, named: str) -> dict[str, str]:
    """What each value of `named` says by now, as typed."""
    found: dict[str, str] = {}
    for name in LEVELS:
        parts, _ = _alternatives(draft.section(name))
        found = {typed(v): name for part in parts if _compares(part, named) for v in _wanted(part)} | found
    return found


def guess(value: Any) -> str:
    """What a value most likely says; empty where nobody knows."""
    return next((name for name, words in _SAYS.items() if str(value).lower() in words.split()), "")


def _alternatives(section: Section) -> tuple[list[dict[str, Any]], str]:
    """The conditions that another one can be put beside, and how they go together. Beside `none` would be its opposite."""
    given = _conditions(section)
    if isinstance(given, bool) or given is None:
        return [], "any" if section.mode == "any" else "all"
    mode = next((n for n in ("all", "any", "none") if set(given) == {n} and isinstance(given[n], list)), None)
    if mode == "none":
        return [{"none": [one]} for one in given["none"]], "all"
    return list(given[mode]) if mode else [given], mode or "all"


def _compares(part: Any, named: str) -> bool:
    is_named = isinstance(part, dict) and part.get("value") == named
    return is_named and part.keys() - {"value", "as"} in ({"eq"}, {"in"})


def _wanted(part: Mapping[str, Any]) -> list[Any]:
    wanted = part.get("in", [part.get("eq")])
    return wanted if isinstance(wanted, list) else [wanted]


def _holding(draft: Draft, name: str, named: str, values: Sequence[Any], gone: Collection[str] = ()) -> Draft:
    """One more condition, without the values that are `gone`; several values of the same one are one of them."""
    parts, mode = _alternatives(draft.section(name))
    place = next((n for n, part in enumerate(parts) if _compares(part, named)), len(parts))
    before = parts[place] if place < len(parts) else {}
    kept = [value for value in _wanted(before) if typed(value) not in gone] if before else []
    if not values and (not before or kept == _wanted(before)):
        return draft
    read = {"text": _text, "lower": lambda value: _text(value).lower()}.get(
        before.get("as", ""), lambda value: value
    )
    wanted = list({typed(value): value for value in (*kept, *map(read, values))}.values())
    made = {key: before[key] for key in ("as",) if key in before}
    made |= {"value": named} | ({"eq": wanted[0]} if len(wanted) == 1 else {"in": wanted})
    parts[place : place + 1] = [made] if wanted else []
    section = _section({mode: parts}) if parts else Section(mode)
    return replace(draft, sections={**draft.sections, name: section})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _braced(text: str) -> str:
    """A reference alone needs no braces; beside another text it does."""
    with suppress(ValueError):
        if text and "{" not in text and not isinstance(parse_template(text)[0], str):
            return f"{{{text}}}"
    return text


def _by_item(draft: Draft, each: str) -> Draft:
    """What named values of the whole body names those of an item now."""
    if draft["each"]:
        return draft.having(each=each)

    def moved(given: Any, key: str = "") -> Any:
        if isinstance(given, dict):
            return {name: moved(inner, key if key == "values" else name) for name, inner in given.items()}
        if isinstance(given, list):
            return [moved(inner, key) for inner in given]
        return (
            reference(given, each) if key in ("value", "or", "values") and isinstance(given, str) else given
        )

    def told(text: str) -> str:
        with suppress(ValueError):
            parts = parse_template(text)
            return "".join(
                f"{{{reference(part.text, each)}}}"
                if isinstance(part, Reference)
                else part.replace("{", "{{").replace("}", "}}")
                for part in parts
            )
        return text

    sections = {
        name: replace(
            one,
            rows=tuple(replace(row, value=reference(row.value, each)) for row in one.rows),
            kept=one.kept and json.dumps(moved(json.loads(one.kept)), ensure_ascii=False),
        )
        for name, one in draft.sections.items()
        if name != "truncated"  # that is of the whole event
    }
    times = ", ".join(reference(path, each) for path in _paths(draft["time"]))
    texts = {name: told(draft[name]) for name in ("fingerprint", "message") if draft[name]}
    moving = replace(draft, sections={**draft.sections, **sections}, kept=moved(draft.kept))
    return moving.having(each=each, time=times, **texts)
