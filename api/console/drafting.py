"""A trigger as a form: rows of conditions, fields, and what was picked from an event. What no form can show is kept as it is. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from api.body import MAX_INTEGER
from rules.reference import Reference, parse_template

SECTIONS: Final[tuple[str, ...]] = ("when", "critical", "warning", "recovery", "suppress", "truncated")
PLAIN: Final[tuple[str, ...]] = (
    *("slug", "name", "page", "inbox", "each", "fingerprint", "message"),
    *("for", "silence", "expires", "cooldown"),
)
PARTS: Final = {
    "repeats": ("count", "within"),
    "absence": ("after", "severity"),
}
TARGETS: Final = ("external", "beat", "group")
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
_SAYS: Final = {
    "critical": frozenset(
        [
            "critical",
            "crit",
            "alarm",
            "alerting",
            "firing",
            "triggered",
            "trigger",
            "down",
            "failed",
            "failure",
            "fatal",
            "error",
            "emergency",
            "open",
            "p1",
            "disaster",
            "page",
            "major_outage",
            "investigating",
            "major",
        ]
    ),
    "warning": frozenset(
        ["warning", "warn", "degraded", "degraded_performance", "p2", "p3", "minor", "pending", "identified"]
    ),
    "recovery": frozenset(
        [
            "recovery",
            "resolved",
            "resolve",
            "ok",
            "up",
            "normal",
            "closed",
            "close",
            "success",
            "recovered",
            "inactive",
            "operational",
            "healthy",
            "passing",
            "fixed",
        ]
    ),
}


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


def typed(value: Any) -> str:
    """`value` so that `literal` reads it back."""
    if isinstance(value, str) and value and value == value.strip() and literal(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _parts(text: str) -> list[str]:
    """What stands between commas; not those in quotes."""
    found = re.findall(r'\s*("(?:[^"\\]|\\.)*"|[^,]+)', text)
    return [part.strip() for part in found if part.strip()]


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
    for op, flag in _FLAGS.items():
        if rest == flag:
            return Row(value, op, "", read_as)
    negated = rest.pop("not", False)
    if len(rest) != 1:
        return None
    ((op, wanted),) = rest.items()
    if op in ("in", "between") and isinstance(wanted, list):
        text = ", ".join(json.dumps(item) if "," in str(item) else typed(item) for item in wanted)
    else:
        text = str(wanted) if op in _VERBATIM else typed(wanted)
    made = Row(value, f"not {op}" if negated else op, text, read_as)
    return made if made.op in OPERATORS and _condition(made) == dict(condition) else None


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
    """None where there are none."""
    if section.kept:
        return json.loads(section.kept)
    if section.mode in ("always", "never"):
        return section.mode == "always"
    rows = [_condition(row) for row in section.rows if row.value]
    if len(rows) == 1 and section.mode != "none":
        return rows[0]
    return {section.mode: rows} if rows else None


# ---- a rule as a form, and back


def draft_of(spec: Mapping[str, Any]) -> Draft:
    """The form of a declared trigger, or of some of it."""
    left = dict(spec)
    plain = {name: str(left.pop(name)) for name in PLAIN if name in left}
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
    if isinstance(values, list) and not any("," in value for value in values):
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
        if draft[f"{block}_{keys[0]}"]:
            spec[block] = values
    spec.setdefault("slug", slug_of(draft["name"]))
    kind = draft["target"] or "external"
    spec["target"] = {kind: draft["target_slug"] or spec["slug"]}
    if kind == "external" and draft["per_fingerprint"]:
        spec["target"]["per_fingerprint"] = literal(draft["per_fingerprint"])
    if draft["time"]:
        spec["time"] = [part.strip() for part in draft["time"].split(",") if part.strip()]
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
        mode, kept = sent.get(f"{name}.mode", ["all"])[-1], sent.get(f"{name}.kept", [""])[-1]
        sections[name] = Section(
            mode if mode in MODES else "all", rows, kept and json.dumps(json.loads(kept))
        )
    kept = json.loads(sent.get("kept", ["{}"])[-1] or "{}")
    if not isinstance(kept, dict):
        raise ValueError("what was kept is no mapping")  # noqa: TRY004 - a mistake in what was sent
    return Draft({name: sent[name][-1] for name in FIELDS if name in sent}, sections, kept)


# ---- picking from an event


def reference(path: str, each: str) -> str:
    """A path of the body as conditions name it: of the item, where `each` has it among its items."""
    if not path.startswith("$") or not each:
        return path
    found = re.fullmatch(re.escape(each.removesuffix("[*]")) + r"\[\d+\](.*)", path)
    return f"${found[1]}" if found and each.endswith("[*]") else f"body:{path}"


def lists_in(path: str) -> list[str]:
    """The lists a path goes through, the innermost first, each as `each` says it."""
    return [path[: found.start()] + "[*]" for found in re.finditer(r"\[\d+\]", path)][::-1]


def picked(draft: Draft, use: str, path: str, value: Any) -> Draft:
    """`draft` with a value of an event in it: `path` is of the whole body, `header:` or `query:`."""
    named = reference(path, draft["each"])
    match use:
        case "each":
            return _by_item(draft, path)
        case "unwrap":
            return _with(draft, unwrap="\n".join(filter(None, (draft["unwrap"], path))))
        case "fingerprint" if draft["fingerprint"]:
            return _with(draft, fingerprint=f"{_braced(draft['fingerprint'])}/{{{named}}}")
        case "fingerprint":
            return _with(draft, fingerprint=f"{{{named}}}")
        case "message":
            return _with(draft, message=f"{draft['message']} {{{named}}}".strip())
        case "time":
            return _with(draft, time=", ".join(filter(None, (draft["time"], named))))
        case _ if use in SECTIONS:
            return _holding(draft, use, named, [value])
        case _:
            return draft


def mapped(draft: Draft, path: str, says: Sequence[tuple[Any, str]]) -> Draft:
    """`draft` with values of one path that say critical, warning or recovery."""
    for name in ("critical", "warning", "recovery"):
        values = [value for value, said in says if said == name]
        draft = _holding(draft, name, reference(path, draft["each"]), values) if values else draft
    return draft


def guess(value: Any) -> str:
    """What a value most likely says; empty where nobody knows."""
    return next((name for name, words in _SAYS.items() if str(value).lower() in words), "")


def _with(draft: Draft, **plain: str) -> Draft:
    return replace(draft, plain={**draft.plain, **plain})


def _holding(draft: Draft, name: str, named: str, values: Sequence[Any]) -> Draft:
    """One more condition; several values of the same one are one of them."""
    section = draft.section(name)
    if section.mode in ("always", "never"):
        section = Section()
    rows = list(section.rows)
    same = next((n for n, row in enumerate(rows) if row.value == named and row.op in ("eq", "in")), None)
    wanted: list[Any] = []
    if same is not None:
        before = _expected(rows[same], rows[same].op)
        wanted = before if rows[same].op == "in" else [before]
    wanted += [value for value in values if value not in wanted]
    op = "eq" if len(wanted) == 1 else "in"
    text = ", ".join(json.dumps(v, ensure_ascii=False) if "," in str(v) else typed(v) for v in wanted)
    row = Row(named, op, text if op == "in" else typed(wanted[0]))
    rows[same if same is not None else len(rows) :] = [row, *(rows[same + 1 :] if same is not None else ())]
    return replace(draft, sections={**draft.sections, name: replace(section, rows=tuple(rows))})


def _braced(text: str) -> str:
    return f"{{{text}}}" if text.startswith(("$", "body:", "header:", "query:", "value:")) else text


def _by_item(draft: Draft, each: str) -> Draft:
    """What named values of the whole body names those of an item now."""
    if draft["each"]:
        return _with(draft, each=each)

    def moved(named: str) -> str:
        return reference(named, each)

    def told(text: str) -> str:
        with suppress(ValueError):
            parts = parse_template(text)
            return "".join(
                f"{{{moved(part.text)}}}"
                if isinstance(part, Reference)
                else part.replace("{", "{{").replace("}", "}}")
                for part in parts
            )
        return text

    sections = {
        name: replace(one, rows=tuple(replace(row, value=moved(row.value)) for row in one.rows))
        for name, one in draft.sections.items()
    }
    times = ", ".join(moved(part.strip()) for part in draft["time"].split(",") if part.strip())
    texts = {name: told(draft[name]) for name in ("fingerprint", "message") if draft[name]}
    return replace(
        _with(draft, each=each, time=times, **texts),
        sections=sections,
    )
