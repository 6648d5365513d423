"""Fitting JSON to a JSON Schema: closed in itself, of bounded size, its patterns linear. Fetches nothing.

Imports jsonschema-rs, so it is itself imported only where an assertion needs it.
"""

from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs
import msgspec

from rules.secret import cut
from rules.selection import BudgetError

MAX_SCHEMA_BYTES: Final = 65_536
MAX_SCHEMA_DEPTH: Final = 60
MAX_SCHEMA_PARTS: Final = 10_000  # with every reference written out
_DATA: Final = frozenset({"const", "enum", "default", "examples"})  # hold values, which are no schemas
_ELSEWHERE: Final = frozenset({"$dynamicRef", "$recursiveRef"})


class Schema:
    """A compiled schema."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def fits(self, value: Any) -> bool:
        """Whether `value` fits. Raises `BudgetError`."""
        try:
            return bool(self._validator.is_valid(value))
        except ValueError as refused:
            raise _beyond(refused) from None

    def misfit(self, value: Any) -> str:
        """Where a `value` that does not fit does not, as a JSON Pointer, and why. Raises `BudgetError`."""
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as wrong:
            return f"{_pointer(wrong.instance_path) or 'the whole'}: {cut(wrong.message, 400)}"
        except ValueError as refused:
            raise _beyond(refused) from None
        return ""


def compile_schema(schema: dict[str, Any]) -> Schema:
    """The compiled `schema`, draft 2020-12 unless its `$schema` says otherwise. Raises `ValueError` saying what is wrong."""
    try:
        size = len(msgspec.json.encode(schema))
    except RecursionError:
        size = MAX_SCHEMA_BYTES + 1
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"schema is larger than {MAX_SCHEMA_BYTES} bytes as JSON, or nested too deeply")
    _Bounds(schema).visit(schema, 0, ())
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            pattern_options=jsonschema_rs.RegexOptions(),
            retriever=_no_retriever,
            validate_formats=True,
        )
    except (ValueError, jsonschema_rs.ReferencingError) as wrong:
        said = getattr(wrong, "message", None) or str(wrong)
        raise ValueError(f"schema is not a JSON Schema: {said[:200]}") from None
    return Schema(validator)


def _beyond(refused: ValueError) -> BudgetError:
    """Nested deeper than its engine goes, or no text."""
    return BudgetError(f"the value cannot be held against the schema ({cut(str(refused), 80)})")


def _no_retriever(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched; a schema holds all it refers to")


def _pointer(path: list[str | int]) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


class _Bounds:
    """Walks a schema with its references written out: what refers to itself could take exponential time."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root, self._parts = root, 0

    def visit(self, part: Any, depth: int, through: tuple[str, ...]) -> None:
        self._parts += 1
        if self._parts > MAX_SCHEMA_PARTS or depth > MAX_SCHEMA_DEPTH:
            raise ValueError(
                f"schema has more than {MAX_SCHEMA_PARTS} parts with its references written out, or {MAX_SCHEMA_DEPTH} levels"
            )
        if isinstance(part, list):
            for inner in part:
                self.visit(inner, depth + 1, through)
        if not isinstance(part, Mapping):
            return
        for key, inner in part.items():
            if key in _ELSEWHERE and isinstance(inner, str):
                raise ValueError(f"schema uses {key}; only $ref to a part of itself is followed")
            if key == "$id" and isinstance(inner, str) and depth:
                raise ValueError("schema has an $id inside; only the whole may have one")
            if key == "$ref" and isinstance(inner, str):
                self._follow(inner, depth, through)
            elif key not in _DATA:
                self.visit(inner, depth + 1, through)

    def _follow(self, reference: str, depth: int, through: tuple[str, ...]) -> None:
        if reference in through:
            raise ValueError(f"schema refers to itself by {reference}; only what has an end is followed")
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(
                f"schema refers to {reference[:100]}; a schema holds all it refers to, as #/$defs/..."
            )
        part: Any = self._root
        for step in reference.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            part = part.get(name) if isinstance(part, Mapping) else None
        if part is None or part is self._root:
            raise ValueError(f"schema refers to {reference[:100]}, which is not there or is the whole of it")
        self.visit(part, depth + 1, (*through, reference))
