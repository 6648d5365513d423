"""What others push to beats: reports about any of them, and the pings and URL of a heartbeat. Taking pings is `api.pings`."""

import asyncio
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import AwareDatetime, Field, StringConstraints, field_validator
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.beats import find_beat
from api.body import read_body, reply, takes
from api.context import Services, services_of
from api.objects import PageRef, answer, locate
from api.paging import AtAndNumber, Cursor, Limit, page, read_cursor
from api.problems import ProblemError, invalid
from api.shapes import ShownBeat, ShownPing, ShownReport, gives
from api.showing import shown_signal
from engine.store import pings, pushed, signals, states
from engine.store.audit import record
from engine.store.database import Connection, Row, transaction
from engine.store.ids import partition_of
from engine.store.objects import Stored
from evaluators.quorum import MOST_SIGNALS
from rules.shape import Rule, Text

FOLDED_WITHIN_S: Final = 5.0
_LOOK_S: Final = 0.02
_LOOK_MOST_S: Final = 0.5
_EARLY_S: Final = 60.0
_MOST_EVIDENCE_BYTES: Final = 10_000
REPORT: Final = "report"

router = Router(prefix="/api/v1/beats/{ref}", tags=["beats"])


class Reported(Rule):
    """What another system says of a beat."""

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


@router.post("/report")
@permits(Permission.WRITE)
@takes(Reported)
@gives(ShownReport)
async def report(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Open, change or end a signal on a beat of any type. 200 with the stage that follows; 202 where it is not known yet."""
    services, said = services_of(request), await read_body(request, Reported)
    now_s = services.clock.epoch_s()
    at_s = said.at.timestamp() if said.at else now_s
    if not 0 < at_s <= now_s + _EARLY_S:
        raise invalid([("/at", "this is in the future")])
    beat = await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    severity = None if said.verdict == "ok" else said.verdict
    fact = pushed.Report(REPORT, said.fingerprint, severity, said.message, at_s, asking.name, said.evidence)
    async with transaction(services.pool) as db:
        is_open = await _open(db, beat)
        if severity and len(is_open) >= MOST_SIGNALS and said.fingerprint not in is_open:
            raise ProblemError(
                409, "too-many-signals", f"{MOST_SIGNALS} signals are open on this beat; end some first"
            )
        pushed_id = await pushed.put(db, beat.id, now_s, fact)
        after = {"fingerprint": said.fingerprint, "verdict": said.verdict, "message": said.message}
        await record(db, asking.actor, "beat.report", beat.slug, beat.page_id, None, after)
    return await _told(services, beat, pushed_id)


async def _open(db: Connection, beat: Stored) -> set[str]:
    rows = (await signals.of_beats(db, [beat.id]))[beat.id]
    return {row["fingerprint"] for row in rows if row["source"] == REPORT}


async def _told(services: Services, beat: Stored, pushed_id: int) -> Response:
    partition = partition_of(beat.id)
    await services.bus.announce(f"{pushed.SUBJECT}.{partition}", str(partition).encode())
    until_s, is_waiting, look_s = services.clock.monotonic_s() + FOLDED_WITHIN_S, True, _LOOK_S
    while is_waiting and services.clock.monotonic_s() < until_s:
        await asyncio.sleep(look_s)
        look_s = min(look_s * 1.5, _LOOK_MOST_S)  # many may wait for an evaluator that is away
        async with services.pool.acquire() as db:
            is_waiting = await pushed.is_waiting(db, pushed_id)
    async with services.pool.acquire() as db:
        row = (await states.summaries(db, [beat.id]))[beat.id]
        found = (await signals.of_beats(db, [beat.id]))[beat.id]
    body = {
        "beat": beat.slug,
        "stage": row["stage"],
        "since": row["since"],
        "signals": [shown_signal(signal) for signal in found],
        "decided": not is_waiting,
    }
    return reply(body, 202 if is_waiting else 200)


@router.get("/pings")
@permits(Permission.READ)
@gives(ShownPing, listed=True)
async def list_pings(
    request: Request,
    asking: Asking,
    ref: str,
    page_ref: PageRef = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Newest first; bodies cut, and without what looks like a secret."""
    async with services_of(request).pool.acquire() as db:
        beat = await locate(db, asking, "beat", ref, page_ref)
        before = read_cursor(cursor, AtAndNumber)
        rows = await pings.listing(db, beat.id, before=before, limit=limit + 1)
    last = (rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None
    shown = await asyncio.to_thread(
        lambda: [shown_ping(row) for row in rows[:limit]]
    )  # bodies may be hostile
    return page(request, shown, last)


def shown_ping(row: Row) -> dict[str, Any]:
    """A row of `pings` as the contract says."""
    said = ("at", "signal", "code", "method", "address", "agent", "counted")
    return {name: row[name] for name in said} | {
        "run": row["run"] or None,
        "body": pings.text_of(row["body"]),
    }


@router.post("/ping-key/rotate")
@permits(Permission.WRITE, tells_secret=True)
@gives(ShownBeat)
async def rotate_ping_key(request: Request, asking: Asking, ref: str, page_ref: PageRef = None) -> Response:
    """Another URL for a heartbeat, also one of a file's; the old one stops at once."""
    beat = await find_beat(request, asking, ref, page_ref)
    asking.require(Permission.WRITE, beat.page_id)
    if beat.spec["type"] != "heartbeat":
        raise ProblemError(
            409, "wrong-type", f"{beat.slug} is a beat of type {beat.spec['type']}: it has no URL to ping"
        )
    async with transaction(services_of(request).pool) as db:
        await pings.rotate_key(db, asking.actor, beat)
    return await answer(request, asking, beat)
