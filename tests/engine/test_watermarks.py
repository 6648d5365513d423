"""Watermarks: the pure helper by its laws, the statements on PostgreSQL."""

import random
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from engine.store.database import Pool
from engine.store.watermarks import AHEAD_MAX, advance, advanced, committed, pass_over

SEQS = st.sets(st.integers(1, 60))


@given(first=SEQS, second=SEQS)
def test_in_whatever_order_batches_are_committed_the_mark_is_the_same(
    first: set[int], second: set[int]
) -> None:
    at_once = advanced(0, (), first | second)
    assert advanced(*advanced(0, (), first), second) == at_once
    assert advanced(*advanced(0, (), second), first) == at_once


@given(new=SEQS)
def test_it_says_exactly_what_was_committed(new: set[int]) -> None:
    seq, ahead = advanced(0, (), new)
    assert set(range(1, seq + 1)) | set(ahead) == new
    assert list(ahead) == sorted(ahead)
    assert not ahead or ahead[0] > seq + 1


@given(seq=st.integers(0, 50), ahead=SEQS, new=SEQS)
def test_it_never_goes_back(seq: int, ahead: set[int], new: set[int]) -> None:
    assert advanced(seq, ahead, new)[0] >= seq


def test_too_many_beyond_a_gap_forgets_the_furthest_and_claims_nothing() -> None:
    seq, ahead = advanced(0, (), range(2, AHEAD_MAX + 500))
    assert (seq, len(ahead), ahead[-1]) == (0, AHEAD_MAX, AHEAD_MAX + 1)
    assert advanced(seq, ahead, [1]) == (AHEAD_MAX + 1, ())


async def test_what_is_advanced_is_read_back(pool: Pool) -> None:
    boot, other = str(uuid4()), str(uuid4())
    async with pool.acquire() as connection:
        assert await committed(connection, boot) == {}
        for seqs in ([1], [2, 3], [4], [7, 6], [4, 5], [10]):
            await advance(connection, boot, 3, seqs, 1_700_000_000.0)
        await advance(connection, boot, 0, [2], 1_700_000_000.0)
        await advance(connection, other, 0, [1], 1_700_000_000.0)
        await advance(connection, boot, 5, [], 1_700_000_000.0)
        assert await committed(connection, boot) == {3: (7, frozenset({10})), 0: (0, frozenset({2}))}


async def test_any_order_and_any_repetition_ends_at_the_same_mark(pool: Pool) -> None:
    boot, seqs = str(uuid4()), list(range(1, 101)) * 2
    random.Random(7).shuffle(seqs)
    async with pool.acquire() as connection:
        while seqs:
            await advance(connection, boot, 1, [seqs.pop() for _ in range(min(3, len(seqs)))], 1.0)
        assert await committed(connection, boot) == {1: (100, frozenset())}


async def test_what_was_given_up_is_passed_over_and_nothing_goes_back(pool: Pool) -> None:
    boot = str(uuid4())
    async with pool.acquire() as connection:
        await advance(connection, boot, 0, [1, 5, 8, 9], 1.0)
        await pass_over(connection, boot, 0, 7, 1.0)
        assert await committed(connection, boot) == {0: (7, frozenset({8, 9}))}
        await pass_over(connection, boot, 0, 3, 1.0)
        await advance(connection, boot, 0, [10], 1.0)
        await pass_over(connection, boot, 1, 4, 1.0)
        assert await committed(connection, boot) == {0: (10, frozenset()), 1: (4, frozenset())}
