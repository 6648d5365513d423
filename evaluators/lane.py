"""A short cut through `quorum.decide` for what nearly every result is, in one or more states at once. It decides nothing new.

A scheduled ok result, newer than all before it, of a region that says ok while its votes are fresh and no round is out,
changes nothing but the times and counts of its region. So many of them are only counted, and written into the states
(`settle`) before anything else is folded. tests/evaluators/test_lane.py holds it against plain `decide`.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from evaluators import vote as votes
from evaluators.model import Kind, Verdict
from evaluators.policy import Policy
from evaluators.quorum import next_deadline
from evaluators.state import State
from evaluators.vote import Region, Seen, Vote


class Course(Protocol):
    """A state under a policy."""

    policy: Policy
    state: State


class _Track:
    """A region that says ok: its newest result, and those that are not settled yet."""

    __slots__ = ("at", "boot", "count", "last", "max_age_s", "seq")

    def __init__(self, at: float, boot: str, seq: int, max_age_s: float, keeps: int) -> None:
        self.at, self.boot, self.seq, self.max_age_s, self.count = at, boot, seq, max_age_s, 0
        self.last: deque[tuple[float, str, int]] = deque(maxlen=keeps)


class Guard(Protocol):
    """What knows until when time changes nothing: a lane, or where several hear of each other what they are in."""

    due: float

    def pass_time(self, at: float) -> None:
        """Work out `due`; let time do what it does until `at`, or leave that to whoever asks."""


def count(
    lanes: Sequence["Lane"], guards: Sequence[Guard], rows: Iterator[Any], untils: Sequence[float]
) -> Any | None:
    """Count the rows that change nothing but counts, in the order of time; the first that is not counted, or None.

    A row is (place of its lane, end of the run, region, boot, sequence, None if it is scheduled and ok). This is
    `Lane.take` written out: it runs for every result that is replayed.
    """
    for row in rows:
        n, at, region, boot, seq, more = row
        if more is not None or at >= untils[n]:
            return row
        guard = guards[n]
        if at >= guard.due:
            guard.pass_time(at)
            if at >= guard.due:
                return row
        track = lanes[n].tracks.get(region)
        if (
            track is None
            or boot != track.boot
            or seq <= track.seq
            or not 0.0 <= at - track.at <= track.max_age_s
        ):
            return row
        track.seq = seq
        track.at = at
        track.count += 1
        track.last.append((at, boot, seq))
    return None


class Lane:
    """The states of one beat. `due`: before then time changes nothing (it may be too early, never too late)."""

    def __init__(self, courses: Sequence[Course]) -> None:
        self.due = -math.inf
        self._courses = courses
        self._tracks: dict[str, _Track] = {}
        self.tracks: dict[str, _Track] = {}  # the same, but while a round is out
        self._at = self._fixed = -math.inf
        self._is_settled = True

    def take(self, region: str, at: float, measured_at: float, boot: str, seq: int) -> bool:
        """Count a scheduled ok result that is seen at `at`; False when it has to be decided. Before that, `settle`."""
        if at < self._at:
            at = self._at
        if at >= self.due:
            self.refresh()
            if at >= self.due:
                return False
        track = self.tracks.get(region)
        if track is None:
            return False
        before = track.at
        if measured_at < before or measured_at - before > track.max_age_s:
            return False
        if boot == track.boot:
            if seq <= track.seq:
                return False
        else:
            track.boot = boot
        track.seq = seq
        track.at = measured_at
        track.count += 1
        track.last.append((measured_at, boot, seq))
        self._at = at
        return True

    def watch(self, region: str, boot: str, seq: int) -> None:
        """The scheduled ok result that was just decided: count those after it, if its region is as calm as it takes."""
        self._tracks.pop(region, None)
        if self._is_newest(region, boot, seq):
            heeding = [course for course in self._courses if _heeds(course.policy, region)]
            if not heeding:
                return
            max_age_s = min(course.policy.max_age_s for course in heeding)
            keeps = max(course.policy.window for course in heeding) + 1
            at = heeding[0].state.regions[region].vote.at
            self._tracks[region] = _Track(at, boot, seq, max_age_s, keeps)

    def _is_newest(self, region: str, boot: str, seq: int) -> bool:
        """Whether its newest result, in every state, is this one, and it says ok."""
        for course in self._courses:
            if not _heeds(course.policy, region):
                continue
            held = course.state.regions.get(region)
            if held is None or not held.recent or held.vote.verdict is not Verdict.OK:
                return False
            newest = held.recent[-1]
            if newest.at != held.vote.at or newest.seq != seq or newest.boot != boot:
                return False
        return True

    def _resume(self) -> None:
        """Something else was folded: go on with what is calm still."""
        self._at = max(course.state.at for course in self._courses)
        self._tracks = {
            region: track
            for region, track in self._tracks.items()
            if track.at + track.max_age_s > self._at and self._is_newest(region, track.boot, track.seq)
        }
        states = [course.state for course in self._courses]
        if any(state.suspended for state in states):
            self._tracks = {}
        goes_on = any(
            state.round is not None or state.askers or state.suppressed_by or state.clear_after
            for state in states
        )
        self.tracks = {} if goes_on else self._tracks
        self._is_settled = False
        self._fixed = self.due = -math.inf

    def pass_time(self, at: float) -> None:
        """Work out `due`. What time does is for who asked."""
        self.refresh()

    def refresh(self) -> None:
        """Work out `due`."""
        if self._is_settled:
            self._resume()
        if self._fixed == -math.inf:
            self._fixed = min(map(self._deadline, self._courses))
        due = self._fixed
        for track in self._tracks.values():
            if (until := track.at + track.max_age_s) < due:
                due = until
        self.due = due

    def _deadline(self, course: Course) -> float:
        """The next one but for the votes that are tracked."""
        regions = {slug: held for slug, held in course.state.regions.items() if slug not in self._tracks}
        found = next_deadline(course.policy, replace(course.state, regions=regions))
        return math.inf if found is None else found

    def settle(self) -> None:
        """Bring the states to what was counted: now they may be changed."""
        counted = {region: track for region, track in self._tracks.items() if track.count}
        self._at = max([self._at, *(track.at for track in counted.values())])
        for course in self._courses if counted else ():
            state, policy = course.state, course.policy
            regions = {
                region: after_oks(policy, state.regions[region], track.count, track.last, state.returned_at)
                for region, track in counted.items()
                if _heeds(policy, region)
            }
            course.state = replace(state, at=max(state.at, self._at), regions={**state.regions, **regions})
        for track in counted.values():
            track.count = 0
            track.last.clear()
        self._is_settled, self.due = True, -math.inf


def _heeds(policy: Policy, region: str) -> bool:
    return region in policy.regions or region in policy.sick


def after_oks(
    policy: Policy, region: Region, count: int, last: Sequence[tuple[float, str, int]], returned_at: float
) -> Region:
    """`region` after `count` scheduled ok results more, none of which finds it stale, as `votes.see` makes it of one after
    the other. `last`: (time, boot, sequence) of the newest of them, one more than `policy.window` keeps if there are.
    """
    window, recent, base = policy.window, region.recent, region.base
    leaving = max(0, len(recent) + count - window)
    base = _stepped(policy, base, recent[:leaving], returned_at)
    if leaving > len(recent):
        base = _after_ok(policy, base, leaving - len(recent), last[-window - 1][0])
    newest = list(last)[-min(count, window) :]
    kept = (*recent[leaving:], *(Seen(Verdict.OK, Kind.SCHEDULED, *seen) for seen in newest))
    vote = _after_ok(policy, region.vote, count, last[-1][0])
    return Region(base, kept, vote, region.full or leaving > 0)


def _stepped(policy: Policy, base: Vote, leaving: Sequence[Seen], returned_at: float) -> Vote:
    """`votes.step` over these; at once where they are calm as well."""
    at, latest = base.at, policy.max_age_s
    for seen in leaving:
        if (
            seen.verdict is not Verdict.OK
            or seen.kind is not Kind.SCHEDULED
            or not 0.0 <= seen.at - at <= latest
        ):
            break
        at = seen.at
    else:
        return _after_ok(policy, base, len(leaving), at) if leaving else base
    for seen in leaving:
        base = votes.step(policy, base, seen, returned_at)
    return base


def _after_ok(policy: Policy, vote: Vote, count: int, at: float) -> Vote:
    """`vote` after so many scheduled ok results in a row, the last at `at`, none of which found it stale."""
    better, good, verdict = vote.better + count, vote.good + count, vote.verdict
    if verdict is None or good >= policy.close_runs:
        verdict = Verdict.OK
    elif verdict is Verdict.CRITICAL and better >= policy.close_runs:
        verdict = Verdict.WARNING
    return Vote(verdict, max(vote.at, at), 0, 0, better, good)
