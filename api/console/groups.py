"""A group's page: what it is and why, its members with what they fail with, what happened; pause and resume."""

from typing import Annotated, Any

from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.console.beats import pausing, standing
from api.console.overview import failures, members_of, why_of
from api.console.page import now, render
from api.context import services_of
from api.named import named
from engine.store import signals, views
from engine.store.objects import Stored
from evaluators.explain import Why

router = Router(prefix="/console/groups/{ref}", include_in_schema=False)
pausing(router, "group")


@router.get("")
@permits(Permission.READ)
async def group_page(request: Request, asking: Asking, group: Annotated[Stored, named("group")]) -> Response:
    """Everything about one group."""
    at = now(request)
    async with services_of(request).pool.acquire() as db:
        members = (await members_of(db, [group.id]))[group.id]
        shared: dict[str, Any] = await standing(request, asking, db, group)
        whys: dict[Any, Why] = {row["id"]: why_of(row, at) for row in members}
        return await render(
            request,
            db,
            "group.html",
            **shared,
            members=members,
            count=sum(row["total"] for row in (await views.member_counts(db, [group.id])).values()),
            whys=whys,
            said={vote.voter: vote for vote in shared["why"].votes},
            failures=await failures(db, whys, at),
            told=await signals.of_beats(db, [group.id, *whys], 5),
        )
