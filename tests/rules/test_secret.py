"""References to secrets: kept as written, replaced where they are used."""

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.secret import (
    UnsetReferenceError,
    expand,
    hidden_forms,
    hide,
    is_misspelt,
    is_secret_name,
    references,
)
from rules.target import parse_target


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
    assert expand(text, {"env:A": "1", "env:B": "2", "env:C": "${env:A}"}) == value


def test_an_empty_variable_is_set() -> None:
    assert expand("[${env:A}]", {"env:A": ""}) == "[]"


def test_the_first_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UnsetReferenceError, match=r"\$\{env:B\} is not set; export B") as missing:
        expand("${env:A}${env:B}${env:C}", {"env:A": "secret"})
    assert missing.value.reference == "env:B"
    assert "secret" not in str(missing.value)


def test_references_are_found_anywhere() -> None:
    assert list(references({"a": ["${env:A}", 1, None], "b": {"c": ("${env:B}x",)}, "${env:K}": True})) == [
        "env:A",
        "env:B",
    ]


@given(st.text().filter(lambda text: "${" not in text))
def test_text_without_references_is_left_alone(text: str) -> None:
    assert expand(text, {}) == text


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Api-Key", "X-Auth-Token", "x-session-id"])
def test_secret_headers_are_known_by_name(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["content-type", "etag", "server", "x-keyboard"])
def test_ordinary_headers_are_shown(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a s3cr't/x b", "a [redacted] b"),
        ("/?q=s3cr%27t%2Fx", "/?q=[redacted]"),
        ('is "s3cr\'t/x"', 'is "[redacted]"'),
        ("cut at s3cr't", "cut at [redacted]"),
        ("is 's3cr't/…'; expected 'x'", "is '[redacted]…'; expected 'x'"),
        ("s3cr is too short to tell", "s3cr is too short to tell"),
    ],
)
def test_a_secret_is_hidden_in_every_form_it_comes_back_in(text: str, shown: str) -> None:
    assert hide(text, hidden_forms(["s3cr't/x", "tiny"])) == shown


@pytest.mark.parametrize(
    "repeated",
    [
        *(quote, quote_plus, json.dumps, html.escape),
        lambda v: json.dumps(v, ensure_ascii=False),
        lambda v: json.dumps(v).replace("/", r"\/"),
        lambda v: quote(v, safe="").lower(),
        lambda v: parse_target(f"http://h/?{v.replace(' ', '')}").path,
    ],
)
def test_a_secret_is_hidden_however_it_was_encoded(repeated: Callable[[str], str]) -> None:
    value = "p ä\"/<&'x+=~7"
    forms = hidden_forms([value, value.replace(" ", "")])
    assert "~7" not in hide(f"<{repeated(value)}>", forms)


@given(st.text("ab…", min_size=6, max_size=12), st.text("ab…", max_size=30))
def test_no_beginning_of_a_secret_is_left_where_a_text_was_cut(secret: str, text: str) -> None:
    shown = hide(text, (secret,))
    for begun in (secret[:length] for length in range(6, len(secret) + 1)):
        assert not shown.endswith(begun)
        assert f"{begun}…" not in shown


def test_a_secret_is_hidden_at_any_depth() -> None:
    secrets = hidden_forms(["hunter22"])
    assert hide({"a": ["hunter22", 1, None], "hunter22": True}, secrets) == {
        "a": ["[redacted]", 1, None],
        "[redacted]": True,
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Bearer ${env:TOKEN}", ["env:TOKEN"]),
        ("${file:/run/secrets/shop token}", ["file:/run/secrets/shop token"]),
        ("${secret:shop.token-2}${secret:/SHARED}", ["secret:shop.token-2", "secret:/SHARED"]),
    ],
)
def test_the_three_ways_are_one_grammar(text: str, found: list[str]) -> None:
    assert list(references(text)) == found
    assert not is_misspelt(text)
    assert expand(text, dict.fromkeys(found, "v")).count("v") == len(found)


@pytest.mark.parametrize(
    "text",
    ["${env:}", "${env:A B}", "${file:relative}", "${file:/a", "${secret:a/b}", "${secret:-x}", "${env:A-B}"],
)
def test_a_reference_that_is_none_is_noticed(text: str) -> None:
    assert is_misspelt(text)
    assert expand(text, {}) == text


@pytest.mark.parametrize(
    ("reference", "todo"),
    [
        ("env:A", "export A"),
        ("file:/x", "make the file readable"),
        ("secret:N", "`upbeat secrets set N`"),
        ("secret:/N", "`upbeat secrets set N --installation`"),
    ],
)
def test_what_stands_for_nothing_says_what_to_do(reference: str, todo: str) -> None:
    with pytest.raises(UnsetReferenceError) as unset:
        expand(f"${{{reference}}}", {})
    assert todo in str(unset.value)
