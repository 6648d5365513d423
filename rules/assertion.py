"""What a run must show: assertions as operators write them. Judging them against a run is `evaluators.assess`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema, model_validator

from rules.comparison import COMPARING, OPERATORS, ORDERING, TEXTUAL, Comparison, field_of, is_kept
from rules.duration import parse_duration_s
from rules.problem import nearest
from rules.selection import compile_path

_TIMINGS: Final = tuple(f"timing.{phase}" for phase in ("dns", "connect", "tls", "ttfb", "transfer", "total"))
TIMINGS: Final = frozenset(_TIMINGS)
_CERTIFICATE_TEXTS: Final = ("subject", "issuer", "sha256", "cipher", "version", "key", "signature", "ocsp")
CERTIFICATE: Final = frozenset(
    f"certificate.{field}" for field in ("days_left", "leaf_days_left", "names", *_CERTIFICATE_TEXTS)
)
_RTT: Final = ("rtt", "rtt.min", "rtt.max", "rtt.jitter")
RTT: Final = frozenset(_RTT)
BODY: Final = frozenset({"body", "json", "xml", "html"})
"""Subjects that need the body read and decoded."""

Holds = Literal["whole", "number", "took", "seconds", "text", "texts", "records", "json", "xpath", "css"]
_NUMERIC: Final = frozenset({*COMPARING, "in", "between", "exists"})
_TEXT: Final = frozenset({"eq", "ne", "in", *TEXTUAL, "exists", "empty"})
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
    **dict.fromkeys(_TIMINGS, Subject("took")),
    "step": Subject("took", "name"),
    "certificate.days_left": Subject("number"),
    "certificate.leaf_days_left": Subject("number"),
    "certificate.names": Subject("texts"),
    **{f"certificate.{field}": Subject("text") for field in _CERTIFICATE_TEXTS},
    "record": Subject("records", "type"),
    "ttl": Subject("seconds", "type"),
    "rcode": Subject("text"),
    "flags": Subject("texts"),
    **dict.fromkeys(_RTT, Subject("took")),
    "loss": Subject("number"),
    **dict.fromkeys(("vital.ttfb", "vital.fcp", "vital.lcp"), Subject("took", takes=("name",))),
    "vital.cls": Subject("number", takes=("name",)),
    "console_errors": Subject("whole"),
    "failed_requests": Subject("whole"),
    "requests": Subject("whole"),
    "weight": Subject("whole"),
}
"""Every subject there is; a kind of beat asserts those it measures."""

Severity = Literal["warning", "critical"]
RecordType = Literal["A", "AAAA", "CNAME", "MX", "NS", "TXT", "SOA", "SRV", "CAA", "PTR"]
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


class Assertion(Comparison):
    """One expectation of a run: a subject, one operator, and how bad it is when it does not hold.

    A subject that is missing (no such header, path or record) fails every operator but those that ask for absence:
    `exists: false`, `empty: true`, `count: 0`.
    """

    called: ClassVar[str] = "an assertion"

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

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        operator, subject = self._expect_one(), SUBJECTS[self.of]
        if not is_kept(f"{self.path}{self.name}"):
            raise ValueError("path and name take text without NUL or half a surrogate pair")
        for key in ("path", "attribute", "name", "type", "as"):
            is_given = getattr(self, field_of(key)) is not None
            if is_given and key != subject.needs and key not in subject.takes:
                raise ValueError(f"`of: {self.of}` does not take `{key}`")
            if not is_given and key == subject.needs:
                raise ValueError(f"`of: {self.of}` needs `{key}`")
        if operator not in _ALLOWED[self.holds]:
            allowed = ", ".join(name for name in OPERATORS if name in _ALLOWED[self.holds])
            hint = "; `as: number` reads it as one" if "as" in subject.takes and operator in _NUMERIC else ""
            raise ValueError(
                f"`of: {self.of}` is {_IS[self.holds]} and takes {allowed}; got {operator}{hint}"
            )
        if self.of in ("header", "cookie") and not re.fullmatch(_HEADER_NAME, self.name or ""):
            raise ValueError(f"name {self.name!r} is not the name of a {self.of}")
        self._expect_comparable(may_be_null=self.holds == "json")
        if self.path is not None:
            compile_selection(self.of, self.path, self.attribute)
        return self

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
        return super()._amount(operator, value)

    @property
    def holds(self) -> Holds:
        """What its subject holds."""
        return "number" if self.as_ else SUBJECTS[self.of].holds

    @property
    def expected(self) -> Any:
        """The operator's value; durations in seconds, a count as its comparison and number."""
        value = super().expected
        if self.holds not in ("took", "seconds") or self.operator == "exists":
            return value
        return (
            [parse_duration_s(one) for one in value] if isinstance(value, list) else parse_duration_s(value)
        )


def compile_selection(of: str, path: str, attribute: str | None) -> Callable[..., list[Any]]:
    """What selects values of a `json`, `xml` or `html` document. Raises `ValueError` saying where `path` is wrong."""
    if of == "json":
        return compile_path(path)
    from rules import markup  # lxml is loaded only where an assertion needs it

    return markup.compile_xpath(path) if of == "xml" else markup.compile_css(path, attribute)
