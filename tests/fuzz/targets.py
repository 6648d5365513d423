"""What is fuzzed: functions of bytes that raise only where the code under test has a bug. Used by hypothesis and by atheris."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from engine.probes.encoding import decode
from engine.probes.message import Question, ask_for, read, to_wire
from engine.probes.reply import Reply1
from engine.probes.trouble import TroubleError
from evaluators import event as received
from evaluators.assess import assess
from evaluators.matching import Matcher
from evaluators.observation import Observation
from rules import config, markup, node
from rules.assertion import Assertion
from rules.beat import BEAT
from rules.check import compile_check
from rules.kinds.http import HttpCheck
from rules.problem import ConfigError
from rules.schema import compile_schema
from rules.selection import BudgetError, UnreadableError, compile_path
from rules.shape import written
from rules.target import parse_target, request_url
from rules.trigger import Trigger

BEAT_URL: Final = {"type": "http", "slug": "h", "url": "http://a.example/"}


def assertion(data: bytes) -> None:
    """YAML of one assertion, then after a NUL the body of an answer it is judged by."""
    text, _, body = data.partition(b"\0")
    try:
        given = node.read(text.decode("utf-8", "replace"), "fuzz")[0].plain()
        model = Assertion.model_validate(given)
        check = compile_check(BEAT.validate_python({**BEAT_URL, "assertions": [written(model)]}), {})
    except (ConfigError, ValidationError):
        return
    assert isinstance(check, HttpCheck)
    assert Assertion.model_validate(written(model)) == model
    outcomes = assess(check, Observation(status=200, body=body, size_bytes=len(body)))[1]
    assert b"\\u0000" not in msgspec.json.encode(outcomes).replace(
        b"\\\\", b""
    )  # a NUL, and no text about one


def reply(data: bytes) -> None:
    """The answer to an HTTP/1.1 request, in parts of the size the first byte says."""
    size = max(1, data[0]) if data else 1
    parts = [data[at : at + size] for at in range(1, len(data), size)]
    got = Reply1(keeps_body=True, events=2, rpc_id=1)
    try:
        _run(got.speak(_Wire(parts), None, b""))  # type: ignore[arg-type]
        decode(got.body, got.fields.get("content-encoding", ""))
    except TroubleError:
        return
    assert got.is_done
    Observation(headers=got.headers, body=got.body).text()


class _Wire:
    """A connection on which `parts` come and then the end."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts

    async def send(self, data: bytes) -> None:
        """Nobody listens."""

    async def receive(self) -> bytes:
        return self._parts.pop(0) if self._parts else b""

    receive_more = receive


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Without a loop: nothing here waits for anything but its turn."""
    try:
        while True:
            work.send(None)
    except StopIteration:
        pass


def dns(data: bytes) -> None:
    """The answer to a question for the address of a.example."""
    asked = ask_for(to_wire("a.example"), "A")
    question = Question(asked.name, asked.type, b"\x00\x01" + asked.wire[2:])
    try:
        answer = read(question, data)
        assert answer.rcode_text
        answer.chain(question)
    except TroubleError:
        return


def url(data: bytes) -> None:
    """A URL, and one that a redirect leads to from it."""
    first, _, second = data.decode("utf-8", "replace").partition("\n")
    try:
        target = parse_target(request_url(first))
        again = parse_target(target.url)
        assert (again.host, again.port, again.path) == (target.host, target.port, target.path)
        parse_target(second, target)
    except ValueError:
        return


def jsonpath(data: bytes) -> None:
    """A path, then after a line break the document it is followed in."""
    path, _, document = data.partition(b"\n")
    try:
        select = compile_path(path.decode("utf-8", "replace"))
        select(msgspec.json.decode(document))
    except (ValueError, RecursionError, BudgetError):
        return


_TRIGGER: Final = Matcher(
    Trigger.model_validate(
        {
            "slug": "t",
            "inbox": "i",
            "target": {"beat": "b"},
            "unwrap": ["$.Message", "$..payload"],
            "each": "$..alerts[*]",
            "values": {"host": {"value": "text", "matches": "host=([a-z]+)", "or": ["$.host"]}},
            "critical": {
                "any": [{"value": "$.state", "as": "lower", "eq": "down"}, {"value": "$..a", "changed": True}]
            },
            "recovery": {"value": "$.state", "as": "number", "between": [0, 1]},
            "fingerprint": "{value:host}/{$.id}",
            "time": ["$.ends", "$.at"],
            "message": "{$} {text}",
        }
    )
)


def event(data: bytes) -> None:
    """A content type, then after a line break the body."""
    kind, _, body = data.partition(b"\n")
    headers = (("Content-Type", kind.decode("latin-1")),)
    document = received.read(received.Event("e", 1.8e9, headers, "", body))
    _TRIGGER.match(document, 1.8e9, lambda _: {}, is_traced=True)


def upbeat_yaml(data: bytes) -> None:
    """An `upbeat.yaml`."""
    try:
        config.parse(data.decode("utf-8", "replace"), "upbeat.yaml", {})
    except ConfigError:
        return


def xml(data: bytes) -> None:
    """An XPath, then after a line break the document."""
    path, _, document = data.partition(b"\n")
    try:
        found = markup.compile_xpath(path.decode("utf-8", "replace"))(markup.parse_xml(document), None)
    except (ValueError, BudgetError, UnreadableError):
        return
    assert all(type(value) in (str, float, bool) for value in found)


def html(data: bytes) -> None:
    """A selector, then after a line break the page."""
    selector, _, page = data.decode("utf-8", "replace").partition("\n")
    try:
        found = markup.compile_css(selector, None)(page, None)
    except (ValueError, BudgetError):
        return
    assert all(type(value) is str for value in found)


def schema(data: bytes) -> None:
    """A JSON Schema, then after a line break the value."""
    rule, _, value = data.partition(b"\n")
    try:
        compiled, read_value = (
            compile_schema(msgspec.json.decode(rule, type=dict)),
            msgspec.json.decode(value),
        )
        fits = compiled.fits(read_value)
    except (ValueError, BudgetError, RecursionError):
        return
    assert fits or compiled.misfit(read_value)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (assertion, reply, dns, url, jsonpath, event, upbeat_yaml, xml, html, schema)
}
