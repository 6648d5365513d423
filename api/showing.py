"""Declared objects as the API shows them: every field with its default, secrets masked, beats and groups with their stage."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from msgspec.structs import asdict

from api import windows
from api.auth import Permission, Principal
from api.context import Services
from api.saving import masked, may_edit
from engine.store import inboxes, objects, pings, received, records, regions, signals, states
from engine.store.database import Connection, Row
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.records import Standing
from engine.store.reviews import episode_id
from engine.store.triggers import modes_of
from evaluators.policy import Policy, compile_policy
from evaluators.quorum import fresh_votes, need_of
from evaluators.state import State
from evaluators.words import region_is_sick
from rules.known import Kind
from rules.models import MODELS, TYPED
from rules.sentence import sentence
from rules.shape import Rule
from rules.subject import rule_of
from rules.trigger import Trigger

_SIGNAL: Final = ("source", "fingerprint", "severity", "message", "since", "at", "by", "evidence")


async def shown(
    services: Services, db: Connection, asking: Principal, kind: Kind, found: Sequence[Stored]
) -> list[dict[str, Any]]:
    """`found` (all of one kind) as JSON, in a number of queries that does not depend on how many they are."""
    pages = await page_slugs(db)
    items = [_declared(stored, pages, asking) for stored in found]
    if kind == "maintenance":
        seen = await windows.seen(db, asking, found, pages, services.clock.epoch_s())
        return [item | beside for item, beside in zip(items, seen, strict=True)]
    if kind == "region":
        sick = await regions.suspended(db)
        for stored, item in zip(found, items, strict=True):
            row = sick.get(stored.slug)
            item["sick"] = {"since": row["began_at"], "why": region_is_sick(**row["why"])} if row else None
    if kind == "inbox":
        more = await _opened_by(services, db, found)
        return [item | more[stored.id] for stored, item in zip(found, items, strict=True)]
    if kind == "trigger":
        standing = await records.standings(db, [stored.id for stored in found])
        return [
            item | _judging(Trigger.model_validate(stored.spec), standing[stored.id])
            for stored, item in zip(found, items, strict=True)
        ]
    if kind in ("beat", "group") and found:
        ids = [stored.id for stored in found]
        rows, opened = await states.summaries(db, ids), await signals.of_beats(db, ids)
        known = {subject_id: states.decode_state(row["state"]) for subject_id, row in rows.items()}
        called = await reasons(
            db, asking, (reason for state in known.values() for reason in state.suppressed_by)
        )
        keys = await pings.keys(db, [stored.id for stored in found if may_edit(asking, stored)])
        members = await states.members(db, ids) if kind == "group" else {}
        now_s = services.clock.epoch_s()
        for stored, item in zip(found, items, strict=True):
            row, state = rows[stored.id], known[stored.id]
            policy = policy_of(stored.kind, stored.spec, row["bound"])
            item.update(_standing(stored, row, state, now_s))
            item["suppressed_by"] = [called[reason] for reason in state.suppressed_by]
            item["signals"] = [shown_signal(row) for row in opened[stored.id]]
            if kind == "group":
                names = {str(member["id"]): member["slug"] for member in members[stored.id]}
                item["advisories"] = _advisories(
                    state, members=[names.get(one, one) for one in state.dissent]
                )
                item["need"] = _need(policy, state, now_s)
                item["members"] = [_member(member, state) for member in members[stored.id]]
                continue
            item["votes"] = _votes(policy, state, now_s)
            item["advisories"] = _advisories(state, regions=state.dissent)
            item["ping"] = None
            if stored.spec["type"] == "heartbeat":
                item["ping"] = heartbeat(services, row, keys.get(stored.id))
    return items


def ingest_url(services: Services) -> str:
    """Where others post; the token goes into a header, or behind it."""
    return f"{services.settings.public_url or ''}/api/v1/external-events/ingest"


async def _opened_by(
    services: Services, db: Connection, found: Sequence[Stored]
) -> dict[UUID, dict[str, Any]]:
    """What is shown of inboxes beside what is declared: their tokens, and what comes."""
    ids, kept = [stored.id for stored in found], ("hint", "created_at", "created_by", "expires_at")
    told: dict[UUID, list[dict[str, Any]]] = {one: [] for one in ids}
    for row in await inboxes.tokens(db, ids):
        told[row["inbox_id"]].append({"id": show("token", row["id"])} | {name: row[name] for name in kept})
    return {
        one: {
            "tokens": told[one],
            "ingest_url": ingest_url(services),
            "events_24h": row["events_24h"],
            "last_event_at": row["last_event_at"],
        }
        for one, row in (await received.activity(db, ids)).items()
    }


def _judging(rule: Trigger, standing: Standing) -> dict[str, Any]:
    """What is shown of a trigger beside what is declared."""
    promoted, tally = standing.promoted, standing.tally
    return {
        "sentence": sentence(rule),
        "effective": asdict(modes_of(rule, promoted)),
        "promoted": {
            "by": promoted["by"],
            "at": states.moment(promoted["at"]),
            "steps": promoted["steps"],
            "record": promoted["record"] | {"since": states.moment(promoted["record"]["since"])},
            "holds": promoted["rule"] == rule.digest,
        }
        if promoted
        else None,
        "open_signals": standing.open_signals,
        "last_matched_at": states.moment(tally.matched_at) if tally.matched_at else None,
        "counts": {name: getattr(tally, name) for name in ("matches", "opened", "resolved", "errors")},
    }


def may_name(asking: Principal, one: Stored) -> bool:
    """Whether they may hear what this is called. What is depended on is named where it is; who maintains what feeds another page is not."""
    return one.kind != "maintenance" or asking.may(Permission.READ, one.page_id)


async def reasons(db: Connection, asking: Principal, found: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What stands in `suppressed_by`, for people."""
    parted = {reason: reason.partition(":") for reason in found}
    ids = [UUID(object_id) for _, _, object_id in parted.values() if object_id]
    every = await objects.several(db, ids) if ids else []
    stored = {str(one.id): one for one in every if may_name(asking, one)}
    called: dict[str, dict[str, Any]] = {}
    for reason, (kind, _, object_id) in parted.items():
        one = stored.get(object_id)
        called[reason] = {
            "kind": kind,
            "id": show(one.kind, one.id) if one else None,
            "slug": one.slug if one else None,
        }
    return called


def shown_signal(row: Row) -> dict[str, Any]:
    """A row of `signals` as the contract says."""
    return {name: row[name] for name in _SIGNAL}


def heartbeat(services: Services, row: Row, key: str | None) -> dict[str, Any]:
    """What a heartbeat waits for, from the row of its state; `key` for who may edit it."""
    state = states.decode_state(row["state"]).heartbeat
    return {
        "url": f"{services.settings.public_url or ''}/ping/{key}" if key else None,
        "last": states.moment(state.pinged_at) if state.pinged_at else None,
        "due": states.moment(state.due_at) if state.due_at else None,
        "missed": state.missed,
        "running": {name: states.moment(run.at) for name, run in state.runs.items()},
    }


async def page_slugs(db: Connection) -> dict[UUID, str]:
    """Every page's slug."""
    return {stored.id: stored.slug for stored in await objects.listing(db, "page")}


def _declared(stored: Stored, pages: Mapping[UUID, str], asking: Principal) -> dict[str, Any]:
    spec = stored.spec if may_edit(asking, stored) else masked(stored.spec, stored.kind)
    item = {"id": show(stored.kind, stored.id), "slug": stored.slug} | _filled(
        defaults_of(stored.kind, stored.spec.get("type")), spec
    )
    if stored.page_id is not None:
        item["page"] = pages.get(stored.page_id)
    return item | {
        "managed_by": stored.managed_by,
        "source": stored.source,
        "revision": stored.revision,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _filled(defaults: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """`spec` with the defaults it leaves out, also inside quorum and incidents."""
    return dict(defaults) | {
        key: _filled(defaults[key], value)
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
        else value
        for key, value in spec.items()
    }


@cache
def defaults_of(kind: Kind, type_: str | None) -> dict[str, Any]:
    """What a kind's fields are when nobody says otherwise, as JSON."""
    model = MODELS[kind] if kind in MODELS else TYPED[kind][type_ or ""]
    given = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    made = model.model_construct(
        **{name: value for name, value in given.items() if not _is_required(model, name)}
    )
    dumped: dict[str, Any] = made.model_dump(mode="json", by_alias=True, warnings=False)
    dumped.pop("page", None)
    return dumped


def _is_required(model: type[Rule], name: str) -> bool:
    return model.model_fields[name].is_required()


def _standing(stored: Stored, row: Row, state: State, now_s: float) -> dict[str, Any]:
    """What Upbeat says of a beat or group: the contract's `stage` and `since`, and what stands beside them."""
    until: datetime | None = row["paused_until"]
    is_paused = until is not None and until.timestamp() > now_s
    forever = is_paused and until is not None and until.year >= 9999
    return {
        "stage": row["stage"],
        "since": row["since"],
        "paused": is_paused,
        "paused_until": until if is_paused and not forever else None,
        "episode": show("episode", episode_id(stored.id, state.episodes)) if state.severity else None,
        "flapping": state.flapping,
    }


def policy_of(kind: str, spec: Mapping[str, Any], bound: str) -> Policy:
    """The policy of a beat or group among what else there is, which is a `bound` column read as text."""
    return compile_policy(rule_of(kind, spec), states.decode_bound(bound))


def _votes(policy: Policy, state: State, now_s: float) -> list[dict[str, Any]]:
    fresh = fresh_votes(policy, state, now_s)
    votes = []
    for slug in policy.regions:
        region = state.regions.get(slug)
        verdict = region.vote.verdict if region else None
        at = datetime.fromtimestamp(region.vote.at, UTC) if region and verdict else None
        votes.append({"region": slug, "verdict": verdict, "at": at, "fresh": slug in fresh})
    return votes


def _advisories(
    state: State, *, regions: Sequence[str] = (), members: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Minorities that have been bad for so long that operators were told."""
    if not state.advised:
        return []
    since = states.moment(state.dissent_since)
    return [{"kind": "minority", "regions": list(regions), "members": list(members), "since": since}]


def _need(policy: Policy, state: State, now_s: float) -> dict[str, int]:
    """How many members it takes, and how many there are."""
    need = need_of(policy, state)
    return {
        "critical": need.critical.open,
        "warning": need.warning.open,
        "min_voters": need.min_voters,
        "available": len(fresh_votes(policy, state, now_s)),
    }


def _member(row: Row, state: State) -> dict[str, Any]:
    """A beat that names the group. It does not count while it is paused, or has yet to join: when it is ok."""
    said = state.members.get(str(row["id"]))
    return {
        "id": show("beat", row["id"]),
        **{name: row[name] for name in ("slug", "stage", "since")},
        "suppressed": said is not None and said.is_suppressed,
        "counts": said is not None and said.counts,
    }
