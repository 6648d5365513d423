"""Replays under /api/v1: another policy tried on what is stored, or the past checked against its log. They run elsewhere; here they are asked for."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api import saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import escape, read_body, reply, takes
from api.context import services_of
from api.objects import locate
from api.problems import ProblemError, invalid, missing
from api.shapes import ShownReplay, gives
from api.showing import page_slugs
from api.uptime import read_span
from engine.store import jobs, objects, replays
from engine.store.database import Connection, Row, transaction
from engine.store.ids import read, show
from engine.store.jobs import JobKind
from engine.store.objects import Stored
from engine.store.replays import Plan, Played, Replayed
from engine.store.states import moment
from evaluators.replay import Outcome
from rules.kinds.kind import ProbedRule
from rules.shape import Rule, spec_of

KEYS: Final = ("quorum", "episodes", "incidents", "late_members")
"""What is tried: how a stage and an episode come about, not what is measured."""
MOST_SUBJECTS: Final = 2000
MOST_DAYS: Final = 400
MOST_RUN_S: Final = 3600.0
_TIMES: Final = frozenset({"at", "opened", "could_open", "closed", "since", "until", "ended_at"})
_FILE: Final = ("beats", "groups")
Ref = Annotated[str, Field(max_length=100)]

router = Router(prefix="/api/v1/replays", tags=["replays"])


class AskedReplay(Rule):
    """What to replay. Without beats, groups and page it is all that the token may read."""

    since: str = Field(
        default="30d", max_length=60, description="From when: RFC 3339, or a duration, so long ago."
    )
    until: str = Field(default="0s", max_length=60, description="Until when, likewise.")
    beats: list[Ref] = Field(default=[], max_length=200, description="Slugs or ids.")
    groups: list[Ref] = Field(default=[], max_length=200, description="Slugs or ids, each with its members.")
    page: Ref | None = Field(default=None, description="All of a page, or the page of the beats and groups.")
    policy: dict[str, Any] | None = Field(
        default=None,
        description=f"The policy to try: {', '.join(KEYS)}, merged over what is declared; or a whole upbeat.yaml, "
        "of whose beats and groups those with the same slug are taken.",
    )
    exact: bool = Field(default=False, description="No policy: whether the log leads to what is stored.")
    workers: int = Field(default=1, ge=1, le=8, description="Processes.")


@router.post("", status_code=202)
@permits(Permission.READ)
@takes(AskedReplay)
@gives(ShownReplay)
async def create_replay(request: Request, asking: Asking) -> Response:
    """Begin a replay: 202 with its id. It is kept for an hour."""
    row = await begin(request, asking, await read_body(request, AskedReplay))
    location = {"Location": f"/api/v1/replays/{show('replay', row['id'])}"}
    return reply(shown_replay(row), 202, location)


@router.get("/{replay}")
@permits(Permission.READ)
@gives(ShownReplay)
async def read_replay(request: Request, asking: Asking, replay: str) -> Response:
    """How far it is, and what it found."""
    async with services_of(request).pool.acquire() as db:
        row = await find(db, asking, replay)
    return reply(await asyncio.to_thread(shown_replay, row))


@router.delete("/{replay}", status_code=204)
@permits(Permission.READ)
async def cancel_replay(request: Request, asking: Asking, replay: str) -> Response:
    """Nobody wants it any more: it ends within a second."""
    return await cancel(request, asking, replay)


async def cancel(request: Request, asking: Principal, text: str, kind: JobKind = "replay") -> Response:
    """End a replay or preview: their own, or an editor's of all its pages."""
    async with services_of(request).pool.acquire() as db:
        row = await find(db, asking, text, kind)
        for page_id in row["page_ids"] if row["by"] != name_of(asking) else ():
            asking.require(Permission.WRITE, page_id)
        await jobs.cancel(db, row["id"])
    return Response(status_code=204)


async def find(db: Connection, asking: Principal, text: str, kind: JobKind = "replay") -> Row:
    """The replay or preview called so, if they may read every page it is of. Raises 404."""
    job_id = read(kind, text)
    row = await jobs.get(db, kind, job_id) if job_id else None
    if row is None or not all(asking.may(Permission.READ, page_id) for page_id in row["page_ids"]):
        raise missing(f"there is no such {kind}; they are kept for an hour")
    return row


async def begin(request: Request, asking: Principal, asked: AskedReplay) -> Row:
    """Store what was asked and have it run. Raises 404, 409, 422, 429."""
    services = services_of(request)
    now = services.clock.epoch_s()
    since, until = read_span(asked.since, asked.until, now, MOST_DAYS)
    if (asked.policy is None) is not asked.exact:
        raise invalid([("/policy", "say which policy to try, or `exact` to check the past as it was")])
    async with transaction(services.pool) as db:
        chosen = await _chosen(db, asking, asked)
        components = await replays.components(db, [stored.id for stored in chosen])
        played = [one for component in components for one in component]
        if len(played) > MOST_SUBJECTS:
            raise invalid([("/beats", f"that is {len(played)} beats and groups; at most {MOST_SUBJECTS}")])
        homes = {one.id: one for one in await objects.several(db, [one.id for one in played])}
        pages = {one.page_id for one in homes.values() if one.page_id}
        for page_id in pages:
            asking.require(Permission.READ, page_id)
        if asked.policy is not None:
            named = {stored.id for stored in chosen} if asked.beats or asked.groups else frozenset[UUID]()
            pages_of = await page_slugs(db)
            await asyncio.to_thread(
                _try, played, {one.id for one in chosen}, named, asked.policy, pages_of, homes
            )
        shown = {
            "since": moment(since),
            "until": moment(until),
            **asked.model_dump(exclude={"since", "until"}),
        }
        plan = Plan(since, until, asked.exact, components)
        workers = min(asked.workers, max(len(components), 1))
        row = await keep(db, "replay", asking, pages, shown, plan, workers)
    services.start_job("replay", row["id"], workers, MOST_RUN_S)
    return row


async def keep(
    db: Connection,
    kind: JobKind,
    asking: Principal,
    pages: Collection[UUID],
    shown: Mapping[str, Any],
    plan: Any,
    workers: int = 1,
) -> Row:
    """Store a replay or preview that is to be started once this is committed. Raises 429."""
    made = await jobs.create(db, kind, name_of(asking), list(pages), shown, plan, workers)
    row = await jobs.get(db, kind, made) if made else None
    if row is None:
        said = f"{jobs.MOST_OF_ONE} {kind}s of yours run already, or {jobs.MOST_AT_ONCE} of all; wait for one, or cancel it"
        raise ProblemError(429, "too-many", said, headers={"Retry-After": "10"})
    return row


def name_of(asking: Principal) -> str:
    """Whose replay or preview it is: a token's own, or a person's."""
    return asking.key_id or asking.name


async def _chosen(db: Connection, asking: Principal, asked: AskedReplay) -> list[Stored]:
    if asked.beats or asked.groups:
        found = [await locate(db, asking, "beat", ref, asked.page) for ref in asked.beats]
        return found + [await locate(db, asking, "group", ref, asked.page) for ref in asked.groups]
    pages = asking.pages_for(Permission.READ)
    if asked.page is not None:
        pages = [(await objects.find(db, "page", asked.page, pages=pages)).id]
    listed = [one for kind in ("group", "beat") for one in await objects.listing(db, kind, pages=pages)]
    if not listed:
        raise invalid([("/beats", "there is no beat to replay")])
    return listed


# ---- the policy under test


def _try(
    played: Sequence[Played],
    chosen: set[UUID],
    named: frozenset[UUID] | set[UUID],
    policy: Mapping[str, Any],
    pages: Mapping[UUID, str],
    homes: Mapping[UUID, Stored],
) -> None:
    """Give each of `played` its second spec. Raises 422, with pointers into the policy."""
    is_file = any(key in policy for key in _FILE)
    if not is_file and (unknown := [key for key in policy if key not in KEYS] or ([] if policy else [""])):
        said = (
            f"is no part of a policy; write {', '.join(KEYS)}, or a whole upbeat.yaml with beats and groups"
        )
        raise invalid([(f"/policy/{escape(key)}".rstrip("/"), said) for key in unknown])
    matched, entries = 0, _entries(policy)
    for one in played:
        place, spec, home = "/policy", one.specs[0], homes[one.id]
        known = saving.rule_of(home.kind, spec)
        if is_file:
            page, tried = pages.get(home.page_id) if home.page_id else None, spec
            found = entries.get((one.kind, one.slug, page)) or entries.get((one.kind, one.slug, None))
            if found is not None:
                place, entry = found
                tried = {key: value for key, value in spec.items() if key not in KEYS}
                shared = policy.get("defaults") if one.kind == "beat" else None
                tried |= _written(entry, shared if isinstance(shared, dict) else {}, type(known))
                matched += 1
        else:
            is_meant = one.id in chosen and (one.id in named or one.kind == "beat")
            keys = [
                key for key in policy if one.id in named or (is_meant and key in type(known).model_fields)
            ]
            tried = saving.merged(spec, {key: policy[key] for key in keys})
            matched += bool(keys)
        one.specs.append(_checked(home, tried, place, one))
    if not matched:
        slugs = ", ".join(sorted(f"{one.kind} {one.slug}" for one in played)[:20])
        raise invalid([("/policy", f"it says nothing of what is replayed: {slugs}")])


def _entries(
    policy: Mapping[str, Any],
) -> dict[tuple[str, str, str | None], tuple[str, Mapping[str, Any]]]:
    """Where a file says what of beats and groups, by kind, slug and page; without a page it is of any."""
    found: dict[tuple[str, str, str | None], tuple[str, Mapping[str, Any]]] = {}
    for kind in ("beat", "group"):
        listed = policy.get(f"{kind}s")
        for number, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, dict) and isinstance(slug := entry.get("slug"), str):
                page = None if entry.get("page") is None else str(entry["page"])
                found.setdefault((kind, slug, page), (f"/policy/{kind}s/{number}", entry))
    return found


def _written(entry: Mapping[str, Any], shared: Mapping[str, Any], model: type[Rule]) -> dict[str, Any]:
    """The policy of an entry of a file; what it does not say itself is the file's defaults', as where the file is applied."""
    written: dict[str, Any] = {
        key: shared[key] for key in KEYS if key in shared and key in model.model_fields
    }
    for key in entry.keys() & KEYS:
        own, default = entry[key], written.get(key)
        written[key] = default | own if isinstance(default, dict) and isinstance(own, dict) else own
    return written


def _checked(stored: Stored, tried: dict[str, Any], place: str, one: Played) -> dict[str, Any]:
    try:
        rule = saving.rule_of(stored.kind, tried)
        _refuse_overlap(rule, one)
    except ProblemError as wrong:
        raise invalid([(place + pointer, said) for pointer, said in wrong.errors]) from None
    except ValueError as wrong:
        raise invalid([(f"{place}/quorum", f"{one.slug}: {wrong}")]) from None
    return spec_of(rule)


def _refuse_overlap(rule: Rule, one: Played) -> None:
    if isinstance(rule, ProbedRule):
        regions = rule.regions if rule.regions is not None else one.bound.regions
        zones: dict[str, list[str]] = {}
        for region in regions:
            if zone := one.bound.zones.get(region):
                zones.setdefault(zone, []).append(region)
        rule.quorum.refuse_overlap(len(regions), zones)


# ---- as it is shown


def shown_job(kind: JobKind, row: Row) -> dict[str, Any]:
    """What is the same of a replay and of a preview."""
    status: Literal["waiting", "running", "done", "failed", "cancelled"] = row["status"]
    return {
        "id": show(kind, row["id"]),
        "status": "failed" if row["is_gone"] else status,
        "done": row["done"],
        "rows": row["rows"],
        "by": row["by"],
        "at": row["at"],
        "finished_at": row["finished_at"],
        "asked": row["asked"],
        "error": "the process that ran it is no more; ask again" if row["is_gone"] else row["error"],
    }


def shown_replay(row: Row) -> dict[str, Any]:
    """A stored replay as the contract says."""
    found = replays.decode(row["found"]) if row["found"] else None
    return shown_job("replay", row) | {
        "replayed": [_shown_owner(one) for one in found.replayed] if found else None,
        "retraced": msgspec.to_builtins(found.retraced) if found else None,
        "digest": found.digest if found else None,
    }


def _shown_owner(one: Replayed) -> dict[str, Any]:
    compared: dict[str, Any] = msgspec.to_builtins(one.compared)
    together = {
        name: [{"old": old, "new": new} for old, new in compared[name]] for name in ("merged", "split")
    }
    shown = {"id": one.id, "slug": one.slug, "kind": one.kind}
    return shown | {
        "old": _shown_outcome(one.old),
        "new": _shown_outcome(one.new),
        "compared": compared | together,
    }


def _shown_outcome(outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = timed(msgspec.to_builtins(outcome))
    return shown | {
        "episodes": [{"could_open": None, "closed": None} | episode for episode in shown["episodes"]],
        "turns": [{"at": moment(at), "stage": stage} for at, stage in outcome.turns],
    }


def timed(value: Any, key: str = "") -> Any:
    """What was found, with times as the API shows them."""
    if isinstance(value, dict):
        return {name: timed(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [timed(inner) for inner in value]
    return moment(value) if key in _TIMES and isinstance(value, float) else value
