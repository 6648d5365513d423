import pytest

from rules import markdown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        pytest.param(
            "**all** _of_ it\nnow",
            "<p><strong>all</strong> <em>of</em> it<br>\nnow</p>\n",
            id="line ends are kept",
        ),
        pytest.param("# Hi", "<h3>Hi</h3>\n", id="headings begin below those of the page"),
        pytest.param(
            "[more](https://example.com/a)",
            '<p><a href="https://example.com/a" rel="nofollow noopener">more</a></p>\n',
            id="links are not vouched for",
        ),
        pytest.param("<b onclick=x>hi</b>", "<p>&lt;b onclick=x&gt;hi&lt;/b&gt;</p>\n", id="HTML is text"),
        pytest.param("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>\n", id="no other scheme"),
        pytest.param("[x](/console)", "<p>[x](/console)</p>\n", id="no link that depends on the page"),
        pytest.param(
            "![x](https://example.com/a.png)",
            '<p>!<a href="https://example.com/a.png" rel="nofollow noopener">x</a></p>\n',
            id="an image is a link",
        ),
    ],
)
def test_html(text: str, html: str) -> None:
    assert markdown.html(text) == html


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        pytest.param("# Hi\n\n**all** `of` it\nnow", "Hi\n\nall of it\nnow", id="marks are left out"),
        pytest.param("- a\n- b\n  1. c", "- a\n- b\n  1. c", id="lists stay lists"),
        pytest.param("[more](https://e.com)", "more (https://e.com)", id="links say where they lead"),
        pytest.param("<https://e.com> <a@e.com>", "https://e.com a@e.com", id="bare links once"),
        pytest.param("```\na *b*\n```", "a *b*", id="code stays as it is"),
    ],
)
def test_plain(text: str, plain: str) -> None:
    assert markdown.plain(text) == plain


@pytest.mark.parametrize(
    "value",
    [
        "1. a",
        "# a",
        "a_b_c **x**",
        "[a](http://e.com)",
        "<b>&amp;",
        "- a",
        "---",
        "===",
        "`a`",
        "~~a~~",
        "> a",
        "\\*",
        "+ a",
        "1) a",
        "!([a](b))",
        "&#60;",
        "a\n===",
    ],
)
def test_an_escaped_value_is_shown_as_it_is(value: str) -> None:
    assert markdown.plain(markdown.escaped(value)) == value


def test_what_needs_no_escape_has_none() -> None:
    said = "auto-3 (eu) is 40 % slower: HTTP 503! {id} = 7 & more."
    assert markdown.escaped(said) == said


def test_text_that_is_too_long_is_shown_as_it_is() -> None:
    long = "*a*" * 30_000
    assert markdown.html(long) == f"<p>{long}</p>"
    assert markdown.plain(long) == long
