"""Paths: they select what RFC 9535 says and `jsonpath_rfc9535` selects; costly ones are refused, or give up in time."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpath_rfc9535 import JSONPathEnvironment

from rules.selection import (
    MAX_SEARCHED,
    Budget,
    BudgetError,
    Steps,
    compile_path,
    is_definite,
    normal_path,
    places,
)

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


@settings(max_examples=200, deadline=None)
@given(documents, st.lists(steps, max_size=5))
def test_a_definite_getter_answers_as_the_engine(document: Any, path: list[str]) -> None:
    text = "$" + "".join(path)
    wanted = [node.value for node in JSONPathEnvironment().compile(text).find(document)]
    assert compile_path(text)(document) == wanted


literals = st.sampled_from(["2", "3.0", "'a'", '"b"', "null", "true", "-1"])
singular = st.sampled_from(["@", "@.a", "@['b']", "@[0]", "@.a[-1]", "$.a", "$[0].b", "$['']"])
several = st.sampled_from(["@.*", "@..a", "@[0,'a']", "@.a[1:]", "@[*].b", "@[?@.a]"])
values = st.one_of(
    literals,
    singular,
    singular.map("length({})".format),
    several.map("count({})".format),
    several.map("value({})".format),
)
claims = st.recursive(
    st.one_of(
        st.tuples(values, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), values).map(" ".join),
        st.sampled_from(["@.a", "@['b'][0]", "$.a", "@.*", "@..b", "@[?@ == 2]"]),
    ),
    lambda inner: st.one_of(
        inner.map("!({})".format),
        st.tuples(inner, st.sampled_from([" && ", " || "]), inner).map("".join),
        inner.map("({})".format),
    ),
    max_leaves=4,
)
segments = st.one_of(
    steps,
    st.sampled_from(
        [
            "[-1]",
            "[*]",
            ".*",
            "[0:2]",
            "[::-1]",
            "[-2:]",
            "[1:0]",
            "[::0]",
            "..a",
            "..*",
            "..[0]",
            "[0,'a',0]",
        ]
    ),
    claims.map("[?{}]".format),
    claims.map("..[?{}]".format),
)
plain = st.recursive(  # the engine takes [true] for [1]
    st.one_of(st.none(), st.integers(2, 4), st.sampled_from(["a", "b", "ab"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(plain, st.lists(segments, min_size=1, max_size=4).map("".join).map("$".__add__))
def test_a_path_selects_what_the_engine_selects(document: Any, path: str) -> None:
    engine = JSONPathEnvironment().compile(path)
    try:
        select = compile_path(path)
    except ValueError as costly:
        assert "allowed" in str(costly)  # noqa: PT017
        return
    nodes = engine.find(document)
    assert select(document) == [node.value for node in nodes]
    assert places(path, document, Budget()) == [node.location for node in nodes]


RFC = {"o": {"j j": {"k.k": 3}}, "'": {"@": 2}, "a": [3, 5, 1, 2, 4, 6, {"b": "j"}, {"b": "k"}, {"b": {}}]}


@pytest.mark.parametrize(
    ("path", "selected"),
    [
        ("$.o['j j']['k.k']", [3]),
        ('$["\'"]["@"]', [2]),
        ("$.a[1:3]", [5, 1]),
        ("$.a[5:1:-2]", [6, 2]),
        ("$.a[?@.b == 'k']", [{"b": "k"}]),
        ("$.a[?@ > 3.5]", [5, 4, 6]),
        ("$.a[?@.b]", [{"b": "j"}, {"b": "k"}, {"b": {}}]),
        ("$.a[?@ < 2 || @.b == 'k']", [1, {"b": "k"}]),
        ("$.a[?!@.b && @ <= 2]", [1, 2]),
        ("$.a[?match(@.b, '[jk]')]", [{"b": "j"}, {"b": "k"}]),
        ("$.a[?search(@.b, '[^j]')]", [{"b": "k"}]),
        ("$.a[?@.x == @.y]", RFC["a"]),
        ("$.a[?length(@.b) == 1]", [{"b": "j"}, {"b": "k"}]),
        ("$.a[?length(@.b) < 1]", [{"b": {}}]),
        ("$[?count(@.*) == 9][0]", [3]),
        ("$[?value(@..['@']) == 2]", [{"@": 2}]),
        ("$.a[?@ == true]", []),
        ("$.nope[*]", []),
    ],
)
def test_paths_select_as_the_rfc_says(path: str, selected: list[Any]) -> None:
    assert compile_path(path)(RFC) == selected


@pytest.mark.parametrize(
    ("path", "texts", "selected"),
    [
        pytest.param("$[?match(@, 'a.*')]", ["ab", "bab"], ["ab"], id="match is of the whole text"),
        pytest.param("$[?search(@, 'a.*')]", ["ab", "bab", "b"], ["ab", "bab"], id="search is of a part"),
        pytest.param(
            "$[?match(@, '.')]", ["\u2028", "\n", "\r", "é"], ["\u2028", "é"], id="a dot is no line break"
        ),
        pytest.param(
            "$[?match(@, 'a[.b]c')]", ["a.c", "abc", "axc"], ["a.c", "abc"], id="a dot in a class is a dot"
        ),
        pytest.param(r"$[?match(@, 'a\\.c')]", ["a.c", "abc"], ["a.c"], id="an escaped dot is a dot"),
        pytest.param(r"$[?match(@, '\\p{Lu}')]", ["ж", "Ж", 1, None], ["Ж"], id="categories are known"),
        pytest.param("$[?match(@, '^ab$')]", ["ab", "xab"], ["ab"], id="anchors are taken"),
        pytest.param("$[?!match(@, 1)]", ["a"], ["a"], id="a pattern that is no text finds nothing"),
        pytest.param(
            "$[?search(@, $[0])]", ["b.?b", "bab", "b"], ["bab"], id="a pattern may be in the document"
        ),
        pytest.param("$[?search(@, $[0])]", ["(?=b)", "b"], [], id="one that is refused finds nothing"),
        pytest.param("$[?match(@, '(a|aa)+')]", ["a" * 50 + "b", "aa"], ["aa"], id="RE2 does not backtrack"),
    ],
)
def test_regular_expressions_in_filters(path: str, texts: list[Any], selected: list[Any]) -> None:
    assert compile_path(path)(texts) == selected


def test_true_is_not_one_at_any_depth() -> None:
    document = {"a": [1, {"b": True}], "c": [[True, {"b": True}], [1, {"b": 1}], [1.0, {"b": True}]]}
    assert compile_path("$.c[?@ == $.a]")(document) == [[1.0, {"b": True}]]


def test_what_is_there_exists_whatever_it_is() -> None:
    assert compile_path("$[?@]")([False, None, 0, ""]) == [False, None, 0, ""]


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
    if "?" not in path:  # `?@` of false and 0: the engine takes them for missing
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
        "$[?match(@.a)]",
        "$[?search(@.a, 'x') == true]",
        "$[?count(@.a) == count(1)]",
        "$[?!count(@.a)]",
        "$[?!length(@.a)]",
        "$[?!1]",
        "$[?!(1)]",
        "$[?1 && @.a]",
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


@pytest.mark.parametrize("pattern", [r"\\d+", "(?:a)", "a**", "["])
def test_a_written_pattern_that_could_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="I-Regexp"):
        compile_path(f"$[?match(@, '{pattern}')]")


def nested(levels: int) -> Any:
    document: Any = 1
    for _ in range(levels):
        document = {"a": document, "b": [document] if levels < 20 else 1}
    return document


HOSTILE = [
    nested(12),
    nested(60),
    [[i] * 10 for i in range(1800)],
    {str(i): {"a": i} for i in range(MAX_SEARCHED // 2)},
    list(range(MAX_SEARCHED)),
    ["x" * 1000] * 900,
]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("$[?" + "(" * 490 + "@.a" + ")" * 490 + "]", id="many brackets"),
        pytest.param("$[?" + "!" * 900 + "@.a]", id="many negations"),
        pytest.param("$" + "[?@.a" * 150 + "]" * 150, id="filters in filters"),
        pytest.param("$..*", id="everything"),
        pytest.param("$..*..*", id="two descents"),
        pytest.param("$..[?@..a]", id="a search for every value"),
        pytest.param("$[?@[?@>1]]", id="a filter for every value"),
        pytest.param("$[?count(@..*)>1]", id="counting for every value"),
        pytest.param("$[*,*,*,*,*,*,*,*,*,*][*,*,*,*,*,*,*,*,*,*]", id="selectors that multiply"),
        pytest.param("$" + "[*]" * 300, id="many wildcards"),
        pytest.param("$..[?@ == $ || @.b == $[0] || @ == $[1]]", id="comparing large values"),
        pytest.param("$[?search(@, '(x+x+)+y')]", id="a pattern that backtracks elsewhere"),
        pytest.param("$[?search($[0], @)]", id="patterns from the document"),
    ],
)
def test_a_hostile_path_is_refused_or_stays_within_its_steps(path: str) -> None:
    try:
        select = compile_path(path)
    except ValueError:
        return
    for document in HOSTILE:
        budget = Budget()
        try:
            assert len(select(document, budget)) <= 100_000
        except BudgetError as over:
            assert "steps" in str(over)  # noqa: PT017


def test_any_document_can_be_searched_once() -> None:
    assert len(compile_path("$..*")(HOSTILE[4])) == MAX_SEARCHED


def test_a_budget_is_shared_by_what_it_is_handed_to() -> None:
    budget, select = Budget(), compile_path("$[*]")
    with pytest.raises(BudgetError, match="more than 100000 steps"):
        for _ in range(20):
            select(HOSTILE[4], budget)


def test_a_deep_document_is_searched_without_recursion() -> None:
    assert compile_path("$..nope")(nested(3000)) == []
    with pytest.raises(BudgetError, match="nested too deeply"):
        compile_path("$[?@ == @]")([nested(3000)])


names = st.one_of(
    st.text(max_size=6), st.sampled_from(["a-b", "it's", 'say "x"', "\\", "'\"", "\n", "ü", "@type"])
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(names, st.integers(0, 3)), max_size=5).map(tuple))
def test_a_normal_path_leads_to_its_value(way: Steps) -> None:
    document: Any = "here"
    for step in reversed(way):
        document = {step: document} if isinstance(step, str) else [None] * step + [document]
    path = normal_path(way)
    assert is_definite(path)
    assert compile_path(path)(document) == ["here"]
    assert places(path, document, Budget()) == [way]


def test_normal_paths_read_well() -> None:
    assert normal_path(["alerts", 0, "labels", "alert-name"]) == "$.alerts[0].labels['alert-name']"
