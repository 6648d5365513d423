"""Style, script and icon, served under addresses that change with their content. No page."""

import hashlib
from importlib import resources
from typing import Final

from starlette.responses import Response

from api.auth import Permission, Router, permits
from api.problems import missing

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_STATIC: Final = {
    file.name: file.read_bytes()
    for file in resources.files("api.console").joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}
_DIGESTS: Final = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in _STATIC.items()}

router = Router(include_in_schema=False)


def static_url(name: str) -> str:
    """The address of a static file, which changes when its content does."""
    return f"/static/{_DIGESTS[name]}/{name}"


@router.get("/static/{digest}/{name}")
@permits(Permission.PUBLIC)
async def static(digest: str, name: str) -> Response:
    """Style, script and icon; kept by browsers for good, as the address changes with the content."""
    if name not in _STATIC or digest != _DIGESTS[name]:
        raise missing("there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_STATIC[name], 200, headers, media_type=_TYPES[name.rpartition(".")[2]])
