"""What is special to maintenance windows: one that runs is ended early. Declaring is `api.objects`."""

from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.context import Services, services_of
from api.objects import PageRef, answer, locate
from api.problems import ProblemError
from api.shapes import ShownMaintenance, gives
from api.windows import rule_of
from engine.store import objects
from engine.store.database import transaction
from engine.store.objects import Stored
from engine.store.states import moment
from rules.shape import spec_of

MOST_ENDED = 500

router = Router(prefix="/api/v1/maintenances/{ref}", tags=["maintenances"])


@router.post("/end")
@permits(Permission.WRITE)
@gives(ShownMaintenance)
async def end(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """End the time of it that runs now; one that comes again comes again. 409 when it does not run."""
    async with services_of(request).pool.acquire() as db:
        stored = await locate(db, asking, "maintenance", ref, page_ref)
    return await answer(request, asking, await ended(services_of(request), asking, stored))


async def ended(services: Services, asking: Principal, stored: Stored) -> Stored:
    """The window with its running time ended. What it names may be gone by now: that is not asked again."""
    asking.require(*saving.needed(stored))
    now_s, rule = services.clock.epoch_s(), rule_of(stored)
    span = rule.next(now_s)
    if span is None or span[0] > now_s:
        then = f"; its next time begins at {moment(span[0]):%Y-%m-%dT%H:%MZ}" if span else ""
        raise ProblemError(409, "not-running", f"{stored.slug} does not run now{then}")
    rule = rule.model_copy(update={"ended": [*rule.ended, moment(now_s)][-MOST_ENDED:]})
    async with transaction(services.pool) as db:
        return await objects.replace(db, asking.actor, stored, spec_of(rule))
