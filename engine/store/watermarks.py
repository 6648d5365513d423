"""How far each probe's batches are committed: written in the evaluator's transaction, read by the spool that waits for it.

A watermark is `seq`, up to which everything is committed or was given up by its probe, and `ahead`, the few batches
beyond it that are committed too.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from engine.store.database import Connection

AHEAD_MAX: Final = 1000
"""Sequences remembered beyond a gap. More are forgotten: they are published again, and stored once by their run ids."""


def advanced(seq: int, ahead: Iterable[int], new: Iterable[int]) -> tuple[int, tuple[int, ...]]:
    """The watermark (seq, ahead) once `new` is committed as well; `ahead` is sorted and at most AHEAD_MAX long.

    It never goes back and never claims what was not committed: of too many, the furthest ahead are forgotten.
    """
    beyond = sorted(n for n in {*ahead, *new} if n > seq)
    done = 0
    while done < len(beyond) and beyond[done] == seq + 1:
        seq += 1
        done += 1
    return seq, tuple(beyond[done : done + AHEAD_MAX])


async def advance(
    connection: Connection, boot_id: str, partition: int, seqs: Sequence[int], now_s: float
) -> None:
    """Mark the batches `seqs` as committed, in the caller's transaction. `now_s`: seconds since the epoch."""
    if not seqs:
        return
    first, last = min(seqs), max(seqs)
    boot = UUID(boot_id)
    if last - first + 1 == len(set(seqs)):  # nearly always: the next ones, in a row, and nothing beyond a gap
        done = await connection.execute(
            "UPDATE watermarks SET seq = $4, at = to_timestamp($5) "
            "WHERE boot_id = $1 AND partition = $2 AND seq >= $3 - 1 AND seq <= $4 AND ahead = '{}'",
            boot,
            partition,
            first,
            last,
            now_s,
        )
        if done == "UPDATE 1":
            return
    # The row is made first, so that two evaluators wait for each other on it rather than on nothing.
    row = await connection.fetchrow(
        "INSERT INTO watermarks AS w (boot_id, partition, seq, at) VALUES ($1, $2, 0, to_timestamp($3)) "
        "ON CONFLICT (boot_id, partition) DO UPDATE SET at = excluded.at RETURNING w.seq, w.ahead",
        boot,
        partition,
        now_s,
    )
    assert row is not None
    seq, ahead = advanced(row["seq"], row["ahead"], seqs)
    await connection.execute(
        "UPDATE watermarks SET seq = $3, ahead = $4 WHERE boot_id = $1 AND partition = $2",
        boot,
        partition,
        seq,
        list(ahead),
    )


async def pass_over(connection: Connection, boot_id: str, partition: int, seq: int, now_s: float) -> None:
    """Wait no longer for what is not committed up to `seq`: the probe has dropped it. Never goes back."""
    await connection.execute(
        "INSERT INTO watermarks AS w (boot_id, partition, seq, at) VALUES ($1, $2, $3, to_timestamp($4)) "
        "ON CONFLICT (boot_id, partition) DO UPDATE SET seq = greatest(w.seq, excluded.seq), at = excluded.at, "
        "ahead = ARRAY (SELECT n FROM unnest(w.ahead) AS n WHERE n > excluded.seq ORDER BY n)",
        UUID(boot_id),
        partition,
        seq,
        now_s,
    )


async def committed(connection: Connection, boot_id: str) -> dict[int, tuple[int, frozenset[int]]]:
    """(seq, ahead) of each partition in which anything of this boot is committed."""
    rows = await connection.fetch(
        "SELECT partition, seq, ahead FROM watermarks WHERE boot_id = $1", UUID(boot_id)
    )
    return {row["partition"]: (row["seq"], frozenset(row["ahead"])) for row in rows}
