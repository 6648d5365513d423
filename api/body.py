"""JSON in and out: strict parsing, mistakes as JSON Pointers in the words of the rules, fast answers. It knows no route."""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.problems import ProblemError, invalid
from rules.node import Node
from rules.shape import Rule
from rules.validation import check

MAX_DEPTH: Final = 50
MAX_INTEGER: Final = 2**63 - 1

R = TypeVar("R", bound=Rule)
E = TypeVar("E", bound=Callable[..., Any])


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as JSON; datetimes as RFC 3339 in UTC."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


def takes(model: type[Rule] | Any) -> Callable[[E], E]:
    """Document what a route's body is; `read_body` is what checks it."""

    def declare(endpoint: E) -> E:
        endpoint.body = model  # type: ignore[attr-defined]
        return endpoint

    return declare


async def read_body(request: Request, model: type[R]) -> R:
    """The body as a `model`. An empty one is `{}`. Raises 400, 413, 415, 422."""
    document = await read_json(request)
    return validated(model, {} if document is None else document)


async def read_json(request: Request) -> Any:
    """The JSON body, or None when there is none. Raises 400 for anything that is no JSON or cannot be kept."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    raw = await request.body()
    if not raw:
        return None
    if kind not in ("application/json", "application/merge-patch+json"):
        raise ProblemError(415, "media-type", "send application/json")
    try:
        document = msgspec.json.decode(raw)
        _refuse_unkeepable(document, 0)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as wrong:
        said = "it is nested too deeply" if isinstance(wrong, RecursionError) else str(wrong)
        raise ProblemError(400, "malformed", f"the body is not JSON that can be kept: {said}") from None
    return document


def _refuse_unkeepable(value: Any, depth: int) -> None:
    """What PostgreSQL or arithmetic could not take: deep nesting, NUL, infinite floats, integers beyond 64 bits."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unkeepable(key, depth)
            _refuse_unkeepable(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unkeepable(inner, depth + 1)
    elif isinstance(value, str) and "\x00" in value:
        raise ValueError("a text has the character NUL in it")
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError("a whole number is beyond 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is too large")


def validated(model: type[R], document: Any) -> R:
    """`document` as a `model`. Raises 422 with every mistake at its JSON Pointer."""
    pointers: list[str] = []
    node = _node(document, "", pointers)
    rule, problems = check(model, node, "", document)
    if rule is not None:
        return cast("R", rule)
    errors = []
    for problem in problems:
        pointer = pointers[problem.line]
        lost = problem.path.removeprefix(pointer).lstrip(".")  # a key that is missing at the node
        errors.append((f"{pointer}/{escape(lost)}" if lost else pointer, problem.message))
    raise invalid(sorted(errors))


def escape(step: str) -> str:
    """`step` as part of a JSON Pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")


def _node(value: Any, pointer: str, pointers: list[str]) -> Node:
    """The node that `rules.validation` reads; its `line` is the number of its pointer."""
    line = len(pointers)
    pointers.append(pointer)
    if isinstance(value, dict):
        members = {key: _node(inner, f"{pointer}/{escape(key)}", pointers) for key, inner in value.items()}
        return Node(line, pointer, members)
    if isinstance(value, list):
        return Node(
            line, pointer, [_node(inner, f"{pointer}/{i}", pointers) for i, inner in enumerate(value)]
        )
    return Node(line, pointer, value)
