"""Replays as they are stored (`engine.store.jobs`): what is to be done, and what was found."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from engine.store.database import Connection
from engine.store.states import BOUND, decode_bound
from evaluators.policy import Bound
from evaluators.replay import Compared, Outcome


class Played(Struct):
    """A beat or group in a replay: its specs under the old and the new policy, and what others make of it now."""

    id: UUID
    slug: str
    kind: str
    specs: list[dict[str, Any]]
    bound: Bound
    born: float


class Plan(Struct):
    """What is to be replayed: what hears of each other is one component. `exact`: as it was, from birth on."""

    since: float
    until: float
    exact: bool
    components: list[list[Played]]


class Replayed(Struct):
    """An owner of episodes under the policy it has and under the new one."""

    id: str
    slug: str
    kind: str
    old: Outcome
    new: Outcome
    compared: Compared


class Retraced(Struct):
    """Whether the log leads to the stored state; hashes of both. `reason`: why it cannot be known."""

    id: str
    slug: str
    kind: str
    is_same: bool = False
    stored: str = ""
    replayed: str = ""
    differs: list[str] = []
    reason: str | None = None
    facts: int = 0
    results: int = 0


class Found(Struct):
    """What a replay found: of owners, or where it was exact of all."""

    replayed: list[Replayed] = []
    retraced: list[Retraced] = []
    rows: int = 0
    digest: str = ""


decode_plan: Final = msgspec.json.Decoder(Plan).decode
"""A `plan` column read as text."""
decode: Final = msgspec.json.Decoder(Found).decode
"""A `found` column read as text."""


async def components(connection: Connection, ids: Sequence[UUID]) -> list[list[Played]]:
    """These, with the groups they are in and all members of those; together what hears of each other. With one spec each."""
    rows = await connection.fetch(
        "WITH owners AS (SELECT coalesce(nullif(bound->>'group', '')::uuid, subject_id) AS id FROM states WHERE subject_id = ANY ($1)) "
        "SELECT o.id, o.slug, o.kind, o.spec, extract(epoch FROM o.created_at)::float8 AS born, "
        f"{BOUND} AS bound FROM states s JOIN objects o ON o.id = s.subject_id WHERE o.removed_at IS NULL "
        "AND (o.id IN (SELECT id FROM owners) OR s.bound->>'group' IN (SELECT id::text FROM owners)) ORDER BY o.id",
        list(ids),
    )
    played = {
        str(row["id"]): Played(
            row["id"], row["slug"], row["kind"], [row["spec"]], decode_bound(row["bound"]), row["born"]
        )
        for row in rows
    }
    together = {name: [name] for name in played}
    for name, one in played.items():
        for other in {one.bound.group, *one.bound.parents} & played.keys():
            if together[name] is not together[other]:
                together[name] += together[other]
                together |= dict.fromkeys(together[other], together[name])
    once = {id(names): names for names in together.values()}
    return [[played[name] for name in sorted(names)] for names in once.values()]
