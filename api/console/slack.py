"""Slack in the console: workspaces, who is who there, and what each page says of it. What is done is `api.slack`'s."""

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.console.page import go, render
from api.context import services_of
from api.problems import ProblemError
from api.slack import connection
from engine.store import objects, slack

router = Router(prefix="/console/slack", include_in_schema=False)


@router.get("")
@permits(Permission.SIGNED_IN)
async def index(request: Request, asking: Asking) -> Response:
    """What is connected and linked, and what the pages that one administers say of Slack."""
    return await _page(request, asking)


async def _page(request: Request, asking: Principal, code: str = "") -> Response:
    services = services_of(request)
    async with services.pool.acquire() as db:
        return await render(
            request,
            db,
            "slack.html",
            has_app=services.slack.app() is not None,
            workspaces=await slack.workspaces(db) if asking.may(Permission.ADMIN, None) else [],
            users=await slack.links(db, connection.whose(asking)),
            pages=await objects.listing(db, "page", pages=asking.pages_for(Permission.ADMIN)),
            code=code,
        )


@router.post("/code")
@permits(Permission.SIGNED_IN, tells_secret=True)
async def code(request: Request, asking: Asking) -> Response:
    """A code with which they say in Slack who they are. It is shown to who is signed in, so no link that others sent binds them."""
    if asking.user_id is None:
        raise ProblemError(409, "no-user", "sign in as a user: a token is nobody in Slack")
    async with services_of(request).pool.acquire() as db:
        made = await slack.issue(db, user=str(asking.user_id), name=asking.name)
    return await _page(request, asking, made)


@router.post("/workspaces/{team}/disconnect")
@permits(Permission.ADMIN, installation=True)
async def disconnect(request: Request, asking: Asking, team: str) -> Response:
    """Give the token back."""
    await connection.disconnect_slack_workspace(request, asking, team)
    return go("/console/slack", "disconnected")


@router.post("/users/{team}/{slack_user}/unlink")
@permits(Permission.SIGNED_IN)
async def unlink(request: Request, asking: Asking, team: str, slack_user: str) -> Response:
    """End a link."""
    await connection.unlink_slack_user(request, asking, team, slack_user)
    return go("/console/slack", "unlinked")
