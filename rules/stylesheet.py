"""Style rules that operators write for their pages: what may not be in them. How they are served is the status page's."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import tinycss2

_LOADING: Final = frozenset(
    {"url", "src", "image", "image-set", "-webkit-image-set", "cross-fade", "element", "paint", "expression"}
)
_RULES: Final = frozenset(
    {"media", "supports", "container", "layer", "keyframes", "-webkit-keyframes", "property"}
)


def refused(css: str) -> str | None:
    """Why it cannot be served, with its line; None: it can. CSS Syntax Module Level 3, as browsers read it."""
    # At the end of a text everything counts as closed: one brace more is an error where it is.
    *tokens, last = tinycss2.parse_component_value_list(f"{css}\n}}")
    if last.type != "error":
        return f"line {last.source_line}: what begins there is never closed"
    for node in _nodes(tinycss2.parse_stylesheet(tokens, skip_comments=True, skip_whitespace=True)):
        if node.type == "error":
            return f"line {node.source_line}: {node.message}"
        if node.type == "url":
            return f"line {node.source_line}: url() loads something; nothing may be loaded"
        if node.type == "function" and node.lower_name in _LOADING:
            return f"line {node.source_line}: {node.lower_name}() loads something; nothing may be loaded"
        if node.type == "at-rule" and node.lower_at_keyword not in _RULES:
            return f"line {node.source_line}: @{node.at_keyword} is not allowed; allowed are {', '.join(f'@{name}' for name in sorted(_RULES))}"
    return None


def _nodes(found: Iterable[Any]) -> Iterator[Any]:
    """Everything in there, however deep; tinycss2 itself stops where nesting would be too deep."""
    waiting = deque(found)
    while waiting:
        node = waiting.popleft()
        yield node
        for inner in ("prelude", "content", "arguments"):
            waiting.extend(getattr(node, inner, None) or ())
