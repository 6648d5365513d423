"""One region's vote: a pure fold over its results, re-foldable so that late ones end in the same vote as in order.

A region keeps its last results (`recent`) and what it said before them (`base`). A late result is put in its place
and the vote is folded again from `base`; one older than the window changes history only.
"""

from msgspec import Struct
from msgspec.structs import replace

from evaluators.model import Kind, Result, Verdict
from evaluators.policy import Policy


class Seen(Struct, frozen=True, array_like=True):
    """What the vote needs of a result. `at` is in server time, seconds since the epoch."""

    verdict: Verdict
    kind: Kind
    at: float
    boot: str
    seq: int


class Vote(Struct, frozen=True, array_like=True):
    """What a region says, and the streaks that may change it."""

    verdict: Verdict | None = None  # ok, warning, critical; None until the first
    at: float = 0.0  # of the newest result that was not an error
    critical: int = 0  # results in a row that were critical
    bad: int = 0  # in a row warning or critical
    better: int = 0  # scheduled ones in a row that were not critical
    good: int = 0  # scheduled ones in a row that were ok


class Region(Struct, frozen=True, array_like=True):
    """A region's part of a beat's state."""

    base: Vote = Vote()
    recent: tuple[Seen, ...] = ()
    vote: Vote = Vote()
    full: bool = False  # whether results have left the window into `base`


def step(policy: Policy, vote: Vote, seen: Seen, returned_at: float = 0.0) -> Vote:
    """Fold one result into a vote. `error` and `manual` never get here (see `see`).

    `returned_at`: nobody looked until then, so that the vote did not age before it.
    """
    since = max(vote.at, returned_at) if returned_at <= seen.at else vote.at
    if seen.at - since > policy.max_age_s:
        vote = Vote()  # it had gone stale: no vote, nothing to smooth against
    scheduled = seen.kind is not Kind.CONFIRM
    at = max(vote.at, seen.at)
    if seen.verdict is Verdict.OK:
        # An ok confirm run breaks a bad streak and adds nothing to an ok streak.
        after = Vote(vote.verdict, at, 0, 0, vote.better + scheduled, vote.good + scheduled)
    elif seen.verdict is Verdict.WARNING:
        after = Vote(vote.verdict, at, 0, vote.bad + 1, vote.better + scheduled, 0)
    else:
        after = Vote(vote.verdict, at, vote.critical + 1, vote.bad + 1, 0, 0)
    verdict = _verdict(policy, after, seen)
    return after if verdict is after.verdict else replace(after, verdict=verdict)


def _verdict(policy: Policy, vote: Vote, seen: Seen) -> Verdict | None:
    now = vote.verdict
    if vote.critical >= policy.open_runs:
        return Verdict.CRITICAL
    if now is None:
        if seen.verdict is Verdict.OK:
            return Verdict.OK
        return Verdict.WARNING if vote.bad >= policy.open_runs else None
    if now is not Verdict.OK and vote.good >= policy.close_runs:
        return Verdict.OK
    if now is Verdict.CRITICAL and vote.better >= policy.close_runs:
        return Verdict.WARNING
    if now is Verdict.OK and vote.bad >= policy.open_runs:
        return Verdict.WARNING
    return now


def see(
    policy: Policy, region: Region, result: Result, boot: str, at: float, returned_at: float = 0.0
) -> Region:
    """`region` after one result of it, wherever in time it belongs.

    `at` is the result's own time moved into server time. Errors, manual and dropped runs change nothing.
    """
    if result.verdict is Verdict.ERROR or result.kind is Kind.MANUAL or not result.stored:
        return region
    seen = Seen(result.verdict, result.kind, at, boot, result.seq)
    recent = region.recent
    place = len(recent)
    while place and _after(recent[place - 1], seen):
        place -= 1
    if place == len(recent) and not (recent and recent[-1].boot == boot and recent[-1].seq == seen.seq):
        vote = step(policy, region.vote, seen, returned_at)
        if len(recent) < policy.window:
            return Region(region.base, (*recent, seen), vote, region.full)
        return Region(step(policy, region.base, recent[0], returned_at), (*recent[1:], seen), vote, True)
    if (place == 0 and region.full) or any(one.boot == boot and one.seq == seen.seq for one in recent):
        return region  # older than all that is kept: history only; or seen before
    return refold(policy, replace(region, recent=(*recent[:place], seen, *recent[place:])), returned_at)


def refold(policy: Policy, region: Region, returned_at: float = 0.0) -> Region:
    """The vote folded again over the kept results: after a late one, or under another policy."""
    base, recent, full = region.base, region.recent, region.full
    while len(recent) > policy.window:
        base, recent, full = step(policy, base, recent[0], returned_at), recent[1:], True
    vote = base
    for seen in recent:
        vote = step(policy, vote, seen, returned_at)
    return Region(base, recent, vote, full)


def _after(kept: Seen, new: Seen) -> bool:
    """Whether `kept` belongs after `new`: by sequence within a boot, by corrected time across boots."""
    return kept.seq > new.seq if kept.boot == new.boot else kept.at > new.at
