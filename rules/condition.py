"""Conditions of triggers: one value compared, or all, any or none of others. Judging them is `evaluators.matching`."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rules.comparison import COMPARING, OPERATORS, TEXTUAL, Comparison, field_of
from rules.reference import ValueRef

MAX_DEPTH: Final = 5
MAX_CONDITIONS: Final = 100
_SEEMS_A_VALUE: Final = re.compile(r"\$\.[A-Za-z_]|\{(?:\$[.\[]|body:|header:|query:|value:)")
_GROUPS: Final = ("all", "any", "none")
_OF_TEXT: Final = frozenset({"eq", "ne", "in", *TEXTUAL, "exists", "empty", "count", "changed"})
_OF_NUMBERS: Final = frozenset({*COMPARING, "in", "between", "exists", "changed"})


class Condition(Comparison):
    """A value with one operator, or `all`, `any` or `none` of further conditions. What is missing does not hold, negated or not."""

    operators: ClassVar[tuple[str, ...]] = (*OPERATORS, "changed")
    called: ClassVar[str] = "a condition"

    always: bool | None = Field(
        default=None, description="Holds always, or (false) never; `true` and `false` alone are short for it."
    )
    all_: list["Condition"] | None = Field(
        default=None, alias="all", min_length=1, max_length=50, description="Each of these holds."
    )
    any_: list["Condition"] | None = Field(
        default=None, alias="any", min_length=1, max_length=50, description="At least one of these holds."
    )
    none_: list["Condition"] | None = Field(
        default=None, alias="none", min_length=1, max_length=50, description="Not one of these holds."
    )
    value: ValueRef | None = Field(
        default=None,
        description="What is looked at: `$.path` of the item, `body:$.path`, `header:Name`, `query:name`, `value:name`, `text`.",
    )
    as_: Literal["number", "text", "lower"] | None = Field(
        default=None,
        alias="as",
        description="Reads it as a number, as text, or as text in lower case: senders write 1, `1` and `OPEN`.",
    )
    changed: bool | None = Field(
        default=None,
        description="Is another value than in the event before with the same fingerprint (true), or the same one (false).",
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        alone = [name for name in _GROUPS if getattr(self, f"{name}_") is not None]
        alone += ["always"] if self.always is not None else []
        if alone:
            if len(alone) > 1 or self.value is not None or self._given() or self.as_ or self.not_:
                raise ValueError(
                    f"{alone[0]} stands alone: a condition is one of all, any, none and always, or a value and an operator"
                )
            return self
        if self.value is None:
            raise ValueError("a condition has a value and an operator, or one of all, any and none")
        operator = self._expect_one()
        self._expect_comparable(may_be_null=self.as_ is None)
        given = getattr(self, field_of(operator))
        for wanted in given if isinstance(given, list) else [given]:
            if isinstance(wanted, str) and _SEEMS_A_VALUE.match(wanted) and operator != "matches":
                raise ValueError(
                    f"{operator} compares with what is written here, never with another value of the event; got {wanted!r}"
                )
        fits = {"number": _OF_NUMBERS, "text": _OF_TEXT, "lower": _OF_TEXT}
        if self.as_ and operator not in fits[self.as_]:
            raise ValueError(f"{operator} has no meaning for a value read as {self.as_}")
        if self.as_ and operator in ("eq", "ne", "in", "contains"):
            for wanted in self.in_ or [] if operator == "in" else [getattr(self, field_of(operator))]:
                self._expect_read(operator, wanted)
        return self

    def _expect_read(self, operator: str, wanted: Any) -> None:
        """Raises `ValueError` where what is read so is never `wanted`."""
        if self.as_ == "number":
            self._amount(operator, wanted)
        elif not isinstance(wanted, str):
            raise ValueError(
                f"{operator} of a value read as text takes text; got {wanted!r}; put it in quotes"
            )
        elif self.as_ == "lower" and wanted != wanted.lower():
            raise ValueError(f"{operator} of a value read in lower case is never {wanted!r}")

    @property
    def group(self) -> tuple[str, list["Condition"]] | None:
        """`all`, `any` or `none` with what it is of; None for a comparison."""
        for name in _GROUPS:
            if (inner := getattr(self, f"{name}_")) is not None:
                return name, inner
        return None

    def leaves(self) -> Iterator["Condition"]:
        """Every comparison in it."""
        if (group := self.group) is None:
            if self.always is None:
                yield self
            return
        for inner in group[1]:
            yield from inner.leaves()


def _short(value: object) -> object:
    """A list is short for `all`, true and false for `always`; bounded before it is read, which takes its time."""
    if isinstance(value, bool):
        return {"always": value}
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no condition; write one such as {{value: $.status, eq: down}}")  # noqa: TRY004
    given = {"all": value} if isinstance(value, list) else value
    level, depth, count = [given], 0, 0
    while level:
        groups = [one for one in level if isinstance(one, dict)]
        lists = [held for one in groups for name in _GROUPS if isinstance(held := one.get(name), list)]
        depth, count = depth + 1, count + sum("value" in one for one in groups)
        level = [inner for held in lists for inner in held]
    if depth > MAX_DEPTH:
        raise ValueError(f"conditions are nested {depth} deep; {MAX_DEPTH} is allowed")
    if count > MAX_CONDITIONS:
        raise ValueError(f"there are {count} conditions; {MAX_CONDITIONS} are allowed")
    return given


Conditions = Annotated[
    Condition, BeforeValidator(_short, json_schema_input_type=Condition | list[Condition] | bool)
]
"""A condition, or a list of which each must hold; bounded in depth and number."""
