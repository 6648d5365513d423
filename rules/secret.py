"""References to secrets, `${env:NAME}`, `${file:/path}` and `${secret:NAME}`: kept as written everywhere, replaced only
where used, and hidden in what comes back. What they stand for is handed in as `Sources`; no file is opened here.
"""

import html
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, Final, Protocol
from urllib.parse import quote, quote_plus

REDACTED: Final = "[redacted]"
HIDDEN_LEAST: Final = 6
"""Characters a value must have to be hidden: shorter ones would black out ordinary text."""
SECRET_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,99}"  # noqa: S105 - a pattern
REFERENCE: Final = (
    rf"\$\{{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:/[^{{}}\x00-\x1f]{{1,1000}}|secret:/?{SECRET_NAME})\}}"
)
"""The one grammar. `${secret:NAME}` is of the object's home page, `${secret:/NAME}` of the installation."""
_REFERENCE: Final = re.compile(REFERENCE)
_BEGUN: Final = re.compile(r"\$\{\s*(?:env\w{0,8}|files?|secrets?)\s*:", re.IGNORECASE)
_PERCENT: Final = re.compile(r"%[0-9A-F]{2}")
_SECRET_NAME = re.compile(
    r"auth|bearer|cookie|token|secret|passw|passphrase|pwd|[_.-]pass$|session|credential|signature|key$|[-_]key\b",
    re.IGNORECASE,
)


class Sources(Protocol):
    """What references stand for where they are used: by what stands in their braces, such as `env:NAME`."""

    def __getitem__(self, reference: str, /) -> str:
        """The value. Raises `UnsetReferenceError`, or `KeyError` for one that is simply not there."""
        ...


class UnsetReferenceError(Exception):
    """A reference that stands for nothing here; the message says what to do, and never a value."""

    def __init__(self, reference: str, said: str | None = None) -> None:
        super().__init__(f"${{{reference}}} {said or _unset(reference)}")
        self.reference = reference


class UnknownHereError(UnsetReferenceError):
    """A reference that only a running server can judge."""


class Unjudged:
    """Stands for every reference: what it has, only the process that uses it knows, and nobody is to learn it here."""

    def __getitem__(self, reference: str, /) -> str:
        raise UnknownHereError(reference, "is judged where it is used")


def _unset(reference: str) -> str:
    source, _, name = reference.partition(":")
    if source == "env":
        return f"is not set; export {name} or put it in the service's environment"
    if source == "file":
        return "is not there; make the file readable for Upbeat"
    whose = " --installation" if name.startswith("/") else ""
    return f"is not stored; store it with `upbeat secrets set {name.removeprefix('/')}{whose}`"


def value_of(reference: str, sources: Sources) -> str:
    """What `reference` stands for. Raises `UnsetReferenceError`."""
    try:
        return sources[reference]
    except KeyError:
        raise UnsetReferenceError(reference) from None


def expand(text: str, sources: Sources) -> str:
    """`text` with each reference replaced, once. Raises `UnsetReferenceError` naming the first that stands for nothing."""
    return _REFERENCE.sub(lambda match: value_of(match[0][2:-1], sources), text)


def expanded(value: Any, sources: Sources) -> Any:
    """JSON-like `value` with the references in its texts replaced. Raises `UnsetReferenceError`."""
    if isinstance(value, str):
        return expand(value, sources)
    if isinstance(value, dict):
        return {key: expanded(inner, sources) for key, inner in value.items()}
    return [expanded(inner, sources) for inner in value] if isinstance(value, list) else value


def references(value: object) -> Iterator[str]:
    """What stands in the braces of every reference anywhere inside a JSON-like `value`, such as `env:NAME`."""
    if isinstance(value, str):
        yield from (match[2:-1] for match in _REFERENCE.findall(value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from references(inner)


def is_misspelt(text: str) -> bool:
    """Whether `text` begins a reference that is none."""
    return len(_BEGUN.findall(text)) > len(_REFERENCE.findall(text))


MISSPELT: Final = "a reference is written ${env:NAME}, ${file:/path}, ${secret:NAME} or, of the installation, ${secret:/NAME}"


def is_secret_name(name: str) -> bool:
    """Whether the value of a header or field called so is to be kept out of what is stored and shown."""
    return _SECRET_NAME.search(name) is not None


def hidden_forms(values: Iterable[str]) -> tuple[str, ...]:
    """`values` in every form in which a target or a message may repeat them, for `hide`; the longest first."""
    forms = {form for value in values if len(value) >= HIDDEN_LEAST for form in _forms(value)}
    return tuple(sorted(forms, key=len, reverse=True))


def _forms(value: str) -> Iterator[str]:
    written, plain = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    yield from (value, repr(value)[1:-1], html.escape(value), written, plain)
    yield from (written.replace("/", r"\/"), plain.replace("/", r"\/"))
    for coded in (
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        quote(value, safe=string.printable),
    ):
        yield from (coded, _PERCENT.sub(lambda byte: byte[0].lower(), coded))


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


def cut(text: str, most: int) -> str:
    """At most `most` characters of `text`, marked where more were cut off, so that `hide` knows."""
    return text if len(text) <= most else f"{text[:most]}…"


def _hidden(text: str, secret: str) -> str:
    text = text.replace(secret, REDACTED)
    kept, done = [], 0
    at = text.find(secret[:HIDDEN_LEAST])
    while at >= 0:
        if length := _begun(text, at, secret):
            kept += [text[done:at], REDACTED]
            done = at + length
        at = text.find(secret[:HIDDEN_LEAST], max(at + 1, done))
    return "".join([*kept, text[done:]])


def _begun(text: str, at: int, secret: str) -> int:
    """How much of the secret stands there before the text was cut off; 0 where it was not."""
    there = zip(text[at : at + len(secret)], secret, strict=False)
    length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], there))
    if at + length == len(text):
        return length
    return max(text.rfind("…", at + HIDDEN_LEAST, at + length + 1) - at, 0)
