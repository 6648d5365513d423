"""What a run must show: assertions as operators write them. Judging them against a run is `evaluators.assess`."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import re2
from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from rules.duration import parse_duration_s
from rules.problem import nearest
from rules.selection import compile_path
from rules.shape import Rule

if TYPE_CHECKING:
    from rules.schema import Schema

ORDERING: Final = ("lt", "le", "gt", "ge")
COMPARING: Final = ("eq", "ne", *ORDERING)
_TEXTUAL: Final = ("contains", "starts", "ends", "matches")
OPERATORS: Final = (*COMPARING, "in", *_TEXTUAL, "exists", "empty", "count", "between", "schema")
_OPERATORS: Final = frozenset(OPERATORS)

TIMINGS: Final = frozenset(
    f"timing.{phase}" for phase in ("dns", "connect", "tls", "ttfb", "transfer", "total")
)
_CERTIFICATE_TEXTS: Final = ("subject", "issuer", "sha256", "cipher", "version", "key", "signature", "ocsp")
CERTIFICATE: Final = frozenset(
    f"certificate.{field}" for field in ("days_left", "leaf_days_left", "names", *_CERTIFICATE_TEXTS)
)
RTT: Final = frozenset({"rtt", "rtt.min", "rtt.max", "rtt.jitter"})
BODY: Final = frozenset({"body", "json", "xml", "html"})
"""Subjects that need the body read and decoded."""

Holds = Literal["whole", "number", "took", "seconds", "text", "texts", "records", "json", "xpath", "css"]
_NUMERIC: Final = frozenset({*COMPARING, "in", "between", "exists"})
_TEXT: Final = frozenset({"eq", "ne", "in", *_TEXTUAL, "exists", "empty"})
_ALLOWED: Final[dict[Holds, frozenset[str]]] = {
    "whole": _NUMERIC,
    "number": _NUMERIC,
    "took": frozenset({*ORDERING, "between", "exists"}),  # measured, so that no two are ever equal
    "seconds": _NUMERIC,
    "text": _TEXT,
    "texts": frozenset({"eq", "ne", "contains", "exists", "empty", "count"}),
    "json": frozenset(OPERATORS),
    "xpath": _NUMERIC | _TEXT | {"count"},
    "records": _TEXT | {"count"},
    "css": _TEXT | {"count"},
}
_IS: Final[dict[Holds, str]] = {
    "whole": "a whole number",
    "number": "a number",
    "took": "a measured time",
    "seconds": "a time",
    "text": "text",
    "texts": "a list of texts",
    "xpath": "what an XPath finds",
    "records": "the text of records",
    "css": "the text of elements",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What may be asserted of: what it holds, and the keys it needs and takes beside it."""

    holds: Holds
    needs: str | None = None
    takes: tuple[str, ...] = ()


SUBJECTS: Final[dict[str, Subject]] = {
    "status": Subject("whole"),
    "body": Subject("text", takes=("as",)),
    "json": Subject("json", "path"),
    "xml": Subject("xpath", "path", ("as",)),
    "html": Subject("css", "path", ("attribute", "as")),
    "header": Subject("text", "name", ("as",)),
    "cookie": Subject("text", "name", ("as",)),
    "size": Subject("whole"),
    "redirects": Subject("whole"),
    "protocol": Subject("text"),
    **{
        f"timing.{phase}": Subject("took") for phase in ("dns", "connect", "tls", "ttfb", "transfer", "total")
    },
    "step": Subject("took", "name"),
    "certificate.days_left": Subject("number"),
    "certificate.leaf_days_left": Subject("number"),
    "certificate.names": Subject("texts"),
    **{f"certificate.{field}": Subject("text") for field in _CERTIFICATE_TEXTS},
    "record": Subject("records", "type"),
    "ttl": Subject("seconds", "type"),
    "rcode": Subject("text"),
    "flags": Subject("texts"),
    "rtt": Subject("took"),
    "rtt.min": Subject("took"),
    "rtt.max": Subject("took"),
    "rtt.jitter": Subject("took"),
    "loss": Subject("number"),
}
"""Every subject there is; a kind of beat asserts those it measures."""

Severity = Literal["warning", "critical"]
RecordType = Literal["A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "SRV", "CAA", "PTR"]
_NEVER_KEPT: Final = re.compile("[\x00\ud800-\udfff]")
_HEADER_NAME: Final = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
HeaderName = Annotated[str, StringConstraints(pattern=_HEADER_NAME, max_length=200)]
HeaderValue = Annotated[str, StringConstraints(max_length=8000, pattern=r"^[^\r\n\x00]*$")]


def _subject(of: str) -> str:
    if of not in SUBJECTS:
        near = nearest(of, list(SUBJECTS))
        raise ValueError(f"{of!r} is nothing to assert{near or '; write ' + ', '.join(SUBJECTS)}")
    return of


def in_words(of: str, value: object) -> str:
    """A number of `of` with its unit, as people read it: `84.2 ms`, `12.5 days`, `25 %`; empty where it has none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or of not in SUBJECTS:
        return ""
    if SUBJECTS[of].holds == "took":
        return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"
    if SUBJECTS[of].holds == "seconds":
        return f"{value:g} s"
    if of.endswith("days_left"):
        return f"{value:.3g} days"
    return f"{value:.3g} %" if of == "loss" else ""


class Assertion(Rule):
    """One expectation of a run: a subject, one operator, and how bad it is when it does not hold.

    A subject that is missing (no such header, path or record) fails every operator but those that ask for absence:
    `exists: false`, `empty: true`, `count: 0`.
    """

    of: Annotated[str, AfterValidator(_subject), WithJsonSchema({"enum": list(SUBJECTS)})] = Field(
        description="What is looked at."
    )
    path: str | None = Field(
        default=None,
        max_length=1000,
        description="RFC 9535 JSONPath of `json`, XPath 1.0 of `xml`, CSS selector of `html`.",
    )
    attribute: HeaderName | None = Field(
        default=None, description="With `of: html`: this attribute of the elements, instead of their text."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        default=None, description="Name of the `header`, `cookie` or `step`."
    )
    type: RecordType | None = Field(default=None, description="Record type, with `of: record` and `ttl`.")
    as_: Literal["number"] | None = Field(
        default=None,
        alias="as",
        description="Reads text as a number: of `body`, `xml`, `html`, `header`, `cookie`.",
    )
    severity: Severity = Field(default="critical", description="What the run is when it does not hold.")
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
        if len(inner) != 1 or not _OPERATORS.issuperset(inner) or _OPERATORS.intersection(given):
            raise ValueError(
                "not takes true beside an operator, or one operator alone, such as {contains: x}"
            )
        return {**given, **inner, "not": True}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = self._given()
        if len(given) != 1:
            said = ", ".join(given) or "none"
            raise ValueError(f"an assertion has exactly one of {', '.join(OPERATORS)}; this one has {said}")
        subject = SUBJECTS[self.of]
        if not _is_kept(f"{self.path}{self.name}"):
            raise ValueError("path and name take text without NUL or half a surrogate pair")
        for key in ("path", "attribute", "name", "type", "as"):
            is_given = getattr(self, _field(key)) is not None
            if is_given and key != subject.needs and key not in subject.takes:
                raise ValueError(f"`of: {self.of}` does not take `{key}`")
            if not is_given and key == subject.needs:
                raise ValueError(f"`of: {self.of}` needs `{key}`")
        if given[0] not in _ALLOWED[self.holds]:
            allowed = ", ".join(name for name in OPERATORS if name in _ALLOWED[self.holds])
            hint = "; `as: number` reads it as one" if "as" in subject.takes and given[0] in _NUMERIC else ""
            raise ValueError(
                f"`of: {self.of}` is {_IS[self.holds]} and takes {allowed}; got {given[0]}{hint}"
            )
        if self.of in ("header", "cookie") and not re.fullmatch(_HEADER_NAME, self.name or ""):
            raise ValueError(f"name {self.name!r} is not the name of a {self.of}")
        self._expect_types(given[0], getattr(self, _field(given[0])))
        if self.path is not None:
            compile_selection(self.of, self.path, self.attribute)
        if self.matches is not None:
            compile_pattern(self.matches)
        if self.schema_ is not None:
            compile_schema(self.schema_)
        return self

    @model_serializer(mode="wrap")
    def _only_its_operator(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written out whole, the operators that were not given would read back as given; `eq: null` must stay.
        written: dict[str, Any] = dump(self)
        kept = {key: value for key, value in written.items() if key not in _OPERATORS}
        return kept | {self.operator: getattr(self, _field(self.operator))}

    def _given(self) -> list[str]:
        return [name for name in OPERATORS if _field(name) in self.model_fields_set]

    def _expect_types(self, operator: str, expected: Any) -> None:
        if expected is None and not (operator in ("eq", "ne") and self.holds == "json"):
            raise ValueError(f"{operator} needs a value")
        if not all(_is_kept(part) for part in _parts(expected)):
            raise ValueError(
                f"{operator} takes finite numbers, and text without NUL or half a surrogate pair; got {expected!r}"
            )
        if operator == "count":
            _counting(expected)
        elif operator == "between":
            low, high = (self._amount(operator, value) for value in expected)
            if low > high:
                raise ValueError(f"between takes the smaller value first; got {expected!r}")
        elif operator in ORDERING:
            self._amount(operator, expected)
        elif operator in ("eq", "ne", "in", "contains"):
            for value in expected if operator == "in" else [expected]:
                self._expect_type(operator, value)

    def _expect_type(self, operator: str, value: Any) -> None:
        """Raises `ValueError` where `value` could never be one of the subject."""
        if self.holds in ("number", "seconds"):
            self._amount(operator, value)
        elif self.holds == "whole" and type(value) is not int:
            raise ValueError(f"`of: {self.of}` is a whole number; got {value!r}")
        elif self.holds == "texts" and operator in ("eq", "ne"):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"`of: {self.of}` is a list of texts; got {value!r}")
        elif self.holds in ("text", "texts", "records", "css") and not isinstance(value, str):
            raise ValueError(f"`of: {self.of}` is text; got {value!r}; put it in quotes")
        elif self.holds == "xpath" and not isinstance(value, str | int | float):
            raise ValueError(f"`of: {self.of}` is text, a number, true or false; got {value!r}")

    def _amount(self, operator: str, value: Any) -> float:
        """A bound as a number: seconds of a duration where the subject is a time."""
        if self.holds in ("took", "seconds"):
            return parse_duration_s(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{operator} compares numbers; got {value!r}")  # noqa: TRY004  # pydantic reports no TypeError
        return value

    @property
    def holds(self) -> Holds:
        """What its subject holds."""
        return "number" if self.as_ else SUBJECTS[self.of].holds

    @property
    def operator(self) -> str:
        """The one operator that was written, e.g. `eq`."""
        return self._given()[0]

    @property
    def expected(self) -> Any:
        """The operator's value; durations in seconds, a count as its comparison and number."""
        value = getattr(self, _field(self.operator))
        if self.operator == "count":
            return _counting(value)
        if self.holds not in ("took", "seconds") or self.operator == "exists":
            return value
        return (
            [parse_duration_s(one) for one in value] if isinstance(value, list) else parse_duration_s(value)
        )


def _field(key: str) -> str:
    return f"{key}_" if key in ("in", "schema", "as", "not") else key


def _counting(value: Any) -> tuple[str, int]:
    """`2` and `{ge: 2}` as a comparison and a whole number."""
    operator, number = ("eq", value) if not isinstance(value, dict) else next(iter(value.items()), ("", None))
    is_one = not isinstance(value, dict) or (len(value) == 1 and operator in COMPARING)
    if not is_one or type(number) is not int or not 0 <= number < 2**31:
        raise ValueError(
            f"count takes a whole number, or one comparison of one such as {{ge: 2}}; got {value!r}"
        )
    return operator, number


def _parts(value: Any) -> Iterator[Any]:
    """Every scalar and key inside a JSON-like `value`."""
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _parts(inner)
    else:
        yield value


def _is_kept(part: Any) -> bool:
    """Whether PostgreSQL and JSON keep `part` as it is."""
    if isinstance(part, str):
        return _NEVER_KEPT.search(part) is None
    return not isinstance(part, float) or math.isfinite(part)


def compile_selection(of: str, path: str, attribute: str | None) -> Callable[..., list[Any]]:
    """What selects values of a `json`, `xml` or `html` document. Raises `ValueError` saying where `path` is wrong."""
    if of == "json":
        return compile_path(path)
    from rules import markup  # lxml is loaded only where an assertion needs it

    return markup.compile_xpath(path) if of == "xml" else markup.compile_css(path, attribute)


def compile_schema(schema: dict[str, JsonValue]) -> "Schema":
    """The compiled `schema`. Raises `ValueError` saying what is wrong with it."""
    from rules import schema as fitting  # the same for jsonschema-rs

    return fitting.compile_schema(schema)


def compile_pattern(pattern: str) -> Any:
    """An RE2 matcher. Raises `ValueError` for what RE2 refuses (look-around, back-references, too large)."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as refused:
        reason = refused.args[0].decode() if isinstance(refused.args[0], bytes) else refused.args[0]
        raise ValueError(f"{pattern!r} is not an RE2 regular expression: {reason}") from None
