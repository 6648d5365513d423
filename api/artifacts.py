"""Files kept of a beat's runs, for operators. Pages made them: none is shown as a page of ours, nor to the public."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.body import reply
from api.context import services_of
from api.objects import PageRef, locate
from api.problems import missing
from api.shapes import ShownArtifacts, gives
from engine.store import artifacts
from engine.store.database import Connection, Row
from engine.store.ids import read, show

FAILURE: Final = "failure.jpg"
_SAID: Final = {"name": str, "type": str, "size_bytes": int}
_FIELDS: Final = ("name", "type", "size_bytes", "sha256")
_HEADERS: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Vary": "Authorization, Cookie",  # whoever signs in next on the same machine is asked about anew
}

router = Router(prefix="/api/v1/beats/{ref}/results/{run}/artifacts", tags=["beats"])


@router.get("")
@permits(Permission.READ)
@gives(ShownArtifacts)
async def list_artifacts(
    request: Request, asking: Asking, ref: str, run: str, page_ref: PageRef = None
) -> Response:
    """The files that are kept of a run: pictures, trace, HAR file, page, console."""
    async with services_of(request).pool.acquire() as db:
        beat, run_id = await locate(db, asking, "beat", ref, page_ref), _run_id(run)
        rows = (await artifacts.of_runs(db, [run_id])).get(run_id, ())
    return reply({"items": [_kept(row, run_id) for row in rows if row["beat_id"] == beat.id]})


@router.get("/{name}")
@permits(Permission.READ)
async def read_artifact(
    request: Request, asking: Asking, ref: str, run: str, name: str, page_ref: PageRef = None
) -> Response:
    """One of them, without secrets; it never changes, and `ETag` is its SHA-256."""
    async with services_of(request).pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        row = await artifacts.read(db, beat.id, _run_id(run), name)
    if row is None:
        raise missing(f"there is no file {name!r} of this run: not yet, no longer, or it never was")
    headers = _HEADERS | {"ETag": f'"{row["sha256"]}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    shown = "inline" if row["type"].startswith("image/") else "attachment"
    headers["Content-Disposition"] = f'{shown}; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", name)}"'
    return Response(row["data"], headers=headers | {"Content-Type": row["type"]})


def _run_id(run: str) -> UUID:
    if (run_id := read("run", run)) is None:
        raise missing(f"there is no run {run!r}")
    return run_id


def href(beat_id: UUID, run_id: UUID, name: str) -> str:
    """Where this file is read."""
    beat, run = show("beat", beat_id), show("run", run_id)
    return f"/api/v1/beats/{beat}/results/{run}/artifacts/{quote(name, safe='')}"


def _kept(row: Any, run_id: UUID) -> dict[str, Any]:
    shown = {field: row[field] for field in _FIELDS}
    return shown | {"state": "kept", "href": href(UUID(str(row["beat_id"])), run_id, row["name"])}


def of_result(row: Row) -> list[dict[str, Any]]:
    """The files of a row of `results`, and those that it says were made of it but are not there."""
    kept = {one["name"]: one | {"beat_id": row["beat_id"]} for one in row.get("artifacts") or ()}
    return [
        *(_kept(one, row["run_id"]) for one in kept.values()),
        *(
            one | {"sha256": None, "state": "awaited" if row["is_new"] else "gone", "href": None}
            for one in _said(row)
            if one["name"] not in kept
        ),
    ]


def _said(row: Row) -> Iterator[dict[str, Any]]:
    """Which files the evidence says there are, as far as it was not cut to size."""
    found = (row["evidence"] or {}).get("artifacts")
    for one in found if isinstance(found, list) else ():
        shape = {key: type(value) for key, value in one.items()} if isinstance(one, dict) else {}
        if shape == _SAID and 0 <= one["size_bytes"] < 1 << 40:  # in JSON there are numbers that no float is
            yield one


async def failures(db: Connection, run_ids: Sequence[UUID]) -> dict[str, str]:
    """By run, as it is shown: where the picture of how it failed is read."""
    return {
        show("run", run_id): href(row["beat_id"], run_id, FAILURE)
        for run_id, rows in (await artifacts.of_runs(db, run_ids)).items()
        for row in rows
        if row["name"] == FAILURE
    }
