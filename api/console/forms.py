"""What comes back from a page: fields, cursors, mistakes; and a form handed to REST as the JSON it would have been."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.types import Message

from api.auth import Permission, Principal
from api.problems import ProblemError, of_exception
from engine.store import objects
from engine.store.database import Connection, Row
from engine.store.states import moment
from rules.node import Node, read
from rules.problem import ConfigError
from rules.validation import place

Mistakes = list[tuple[str, str]]
"""(where, what)."""
PART: Final = 50
"""Rows of a long list that are shown at once."""


async def fields(request: Request) -> dict[str, str]:
    """The texts of a form."""
    form = await request.form()
    texts = {n: text.strip() for n, text in form.items() if isinstance(text, str) and n != "csrf"}
    if any("\x00" in text for text in texts.values()):  # PostgreSQL knows none
        raise ProblemError(400, "malformed", "a field has the character NUL in it")
    return texts


async def ticked(request: Request, name: str) -> list[str]:
    """The values of a form's check boxes called `name`."""
    return [value for value in (await request.form()).getlist(name) if isinstance(value, str)]


def filled(values: Mapping[str, str]) -> dict[str, str]:
    """Those of a form that were filled in."""
    return {name: value for name, value in values.items() if value}


def listed(text: str) -> list[str]:
    """What a field holds with commas between."""
    return [part for one in text.split(",") if (part := one.strip())]


async def yaml_of(text: str) -> tuple[Node, Mistakes]:
    """What YAML from a form says, or what is wrong with it, by line."""
    try:
        node, problems = await asyncio.to_thread(read, text, "line")  # a long one takes seconds
    except ConfigError as wrong:
        node, problems = Node(1, "", {}), list(wrong.problems)
    return node, [(f"line {problem.line}", problem.message) for problem in problems]


def line_of(root: Node, pointer: str) -> str:
    """Where in YAML from a form that is what `pointer` leads to."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    found, _ = place(root, [int(step) if step.isdigit() else step for step in steps])
    return f"line {found.line}, {'.'.join(steps)}" if steps else f"line {found.line}"


def as_json(request: Request, document: Any) -> Request:
    """The request as REST would have got it: the same asker, `document` as its body."""
    return with_body(request, json.dumps(document).encode(), b"application/json")


def with_body(request: Request, body: bytes, media_type: bytes) -> Request:
    """The same with any body."""
    kept = [pair for pair in request.scope["headers"] if pair[0] not in (b"content-type", b"content-length")]

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": [*kept, (b"content-type", media_type)]}, receive)


def older(rows: Sequence[Row], column: str) -> str | None:
    """The cursor behind the first `PART` of `rows`, when there are more."""
    if len(rows) <= PART:
        return None
    last = rows[PART - 1]
    return cursor(last[column], last["id"])


def cursor(at: datetime, of: UUID) -> str:
    """What `before` reads: where the next part of a list begins."""
    return f"{at.timestamp():.6f}_{of.hex}"


def before(request: Request) -> tuple[datetime, UUID] | None:
    """What `cursor` said, as it comes back."""
    text = request.query_params.get("before", "")
    match = re.fullmatch(r"(\d{1,10}\.\d{6})_([0-9a-f]{32})", text, re.ASCII)
    return (moment(float(match[1])), UUID(match[2])) if match else None


def mistakes_of(refused: Exception) -> Mistakes:
    """What is wrong with a form that was refused."""
    problem = of_exception(refused)
    return list(problem.errors) or [("/slug" if problem.name == "taken" else "", problem.detail)]


def refusal(refused: Exception | None) -> tuple[Mistakes, int]:
    """What is wrong with a form, and the status of the page that says so."""
    return (mistakes_of(refused), of_exception(refused).status) if refused else ([], 200)


def in_a_line(refused: Exception) -> str:
    """What is wrong with a form, as one sentence."""
    return "; ".join(f"{where.strip('/')} {said}".strip() for where, said in mistakes_of(refused))


async def page_choices(
    db: Connection, asking: Principal, permission: Permission = Permission.WRITE
) -> list[tuple[str, str]]:
    """The pages on which they may, for a form to choose from."""
    found = await objects.listing(db, "page", pages=asking.pages_for(permission))
    return [(stored.slug, stored.spec["name"]) for stored in found]


def whole(text: str | None, default: int) -> int:
    """A positive number in a query, else the default."""
    return int(text) if text and re.fullmatch(r"0{0,9}[1-9]\d{0,8}", text, re.ASCII) else default
