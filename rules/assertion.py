"""What a run must show: assertions as operators write them. Judging them against a run is `evaluators.assess`."""

from typing import Annotated, Any, Final, Literal, Self

import re2
from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from rules.duration import parse_duration_s
from rules.selection import compile_path
from rules.shape import Rule

OPERATORS: Final = (
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "in",
    "contains",
    "starts",
    "ends",
    "matches",
    "exists",
)
ORDERING: Final = frozenset({"lt", "le", "gt", "ge"})

Severity = Literal["warning", "critical"]
RecordType = Literal["A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "SRV", "CAA", "PTR"]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=200)]
HeaderValue = Annotated[str, StringConstraints(max_length=8000, pattern=r"^[^\r\n\x00]*$")]


class Assertion(Rule):
    """One expectation of a run: a subject, one operator, and how bad it is when it does not hold.

    A subject that is missing (no such header, path or record) fails every operator but `exists: false`.
    """

    of: Literal[
        "status",
        "body",
        "json",
        "header",
        "size",
        "record",
        "rcode",
        "timing.dns",
        "timing.connect",
        "timing.tls",
        "timing.ttfb",
        "timing.transfer",
        "timing.total",
    ] = Field(description="What is looked at.")
    path: str | None = Field(default=None, description="RFC 9535 JSONPath, with `of: json`.", max_length=1000)
    name: HeaderName | None = Field(default=None, description="Header name, with `of: header`.")
    type: RecordType | None = Field(default=None, description="Record type, with `of: record`.")
    severity: Severity = Field(default="critical", description="What the run is when it does not hold.")
    eq: JsonValue = Field(default=None, description="Equal to.")
    ne: JsonValue = Field(default=None, description="Not equal to.")
    lt: JsonValue = Field(default=None, description="Less than: a number, or a duration of a timing.")
    le: JsonValue = Field(default=None, description="At most.")
    gt: JsonValue = Field(default=None, description="More than.")
    ge: JsonValue = Field(default=None, description="At least.")
    in_: list[JsonValue] | None = Field(
        default=None, alias="in", min_length=1, max_length=1000, description="One of."
    )
    contains: str | None = Field(default=None, description="Has this text in it.")
    starts: str | None = Field(default=None, description="Begins with this text.")
    ends: str | None = Field(default=None, description="Ends with this text.")
    matches: str | None = Field(
        default=None, description="RE2 regular expression, searched.", max_length=1000
    )
    exists: bool | None = Field(default=None, description="Is there (true) or is not (false).")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = self._given()
        if len(given) != 1:
            said = ", ".join(given) or "none"
            raise ValueError(f"an assertion has exactly one of {', '.join(OPERATORS)}; this one has {said}")
        for key, subject in (("path", "json"), ("name", "header"), ("type", "record")):
            if (getattr(self, key) is not None) != (self.of == subject):
                needs = "needs" if self.of == subject else "does not take"
                raise ValueError(f"`of: {self.of}` {needs} `{key}`")
        if self.path is not None:
            compile_path(self.path)
        if self.matches is not None:
            compile_pattern(self.matches)
        self._expect_types(given[0])
        return self

    @model_serializer(mode="wrap")
    def _only_its_operator(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written out whole, the operators that were not given would read back as given; `eq: null` must stay.
        written: dict[str, Any] = dump(self)
        kept = {key: value for key, value in written.items() if key not in OPERATORS}
        return kept | {self.operator: getattr(self, _field(self.operator))}

    def _given(self) -> list[str]:
        return [name for name in OPERATORS if _field(name) in self.model_fields_set]

    def _expect_types(self, operator: str) -> None:
        expected = getattr(self, _field(operator))
        if self.of.startswith("timing."):
            if operator not in ORDERING:
                raise ValueError(f"`of: {self.of}` takes lt, le, gt or ge; got {operator}")
            parse_duration_s(expected)
        elif operator in ORDERING and (isinstance(expected, bool) or not isinstance(expected, int | float)):
            raise ValueError(f"{operator} compares numbers; got {expected!r}")
        elif self.of in ("status", "size") and operator in ("eq", "ne") and type(expected) is not int:
            raise ValueError(f"`of: {self.of}` is a whole number; got {expected!r}")
        elif expected is None and operator not in ("eq", "ne"):
            raise ValueError(f"{operator} needs a value")

    @property
    def operator(self) -> str:
        """The one operator that was written, e.g. `eq`."""
        return self._given()[0]

    @property
    def expected(self) -> Any:
        """The operator's value; a duration is given in seconds."""
        value = getattr(self, _field(self.operator))
        return parse_duration_s(value) if self.of.startswith("timing.") else value


def _field(operator: str) -> str:
    return "in_" if operator == "in" else operator


def compile_pattern(pattern: str) -> Any:
    """An RE2 matcher. Raises `ValueError` for what RE2 refuses (look-around, back-references, too large)."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as refused:
        reason = refused.args[0].decode() if isinstance(refused.args[0], bytes) else refused.args[0]
        raise ValueError(f"{pattern!r} is not an RE2 regular expression: {reason}") from None
