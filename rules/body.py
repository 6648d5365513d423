"""What a request carries: text, JSON, a form, files, base64, a `data:` URI or a JSON-RPC call, and its bytes. Sends nothing."""

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Self
from urllib.parse import unquote_to_bytes, urlencode

from pydantic import Field, JsonValue, StringConstraints, model_validator

from rules.capture import places
from rules.problem import show
from rules.secret import references
from rules.shape import Rule

BODY_MAX: Final = 262_144  # characters
_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,\s]*)*)(;base64)?,(.*)", re.DOTALL)
_KINDS: Final = ("body", "json", "form", "body_base64", "jsonrpc")

Carried = Annotated[str, StringConstraints(max_length=BODY_MAX)]
ContentType = Annotated[str, StringConstraints(max_length=200, pattern=r"^[\w.+-]+/[^\r\n\x00]+$")]
Fill = Callable[[str], str]
"""Replaces the references or the captures in a text."""


class File(Rule):
    """One file of a multipart form."""

    filename: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="The name it is sent under."
    )
    content: Carried | None = Field(default=None, description="Text, or a `data:` URI.")
    base64: Carried | None = Field(default=None, description="Its bytes, instead of `content`.")
    type: ContentType | None = Field(
        default=None, description="Its media type; that of the `data:` URI, or application/octet-stream."
    )

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if (self.content is None) == (self.base64 is None):
            raise ValueError("a file has either content or base64")
        return self


class JsonRpc(Rule):
    """A JSON-RPC 2.0 call: sent as JSON by POST; the answer must be its response, plain or in an event stream."""

    method: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="Such as tools/list."
    )
    params: dict[str, JsonValue] | list[JsonValue] | None = Field(
        default=None, description="As the method takes them."
    )
    notify: bool = Field(default=False, description="A notification: it has no id, and no response comes.")


class BodyRule(Rule):
    """What a request carries: one of these, or `files` with or without a `form`."""

    body: Carried | None = Field(
        default=None, description="Sent as UTF-8; a `data:` URI is sent as what it holds."
    )
    json_: JsonValue = Field(default=None, alias="json", description="Sent as JSON.")
    form: dict[str, Carried] | None = Field(
        default=None, max_length=200, description="Sent URL-encoded, or as multipart beside `files`."
    )
    files: dict[str, File] | None = Field(
        default=None, max_length=20, description="Sent as multipart/form-data: field to file."
    )
    body_base64: Carried | None = Field(default=None, description="Sent as the bytes it stands for.")
    jsonrpc: JsonRpc | None = Field(default=None, description="A JSON-RPC 2.0 call.")

    @model_validator(mode="after")
    def _carries_one_thing(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, "json_" if kind == "json" else kind) is not None]
        if self.files is not None and "form" not in given:
            given.append("files")
        if len(given) > 1 or (self.files is not None and given not in (["form"], ["files"])):
            raise ValueError(
                f"a request carries one of {', '.join(_KINDS)} and files; this one has {', '.join(given)}"
            )
        files = dict.fromkeys(self.files or (), "")
        filled([self.body, self.json_, self.form, files, self.jsonrpc and self.jsonrpc.params], _expect_text)
        for name, text in (
            ("body_base64", self.body_base64),
            *((f"files.{field}", file.base64) for field, file in (self.files or {}).items()),
        ):
            if text is not None and "${" not in text:
                _unbase64(name, text)
        return self


def _expect_text(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a body with NUL in it is written as body_base64")
    return text


def carried(rule: BodyRule, fill: Fill, rpc_id: int) -> dict[str, Any]:
    """What `rule` carries as a JSON-like value of one key, every text in it `fill`ed. Empty where it carries nothing."""
    if rule.jsonrpc is not None:
        call: dict[str, Any] = {"jsonrpc": "2.0", "method": rule.jsonrpc.method}
        if rule.jsonrpc.params is not None:
            call["params"] = rule.jsonrpc.params
        if not rule.jsonrpc.notify:
            call["id"] = rpc_id
        return {"json": filled(call, fill)}
    if rule.files is not None:
        files = {field: file.model_dump() for field, file in rule.files.items()}
        return {"files": filled(files, fill), "form": filled(rule.form or {}, fill)}
    kinds = {"body": rule.body, "json": rule.json_, "form": rule.form, "base64": rule.body_base64}
    return {kind: filled(value, fill) for kind, value in kinds.items() if value is not None}


def filled(value: Any, fill: Fill) -> Any:
    """JSON-like `value` with every text in it `fill`ed, but for keys. Raises `ValueError` for a key that asks for it."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, Mapping):
        return {_literal(key): filled(inner, fill) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, fill) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number that JSON has")
    return value


def _literal(key: str) -> str:
    # Who may use which reference is judged by values.
    if any(references(key)) or any(places(key)):
        raise ValueError(f"{show(key)} is a key; references and captures stand in values")
    return key


def encoded(content: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """What `carried` found as bytes, with its media type where it has one. Raises `ValueError` for what is no base64."""
    match content:
        case {"body": text}:
            return _text(text)
        case {"json": value}:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
        case {"files": files, "form": form}:
            return _multipart(form, files)
        case {"form": form}:
            return urlencode(form).encode(), "application/x-www-form-urlencoded"
        case {"base64": text}:
            return _unbase64("body_base64", text), "application/octet-stream"
    return b"", None


def _text(text: str) -> tuple[bytes, str | None]:
    if not text.startswith("data:") or (uri := _DATA_URI.fullmatch(text)) is None:
        return text.encode(), None
    media, parameters, is_base64, data = uri.groups()
    body = unquote_to_bytes(data)
    return _unbase64("the data: URI", body) if is_base64 else body, (media or "text/plain") + parameters


def _unbase64(name: str, text: str | bytes) -> bytes:
    try:
        return base64.b64decode(
            re.sub(rb"\s", b"", text if isinstance(text, bytes) else text.encode()), validate=True
        )
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None


def _multipart(form: Mapping[str, str], files: Mapping[str, Mapping[str, Any]]) -> tuple[bytes, str]:
    parts: list[tuple[str, str | None, bytes]] = [
        (f'name="{_quoted(field)}"', None, value.encode()) for field, value in form.items()
    ]
    for field, file in files.items():
        if file["base64"] is not None:
            content, media = _unbase64(f"files.{field}", file["base64"]), None
        else:
            content, media = _text(file["content"])
        disposition = f'name="{_quoted(field)}"; filename="{_quoted(file["filename"])}"'
        parts.append((disposition, file["type"] or media or "application/octet-stream", content))
    # Of the content itself, so that a boundary cannot be part of it and the same beat sends the same bytes.
    boundary = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    body = b""
    for disposition, type_, content in parts:
        head = f"--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n"
        if type_ is not None:
            head += f"content-type: {type_}\r\n"
        body += f"{head}\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _quoted(name: str) -> str:
    """As browsers write it (WHATWG HTML, multipart form data)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
