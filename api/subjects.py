"""What beats and groups have in common beside being declared: they are paused and reported on, and have a history."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.named import named
from api.objects import SHAPES, answer
from api.paging import Limit
from api.problems import ProblemError, invalid
from api.shapes import ShownReport, ShownTransition, gives
from api.showing import reasons, shown_signal
from engine.store import pushed, signals, states
from engine.store.audit import record
from engine.store.database import Connection, transaction
from engine.store.ids import partition_of
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.quorum import MOST_SIGNALS
from rules.duration import Duration
from rules.known import Kind
from rules.shape import Rule, Text

FOLDED_WITHIN_S: Final = 5.0
_LOOK_S: Final = 0.02
_LOOK_MOST_S: Final = 0.5
_EARLY_S: Final = 60.0
_DAY_S: Final = 86400
_LAST_YEAR: Final = 9990
_MOST_EVIDENCE_BYTES: Final = 10_000
REPORT: Final = "report"
Days = Annotated[int, Query(ge=1, le=400)]


class Pause(Rule):
    """Until when it is paused: neither of the two means until somebody resumes it."""

    until: AwareDatetime | None = None
    for_: Duration | None = Field(default=None, alias="for", gt=0, le=366 * _DAY_S)

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.until is not None and self.for_ is not None:
            raise ValueError("until or for, not both")
        if self.until is not None and self.until.year > _LAST_YEAR:
            raise ValueError(
                f"until lies after {_LAST_YEAR}; leave it out to pause until somebody resumes it"
            )
        return self


class Reported(Rule):
    """What another system says of a beat or group."""

    verdict: Literal["ok", "warning", "critical"] = Field(
        description="ok ends the signal of the same fingerprint."
    )
    fingerprint: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default=REPORT, description="What it is about: each is a signal of its own."
    )
    message: Text = Field(default="", description="For operators.")
    at: AwareDatetime | None = Field(default=None, description="Since when; now when not given.")
    evidence: dict[str, Any] | None = Field(
        default=None, description="Anything, up to 10 KB; shown, never judged."
    )

    @field_validator("evidence")
    @classmethod
    def _fits(cls, evidence: dict[str, Any] | None) -> dict[str, Any] | None:
        if len(msgspec.json.encode(evidence)) > _MOST_EVIDENCE_BYTES:
            raise ValueError("evidence has more than 10 KB")
        return evidence


async def pause(request: Request, asking: Principal, stored: Stored) -> Response:
    """Stop it, as the body says."""
    services, asked = services_of(request), await read_body(request, Pause)
    now_s = services.clock.epoch_s()
    until = asked.until or (moment(now_s + asked.for_) if asked.for_ is not None else None)
    if until is not None and until.timestamp() <= now_s:
        raise invalid([("/until", "this is in the past")])
    asking.require(Permission.WRITE, stored.page_id)
    async with transaction(services.pool) as db:
        await states.pause(db, asking.actor, stored, until)
        await saving.tell(services, db, asking, "paused", stored)
    return await answer(request, asking, stored)


async def resume(request: Request, asking: Principal, stored: Stored) -> Response:
    """Let it go on."""
    asking.require(Permission.WRITE, stored.page_id)
    async with transaction(services_of(request).pool) as db:
        await states.resume(db, asking.actor, stored)
        await saving.tell(services_of(request), db, asking, "unpaused", stored)
    return await answer(request, asking, stored)


def routes(kind: Kind) -> APIRouter:
    """The routes of one kind."""
    router, shape = Router(prefix=f"/api/v1/{kind}s/{{ref}}", tags=[f"{kind}s"]), SHAPES[kind]

    @router.post("/pause", name=f"Pause a {kind}", operation_id=f"pause_{kind}")
    @permits(Permission.WRITE)
    @takes(Pause)
    @gives(shape)
    async def pause_one(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        """Stop it; also one of a file, as this is no part of what it declares. The members of a group go on."""
        return await pause(request, asking, stored)

    @router.post("/resume", name=f"Resume a {kind}", operation_id=f"resume_{kind}")
    @permits(Permission.WRITE)
    @gives(shape)
    async def resume_one(
        request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]
    ) -> Response:
        """Let it go on."""
        return await resume(request, asking, stored)

    @router.get("/transitions", name=f"List transitions of a {kind}", operation_id=f"list_{kind}_transitions")
    @permits(Permission.READ)
    @gives(ShownTransition, listed=True)
    async def list_transitions(
        request: Request,
        asking: Asking,
        stored: Annotated[Stored, named(kind)],
        days: Days = 30,
        limit: Limit = 100,
    ) -> Response:
        """Newest first, at most `limit`; the one before the period is among them."""
        services = services_of(request)
        since = moment(services.clock.epoch_s()) - timedelta(days=days)
        async with services.pool.acquire() as db:
            rows = (await states.transitions(db, [stored.id], since=since))[::-1][:limit]
            called = await reasons(
                db, asking, (reason for row in rows for reason in row["suppressed_by"] or ())
            )
        items = [
            {name: row[name] for name in ("at", "was", "stage", "votes")}
            | {"suppressed_by": [called[reason] for reason in row["suppressed_by"] or ()]}
            for row in rows
        ]
        return reply({"items": items, "next": None})

    @router.post("/report", name=f"Report on a {kind}", operation_id=f"report_{kind}")
    @permits(Permission.WRITE)
    @takes(Reported)
    @gives(ShownReport)
    async def report(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        """Open, change or end a signal, which for a group is one more member.

        200 with the stage that follows; 202 where it is not known yet.
        """
        return await _report(request, asking, stored)

    return router


async def _report(request: Request, asking: Principal, stored: Stored) -> Response:
    services, said = services_of(request), await read_body(request, Reported)
    now_s = services.clock.epoch_s()
    at_s = said.at.timestamp() if said.at else now_s
    if not 0 < at_s <= now_s + _EARLY_S:
        raise invalid([("/at", "this is in the future")])
    asking.require(Permission.WRITE, stored.page_id)
    severity = None if said.verdict == "ok" else said.verdict
    fact = pushed.Report(REPORT, said.fingerprint, severity, said.message, at_s, asking.name, said.evidence)
    async with transaction(services.pool) as db:
        is_open = await _open(db, stored)
        if severity and len(is_open) >= MOST_SIGNALS and said.fingerprint not in is_open:
            full = f"{MOST_SIGNALS} signals are open on this {stored.kind}; end some first"
            raise ProblemError(409, "too-many-signals", full)
        pushed_id = await pushed.put(db, stored.id, now_s, fact)
        after = {"fingerprint": said.fingerprint, "verdict": said.verdict, "message": said.message}
        await record(db, asking.actor, f"{stored.kind}.report", stored.slug, stored.page_id, None, after)
    return await _told(services, stored, pushed_id)


async def _open(db: Connection, stored: Stored) -> set[str]:
    rows = (await signals.of_beats(db, [stored.id]))[stored.id]
    return {row["fingerprint"] for row in rows if row["source"] == REPORT}


async def _told(services: Services, stored: Stored, pushed_id: int) -> Response:
    await services.bus.announce_each(pushed.SUBJECT, [partition_of(stored.id)])
    until_s, is_waiting, look_s = services.clock.monotonic_s() + FOLDED_WITHIN_S, True, _LOOK_S
    while is_waiting and services.clock.monotonic_s() < until_s:
        await asyncio.sleep(look_s)
        look_s = min(look_s * 1.5, _LOOK_MOST_S)  # many may wait for an evaluator that is away
        async with services.pool.acquire() as db:
            is_waiting = await pushed.is_waiting(db, pushed_id)
    async with services.pool.acquire() as db:
        row = (await states.summaries(db, [stored.id]))[stored.id]
        found = (await signals.of_beats(db, [stored.id]))[stored.id]
    body = {
        "slug": stored.slug,
        "stage": row["stage"],
        "since": row["since"],
        "signals": [shown_signal(signal) for signal in found],
        "decided": not is_waiting,
    }
    return reply(body, 202 if is_waiting else 200)


ROUTERS: Final = (routes("beat"), routes("group"))
