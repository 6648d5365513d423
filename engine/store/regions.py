"""What is seen of regions by each partition, and when which of them was suspended."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from engine.store.database import Connection, Row
from engine.store.objects import CHANGED
from evaluators.sickness import HOSTS_KEPT, Count, Effect, RegionSuspended

STALE_S: Final = 90.0
"""What a partition said longer ago than this, nobody stands for."""


async def keep(connection: Connection, partition: int, counts: Mapping[str, Count]) -> None:
    """What a partition sees of all regions now, instead of what it said before."""
    await connection.execute(
        "WITH gone AS (DELETE FROM region_votes WHERE partition = $1 AND region <> ALL ($2)) "
        "INSERT INTO region_votes (partition, region, beats, ok, lonely, hosts, at) "
        "SELECT $1, region, beats, ok, lonely, string_to_array(hosts, E'\\n'), clock_timestamp() "
        "FROM unnest($2::text[], $3::int[], $4::int[], $5::int[], $6::text[]) AS n (region, beats, ok, lonely, hosts) "
        "ON CONFLICT (partition, region) DO UPDATE SET beats = excluded.beats, ok = excluded.ok, "
        "lonely = excluded.lonely, hosts = excluded.hosts, at = excluded.at",
        partition,
        list(counts),
        [count.beats for count in counts.values()],
        [count.ok for count in counts.values()],
        [count.lonely for count in counts.values()],
        ["\n".join(sorted(count.hosts)[:HOSTS_KEPT]) for count in counts.values()],
    )


async def counts(connection: Connection) -> dict[str, Count]:
    """What all partitions together see, of each region."""
    rows = await connection.fetch(
        "SELECT region, beats, ok, lonely, hosts FROM region_votes "
        "WHERE at > clock_timestamp() - make_interval(secs => $1)",
        STALE_S,
    )
    found: dict[str, Count] = {}
    for row in rows:
        seen = Count(row["beats"], row["ok"], row["lonely"], frozenset(row["hosts"]))
        found[row["region"]] = found.get(row["region"], Count()) + seen
    return found


async def suspended(connection: Connection) -> dict[str, Row]:
    """Regions that are suspended now: `id`, `began_at` and `why` of each."""
    rows = await connection.fetch(
        "SELECT region, id, began_at, why FROM suspensions WHERE ended_at IS NULL ORDER BY region"
    )
    return {row["region"]: row for row in rows}


async def keep_effect(connection: Connection, effect: Effect) -> int | None:
    """Write that a region is suspended, or no longer; the id of its row, None where another process was first."""
    if isinstance(effect, RegionSuspended):
        suspension_id: int | None = await connection.fetchval(
            "INSERT INTO suspensions (region, began_at, why) VALUES ($1, to_timestamp($2), $3) "
            "ON CONFLICT (region) WHERE ended_at IS NULL DO NOTHING RETURNING id",
            effect.region,
            effect.at,
            {"beats": effect.count.beats, "lonely": effect.count.lonely},
        )
    else:
        suspension_id = await connection.fetchval(
            "UPDATE suspensions SET ended_at = to_timestamp($2) WHERE region = $1 AND ended_at IS NULL RETURNING id",
            effect.region,
            effect.at,
        )
    if suspension_id is not None:
        await connection.execute("SELECT pg_notify($1, 'region')", CHANGED)
    return suspension_id


async def pages(connection: Connection, region: str) -> list[UUID]:
    """The pages that have a beat there."""
    rows = await connection.fetch(
        "SELECT DISTINCT b.page_id FROM objects b WHERE b.kind = 'beat' AND b.removed_at IS NULL "
        "AND b.spec->>'type' NOT IN ('heartbeat', 'external') "
        "AND (b.spec->'regions' IS NULL OR b.spec->'regions' ? $1) ORDER BY b.page_id",
        region,
    )
    return [row["page_id"] for row in rows]
