"""Slack in the console: workspaces, who is who there, and what each page says of it. The checks are `api.slack`'s and `api.saving`'s."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.console.forms import fields, refusal
from api.console.inputs import document_of, inputs_of
from api.console.page import go, render
from api.context import services_of
from api.objects import locate
from api.problems import ProblemError
from api.slack import connection
from engine.store import objects, slack
from engine.store.database import transaction
from rules.slack import PageSlack

_INPUTS: Final = inputs_of(PageSlack)

router = Router(prefix="/console/slack", include_in_schema=False)


@router.get("")
@permits(Permission.SIGNED_IN)
async def index(request: Request, asking: Asking) -> Response:
    """What is connected and linked, and a form for each page that one administers."""
    return await _page(request, asking)


async def _page(
    request: Request,
    asking: Principal,
    edited: Mapping[str, Mapping[str, str]] | None = None,
    mistakes: Sequence[tuple[str, str]] = (),
) -> Response:
    services = services_of(request)
    async with services.pool.acquire() as db:
        pages = await objects.listing(db, "page", pages=asking.pages_for(Permission.ADMIN))
        channels = await objects.listing(db, "channel", pages=[page.id for page in pages])
        given = {page.slug: _written(page.spec.get("slack") or {}) for page in pages} | dict(edited or {})
        return await render(
            request,
            db,
            "slack.html",
            422 if mistakes else 200,
            has_app=services.slack.app() is not None,
            workspaces=await slack.workspaces(db) if asking.may(Permission.ADMIN, None) else [],
            users=await connection.linked(request, asking),
            pages=pages,
            bots=[one for one in channels if one.spec["type"] == "slack_bot"],
            given=given,
            mistakes=dict.fromkeys(edited or (), mistakes),
            inputs=_INPUTS,
        )


def _written(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a form shows of a page's settings."""
    return {
        name: ", ".join(value) if isinstance(value, list) else str(value).lower()
        for name, value in spec.items()
    }


@router.post("/pages/{ref}")
@permits(Permission.ADMIN)
async def save(request: Request, asking: Asking, ref: str) -> Response:
    """Save what a page says of Slack; without a channel it says nothing. Single channels stay what they are."""
    services, sent = services_of(request), await fields(request)
    async with services.pool.acquire() as db:
        page = await locate(db, asking, "page", ref)
    said = {one.name: None for one in _INPUTS} | document_of(_INPUTS, sent) if sent.get("channel") else None
    try:
        await saving.change(services, asking, page, {"slack": said}, patch=True)
    except ProblemError as refused:
        if refused.status != 422:
            raise
        return await _page(request, asking, {page.slug: sent}, refusal(refused)[0])
    return go("/console/slack", "saved")


@router.post("/workspaces/{team}/disconnect")
@permits(Permission.ADMIN, installation=True)
async def disconnect(request: Request, asking: Asking, team: str) -> Response:
    """Give the token back."""
    await connection.disconnected(request, asking, team)
    return go("/console/slack", "disconnected")


@router.post("/users/{team}/{slack_user}/unlink")
@permits(Permission.SIGNED_IN)
async def unlink(request: Request, asking: Asking, team: str, slack_user: str) -> Response:
    """End a link."""
    await connection.unlinked(request, asking, team, slack_user)
    return go("/console/slack", "unlinked")


@router.get("/link")
@permits(Permission.SIGNED_IN)
async def offer(request: Request, secret: str = "") -> Response:
    """Whom somebody is about to become in Slack. Opening it links nobody: whoever made the link could send it to others."""
    async with services_of(request).pool.acquire() as db:
        if (about := await slack.peek(db, secret)) is None or "user" not in about:
            raise _ended()
        team = next(
            (row["name"] for row in await slack.workspaces(db) if row["team_id"] == about["team"]), ""
        )
        return await render(request, db, "slack_link.html", about=about, team=team, secret=secret)


@router.post("/link")
@permits(Permission.SIGNED_IN)
async def link(request: Request, asking: Asking) -> Response:
    """From now on they are this user in Slack."""
    sent = await fields(request)
    async with transaction(services_of(request).pool) as db:
        about = await slack.use(db, sent.get("secret", ""))
        if about is None or "user" not in about:
            raise _ended()
        if asking.user_id is None:
            raise ProblemError(403, "forbidden", "a user is linked in a session, not with a token")
        await slack.link(db, asking.actor, about["team"], about["user"], about["name"], asking.user_id)
    return go("/console/slack", "linked")


def _ended() -> ProblemError:
    return ProblemError(
        409, "gone", "this link was used or is older than ten minutes: ask for another with /upbeat link"
    )
