"""Selecting values from JSON: RFC 9535 JSONPath, bounded when it is written; definite paths become plain getters."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from jsonpath_rfc9535 import JSONPathEnvironment, JSONPathError

MAX_PATH_LENGTH: Final = 1000

# A definite path names one value and needs no engine: $.a.b[0]['c']
_DEFINITE = re.compile(r"""^\$(?:\.[A-Za-z_][A-Za-z0-9_]*|\[\d{1,9}\]|\['[^'\\]*'\]|\["[^"\\]*"\])*$""")
_STEP = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d{1,9})\]|\['([^'\\]*)'\]|\["([^"\\]*)"\]""")

Select = Callable[[Any], list[Any]]
"""All values a path names in a document, in order; an empty list where there is none."""


class _Environment(JSONPathEnvironment):
    max_recursion_depth = 100

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        # Their regular expressions backtrack without bound; `matches` runs on RE2 instead.
        for name in ("match", "search"):
            self.function_extensions.pop(name, None)


@lru_cache(maxsize=4096)
def compile_path(path: str) -> Select:
    """The compiled `path`. Raises `ValueError` saying where the path is wrong."""
    if len(path) > MAX_PATH_LENGTH:
        raise ValueError(f"the path has {len(path)} characters; {MAX_PATH_LENGTH} are allowed")
    if _DEFINITE.match(path):
        return _getter(path)
    try:
        query = _Environment().compile(path)
    except JSONPathError as wrong:
        raise ValueError(f"{path!r} is not a JSONPath (RFC 9535): {wrong}") from None

    def select(document: Any) -> list[Any]:
        try:
            return [node.value for node in query.find(document)]
        except (JSONPathError, RecursionError):
            return []  # too deep to walk: it selects nothing, and the assertion fails as missing

    return select


def _getter(path: str) -> Select:
    steps = tuple(
        int(index) if index else name or quoted or double
        for name, index, quoted, double in _STEP.findall(path)
    )

    def select(document: Any) -> list[Any]:
        value = document
        for step in steps:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    return []
            elif not isinstance(value, dict) or step not in value:
                return []
            value = value[step]
        return [value]

    return select
