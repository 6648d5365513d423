"""Assertions as operators write them. Judging them is tests/evaluators/test_assess.py."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rules.assertion import SUBJECTS, Assertion
from rules.beat import BEAT
from rules.comparison import OPERATORS
from rules.pattern import compile_pattern
from rules.shape import written


@pytest.mark.parametrize(
    ("written", "operator", "expected"),
    [
        pytest.param({"of": "status", "eq": 200}, "eq", 200, id="a number"),
        pytest.param({"of": "status", "in": [200, 204]}, "in", [200, 204], id="a list"),
        pytest.param({"of": "timing.total", "lt": "800ms"}, "lt", 0.8, id="a duration is seconds"),
        pytest.param({"of": "json", "path": "$.a", "eq": None}, "eq", None, id="null is a value"),
        pytest.param({"of": "header", "name": "X-A", "exists": False}, "exists", False, id="absence"),
        pytest.param({"of": "record", "type": "MX", "contains": "mail"}, "contains", "mail", id="a record"),
    ],
)
def test_an_assertion_has_one_operator(written: dict[str, Any], operator: str, expected: object) -> None:
    made = Assertion.model_validate(written)
    assert (made.operator, made.expected) == (operator, expected)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param({"of": "status"}, "exactly one of", id="no operator"),
        pytest.param({"of": "status", "eq": 1, "ne": 2}, "this one has eq, ne", id="two operators"),
        pytest.param({"of": "json", "eq": 1}, "needs `path`", id="json without a path"),
        pytest.param(
            {"of": "body", "path": "$.a", "eq": "x"}, "does not take `path`", id="a path of no json"
        ),
        pytest.param({"of": "header", "exists": True}, "needs `name`", id="a header without a name"),
        pytest.param({"of": "record", "exists": True}, "needs `type`", id="a record without a type"),
        pytest.param(
            {"of": "timing.dns", "eq": "1s"},
            "takes lt, le, gt, ge, exists, between; got eq",
            id="a timing that must be equal",
        ),
        pytest.param({"of": "timing.dns", "lt": "1"}, "is not a duration", id="a timing without unit"),
        pytest.param({"of": "size", "lt": "1"}, "lt compares numbers", id="order of a text"),
        pytest.param({"of": "size", "lt": True}, "lt compares numbers", id="order of a boolean"),
        pytest.param({"of": "status", "eq": "200"}, "whole number", id="a status that is text"),
        pytest.param({"of": "body", "contains": None}, "needs a value", id="an operator without value"),
        pytest.param({"of": "body", "matches": "(a"}, "not an RE2", id="a broken pattern"),
        pytest.param({"of": "body", "matches": r"(a)\1"}, "not an RE2", id="a back-reference"),
        pytest.param({"of": "json", "path": "a", "eq": 1}, "not a JSONPath", id="a broken path"),
        pytest.param({"of": "status", "in": []}, "at least 1", id="one of nothing"),
        pytest.param({"of": "json", "path": "$", "eq": {"\ud800": 1}}, "half a surrogate", id="half a pair"),
        pytest.param({"of": "json", "path": "$", "eq": [float("nan")]}, "finite", id="no number"),
        pytest.param(
            {"of": "cookie", "name": "a b", "exists": True}, "not the name of", id="a name with a blank"
        ),
        pytest.param({"of": "body", "not": {"eq": "a", "ne": "b"}}, "one operator alone", id="two negated"),
    ],
)
def test_what_cannot_be_judged_is_refused(written: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Assertion.model_validate(written)


@pytest.mark.parametrize(("pattern", "finds"), [("(a+)+$", False), ("(.*)*!", True), ("(a|a)*b", False)])
def test_a_pattern_that_would_hang_elsewhere_does_not(pattern: str, finds: bool) -> None:
    assert bool(compile_pattern(pattern).search("a" * 50_000 + "!")) is finds


def test_an_enormous_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="not an RE2"):
        compile_pattern("((((a{100}){100}){100}){100})")


@pytest.mark.parametrize("written_", [{"not": {"contains": "x"}}, {"not": True, "contains": "x"}])
def test_not_is_stored_beside_its_operator(written_: dict[str, Any]) -> None:
    made = Assertion.model_validate({"of": "body"} | written_)
    assert written(made) == {"of": "body", "not": True, "contains": "x"}
    assert Assertion.model_validate(written(made)) == made


def test_libraries_of_documents_are_loaded_where_an_assertion_needs_them() -> None:
    program = """if True:
        import sys
        from rules.assertion import Assertion
        import evaluators.assess
        Assertion.model_validate({"of": "json", "path": "$..a", "matches": "a"})
        print(*{"lxml", "cssselect", "jsonschema_rs"} & {name.split(".")[0] for name in sys.modules})"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_assertion_reads_back_however_it_is_written_out(operator: str) -> None:
    values = {"in": [1], "contains": "a", "starts": "a", "ends": "a", "matches": "a", "exists": True}
    values |= {"empty": True, "count": {"ge": 2}, "between": [1, 2.5], "schema": {"type": "object"}}
    numbers = dict.fromkeys(("lt", "le", "gt", "ge"), 1)
    made = Assertion.model_validate({"of": "json", "path": "$", operator: (values | numbers).get(operator)})
    for dumped in (made.model_dump(), made.model_dump(mode="json", exclude_defaults=True)):
        again = Assertion.model_validate(dumped)
        assert (again, again.operator) == (made, operator)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        pytest.param({"type": "tcp", "host": "h", "port": 1}, "status", id="tcp has no status"),
        pytest.param({"type": "dns", "host": "h"}, "timing.tls", id="dns has no tls"),
        pytest.param({"type": "http", "url": "http://h/"}, "rcode", id="http has no rcode"),
    ],
)
def test_a_beat_asserts_only_what_it_measures(kind: dict[str, Any], of: str) -> None:
    value = {"lt": "1s"} if of.startswith("timing") else {"exists": True}
    with pytest.raises(ValidationError, match="assert one of"):
        BEAT.validate_python({"slug": "b", "assertions": [{"of": of} | value]} | kind)


def test_the_reference_names_every_subject_and_operator() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/assertions.md").read_text("utf-8")
    tables = [
        line.split("|")[1]
        for line in page.splitlines()
        if line.startswith("| `") and not line.startswith("| `of` | holds")
    ]
    named: set[str] = set()
    for cell in tables:
        family = ""
        for name in re.findall(r"`([^`]+)`", cell):
            family = name.split(".")[0] or family
            named.add(family + name if name.startswith(".") else name)
    assert named == {*SUBJECTS, *OPERATORS}
