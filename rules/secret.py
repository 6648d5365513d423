"""References to secrets, `${env:NAME}`: kept as written everywhere, replaced only where the value is used."""

import re
from collections.abc import Iterator, Mapping

_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


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
