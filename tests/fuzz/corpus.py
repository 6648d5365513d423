"""Where fuzzing begins: seeds that reach far, and what it came by, kept in `kept/` one input per line."""

from base64 import b64decode
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "kept"
_RULES: Final = Path(__file__).parents[1] / "rules"
_DNS: Final = b"\x00\x01\x81\x80\x00\x01%b\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01%b"
_A: Final = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
_ALIAS: Final = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01b\xc0\x0e"

SEEDS: Final[dict[str, list[bytes]]] = {
    "assertion": [
        b'{of: json, path: "$.a[*]", not: {between: [1, 2]}}\0{"a": [1, 1e3, "\\u0000"]}',
        b'{of: xml, path: "//a[@b=1]/c", as: number, ge: 2}\0<a b="1"><c>2</c></a>',
        b'{of: html, path: "ul > li.x:nth-child(2n)", attribute: id, count: {ge: 1}}\0<ul><li><li class=x id=y>',
        b'{of: json, path: $, schema: {items: {type: string}}}\0["a", 1]',
        b'{of: body, matches: "(a+)+$"}\0aaaa',
        b"{of: timing.total, lt: 1s, severity: warning}\0",
    ],
    "reply": [
        b"\x07HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"\x30HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: 1\r\n\r\n",
        b"\xffHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0",
        b'\x20HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"jsonrpc": "2.0", "id": 1}\n\n',
    ],
    "dns": [_DNS % (b"\x00\x01", _A), _DNS % (b"\x00\x02", _ALIAS + _A), _DNS % (b"\x00\x00", b"")],
    "url": [
        b"http://a.example:8080/p?q#f\n//b/../c",
        "https://ä.example/ü\n/x".encode(),
        b"http://[::1%25lo]:1/\nhttp:x",
        b"http://0x7f.1/\nhttps://u:p@h/",
    ],
    "jsonpath": [b'$.a[0]["b"]\n{"a": [{"b": 1}]}', b'$..a[?@.b == "x" && length(@.c) > 1]\n[{"a": {"b": "x"}}]'],
    "event": [
        b'application/json\n{"alerts": [{"state": "DOWN", "id": 1.0, "host": "a", "at": "2026-01-02T03:04:05.1234567Z"}]}',
        b"text/plain; charset=utf-16\n\xff\xfe{\0}\0",
        b"application/x-www-form-urlencoded\npayload=%7B%22alerts%22%3A%5B1%5D%7D&host=a&host=b",
        b'multipart/form-data; boundary=b\n--b\r\nContent-Disposition: form-data; name="alerts"; filename="a"\r\n\r\n[{"id": 1}]\r\n--b--',
        b'text/plain\n{"Message": "{\\"alerts\\": [{\\"state\\": \\"0\\", \\"id\\": 1e400, \\"ends\\": 1780000000000}]}", "x": NaN}',
    ],
    "upbeat_yaml": [path.read_bytes() for path in sorted((_RULES / "bad").glob("*.yml"))],
    "xml": [b"//a[1]/@b\n<r><a b='1'/></r>", b"count(//p:a)\n<p:a xmlns:p='u'><!-- x --></p:a>", b"//e\n<!DOCTYPE e [<!ENTITY x 'y'>]><e>&x;</e>"],
    "html": [b"a > b ~ .c, #d:not([e=f])\n<a><b>1<b class=c>2", b"td:nth-child(2n+1)\n<table><tr><td>1<td>2</table>"],
    "schema": [b'{"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"pattern": "^(a+)+$"}}}\n["aaa"]', b'{"properties": {"a": {"maximum": 1}}}\n{"a": 2}'],
}  # fmt: skip


def inputs(name: str) -> list[bytes]:
    """The seeds of a target, and what was kept."""
    kept = CORPUS / f"{name}.b64"
    return [*SEEDS[name], *map(b64decode, kept.read_text().split() if kept.exists() else ())]
