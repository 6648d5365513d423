"""For machines that come by themselves: /healthz, /readyz, /metrics, /robots.txt. What the first three say is handed in."""

from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from api.auth import Asking, Permission, Router, permits, unauthorized
from api.body import reply
from api.context import services_of

router = Router(tags=["health"])

AskedRole = Annotated[Literal["api", "evaluator", "exporter", "probe"] | None, Query()]


@router.get("/robots.txt", include_in_schema=False)
@permits(Permission.PUBLIC)
async def robots() -> Response:
    """Search engines read public pages only; each says itself whether it may be listed. A page's own host has its own."""
    return PlainTextResponse("User-agent: *\nAllow: /p/\nAllow: /static/\nDisallow: /\n")


@router.get("/healthz")
@permits(Permission.PUBLIC)
async def healthz() -> Response:
    """The process answers; nothing else is asked."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
@permits(Permission.PUBLIC)
async def readyz(
    request: Request, asking: Asking, role: AskedRole = None, verbose: str | None = None
) -> Response:
    """200, or 503 with the reasons; `?verbose` (needs read) adds what they rest on."""
    is_verbose = verbose is not None and verbose not in ("0", "false")
    if is_verbose and asking.pages_for(Permission.READ) == []:
        raise unauthorized("?verbose needs a token")
    health = await services_of(request).health(role, is_verbose)
    body: dict[str, Any] = {"ready": health.ready, "reasons": health.reasons}
    if is_verbose:
        body["detail"] = health.detail
    return reply(body, 200 if health.ready else 503)


@router.get("/metrics")
@permits(Permission.PUBLIC)
async def metrics(request: Request, asking: Asking) -> Response:
    """Prometheus text of the whole installation; needs read on every page unless `metrics_public` is set."""
    services = services_of(request)
    if not services.settings.metrics_public:
        if asking.is_anonymous:
            raise unauthorized("send a token that may read every page")
        asking.require(Permission.READ, None)
    return PlainTextResponse(await services.metrics_text(), media_type="text/plain; version=0.0.4")
