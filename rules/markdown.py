"""Markdown as people write it in public: to HTML that is safe to show, to plain text, and values as they are meant. Renders no templates.

CommonMark with struck out text; line ends are kept. No raw HTML, no images; links lead to http, https and
mailto only. What comes out is cleaned again by nh3, so that a mistake of the parser is none of the page.
"""

import html as escaping
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_TEXT: Final = 25_000
"""Characters that are read as Markdown, some 10 µs each where they are hostile; longer text is shown as it is."""
_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_TAGS: Final = {
    "p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "h3", "h4", "h5", "h6",
}  # fmt: skip
_SPECIAL: Final = re.compile(
    r"(?m)^([ \t]*)([#+\-=>])|[\\`*_\[\]<|~]|&(?=#?\w)|(?<=\d)[.)](?=\s|$)"  # some only where a line begins
)

_BREAKING: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def _is_allowed(url: str) -> bool:
    return url.strip().partition(":")[0].lower() in _SCHEMES


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20})
    parser.enable("strikethrough").disable(["image", "html_block", "html_inline", "reference"])
    parser.validateLink = _is_allowed  # type: ignore[method-assign]
    return parser


_PARSER: Final = _parser()


@lru_cache(maxsize=256)  # a page is made anew every second, of the same texts
def html(text: str) -> str:
    """`text` as HTML that may stand in a page as it is. Its headings begin at h3: those above are the page's."""
    if len(text) > MAX_TEXT:
        return as_html(text)
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    made = _PARSER.renderer.render(tokens, _PARSER.options, {})
    return nh3.clean(
        made,
        tags=_TAGS,
        attributes={"*": set(), "a": {"href"}},
        url_schemes=set(_SCHEMES),
        link_rel="nofollow noopener",
    )


def as_html(text: str) -> str:
    """`text` that is no Markdown, likewise."""
    return f"<p>{escaping.escape(text)}</p>"


@lru_cache(maxsize=256)  # several publishers are told the same
def plain(text: str) -> str:
    """`text` without its marks, for whoever shows none: links are followed by where they lead."""
    if len(text) > MAX_TEXT:
        return text
    lines: list[str] = []
    depth, begins = 0, ""
    for token in _PARSER.parse(text):
        if token.type.endswith("_list_open"):
            depth += 1
        elif token.type.endswith("_list_close"):
            depth -= 1
        elif token.type == "list_item_open":
            begins = f"{'  ' * (depth - 1)}{f'{token.info}.' if token.info else '-'} "
        elif token.type in ("inline", "fence", "code_block"):
            said = token.content.rstrip("\n") if token.children is None else _inline(token.children)
            lines += [""] if lines and not begins else []
            lines.append(begins + said)
            begins = ""
    return "\n".join(lines)


def _inline(tokens: Iterable[Token]) -> str:
    parts: list[str] = []
    leads: list[tuple[str, int]] = []
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type == "link_open":
            leads.append((str(token.attrGet("href")), len(parts)))
        elif token.type == "link_close":
            url, since = leads.pop()
            if url not in ("".join(parts[since:]), f"mailto:{''.join(parts[since:])}"):
                parts.append(f" ({url})")
        else:
            parts.append(token.content)
    return "".join(parts)


def escaped(value: str) -> str:
    """`value` so that Markdown shows it as it is."""
    return _SPECIAL.sub(lambda found: f"{found[1]}\\{found[2]}" if found[2] else f"\\{found[0]}", value)


def one_line(value: str) -> str:
    """`value` without line ends, control characters and halves of pairs, which could pretend to be something else."""
    return _BREAKING.sub(" ", value).strip()
