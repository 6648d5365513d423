"""Workspaces connected by OAuth v2, and the links of their users. The bot's token is sealed, and shown to nobody."""

import hashlib
from typing import Final
from urllib.parse import urlencode, urljoin
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import reply
from api.context import services_of
from api.origin import base_url
from api.problems import ProblemError, missing
from engine.store import slack
from engine.store.database import transaction

SCOPES: Final = "app_mentions:read,channels:history,chat:write,commands,groups:history"

router = Router(prefix="/slack/oauth", include_in_schema=False)
rest = Router(prefix="/api/v1/slack", tags=["slack"])


@router.get("/start")
@permits(Permission.ADMIN, installation=True)
async def start(request: Request, asking: Asking) -> Response:
    """Send an admin's browser to Slack, with a state that only this session can come back with, once."""
    services = services_of(request)
    if (app := services.slack.app()) is None:
        said = "set `slack:` in upbeat.yaml and its secrets first; docs/how-to/use-slack.md says how"
        raise ProblemError(409, "no-slack-app", said)
    async with services.pool.acquire() as db:
        state = await slack.issue(db, session=_session(asking))
    query = {"client_id": app.client_id, "scope": SCOPES, "redirect_uri": _callback(request), "state": state}
    return RedirectResponse(urljoin(app.api, "/oauth/v2/authorize") + "?" + urlencode(query), 303)


@router.get("/callback")
@permits(Permission.ADMIN, installation=True)
async def callback(request: Request, asking: Asking, state: str = "", code: str = "") -> Response:
    """Where Slack sends the browser back to. Raises 409 for a state of another session, an old or a used one."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        about = await slack.use(db, state)
    if not about or about.get("session") != _session(asking):
        said = "this did not begin here within ten minutes: connect the workspace again"
        raise ProblemError(409, "gone", said)
    if not code:
        raise ProblemError(409, "refused", "Slack says that the workspace was not connected")
    given = {"code": code, "redirect_uri": _callback(request)}
    answer = await services.slack.call(None, "oauth.v2.access", given)
    if not isinstance(answer, dict):
        raise ProblemError(502, "slack", f"the workspace is not connected: {answer.reason}")
    team, token = answer.get("team"), answer.get("access_token")
    if not isinstance(team, dict) or not isinstance(team.get("id"), str) or not isinstance(token, str):
        said = "Slack names no workspace: apps of a whole organisation cannot be connected"
        raise ProblemError(502, "slack", said)
    assert services.secrets.keyring is not None
    async with transaction(services.pool) as db:
        name = str(team.get("name") or team["id"])[:200]
        await slack.connect(db, asking.actor, services.secrets.keyring, team["id"], name, token)
        await services.secrets.refresh(db)
    return RedirectResponse("/console/slack?said=connected", 303)


def _session(asking: Principal) -> str:
    if asking.csrf is None:
        raise ProblemError(403, "forbidden", "a workspace is connected in a browser, not with a token")
    return hashlib.sha256(asking.csrf.encode()).hexdigest()


def _callback(request: Request) -> str:
    return f"{base_url(request)}/slack/oauth/callback"


@rest.get("/workspaces")
@permits(Permission.ADMIN, installation=True)
async def list_slack_workspaces(request: Request) -> Response:
    """Those that are connected."""
    async with services_of(request).pool.acquire() as db:
        return reply({"items": [dict(row) for row in await slack.workspaces(db)], "next": None})


@rest.delete("/workspaces/{team}", status_code=204)
@permits(Permission.ADMIN, installation=True)
async def disconnect_slack_workspace(request: Request, asking: Asking, team: str) -> Response:
    """Give the bot's token back to Slack, which may refuse it, and forget it with the links of users."""
    services = services_of(request)
    async with services.pool.acquire() as db:
        if not await slack.is_connected(db, team):
            raise missing(f"there is no workspace {team!r}")
    await services.slack.call(team, "auth.revoke", {})
    async with transaction(services.pool) as db:
        await slack.disconnect(db, asking.actor, team)
    return Response(status_code=204)


@rest.get("/users")
@permits(Permission.SIGNED_IN)
async def list_slack_users(request: Request, asking: Asking) -> Response:
    """Who is linked: an admin of everything sees all, others themselves."""
    async with services_of(request).pool.acquire() as db:
        rows = await slack.links(db, whose(asking))
    return reply({"items": [dict(row) for row in rows], "next": None})


def whose(asking: Principal) -> UUID | None:
    """Of whom they see and end links; None: of everybody."""
    return None if asking.may(Permission.ADMIN, None) else asking.user_id or UUID(int=0)


@rest.delete("/users/{team}/{slack_user}", status_code=204)
@permits(Permission.SIGNED_IN)
async def unlink_slack_user(request: Request, asking: Asking, team: str, slack_user: str) -> Response:
    """End one's own link; an admin of everything anybody's."""
    async with transaction(services_of(request).pool) as db:
        if not await slack.unlink(db, asking.actor, team, slack_user, whose(asking)):
            raise missing("there is no such link")
    return Response(status_code=204)
