"""The object that a path names, as a parameter of a route. Which ones somebody may read is `api.objects.locate`'s."""

from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from api.auth import Asking
from api.context import services_of
from api.objects import PageRef, locate
from engine.store.objects import Stored
from rules.known import Kind


def named(kind: Kind) -> Any:
    """The object of `kind` at `{ref}`, of the page that the query may name. Raises 404, 409."""

    async def find(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Stored:
        async with services_of(request).pool.acquire() as db:
            return await locate(db, asking, kind, ref, page_ref)

    return Depends(find)


NamedBeat = Annotated[Stored, named("beat")]
NamedInbox = Annotated[Stored, named("inbox")]
NamedTrigger = Annotated[Stored, named("trigger")]
