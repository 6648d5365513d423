"""The log of facts that are no results: with them, and the results, every decision of the past can be made again."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from engine.store.database import Connection
from evaluators.facts import Kept
from evaluators.policy import Bound

_KEPT: Final = msgspec.json.Decoder(Kept)


async def keep(connection: Connection, facts: Sequence[tuple[UUID, Kept, Bound | None]]) -> None:
    """Write facts, in their order; of those with a `bound`, what they were folded with: that and the spec."""
    if facts:
        await connection.execute(
            "INSERT INTO facts (subject_id, at, fact, bound, spec) "
            "SELECT f.subject_id, f.at, f.fact::json, f.bound::json, CASE WHEN f.bound IS NOT NULL THEN o.spec END "
            "FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::text[]) WITH ORDINALITY "
            "AS f (subject_id, at, fact, bound, n) JOIN objects o ON o.id = f.subject_id ORDER BY f.n",
            [subject_id for subject_id, _, _ in facts],
            [fact.at for _, fact, _ in facts],
            [msgspec.json.encode(fact).decode() for _, fact, _ in facts],
            [msgspec.json.encode(bound).decode() if bound is not None else None for _, _, bound in facts],
        )


def decode(text: str) -> Kept:
    """A `fact` column read as text."""
    fact: Kept = _KEPT.decode(text)
    return fact
