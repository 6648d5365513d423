"""Paths: definite ones are plain getters and answer as the engine does; costly ones are refused or stay cheap."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath_rfc9535 import JSONPathEnvironment

from rules.selection import compile_path

keys = st.sampled_from(["a", "b", "", "a.b", "0", "ü", "length"])
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=20,
)
steps = st.one_of(
    st.sampled_from(
        [".a", ".b", ".length", "['a']", '["b"]', "['']", "['a.b']", "['0']", "['ü']", '["it\'s"]']
    ),
    st.integers(0, 3).map(lambda index: f"[{index}]"),
)


@settings(max_examples=500, deadline=None)
@given(documents, st.lists(steps, max_size=5))
def test_a_definite_getter_answers_as_the_engine(document: Any, path: list[str]) -> None:
    text = "$" + "".join(path)
    wanted = [node.value for node in JSONPathEnvironment().compile(text).find(document)]
    assert compile_path(text)(document) == wanted


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="$.[]'\"ab01*?@,:- \n\\", max_size=12).map("$".__add__), documents)
def test_any_path_is_refused_by_both_or_selects_the_same(path: str, document: Any) -> None:
    try:
        engine = JSONPathEnvironment().compile(path)
    except Exception:
        with pytest.raises(ValueError, match="JSONPath"):
            compile_path(path)
        return
    try:
        select = compile_path(path)
    except ValueError as costly:
        assert any(word in str(costly) for word in ("allowed", "searches the whole"))  # noqa: PT017
        return
    assert select(document) == [node.value for node in engine.find(document)]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$.items[*].id", [1, 2]),
        ("$.items[?@.id > 1].id", [2]),
        ("$..id", [1, 2]),
        ("$.items[-1].id", [2]),
        ("$.items[?@.tags[*]].id", [1]),
        ("$.items[?length(@.tags) == 1].id", [1]),
        ("$.items[?@.id == $.wanted].id", [2]),
        ("$.nope", []),
        ("$", [{"wanted": 2, "items": [{"id": 1, "tags": ["x"]}, {"id": 2}]}]),
    ],
)
def test_paths_select(path: str, values: list[Any]) -> None:
    assert compile_path(path)({"wanted": 2, "items": [{"id": 1, "tags": ["x"]}, {"id": 2}]}) == values


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "$.",
        "$[01]",
        "$.a\n",
        " $.a",
        "$.a ",
        "$['a\x01']",
        "$[?match(@.a, 'x')]",
        "$[?search(@.a, 'x')]",
        "$[99999999999999999999]",
    ],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a JSONPath"):
        compile_path(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        pytest.param("$" + ".a" * 500, "1000 are allowed", id="too long"),
        pytest.param("$..*..*..*", "2 are allowed", id="three descents"),
        pytest.param("$..[?@..a]..b", "2 are allowed", id="a descent in a filter counts"),
        pytest.param("$" + "[0,0]" * 30, "may select a value", id="selectors that multiply"),
        pytest.param(
            "$[?count($..*) > 1]", "searches the whole document", id="the whole document for every candidate"
        ),
        pytest.param("$[?@[?$[*].a]]", "searches the whole document", id="the same one filter deeper"),
        pytest.param("$[?count($.*) > 1 && @.a]", "searches the whole document", id="the same in a function"),
    ],
)
def test_a_costly_path_is_refused_when_it_is_written(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compile_path(path)


def nested(levels: int) -> Any:
    document: Any = 1
    for _ in range(levels):
        document = {"a": document, "b": [document] if levels < 20 else 1}
    return document


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("$[?" + "(" * 490 + "@.a" + ")" * 490 + "]", id="many brackets"),
        pytest.param("$[?" + "!" * 900 + "@.a]", id="many negations"),
        pytest.param("$" + "[?@.a" * 150 + "]" * 150, id="filters in filters"),
        pytest.param("$..*..*", id="two descents"),
        pytest.param("$..[?@..a]", id="a search for every value"),
        pytest.param("$[*,*,*,*,*,*]..*", id="selectors and a descent"),
        pytest.param("$" + "[*]" * 300, id="many wildcards"),
        pytest.param("$[?@.a == 'x' || @.b == 'y']" * 30, id="a long filter many times"),
    ],
)
def test_a_hostile_path_takes_no_time(path: str) -> None:
    documents = [nested(12), nested(90), nested(3000), [[i] * 10 for i in range(500)]]
    began_s = time.process_time()
    try:
        select = compile_path(path)
    except ValueError:
        return
    for document in documents:
        select(document)
    assert time.process_time() - began_s < 5


def test_a_document_too_deep_to_walk_selects_nothing() -> None:
    assert compile_path("$..nope")(nested(3000)) == []
