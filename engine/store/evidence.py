"""Evidence of runs that failed or were retried: cut to size as it is stored, in a table of its own that is dropped sooner.

What is kept, and that no secret is in it, is the probe's to decide.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.store.database import Connection, Row
from evaluators.model import Result

MOST_BYTES: Final = 16 << 10
"""Of one run's evidence as JSON."""

_DEEPEST: Final = 6
_MARK_BYTES: Final = 48  # what a mark may take
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""The escape of the one character that PostgreSQL cannot look at."""

_encode = msgspec.json.encode


JOINED: Final = (
    "LEFT JOIN LATERAL (SELECT evidence, tried FROM evidence "
    " WHERE scheduled_at = r.scheduled_at AND run_id = r.run_id LIMIT 1) e ON true "
    "LEFT JOIN LATERAL (SELECT json_agg(json_build_object('name', name, 'type', type, 'size_bytes', length(data), "
    "  'sha256', encode(sha256, 'hex')) ORDER BY name) AS artifacts FROM run_artifacts JOIN artifacts USING (sha256) "
    " WHERE run_id = r.run_id AND scheduled_at = r.scheduled_at) f ON true"
)
"""Joins what was kept of it to a row `r` of results: SHOWN is then there to be selected."""
SHOWN: Final = "e.evidence, e.tried, f.artifacts, r.seen_at > now() - interval '10 minutes' AS is_new"


async def insert(connection: Connection, runs: Sequence[Result]) -> None:
    """Keep what these runs, written in the same transaction, have to show."""
    if not runs:
        return
    await connection.execute(
        "INSERT INTO evidence (scheduled_at, run_id, evidence, tried) "
        "SELECT to_timestamp(e.scheduled_at), e.run_id, e.evidence::json, e.tried::json "
        "FROM unnest($1::float8[], $2::uuid[], $3::text[], $4::text[]) AS e (scheduled_at, run_id, evidence, tried)",
        [run.scheduled_at for run in runs],
        [run.run_id for run in runs],
        [encoded(run.evidence) for run in runs],
        [_encode(run.tried).decode() if run.tried else None for run in runs],
    )


async def published(connection: Connection, runs: Sequence[Row]) -> dict[UUID, dict[str, str]]:
    """By run, the captures that its beat lets customers see: of those that failed."""
    failed = [row for row in runs if row["failure_type"] is not None]
    rows = (
        await connection.fetch(
            "SELECT e.run_id, e.evidence->'published' AS published "
            "FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS n (beat_id, scheduled_at, run_id) "
            "JOIN objects o ON o.id = n.beat_id AND o.spec ? 'publish' "
            "JOIN evidence e ON e.scheduled_at = n.scheduled_at AND e.run_id = n.run_id",
            [row["beat_id"] for row in failed],
            [row["scheduled_at"] for row in failed],
            [row["run_id"] for row in failed],
        )
        if failed
        else []
    )
    return {row["run_id"]: row["published"] for row in rows if row["published"]}


def encoded(found: dict[str, Any] | None) -> str | None:
    """`found` as JSON of at most MOST_BYTES: the largest parts are shortened first, and say so."""
    if not found:
        return None
    data = _encode(found)
    if len(data) > MOST_BYTES:
        data = _encode(_cut(msgspec.json.decode(data), MOST_BYTES, _DEEPEST))
    return _NUL.sub(r"\1\\ufffd", data.decode())


def _cut(value: Any, most_bytes: int, depth: int) -> Any:
    if len(_encode(value)) <= most_bytes:
        return value
    if isinstance(value, dict) and depth and most_bytes > _MARK_BYTES:
        kept, left = _held(list(value.items()), most_bytes, depth)
        return dict(kept) | ({"cut": f"{left} more"} if left else {})
    if isinstance(value, list) and depth and most_bytes > _MARK_BYTES:
        kept, left = _held(list(enumerate(value)), most_bytes, depth)
        return [part for _, part in kept] + ([f"[{left} more]"] if left else [])
    return _shortened(value if isinstance(value, str) else _encode(value).decode(), most_bytes)


def _held(parts: list[tuple[Any, Any]], most_bytes: int, depth: int) -> tuple[list[tuple[Any, Any]], int]:
    """As many parts as have room, the large ones cut to one size; and how many there was no room for."""
    fixed = [len(_encode(str(name))) + 2 for name, _ in parts]
    sizes = [len(_encode(part)) for _, part in parts]
    room, held = most_bytes - _MARK_BYTES, 0
    for size, name in zip(sizes, fixed, strict=True):
        if room < name + min(size, _MARK_BYTES):
            break
        room -= name + min(size, _MARK_BYTES)
        held += 1
    share = _MARK_BYTES + _level([max(size - _MARK_BYTES, 0) for size in sizes[:held]], room)
    return [(name, _cut(part, share, depth - 1)) for name, part in parts[:held]], len(parts) - held


def _level(sizes: list[int], room: int) -> int:
    """The largest size to which all have to be cut so that they fit together."""
    for place, size in enumerate(ordered := sorted(sizes)):
        share = room // (len(ordered) - place)
        if size > share:
            return share
        room -= size
    return ordered[-1] if sizes else 0


def _shortened(text: str, most_bytes: int) -> str:
    mark = f"… [{len(text)} characters, cut]"
    low, high = 0, min(len(text), most_bytes)
    while low < high:  # how much of a text fits is known only when its escapes are counted
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(_encode(text[:middle] + mark)) <= most_bytes else (low, middle - 1)
    return text[:low] + mark
