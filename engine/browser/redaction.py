"""Takes secrets out of what a browser kept: traces, HAR files, pages. Pictures are made without them, in the sandbox.

What comes is what a sandbox said, so it is bounded and is what its name says, or it is not kept. A secret is looked for as
it is and as JSON, JavaScript, HTML, URLs and base64 write it, also mixed and more than once; headers, cookies and fields
that are called like a secret go without one.
"""

import base64
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import codepoint2name
from io import BytesIO
from typing import Any, Final

import msgspec
import re2

from evaluators.observation import Artifact
from rules.redaction import hidden_text
from rules.secret import HIDDEN_LEAST, REDACTED, hidden_forms, is_secret_name

MOST_BYTES: Final = 8 << 20
MOST_UNPACKED_BYTES: Final = 32 << 20
MOST_ENTRIES: Final = 2000
MOST_SIDE: Final = 16_384  # pixels
TYPES: Final = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "zip": "application/zip",
    "har": "application/json",
    "html": "text/html; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}\.(jpg|png|zip|har|html|txt)", re.ASCII)
_ENTRY: Final = re.compile(
    r"trace\.(?:trace|network|stacks)|(?:resources|screencast)/\w[\w@.-]{0,119}", re.ASCII
)
_LINES: Final = (".trace", ".network", ".stacks")
_DATA: Final = (".json", ".txt", ".dat")
_PIECE: Final = 200
"""Characters of a secret that are looked for at once: of a key in PEM, each part."""
_PATTERN: Final = 200_000
_MOST_PATTERNS: Final = 4_000_000
_CUT: Final = r"(?:\xe2\x80\xa6|\xef\xbf\xbd|\\+u2026|&hellip;|\z)"
_HIDDEN: Final = REDACTED.encode()
_NAMED: Final = (
    r"(?i)((?:\A|[?&;])(?:[\w.%\[\]-]*(?:auth|bearer|cookie|token|secret|passw|passphrase|pwd|session|credential|signature)"
    r"[\w.%\[\]-]*|[\w.%\[\]-]*(?:[_.-]pass|key))=)[^&#\"'\s<>\\]+"
)
"""Of a URL or form: what `rules.secret.is_secret_name` says of names."""

Matchers = tuple[Any, ...]

_decode = msgspec.json.decode
_encode = msgspec.json.encode


def redacted(artifact: Artifact, secrets: tuple[str, ...]) -> Artifact | None:
    """Without `secrets` (`rules.secret.hidden_forms`); None where that cannot be told, such as of an archive that is none.

    Takes CPU, up to some seconds: call it in a thread.
    """
    named = _NAME.fullmatch(artifact.name)
    if named is None or len(artifact.data) > MOST_BYTES:
        return None
    make: Callable[[bytes, Matchers], bytes | None] = {
        "zip": _trace,
        "har": _har,
        "html": _text,
        "txt": _console,
    }.get(named[1], _picture)
    try:
        data = make(artifact.data, _matchers(secrets))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # no picture, no JSON, other JSON than it should be, nested too deeply
    return Artifact(artifact.name, TYPES[named[1]], data) if data and len(data) <= MOST_BYTES else None


def _picture(data: bytes, _: Matchers) -> bytes | None:
    from PIL import Image, UnidentifiedImageError  # which few need

    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
            return data if max(picture.size) <= MOST_SIDE else None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError):
        return None


def _text(data: bytes, hidden: Matchers) -> bytes:
    return _without(data.decode("utf-8", "replace").encode(), hidden)


def _console(data: bytes, hidden: Matchers) -> bytes:
    return hidden_text(
        _text(data, hidden).decode(), named=False
    ).encode()  # that would take ports for passwords


def _without(text: bytes, hidden: Matchers) -> bytes:
    for one in hidden:
        text = one.sub(_HIDDEN, text)
    found: bytes = _named().sub(rb"\1" + _HIDDEN, text)
    return found


# ---- JSON


def _har(data: bytes, hidden: Matchers) -> bytes:
    document = _decode(data)
    for entry in document["log"]["entries"]:
        entry.pop("_webSocketMessages", None)
        for name in ("text", "encoding"):
            entry["response"]["content"].pop(name, None)
        if post := entry["request"].get("postData"):
            post["text"] = hidden_text(str(post.get("text", "")))
    _blank(document)
    return _checked(_encode(document), hidden)


def _checked(lines: bytes, hidden: Matchers) -> bytes:
    """Without secrets; raises `ValueError` where it is no JSON then: one began or ended in the middle of an escape."""
    made = _without(lines, hidden)
    for before, after in zip(lines.split(b"\n"), made.split(b"\n"), strict=True):
        if before != after:
            _decode(after)
    return made


def _blank(value: Any) -> None:
    """Empty headers, cookies and fields that are called like a secret."""
    if isinstance(value, dict):
        name = value.get("name")
        if isinstance(name, str) and (is_secret_name(name) or value.get("type") == "password"):
            for key in ("value", "content", "__playwright_value_"):
                if isinstance(value.get(key), str):
                    value[key] = REDACTED
        cookies = value.get("cookies")
        for cookie in cookies if isinstance(cookies, list) else ():
            if isinstance(cookie, dict):
                cookie["value"] = REDACTED
        for inner in value.values():
            if isinstance(inner, dict | list):
                _blank(inner)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                _blank(inner)


# ---- traces


def _trace(data: bytes, hidden: Matchers) -> bytes | None:
    """The archive written anew, of what belongs in one."""
    entries = dict(_unpacked(data))
    if "trace.trace" not in entries:
        return None
    renamed = dict[bytes, bytes]()
    for name, was in list(entries.items()):
        if name.startswith("screencast/") and hidden:
            del entries[name]
        elif name.startswith("resources/") and (now := _resource(name, was, hidden)) != was:
            del entries[name]
            if now is not None:  # its old name is the hash of what it was, and could be tried
                stem, _, ending = name.removeprefix("resources/").partition(".")
                renamed[stem.encode()] = hashlib.sha1(now, usedforsecurity=False).hexdigest().encode()
                entries[f"resources/{renamed[stem.encode()].decode()}.{ending}"] = now
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, body in entries.items():
            is_said = name.endswith(_LINES)
            archive.writestr(name, _lines(body, hidden, renamed) if is_said else body)
    return made.getvalue()


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Raises `ValueError` for what is no archive, or too large a one."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_ENTRIES or sum(one.file_size for one in infos) > MOST_UNPACKED_BYTES:
                raise ValueError("too large")
            for one in infos:
                if _ENTRY.fullmatch(one.filename):
                    with archive.open(one) as body:  # gives no more than the size that it said
                        yield one.filename, body.read()
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
    ) as wrong:
        raise ValueError(str(wrong)) from None


def _resource(name: str, body: bytes, hidden: Matchers) -> bytes | None:
    """What is no text is kept as it is, unless there is a secret in it."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return None if any(one.search(body) for one in hidden) else body
    return (
        hidden_text(_without(body, hidden).decode()).encode()
        if name.endswith(_DATA)
        else _without(body, hidden)
    )


def _lines(body: bytes, hidden: Matchers, renamed: dict[bytes, bytes]) -> bytes:
    kept = []
    for line in filter(None, body.split(b"\n")):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # the rest does without it
            _blank(document := _decode(line))
            kept.append(_encode(document))
    made = _checked(b"\n".join(kept), hidden)
    for before, after in renamed.items():
        made = made.replace(before, after)
    return made


# ---- secrets in all their forms


@lru_cache(maxsize=1)
def _named() -> Any:
    return _compiled(_NAMED)


@lru_cache(maxsize=8)  # the files of a run, of as many as are told at once
def _matchers(secrets: tuple[str, ...]) -> tuple[Any, ...]:
    """Find each secret in bytes, however it is written there. Raises `ValueError` for too many or too long ones."""
    derived = {form for one in secrets for form in hidden_forms((one,)) if form != one}
    plain = {one.strip() for one in secrets if one not in derived}
    groups, total = [""], 0
    for form in (form for one in sorted(plain, key=len, reverse=True) for form in _forms(one)):
        total += len(form)
        if total > _MOST_PATTERNS:
            raise ValueError("more secrets than can be looked for")
        if len(groups[-1]) + len(form) > _PATTERN:
            groups.append("")
        groups[-1] += f"|{form}" if groups[-1] else form
    return tuple(_compiled(group) for group in groups if group)


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.encoding, options.log_errors, options.max_mem = re2.Options.Encoding.LATIN1, False, 64 << 20
    return re2.compile(pattern.encode(), options)


def _forms(secret: str) -> Iterator[str]:
    size = -(-len(secret) // -(-len(secret) // _PIECE)) if secret else 1  # pieces of one size
    for at in range(0, len(secret), size):
        letters = [_letter(one) for one in secret[at : at + size]]
        if len("".join(secret[at : at + size].split())) < HIDDEN_LEAST:
            continue
        yield "".join(letters)
        rest = ""
        for letter in reversed(letters[HIDDEN_LEAST:]):
            rest = f"(?:{letter}{rest})?"
        yield "".join(letters[:HIDDEN_LEAST]) + rest + _CUT
    raw = secret.encode("utf-8", "surrogatepass")
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + raw).decode()
        own = coded[
            -(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6
        ]  # what depends on nothing but the secret
        if len(own) >= HIDDEN_LEAST:
            yield "".join(
                {"+": f"(?:-|{_letter('+')})", "/": f"(?:_|{_letter('/')})"}.get(one, one) for one in own
            )


@lru_cache(maxsize=512)
def _letter(letter: str) -> str:
    """One character in all the ways in which it may be written."""
    if letter.isascii() and letter.isalnum():
        return letter
    if letter in "\r\n":  # a field of one line has none of them
        return r"(?:[\r\n]|\\+[rn]|%(?:25)*0[aAdD]|\\+u000[aAdD]|&(?:amp;)*#(?:1[03]|[xX]0*[aAdD]);)*"
    code, utf8 = ord(letter), letter.encode("utf-8", "surrogatepass")
    utf16 = letter.encode("utf-16-be", "surrogatepass")
    units = [utf16[at : at + 2].hex() for at in range(0, len(utf16), 2)]
    name = codepoint2name.get(code, "#0")
    ways = [
        r"\\+" if letter == "\\" else rf"\\*{_bytes(utf8)}",
        _bytes(utf8.decode("latin-1").encode()),  # read as what it is not
        "".join(f"%(?:25)*{_hex(f'{byte:02x}')}" for byte in utf8),
        "".join(rf"\\+u{_hex(unit)}" for unit in units),
        rf"\\+[uU]\{{?0*{_hex(f'{code:x}')}\}}?",
        rf"&(?:amp;)*(?:#0*{code}|#[xX]0*{_hex(f'{code:x}')}|{name});",
    ]
    if code < 256:
        ways += [rf"\\+x{_hex(f'{code:02x}')}", rf"\x{code:02x}", f"%{_hex(f'{code:02x}')}"]
    ways += {" ": [r"\+", r"\xc2\xa0", "&nbsp;"], "\t": [r"\\+t"]}.get(letter, [])
    return f"(?:{'|'.join(ways)})"


def _bytes(text: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in text)


def _hex(digits: str) -> str:
    return "".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in digits)
