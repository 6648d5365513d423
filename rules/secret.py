"""References to secrets, `${env:NAME}`: kept as written everywhere, replaced only where used, and hidden in what comes back."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

REDACTED: Final = "[redacted]"
_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|passw|session|credential|signature|key$|[-_]key\b", re.IGNORECASE
)
_LEAST: Final = 6  # shorter values would black out ordinary text


class UnsetReferenceError(Exception):
    """An `${env:NAME}` whose variable is not set in this process."""

    def __init__(self, name: str) -> None:
        super().__init__(f"${{env:{name}}} is not set; export {name} or put it in the service's environment")
        self.name = name


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`text` with each `${env:NAME}` replaced. Raises `UnsetReferenceError` naming the first variable that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environment:
            raise UnsetReferenceError(name)
        return environment[name]

    return _REFERENCE.sub(value, text)


def references(value: object) -> Iterator[str]:
    """Every variable name referred to anywhere inside a JSON-like `value`."""
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from references(inner)


def is_secret_name(name: str) -> bool:
    """Whether the value of a header or field called so is to be kept out of what is stored and shown."""
    return _SECRET_NAME.search(name) is not None


def hidden_forms(values: Iterable[str]) -> tuple[str, ...]:
    """`values` in every form in which a target or a message may repeat them, for `hide`; the longest first."""
    forms = {
        form
        for value in values
        if len(value) >= _LEAST
        for form in (value, quote(value, safe=""), repr(value)[1:-1], json.dumps(value)[1:-1])
    }
    return tuple(sorted(forms, key=len, reverse=True))


def hide(value: Any, secrets: tuple[str, ...]) -> Any:
    """JSON-like `value` without the `secrets`, nor their beginnings where a text was cut off."""
    if isinstance(value, str):
        for secret in secrets:
            value = _hidden(value, secret)
        return value
    if isinstance(value, Mapping):
        return {hide(key, secrets): hide(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide(inner, secrets) for inner in value]
    return value


def _hidden(text: str, secret: str) -> str:
    text = text.replace(secret, REDACTED)
    for length in range(len(secret) - 1, _LEAST - 1, -1):
        begun = secret[:length]
        if begun + "…" in text:
            text = text.replace(begun + "…", REDACTED + "…")
        if text.endswith(begun):
            text = text[:-length] + REDACTED
    return text
