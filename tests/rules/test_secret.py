"""References to secrets: kept as written, replaced where they are used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.secret import UnsetReferenceError, expand, references


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:A}", "1"),
        ("x${env:A}y${env:B}z", "x1y2z"),
        ("${env:A}${env:A}", "11"),
        ("$A ${A} ${env:} ${env:1} ${ENV:A}", "$A ${A} ${env:} ${env:1} ${ENV:A}"),
        ("${env:C}", "${env:A}"),
        ("", ""),
    ],
)
def test_references_are_replaced_once(text: str, value: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "C": "${env:A}"}) == value


def test_an_empty_variable_is_set() -> None:
    assert expand("[${env:A}]", {"A": ""}) == "[]"


def test_the_first_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UnsetReferenceError, match=r"\$\{env:B\} is not set; export B") as missing:
        expand("${env:A}${env:B}${env:C}", {"A": "secret"})
    assert missing.value.name == "B"
    assert "secret" not in str(missing.value)


def test_references_are_found_anywhere() -> None:
    assert list(references({"a": ["${env:A}", 1, None], "b": {"c": ("${env:B}x",)}, "${env:K}": True})) == [
        "A",
        "B",
    ]


@given(st.text().filter(lambda text: "${env:" not in text))
def test_text_without_references_is_left_alone(text: str) -> None:
    assert expand(text, {}) == text
