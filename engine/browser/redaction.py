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
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import html5
from io import BytesIO
from typing import Any, Final

import msgspec
import re2

from engine.browser.wire import ARTIFACT_BYTES
from evaluators.observation import Artifact
from rules.redaction import hidden_text
from rules.secret import HIDDEN_LEAST, REDACTED, hidden_forms, is_secret_name

MOST_UNPACKED_BYTES: Final = 32 << 20
MOST_ENTRIES: Final = 2000
MOST_JSON_BYTES: Final = 4 << 20
"""Of one document: read, it takes many times as much, and nothing else is done meanwhile."""
MOST_SIDE: Final = 16_384  # pixels
TYPES: Final = {
    "jpg": "image/jpeg",
    "zip": "application/zip",
    "har": "application/json",
    "html": "text/html; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
FILE: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,63}}\.({'|'.join(TYPES)})", re.ASCII)
_LINES: Final = ("trace.trace", "trace.network", "trace.stacks")
_RESOURCE: Final = re.compile(rb"[0-9a-f]{40}")
_ENTRY: Final = re.compile(
    rf"{'|'.join(_LINES)}|resources/{_RESOURCE.pattern.decode()}(?:\.\w{{1,20}})?|screencast/[\w@.-]{{1,120}}",
    re.ASCII,
)
_PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others Python unpacks all at once
_DATA: Final = (".json", ".txt", ".dat")
_SEEN: Final = (
    *(".png", ".jpeg", ".jpg", ".gif", ".webp", ".avif", ".ico"),
    ".woff",
    ".woff2",
    ".ttf",
    ".otf",
)
_PIECE: Final = 200
"""Characters of a secret that are looked for at once: of a key in PEM, each part."""
_PATTERN: Final = 50_000
_MOST_PATTERNS: Final = 2_000_000
_MEMORY: Final = 16 << 20  # for one of RE2's
_BACKSLASH: Final = r"(?:\\|%(?:25)*5[cC])"
_AMP, _SHARP, _SEMICOLON = r"(?:&|%(?:25)*26)(?:amp;)*", "(?:#|%(?:25)*23)", "(?:;|%(?:25)*3[bB])"
_CUT: Final = r"(?:\xe2\x80\xa6|\xef\xbf\xbd|\\+u2026|&hellip;|\z)"
_HIDDEN: Final = REDACTED.encode()
_NAMED: Final = (
    r"(?i)((?:\A|[?&;#]|%(?:25)*(?:3f|26|23))(?:[\w.%\[\]-]*(?:auth|bearer|cookie|token|secret|passw|passphrase|pwd|session"
    r"|credential|signature)[\w.%\[\]-]*|[\w.%\[\]-]*(?:[_.-]pass|key))(?:=|%(?:25)*3d))[^&#\"'\s<>\\]+"
)
"""Of a URL or form, or of one in another: what `rules.secret.is_secret_name` says of names."""

Matchers = tuple[Any, ...]

_decode = msgspec.json.decode
_encode = msgspec.json.encode


def redacted(artifact: Artifact, secrets: tuple[str, ...]) -> Artifact | None:
    """Without `secrets` (`rules.secret.hidden_forms`); None where that cannot be told, such as of an archive that is none.

    Takes CPU, up to some seconds: call it in a thread.
    """
    named = FILE.fullmatch(artifact.name)
    if named is None or len(artifact.data) > ARTIFACT_BYTES:
        return None
    made: dict[str, Callable[[bytes, Matchers], bytes | None]]
    made = {"jpg": _picture, "zip": _trace, "har": _har, "txt": _console}
    try:
        data = made.get(named[1], _text)(artifact.data, _matchers(secrets))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None  # no picture, no JSON, other JSON than it should be, nested too deeply
    return Artifact(artifact.name, TYPES[named[1]], data) if data and len(data) <= ARTIFACT_BYTES else None


def _picture(data: bytes, _: Matchers) -> bytes | None:
    from PIL import Image, UnidentifiedImageError  # which few need

    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as picture:
            return data if max(picture.size) <= MOST_SIDE else None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError):
        return None


def _text(data: bytes, hidden: Matchers) -> bytes:
    return _without(data.decode("utf-8", "replace").encode(), hidden)


def _console(data: bytes, hidden: Matchers) -> bytes:  # `named` would take ports for passwords
    return hidden_text(_text(data, hidden).decode(), named=False).encode()


def _without(text: bytes, hidden: Matchers) -> bytes:
    for one in hidden:
        text = one.sub(_HIDDEN, text)
    found: bytes = _named().sub(rb"\1" + _HIDDEN, text)
    return found


# ---- JSON


def _har(data: bytes, hidden: Matchers) -> bytes:
    document = _read(data)
    for entry in document["log"]["entries"]:
        entry.pop("_webSocketMessages", None)
        for name in ("text", "encoding"):
            entry["response"]["content"].pop(name, None)
        if post := entry["request"].get("postData"):
            post["text"] = hidden_text(str(post.get("text", "")))
    return _written(document, hidden)


def _read(data: bytes) -> Any:
    if len(data) > MOST_JSON_BYTES:
        raise ValueError("too large")
    return _decode(data)


def _written(document: Any, hidden: Matchers) -> bytes:
    """Without secrets; raises `ValueError` where it is no JSON then: one began or ended in the middle of an escape."""
    _blank(document)
    made = _without(_encode(document), hidden)
    _decode(made, type=msgspec.Raw)
    return made


def _blank(value: Any, *, is_cookie: bool = False) -> None:
    """Empty headers, cookies and fields that are called like a secret."""
    if isinstance(value, dict):
        name, kind = value.get("name"), value.get("type")
        is_field = isinstance(kind, str) and kind.lower() == "password"
        if is_cookie or is_field or (isinstance(name, str) and is_secret_name(name)):
            for key in ("value", "content", "__playwright_value_"):
                if isinstance(value.get(key), str):
                    value[key] = REDACTED
        for key, inner in value.items():
            _blank(inner, is_cookie=key == "cookies")
    elif isinstance(value, list):
        for inner in value:
            _blank(inner, is_cookie=is_cookie)


# ---- traces


def _trace(data: bytes, hidden: Matchers) -> bytes | None:
    """The archive written anew, of what belongs in one."""
    entries = dict(_unpacked(data))
    if "trace.trace" not in entries:
        return None
    renamed, kept = dict[bytes, bytes](), dict[str, bytes]()
    now: bytes | None
    for name in sorted(entries, key=_LINES.__contains__):  # what names the resources comes last
        now = was = entries.pop(name)
        if name in _LINES:
            now = b"\n".join(_lines(was, hidden, renamed))
        elif name.startswith("screencast/"):
            now = None if hidden else was
        elif (now := _resource(name, was, hidden)) not in (was, None):
            # Its name is the hash of what it was, and could be tried.
            renamed[name[10:50].encode()] = hashlib.sha1(now, usedforsecurity=False).hexdigest().encode()
        if now is not None:
            kept[_named_anew(name.encode(), renamed).decode()] = now
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name, body in kept.items():
            archive.writestr(name, body)
    return made.getvalue()


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Raises `ValueError` for what is no archive, or too large a one."""
    if data.count(b"PK\1\2") > MOST_ENTRIES:  # before anything is made of each
        raise ValueError("too many entries")
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = [one for one in archive.infolist() if _ENTRY.fullmatch(one.filename)]
            if sum(one.file_size for one in infos) > MOST_UNPACKED_BYTES:
                raise ValueError("too large")
            for one in infos:
                if one.compress_type in _PACKED:
                    with archive.open(
                        one
                    ) as body:  # asked for all, it would unpack more than it said there is
                        yield one.filename, body.read(one.file_size)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as wrong:
        raise ValueError(str(wrong)) from None


def _resource(name: str, body: bytes, hidden: Matchers) -> bytes | None:
    """Text without secrets. Of other bytes nobody can tell, so where there are secrets only pictures and fonts are kept."""
    try:
        if b"\0" not in body:  # as in UTF-16
            text = _without(body.decode().encode(), hidden)
            return hidden_text(text.decode()).encode() if name.endswith(_DATA) else text
    except UnicodeDecodeError:
        pass
    is_kept = not hidden or (name.endswith(_SEEN) and not any(one.search(body) for one in hidden))
    return body if is_kept else None


def _lines(body: bytes, hidden: Matchers, renamed: dict[bytes, bytes]) -> Iterator[bytes]:
    for line in filter(None, body.split(b"\n")):
        with suppress(ValueError, msgspec.MsgspecError, RecursionError):  # the rest does without it
            yield _named_anew(_written(_read(line), hidden), renamed)


def _named_anew(text: bytes, renamed: dict[bytes, bytes]) -> bytes:
    return _RESOURCE.sub(lambda name: renamed.get(name[0], name[0]), text) if renamed else text


# ---- secrets in all their forms


@lru_cache(maxsize=1)
def _named() -> Any:
    return _compiled(_NAMED)


@lru_cache(maxsize=4)  # the files of a run, of as many as are told at once
def _matchers(secrets: tuple[str, ...]) -> Matchers:
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
    options.encoding, options.log_errors, options.max_mem = re2.Options.Encoding.LATIN1, False, _MEMORY
    return re2.compile(pattern.encode(), options)


def _forms(secret: str) -> Iterator[str]:
    size = -(-len(secret) // -(-len(secret) // _PIECE)) if secret else 1  # pieces of one size
    for at in range(0, len(secret), size):
        piece = secret[at : at + size]
        letters = [_letter(one) for one in piece]
        if not piece.strip() or len("".join(piece.splitlines())) < HIDDEN_LEAST:
            continue
        yield "".join(letters)
        rest = ""
        for letter in reversed(letters[HIDDEN_LEAST:]):
            rest = f"(?:{letter}{rest})?"
        yield "".join(letters[:HIDDEN_LEAST]) + rest + _CUT
    written = secret.replace("\\", r"\\").replace('"', r"\"")  # as in JSON
    codings = ("utf-8", "latin-1") if max(secret, default="") < "\u0100" else ("utf-8",)
    for raw in {text.encode(coding, "surrogatepass") for text in (secret, written) for coding in codings}:
        for shift in range(3):
            coded = base64.b64encode(bytes(shift) + raw).decode()
            own = coded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]  # depends on nothing but the secret
            if len(own) >= HIDDEN_LEAST:
                yield "".join(
                    {"+": rf"(?:-|{_letter('+')})", "/": f"(?:_|{_letter('/')})"}.get(c, c) for c in own
                )


@lru_cache(maxsize=512)
def _letter(letter: str) -> str:
    """One character in all the ways in which it may be written."""
    if letter.isascii() and letter.isalnum():
        return letter
    if letter in "\r\n":  # a field of one line has none of them
        return rf"(?:[\r\n]|{_BACKSLASH}+(?:[rn]|u000[aAdD])|%(?:25)*0[aAdD]|&(?:amp;)*#(?:1[03]|[xX]0*[aAdD]);)*"
    code, utf8 = f"{ord(letter):x}", letter.encode("utf-8", "surrogatepass")
    utf16 = letter.encode("utf-16-be", "surrogatepass")
    ways = [
        _bytes(utf8),
        _bytes(utf8.decode("latin-1").encode()),  # read as what it is not
        "".join(f"%(?:25)*{_hex(f'{byte:02x}')}" for byte in utf8),
        rf"{_BACKSLASH}*".join(f"u{_hex(utf16[at : at + 2].hex())}" for at in range(0, len(utf16), 2)),
        rf"[uU]\{{?0*{_hex(code)}\}}?",
        f"{_AMP}(?:{_SHARP}(?:0*{ord(letter)}|[xX]0*{_hex(code)}){''.join(f'|{n}' for n in _entities()[letter])}){_SEMICOLON}",
    ]
    if len(code) < 3:
        ways += [rf"x{_hex(f'{ord(letter):02x}')}", rf"\x{ord(letter):02x}", f"%{_hex(f'{ord(letter):02x}')}"]
    ways += {" ": [r"\+", r"\xc2\xa0", "&nbsp;"], "\t": ["t"]}.get(letter, [])
    return f"{_BACKSLASH}*(?:{'|'.join(ways)})"


@lru_cache(maxsize=1)
def _entities() -> defaultdict[str, list[str]]:
    """How HTML names each character."""
    names = defaultdict[str, list[str]](list)
    for name, letter in html5.items():
        if name.endswith(";"):
            names[letter].append(name[:-1])
    return names


def _bytes(text: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in text)


def _hex(digits: str) -> str:
    return "".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in digits)
