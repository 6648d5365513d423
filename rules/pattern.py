"""Regular expressions: RE2 only, so that no text makes them slow. How much one may cost is `rules.selection`'s."""

from typing import Any

import re2


def compile_pattern(pattern: str) -> Any:
    """An RE2 matcher. Raises `ValueError` for what RE2 refuses (look-around, back-references, too large)."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as refused:
        reason = refused.args[0].decode() if isinstance(refused.args[0], bytes) else refused.args[0]
        raise ValueError(f"{pattern!r} is not an RE2 regular expression: {reason}") from None
