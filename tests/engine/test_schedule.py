"""Laws of the schedule, on a clock moved by hand."""

from collections import Counter
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.schedule import Schedule, fraction_of
from engine.store.ids import new_id


class HandClock:
    """Both clocks, moved by hand."""

    def __init__(self, epoch_s: float = 1_763_600_000.25) -> None:
        self.mono_s, self.offset_s = 5_000.0, epoch_s - 5_000.0

    def monotonic_s(self) -> float:
        return self.mono_s

    def epoch_s(self) -> float:
        return self.mono_s + self.offset_s


def play(schedule: Schedule[int], clock: HandClock, for_s: float) -> list[tuple[float, int]]:
    """Take everything when it is due, for `for_s` seconds: (monotonic due, key)."""
    end_s, taken = clock.mono_s + for_s, []
    while (due_s := schedule.next_due_s()) is not None and due_s <= end_s:
        clock.mono_s = max(clock.mono_s, due_s)
        while (one := schedule.take()) is not None:
            taken.append((one[1], one[0]))
    clock.mono_s = end_s
    return taken


def of_key(taken: list[tuple[float, int]], key: int) -> list[float]:
    return [due_s for due_s, other in taken if other == key]


def filled(clock: HandClock, count: int, interval_s: float) -> Schedule[int]:
    schedule: Schedule[int] = Schedule(clock)
    schedule.put((n, interval_s, fraction_of(UUID(int=n * 7919), 0, 1)) for n in range(count))
    return schedule


def test_ten_thousand_beats_are_spread_evenly_and_never_drift() -> None:
    clock = HandClock()
    schedule = filled(clock, 10_000, 10.0)
    play(schedule, clock, 20.0)  # first runs, then into place
    began_s = clock.mono_s
    taken = play(schedule, clock, 100.0)
    per_s = Counter(int(due_s - began_s) for due_s, _ in taken)
    assert len(taken) == 100_000
    assert 900 <= min(per_s.values()) <= max(per_s.values()) <= 1100
    runs = of_key(taken, 17)
    assert runs[-1] - runs[0] == pytest.approx(9 * 10.0, abs=1e-3)


def test_a_late_start_does_not_move_the_next_one() -> None:
    clock = HandClock()
    schedule = filled(clock, 1, 10.0)
    play(schedule, clock, 30.0)
    due_s = schedule.next_due_s()
    assert due_s is not None
    clock.mono_s = due_s + 4.0
    schedule.take()
    assert schedule.next_due_s() == pytest.approx(due_s + 10.0)


def test_regions_of_a_beat_look_in_turn() -> None:
    clock, beat = HandClock(), new_id()
    schedule: Schedule[int] = Schedule(clock)
    schedule.put((region, 30.0, fraction_of(beat, region, 3)) for region in range(3))
    play(schedule, clock, 90.0)
    looks = [due_s for due_s, _ in play(schedule, clock, 300.0)]
    assert len(looks) == 30
    assert all(after - before == pytest.approx(10.0) for before, after in pairwise(looks))


def test_two_processes_agree_on_the_grid() -> None:
    one, other = HandClock(), HandClock(1_763_600_004.0)
    other.mono_s, other.offset_s = 77.0, 1_763_600_004.0 - 77.0
    places = []
    for clock in (one, other):
        schedule = filled(clock, 1, 10.0)
        play(schedule, clock, 40.0)
        due_s = schedule.next_due_s()
        assert due_s is not None
        places.append((due_s + clock.offset_s) % 10.0)
    assert places[0] == pytest.approx(places[1], abs=1e-3)


@pytest.mark.parametrize(
    ("count", "interval_s", "within_s"),
    [
        pytest.param(100, 60.0, 2.2, id="a hundred beats within 2.2 s"),
        pytest.param(10_000, 60.0, 22.0, id="ten thousand within 22 s"),
        pytest.param(10_000, 10.0, 10.0, id="but never longer than the interval"),
        pytest.param(1, 3600.0, 0.0, id="one at once"),
    ],
)
def test_first_runs_are_spread(count: int, interval_s: float, within_s: float) -> None:
    clock = HandClock()
    schedule, began_s = filled(clock, count, interval_s), clock.mono_s
    firsts: dict[int, float] = {}
    for due_s, key in play(schedule, clock, within_s):
        firsts.setdefault(key, due_s - began_s)
    assert len(firsts) == count
    if count > 1:
        assert max(firsts.values()) == pytest.approx(within_s, rel=0.02)


@given(interval_s=st.floats(1.0, 3600.0), fraction=st.floats(0, 1, exclude_max=True))
def test_the_second_run_comes_half_to_one_and_a_half_intervals_later(
    interval_s: float, fraction: float
) -> None:
    clock = HandClock()
    schedule: Schedule[int] = Schedule(clock)
    schedule.put([(1, interval_s, fraction)])
    first_s, second_s, third_s = of_key(play(schedule, clock, 3 * interval_s), 1)[:3]
    assert 0.499 * interval_s <= second_s - first_s <= 1.501 * interval_s
    assert third_s - second_s == pytest.approx(interval_s)
    assert ((third_s + clock.offset_s) / interval_s - fraction) % 1 == pytest.approx(0, abs=1e-3) or (
        (third_s + clock.offset_s) / interval_s - fraction
    ) % 1 == pytest.approx(1, abs=1e-3)


@given(jump_s=st.floats(-7200, 7200), interval_s=st.sampled_from([1.0, 7.0, 10.0, 60.0]))
def test_setting_the_wall_clock_makes_neither_burst_nor_hole(jump_s: float, interval_s: float) -> None:
    clock = HandClock()
    schedule = filled(clock, 20, interval_s)
    before = play(schedule, clock, 5 * interval_s)
    clock.offset_s += jump_s
    taken = before[-20:] + play(schedule, clock, 12 * interval_s)
    for key in range(20):
        gaps = [after - before for before, after in pairwise(of_key(taken, key))]
        assert all(0.899 * interval_s <= gap <= 1.101 * interval_s for gap in gaps)
        assert gaps[-1] == pytest.approx(interval_s, abs=1e-3)  # in its new place by now


def test_an_hour_asleep_is_one_catch_up_run_each_and_those_are_spread() -> None:
    clock = HandClock()
    schedule = filled(clock, 5_000, 60.0)
    play(schedule, clock, 120.0)
    clock.mono_s += 3600.0
    began_s = clock.mono_s
    assert schedule.stood_still() == 5_000
    caught_up = play(schedule, clock, 12.0)
    assert Counter(key for _, key in caught_up).most_common(1)[0][1] == 1
    assert len(caught_up) == 5_000
    assert max(Counter(int(due_s - began_s) for due_s, _ in caught_up).values()) <= 430
    assert schedule.missed == pytest.approx(5_000 * 59, rel=0.02)


def test_who_waited_an_hour_for_a_slot_runs_once() -> None:
    clock = HandClock()
    schedule = filled(clock, 1, 10.0)
    play(schedule, clock, 30.0)
    clock.mono_s += 3600.0
    assert schedule.take() is not None
    assert schedule.take() is None
    due_s = schedule.next_due_s()
    assert due_s is not None
    assert 5.0 <= due_s - clock.mono_s <= 15.0


def test_a_dropped_entry_is_not_due_and_the_heap_does_not_keep_it() -> None:
    clock = HandClock()
    schedule = filled(clock, 1000, 86_400.0)
    play(schedule, clock, 10.0)
    for n in range(1000):
        schedule.drop(n)
    assert schedule.next_due_s() is None
    assert len(schedule) == 0
    assert len(schedule._heap) < 100


def test_a_changed_interval_holds_from_the_next_turn() -> None:
    clock = HandClock()
    schedule = filled(clock, 1, 600.0)
    play(schedule, clock, 10.0)
    schedule.put([(0, 10.0, 0.5)])
    runs = of_key(play(schedule, clock, 60.0), 0)
    assert len(runs) == 6


def test_the_same_pace_again_keeps_the_turn() -> None:
    clock = HandClock()
    schedule = filled(clock, 1, 600.0)
    play(schedule, clock, 10.0)
    due_s = schedule.next_due_s()
    schedule.put([(0, 600.0, fraction_of(UUID(int=0)))])
    assert schedule.next_due_s() == due_s
