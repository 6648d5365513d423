"""Paths answer as the JSONPath Compliance Test Suite says, but for what is refused on purpose."""

import json
from pathlib import Path
from typing import Any

import pytest

from rules.selection import compile_path

SUITE = Path(__file__).parents[1] / "third_party" / "jsonpath-compliance-test-suite" / "cts.json"
CASES: list[dict[str, Any]] = json.loads(SUITE.read_text("utf-8"))["tests"]
REFUSED = {"filter, absolute existence, with segments": "searches the whole document inside a filter"}
"""Valid paths whose cost nothing bounds, each with what is said of it."""


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 687
    assert REFUSED.keys() <= {case["name"] for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_path_answers_as_the_suite_says(case: dict[str, Any]) -> None:
    if case.get("invalid_selector") or case["name"] in REFUSED:
        with pytest.raises(ValueError, match=REFUSED.get(case["name"], ".")):
            compile_path(case["selector"])
        return
    allowed = case.get("results") or [case["result"]]
    assert compile_path(case["selector"])(case["document"]) in allowed
