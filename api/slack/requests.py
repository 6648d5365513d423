"""What Slack sends: verified, taken once, answered within its three seconds, worked on after. What is done is `api.slack.deeds`'.

Signatures: https://api.slack.com/authentication/verifying-requests-from-slack.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Permission, Router, permits
from api.body import reply
from api.context import services_of
from api.problems import ProblemError, of_exception
from api.slack import deeds, forms
from api.slack.asked import Asked, plain
from engine.store import slack
from engine.store.audit import Actor
from engine.store.database import transaction
from evaluators.signature import Verifier
from rules.signature import Signature

ANSWER_WITHIN_S: Final = 2.0
MOST_AT_ONCE: Final = 100
Deed = Callable[[Asked], Awaitable[dict[str, Any] | None]]

router = Router(prefix="/slack", include_in_schema=False)
log = logging.getLogger(__name__)


async def _signed(request: Request) -> bytes:
    """The body, if Slack signed it just now. Raises 401, the same whatever is wrong."""
    raw, services = await request.body(), services_of(request)
    if (app := services.slack.app()) is not None:
        verifier = Verifier(Signature(preset="slack", secrets=["-"]), [app.signing_secret])
        if verifier.is_signed(request.headers.items(), raw, services.clock.epoch_s()):
            return raw
    raise ProblemError(401, "unauthorized", "this is not signed by Slack")


def _form(raw: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise ProblemError(400, "malformed", "the body is no form") from None


def _json(raw: str | bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise ProblemError(400, "malformed", "the body is not the JSON of Slack") from None


def _text(value: Any, key: str) -> str:
    """A text in what Slack sent; empty where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found[:4000] if isinstance(found, str) else ""


async def _take(request: Request, asked: Asked, deed: Deed, *, waits: bool = False) -> Response:
    """Do it once, however often it is sent; `waits` a moment for what a form is to show."""
    tasks: set[asyncio.Task[dict[str, Any] | None]] = request.app.state.slack
    if len(tasks) >= MOST_AT_ONCE:
        raise ProblemError(503, "busy", "too much is asked at once", headers={"Retry-After": "5"})
    async with services_of(request).pool.acquire() as db:
        if not asked.key or not await slack.is_first(db, asked.key):
            return Response()
    task = asyncio.create_task(_do(asked, deed))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    if waits:
        await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        asked.is_late = not task.done()
    return reply(task.result()) if waits and task.done() and task.result() else Response()


async def _do(asked: Asked, deed: Deed) -> dict[str, Any] | None:
    try:
        if not await asked.begin():
            await asked.say("This workspace is not connected to Upbeat; an admin connects it there.")
        else:
            return await deed(asked)
    except Exception as refused:  # the request is answered already: whoever asked is told all the same
        problem = of_exception(refused)
        if problem.status >= 500:
            log.exception("what was asked in Slack failed")
        await asked.say(plain(problem.detail))
    return None


@router.post("/commands")
@permits(Permission.PUBLIC, csrf=False)
async def commands(request: Request) -> Response:
    """`/upbeat ...`."""
    form = _form(await _signed(request))
    team, user, channel = (form.get(name, "") for name in ("team_id", "user_id", "channel_id"))
    trigger = form.get("trigger_id", "")
    asked = Asked(request.app, trigger, team, user, channel, trigger, form.get("response_url", ""))
    return await _take(request, asked, lambda asked: deeds.command(asked, form.get("text", "")))


@router.post("/interactions")
@permits(Permission.PUBLIC, csrf=False)
async def interactions(request: Request) -> Response:
    """A button that was clicked, a form that was sent."""
    sent = _json(_form(await _signed(request)).get("payload", ""))
    view: Any = sent.get("view")
    about = _json(_text(view, "private_metadata") or "{}")
    team, user, channel = (_text(sent.get(name), "id") for name in ("team", "user", "channel"))
    trigger, response_url = _text(sent, "trigger_id"), _text(sent, "response_url")
    channel = channel or _text(about, "channel")
    asked = Asked(request.app, trigger, team, user, channel, trigger, response_url)
    if sent.get("type") == "view_submission":
        called, values = _text(view, "callback_id"), forms.values(view)
        return await _take(request, asked, lambda a: deeds.submitted(a, called, about, values), waits=True)
    actions = sent.get("actions")
    if sent.get("type") != "block_actions" or not isinstance(actions, list) or not actions:
        return Response()
    name, value = _text(actions[0], "action_id"), _text(actions[0], "value")
    return await _take(request, asked, lambda a: deeds.clicked(a, name, value))


@router.post("/events")
@permits(Permission.PUBLIC, csrf=False)
async def events(request: Request) -> Response:
    """A mention of the app, or the end of its token."""
    sent = _json(await _signed(request))
    if sent.get("type") == "url_verification":
        return reply({"challenge": _text(sent, "challenge")})
    event, team = sent.get("event"), _text(sent, "team_id")
    kind = _text(event, "type")
    if kind == "app_uninstalled" or (kind == "tokens_revoked" and _is_bots(event)):
        async with transaction(services_of(request).pool) as db:
            # Not what is sent again after it was connected anew.
            if await slack.is_first(db, _text(sent, "event_id")):
                await slack.disconnect(db, Actor("Slack", "slack"), team)
    elif kind == "app_mention" and not _text(event, "bot_id"):
        user, channel = _text(event, "user"), _text(event, "channel")
        asked = Asked(request.app, _text(sent, "event_id"), team, user, channel)
        said = re.sub(r"<@[^>]{1,100}>", " ", _text(event, "text"))
        return await _take(request, asked, lambda asked: deeds.command(asked, said))
    return Response()


def _is_bots(event: Any) -> bool:
    """Whether a revoked token is the bot's, and not one of a user."""
    tokens = event.get("tokens")
    return isinstance(tokens, dict) and bool(tokens.get("bot"))
