"""Episodes as operators see and handle them: who looks at what, what was told to whom, and what people said."""

from datetime import UTC, datetime
from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.beats import shown_result
from api.console import journeys
from api.console.forms import PART, as_json, before, fields, in_a_line, older
from api.console.page import go, render
from api.console.runs import LONGEST_RUN, run_url
from api.console.words import address
from api.context import services_of
from api.episodes import Verb, deed_of, do, find, whole
from api.problems import ProblemError
from engine.store import episodes, states, views
from engine.store.database import Connection, Row
from engine.store.episodes import State

_MOST_PICTURES: Final = 12

router = Router(prefix="/console/episodes", include_in_schema=False)

_STATES: Final[tuple[State, ...]] = get_args(State)


@router.get("")
@permits(Permission.READ)
async def index(request: Request, asking: Asking) -> Response:
    """Newest first: all, or those of one state, or mine."""
    pages, asked = asking.pages_for(Permission.READ), request.query_params.get("state")
    state = next((one for one in _STATES if one == asked), None)
    is_mine = asked == "mine"
    async with services_of(request).pool.acquire() as db:
        rows = await episodes.listing(
            db,
            pages=pages,
            state="open" if is_mine else state,
            assignee=asking.name if is_mine else None,
            before=before(request),
            limit=PART + 1,
        )
        chosen, cursor = "mine" if is_mine else state, older(rows, "opened_at")
        return await render(request, db, "episodes.html", rows=rows[:PART], cursor=cursor, chosen=chosen)


@router.get("/{ref}")
@permits(Permission.READ)
async def episode_page(request: Request, asking: Asking, ref: str) -> Response:
    """One episode: its course, what channels were told of it, and what people did."""
    return await _page(request, asking, ref)


async def _page(
    request: Request, asking: Principal, ref: str, *, status: int = 200, wrong: str | None = None
) -> Response:
    async with services_of(request).pool.acquire() as db:
        row = await find(db, asking, ref)
        told = await episodes.notices(db, row)
        can_review = asking.may(Permission.REVIEW, row["page_id"])
        return await render(
            request,
            db,
            "episode.html",
            status,
            episode=await whole(db, row),
            course=await _course(db, row),
            failed=await _failed(db, row),
            told=told,
            users=await episodes.assignable(db, row["page_id"]) if can_review else [],
            can_review=can_review,
            wrong=wrong,
        )


async def _course(db: Connection, row: Row) -> list[Any]:
    """Its transitions, from the one that it began with to the one that ended it."""
    found = await states.transitions(db, [row["owner_id"]], since=row["opened_at"], limit=200)
    end = row["closed_at"] or datetime.max.replace(tzinfo=UTC)
    return [turn for turn in found if row["opened_at"] <= turn["at"] <= end]


async def _failed(db: Connection, row: Row) -> list[dict[str, Any]]:
    """How browsers failed last while it was open, one of each beat and region."""
    end = row["closed_at"] or datetime.max.replace(tzinfo=UTC)
    found = await views.failures_pictured(
        db, row["owner_id"], row["opened_at"] - LONGEST_RUN, end, _MOST_PICTURES
    )
    shown = []
    for one in found:
        run = shown_result(one)
        if how := journeys.failed(run, run_url(one["beat"], row["page"], run["run"], run["at"])):
            shown.append(how | {"beat": one["beat"]})
    return shown


def _deed(verb: Verb) -> None:
    @router.post(f"/{{ref}}/{verb}", name=f"{verb}_episode")
    @permits(Permission.REVIEW)
    async def act(request: Request, asking: Asking, ref: str) -> Response:
        sent = await fields(request)
        body: dict[str, Any] = {key: sent[key] for key in ("text", "to", "for") if key in sent}
        for key in ("to", "for"):
            if body.get(key) == "":
                body[key] = None
        try:
            await do(request, asking, ref, await deed_of(verb, as_json(request, body)))
        except ProblemError as refused:
            if refused.status not in (409, 422):
                raise
            return await _page(request, asking, ref, status=refused.status, wrong=in_a_line(refused))
        return go(address("episode", ref), "saved")


for _verb in get_args(Verb):
    _deed(_verb)
