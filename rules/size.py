"""Sizes as operators write them (`500MB`, `20GB`, decimal units), kept as bytes."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SIZES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(KB|MB|GB|TB)")


def parse_size_bytes(text: object) -> int:
    """Bytes of `500MB` or `20GB` (decimal units), or of a whole number of bytes. Raises `ValueError` for anything else."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number with a unit, such as 500MB or 20GB")
    return round(float(match.group(1)) * _SIZES[match.group(2)])


def format_size(size_bytes: int) -> str | int:
    """What `parse_size_bytes` reads back to the same number."""
    for unit, factor in reversed(_SIZES.items()):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return size_bytes


Size = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": f"^{_SIZE.pattern}$"}, {"type": "integer", "minimum": 0}]}
    ),
]
"""Bytes in Python, text with a unit in YAML and JSON."""
