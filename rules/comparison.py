"""Operators and what they compare with, as operators write them: one comparison, of whatever. What it is of says `rules.assertion`, or a trigger."""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from rules.pattern import compile_pattern
from rules.shape import Rule, expect_one

if TYPE_CHECKING:
    from rules.schema import Schema

ORDERING: Final = ("lt", "le", "gt", "ge")
COMPARING: Final = ("eq", "ne", *ORDERING)
TEXTUAL: Final = ("contains", "starts", "ends", "matches")
OPERATORS: Final = (*COMPARING, "in", *TEXTUAL, "exists", "empty", "count", "between", "schema")
NEVER_KEPT: Final = re.compile("[\x00\ud800-\udfff]")


class Comparison(Rule):
    """Exactly one operator, or its opposite."""

    operators: ClassVar[tuple[str, ...]] = OPERATORS
    called: ClassVar[str] = "a comparison"

    not_: Annotated[bool, WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "object"}]})] = Field(
        default=False,
        alias="not",
        description="Negates the operator; `not: {contains: x}` is short for both. What is missing fails all the same.",
    )
    eq: JsonValue = Field(default=None, description="Equal to.")
    ne: JsonValue = Field(default=None, description="Not equal to.")
    lt: JsonValue = Field(default=None, description="Less than: a number, or a duration of a time.")
    le: JsonValue = Field(default=None, description="At most.")
    gt: JsonValue = Field(default=None, description="More than.")
    ge: JsonValue = Field(default=None, description="At least.")
    in_: list[JsonValue] | None = Field(
        default=None, alias="in", min_length=1, max_length=1000, description="One of."
    )
    contains: JsonValue = Field(default=None, description="Has this text in it, or this item of a list.")
    starts: str | None = Field(default=None, description="Begins with this text.")
    ends: str | None = Field(default=None, description="Ends with this text.")
    matches: str | None = Field(
        default=None, description="RE2 regular expression, searched.", max_length=1000
    )
    exists: bool | None = Field(default=None, description="Is there (true) or is not (false).")
    empty: bool | None = Field(
        default=None, description="Is missing, null or has nothing in it (true), or has something (false)."
    )
    count: JsonValue = Field(
        default=None,
        description="How many values or items there are: a whole number, or a comparison such as `{ge: 2}`.",
    )
    between: list[JsonValue] | None = Field(
        default=None, min_length=2, max_length=2, description="At least the first and at most the second."
    )
    schema_: dict[str, JsonValue] | None = Field(
        default=None, alias="schema", description="Fits this JSON Schema (draft 2020-12); with `of: json`."
    )

    @model_validator(mode="before")
    @classmethod
    def _negated(cls, given: Any) -> Any:
        """`not: {contains: x}` as it is stored: `contains: x` beside `not: true`."""
        if not isinstance(given, dict) or not isinstance(inner := given.get("not"), dict):
            return given
        if len(inner) != 1 or not set(cls.operators).issuperset(inner) or given.keys() & set(cls.operators):
            raise ValueError(
                "not takes true beside an operator, or one operator alone, such as {contains: x}"
            )
        return {**given, **inner, "not": True}

    @model_serializer(mode="wrap")
    def _only_its_operator(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written out whole, the operators that were not given would read back as given; `eq: null` must stay.
        written: dict[str, Any] = dump(self)
        kept = {key: value for key, value in written.items() if key not in self.operators}
        return kept | {name: getattr(self, field_of(name)) for name in self._given()}

    def _given(self) -> list[str]:
        return [name for name in self.operators if field_of(name) in self.model_fields_set]

    @property
    def operator(self) -> str:
        """The one operator that was written, e.g. `eq`."""
        return self._given()[0]

    @property
    def expected(self) -> Any:
        """The operator's value; a count as its comparison and number."""
        value = getattr(self, field_of(self.operator))
        return counting(value) if self.operator == "count" else value

    def _expect_one(self) -> str:
        """The one operator that was given. Raises `ValueError` for none and for several."""
        return expect_one(self.called, self.operators, self._given())

    def _expect_comparable(self, *, may_be_null: bool) -> None:
        """Raises `ValueError` where what it is compared with can never be, or cannot be kept."""
        operator, expected = self.operator, getattr(self, field_of(self.operator))
        if expected is None and not (operator in ("eq", "ne") and may_be_null):
            raise ValueError(f"{operator} needs a value")
        if not all(is_kept(part) for part in parts_of(expected)):
            raise ValueError(
                f"{operator} takes finite numbers, and text without NUL or half a surrogate pair; got {expected!r}"
            )
        if operator == "count":
            counting(expected)
        elif operator == "between":
            low, high = (self._amount(operator, value) for value in expected)
            if low > high:
                raise ValueError(f"between takes the smaller value first; got {expected!r}")
        elif operator in ORDERING:
            self._amount(operator, expected)
        elif operator in ("eq", "ne", "in", "contains"):
            for value in expected if operator == "in" else [expected]:
                self._expect_type(operator, value)
        if self.matches is not None:
            compile_pattern(self.matches)
        if self.schema_ is not None:
            compile_schema(self.schema_)

    def _expect_type(self, operator: str, value: Any) -> None:
        """Raises `ValueError` where `value` could never be one of what is compared."""

    def _amount(self, operator: str, value: Any) -> float:
        """A bound as a number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{operator} compares numbers; got {value!r}")  # noqa: TRY004  # pydantic reports no TypeError
        return value


def field_of(key: str) -> str:
    """The field of a key that is a word of Python's."""
    return f"{key}_" if key in ("in", "schema", "as", "not") else key


def counting(value: Any) -> tuple[str, int]:
    """`2` and `{ge: 2}` as a comparison and a whole number."""
    operator, number = ("eq", value) if not isinstance(value, dict) else next(iter(value.items()), ("", None))
    is_one = not isinstance(value, dict) or (len(value) == 1 and operator in COMPARING)
    if not is_one or type(number) is not int or not 0 <= number < 2**31:
        raise ValueError(
            f"count takes a whole number, or one comparison of one such as {{ge: 2}}; got {value!r}"
        )
    return operator, number


def parts_of(value: Any) -> Iterator[Any]:
    """Every scalar and key inside a JSON-like `value`."""
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from parts_of(inner)
    else:
        yield value


def is_kept(part: Any) -> bool:
    """Whether PostgreSQL and JSON keep `part` as it is."""
    if isinstance(part, str):
        return NEVER_KEPT.search(part) is None
    return not isinstance(part, float) or math.isfinite(part)


def compile_schema(schema: dict[str, JsonValue]) -> "Schema":
    """The compiled `schema`. Raises `ValueError` saying what is wrong with it."""
    from rules import schema as fitting  # the same for jsonschema-rs

    return fitting.compile_schema(schema)
