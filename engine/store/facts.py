"""The log of facts that are no runs: with them, and the results, every decision of the past can be made again."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from engine.store.database import Connection
from evaluators.facts import Fact
from evaluators.policy import Bound

decode: Final = msgspec.json.Decoder[Fact](Fact).decode
"""A `fact` column read as text."""


class Logged(msgspec.Struct, frozen=True):
    """A fact to be kept; where it changed the policy, what that was made of: `bound`, and the spec of that `revision`."""

    subject_id: UUID
    fact: Fact
    bound: Bound | None = None
    revision: int | None = None


async def keep(connection: Connection, facts: Sequence[Logged]) -> None:
    """Write facts, in their order."""
    if facts:
        await connection.execute(
            "INSERT INTO facts (subject_id, at, fact, bound, revision, spec) "
            "SELECT f.subject_id, f.at, f.fact::json, f.bound::json, f.revision, o.spec "
            "FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::text[], $5::int8[]) WITH ORDINALITY "
            "AS f (subject_id, at, fact, bound, revision, n) "
            "LEFT JOIN objects o ON o.id = f.subject_id AND o.revision = f.revision ORDER BY f.n",
            [one.subject_id for one in facts],
            [one.fact.at for one in facts],
            [msgspec.json.encode(one.fact).decode() for one in facts],
            [msgspec.json.encode(one.bound).decode() if one.bound is not None else None for one in facts],
            [one.revision for one in facts],
        )
