"""A page as a zip of static files. What is in them is `api.status.export`'s; publishers keep them fresh without this."""

import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import Asking, Permission, Router, permits
from api.context import services_of
from api.objects import locate
from api.origin import base_url
from api.problems import ProblemError, missing
from api.status import export
from api.status.reading import Reader
from rules.publishers.static import Base, NoOrigin

CHUNK: Final = 1 << 16
router = Router(prefix="/api/v1", tags=["pages"])


@router.get("/pages/{ref}/export")
@permits(Permission.READ)
async def export_page(
    request: Request,
    asking: Asking,
    ref: str,
    base: Annotated[Base, Query(description="The path that leads to it: /status.")] = "",
    origin: Annotated[NoOrigin, Query(description="Where that is: https://status.example.com.")] = "",
    index: Annotated[bool, Query(description="Whether links name index.html.")] = False,
    public: Annotated[bool, Query(description="Also of a page that is not public.")] = False,
) -> Response:
    """The whole page as static files, in a zip: what everybody sees of it, in all its languages."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        stored = await locate(db, asking, "page", ref)
    page = await Reader(services).page(stored.slug)
    if page is None:
        raise missing("there is no such page")
    if not (page.rule.access.is_public or public):
        raise ProblemError(409, "not-public", export.REFUSED)
    place = export.place_of(page, origin, base, f"{base_url(request)}/p/{stored.slug}", index=index)
    said = {"Content-Disposition": f'attachment; filename="{stored.slug}.zip"'}
    return StreamingResponse(
        zipped(export.files(page, place), page.at), media_type="application/zip", headers=said
    )


class _Made(io.RawIOBase):
    """What of a zip was made and not yet sent."""

    def __init__(self) -> None:
        self.held = bytearray()

    def write(self, data: Any) -> int:
        self.held += data
        return len(data)


def zipped(files: Iterator[export.File], at: datetime) -> Iterator[bytes]:
    """A zip of these, as it is made; each part takes a while and is for a thread."""
    made = _Made()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body, _ in files:
            entry = zipfile.ZipInfo(path, at.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, body, zipfile.ZIP_DEFLATED)
            if len(made.held) >= CHUNK:
                yield bytes(made.held)
                made.held.clear()
    yield bytes(made.held)
