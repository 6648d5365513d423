"""Objects and settings as the text of an `upbeat.yaml`, for `upbeat export`. Not a general YAML writer: only JSON's types."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from rules.declared import Declared
from rules.known import KINDS, PAGELESS, plural
from rules.settings import Settings
from rules.shape import written

_SIMPLE = re.compile(r"[A-Za-z/$][\w./$-]*|\d+(?:\.\d+)?(?:ms|s|m|h|d|KB|MB|GB|TB|%)", re.ASCII)
_WORDS_OF_YAML = frozenset({"null", "true", "false", "yes", "no", "y", "n"})
"""Never text, or not in YAML 1.1. `on` and `off` are left: they are this format's own words."""
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_FIRST = ("slug", "name", "page", "type")


def dump(objects: Iterable[Declared], settings: Settings) -> str:
    """YAML that `rules.config.parse` reads back to equal objects and settings. Only what differs from its default is written.

    Pages and regions keep their order, the rest is sorted by page and slug. Secrets stay `${env:NAME}`.
    """
    given = list(objects)
    pages = {declared.slug for declared in given if declared.kind == "page"}
    sections: list[dict[str, Any]] = [{"version": 1} | written(settings)]
    for kind in KINDS:
        chosen = [declared for declared in given if declared.kind == kind]
        if kind not in PAGELESS:
            chosen.sort(key=lambda declared: (declared.page or "", declared.slug))
        if chosen:
            sections.append({plural(kind): [_object(declared, pages) for declared in chosen]})
    return "\n".join(text_of(section) for section in sections)


def _object(declared: Declared, pages: set[str]) -> dict[str, Any] | str:
    spec = written(declared.spec)
    spec.pop("page", None)
    if declared.page is not None and pages != {declared.page}:
        spec["page"] = declared.page
    switched = [("quorum", "confirm"), ("quorum", "advisory_after"), ("episodes", "flapping")]
    switched += [("review", "escalate_after"), ("announce", "remind"), ("", "speak_every")]
    for block, key in switched:
        if key in (inner := spec.get(block, {}) if block else spec) and inner[key] is None:
            inner[key] = "off"
    if declared.kind == "region" and set(spec) == {"slug"}:
        return declared.slug
    return {key: spec[key] for key in _FIRST if key in spec} | spec


def text_of(value: dict[str, Any]) -> str:
    """A mapping of JSON as YAML in the form of `dump`."""
    return "".join(f"{line}\n" for line in _mapping(value, 0))


def _mapping(value: dict[str, Any], indent: int) -> Iterator[str]:
    for key, inner in value.items():
        yield from _entry(f"{'  ' * indent}{_text(key)}:", inner, indent + 1)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield head
        yield from _mapping(value, indent)
    elif isinstance(value, list) and value:
        if all(isinstance(item, str) and _is_simple(item) for item in value) and len(str(value)) < 90:
            yield f"{head} [{', '.join(value)}]"
            return
        yield head
        for item in value:
            yield from _item(item, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _item(value: Any, indent: int) -> Iterator[str]:
    dash = f"{'  ' * indent}- "
    if isinstance(value, dict) and value:
        first, *rest = _mapping(value, indent + 1)
        yield dash + first.lstrip(" ")
        yield from rest
    elif isinstance(value, list) and value:
        yield dash + _flow(value)
    else:
        yield dash + _scalar(value)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _scalar(value: Any) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    return text if _is_simple(text) else _quoted(text)


def _is_simple(text: str) -> bool:
    return bool(_SIMPLE.fullmatch(text)) and text.lower() not in _WORDS_OF_YAML


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + _UNPRINTABLE.sub(lambda found: _escape(ord(found.group())), escaped) + '"'


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
