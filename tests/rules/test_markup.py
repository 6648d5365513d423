"""XPath and CSS: what is refused when it is written, and documents that may not hold anybody up."""

import re
from typing import Any

import pytest

from rules.markup import MAX_DEPTH, MAX_ELEMENTS, compile_css, compile_xpath, parse_xml
from rules.selection import BudgetError, UnreadableError

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("//a[", "is not an XPath 1.0 expression"),
        ("//a//b", "searches twice"),
        ("/a//b", "searches twice"),
        ("//a[.//b]", "searches twice"),
        ("//a[//b]", "searches twice"),
        ("count(//a) + count(//b)", "searches twice"),
        ("//a/following-sibling::b", "has ::"),
        ("//a/..", "has .."),
        ("//a | /b", "has |"),
        ("$x", "has $"),
        ("//a[b = c]", "compares two paths"),
        ("//a[/r]", "goes back to the document"),
        ("//a[count(/r) > 1]", "goes back to the document"),
        ("id('x')", "calls id()"),
        ("re:test('a', 'b')", "calls re:test()"),
        ("translate(//a, 'a', 'b')", "calls translate()"),
        ("/a" + "[b]" * 9, "has 9 conditions"),
    ],
)
def test_an_xpath_that_no_budget_could_bound_is_refused(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        compile_xpath(path)


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("a[", "is not a CSS selector"),
        ("", "is not a CSS selector"),
        ("a:has(b)", ":has cannot be asked"),
        ("a:last-child", ":last-child cannot be asked"),
        ("a:hover", ":hover cannot be asked"),
        ("a:nth-of-type(2)", ":nth-of-type cannot be asked"),
        ("a::before", "asks for a pseudo-element"),
        (":not(a b)", "stands one element"),
        (":nth-child(x)", "takes a number"),
        ("a " * 25, "too many parts"),
        ("a," * 24 + "a", "too many parts"),
        (":not(" * 300 + "a" + ")" * 300, "nested too deeply|is not a CSS selector"),
    ],
)
def test_a_selector_that_cannot_be_asked_is_refused(selector: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compile_css(selector, None)


def entities(count: int) -> str:
    """The billion laughs."""
    declared = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, count))
    return f'<!DOCTYPE r [<!ENTITY e0 "ha">{declared}]>'


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param("<a>" * 100_000, "not XML", id="too deep for the parser"),
        pytest.param("<r>" + "<a>" * 150 + "</a>" * 150 + "</r>", "levels", id="too deep for us"),
        pytest.param("<r>" + "<a/>" * (MIB // 4) + "</r>", "elements", id="too wide"),
        pytest.param(entities(9) + "<r>&e8;</r>", "not XML|entities", id="a billion laughs"),
        pytest.param(entities(9) + "<r x='&e8;'/>", "not XML|entities", id="a billion laughs in an attribute"),
        pytest.param("<!DOCTYPE r [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><r>&e;</r>", "entities", id="a file"),
        pytest.param("<!DOCTYPE r [<!ENTITY % e SYSTEM 'http://192.0.2.1/x'> %e;]><r/>", "not XML|entities", id="a remote subset"),
        pytest.param("", "not XML", id="nothing"),
        pytest.param("<r>\x00</r>", "not XML", id="NUL"),
    ],
)  # fmt: skip
def test_a_hostile_document_is_told_and_not_read(document: str, said: str) -> None:
    with pytest.raises((BudgetError, UnreadableError), match=said):
        parse_xml(document.encode())


def test_a_document_type_alone_is_no_harm() -> None:
    root = parse_xml(b"<!DOCTYPE r SYSTEM 'http://192.0.2.1/r.dtd'><r><a>1</a></r>")
    assert compile_xpath("//a")(root, None) == ["1"]


def test_values_are_texts_and_nothing_of_the_document() -> None:
    root = parse_xml(b"<r><a>x</a><a y='1'/></r>")
    found = [*compile_xpath("//a")(root, None), *compile_xpath("//a/text()")(root, None)]
    assert {type(value) for value in [*found, *compile_xpath("string(//a)")(root, None)]} == {str}


def test_more_values_than_are_compared_can_still_be_counted() -> None:
    xml, html = "<r>" + "<a>x</a>" * 5000 + "</r>", "<p>x" * 5000
    for find, document in ((compile_xpath("//a"), parse_xml(xml.encode())), (compile_css("p", None), html)):
        assert len(find(document, 0)) == 5000
        assert find(document, 1)[:2] == ["x", None]
        with pytest.raises(BudgetError, match="5000 values are found"):
            find(document, None)


@pytest.mark.parametrize(
    ("document", "selector", "found"),
    [
        pytest.param("<a>" * (MIB // 3), "a b c", None, id="deep"),
        pytest.param("<i></i>" * (MIB // 7), "i ~ i", None, id="wide"),
        pytest.param("<b><p>" * (MIB // 6), "q", None, id="formatting that would be built again and again"),
        pytest.param("<r " + " ".join(f"a{n}=1" for n in range(100_000)) + ">", "r", 1, id="attributes"),
        pytest.param("<p>" + "&amp;" * (MIB // 5), "p", 1, id="references"),
        pytest.param("<!--" * (MIB // 4), "p", 0, id="comments"),
        pytest.param("<" * MIB, "b", 0, id="signs"),
        pytest.param("<a b='" * (MIB // 6), "p", 0, id="quotes that never end"),
        pytest.param("</p>" * (MIB // 4), "b", None, id="ends without a beginning"),
        pytest.param("\x00" * MIB, "p", None, id="NUL"),
        pytest.param("", "p", 0, id="nothing"),
        pytest.param("<p>" + "<i>" * 60 + "x" * (MIB - 500), "i", None, id="the same text many times"),
    ],
)
def test_a_hostile_page_is_counted_out_or_read(document: str, selector: str, found: int | None) -> None:
    try:
        values = compile_css(selector, None)(document, None)
    except BudgetError:
        assert found is None
    else:
        assert found in (None, len(values))


def test_the_budget_is_generous_for_what_people_write() -> None:
    rows: Any = "".join(f"<tr><td class=id>{n}<td>x</tr>" for n in range(MAX_ELEMENTS // 4))
    assert len(compile_css("table tr td.id", None)(f"<table>{rows}</table>", 0)) == MAX_ELEMENTS // 4
    nested = "<div>" * (MAX_DEPTH - 10) + "<b>x</b>"
    assert compile_css("div b", None)(nested, None) == ["x"]
