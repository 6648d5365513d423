"""A stage in words and votes: who says what, how many it takes, what would change it. It judges nothing itself."""

from datetime import UTC, datetime

from msgspec import Struct

from evaluators import quorum
from evaluators.levels import Threshold
from evaluators.model import Verdict
from evaluators.policy import Policy
from evaluators.state import State


class Vote(Struct, frozen=True):
    """What one region says, and the last runs it rests on (oldest first)."""

    region: str
    verdict: str | None
    at: datetime | None
    fresh: bool
    recent: tuple[str, ...]


class Why(Struct, frozen=True):
    """The votes, and sentences that say what they amount to."""

    votes: tuple[Vote, ...]
    sentences: tuple[str, ...]
    round: str | None  # a confirmation round that is out


def explain(policy: Policy, state: State, now: float) -> Why:
    """Why the beat is what it is at `now`, seconds since the epoch."""
    fresh = quorum.fresh_votes(policy, state, now)
    votes = tuple(_vote(region, state, fresh) for region in policy.regions)
    return Why(votes, tuple(_sentences(policy, state, fresh)), _round(state))


def _vote(slug: str, state: State, fresh: dict[str, Verdict]) -> Vote:
    region = state.regions.get(slug)
    if region is None:
        return Vote(slug, None, None, False, ())
    vote = region.vote
    return Vote(
        slug,
        vote.verdict,
        datetime.fromtimestamp(vote.at, UTC) if vote.at else None,
        slug in fresh,
        tuple(seen.verdict for seen in region.recent),
    )


def _sentences(policy: Policy, state: State, fresh: dict[str, Verdict]) -> list[str]:
    count, need = len(policy.regions), policy.need
    told = (
        [f"{len(state.signals)} open {'signal' if len(state.signals) == 1 else 'signals'} from others."]
        if state.signals
        else []
    )
    if policy.heartbeat is not None:
        return [*told, "No probe runs it: the server casts the one vote, on pings and on their absence."]
    if not count:
        return told or ["No probe runs it: it is ok until somebody reports otherwise."]
    voters = f"{len(fresh)} of {count} regions have a fresh vote; at least {need.min_voters} must"
    if len(fresh) < need.min_voters:
        kept = "the stage is held until they do" if need.holds else "the stage is unknown until they do"
        return [*told, f"{voters}: {kept}."]
    critical = sum(verdict is Verdict.CRITICAL for verdict in fresh.values())
    warning = sum(verdict is Verdict.WARNING for verdict in fresh.values())
    good = len(fresh) - critical - warning
    said = [_level("critical", state.critical, critical, warning + good, need.critical, count)]
    if not state.critical:
        said.append(_level("warning or worse", state.warning, critical + warning, good, need.warning, count))
    smoothing = (
        f"A region's vote changes after {policy.open_runs} bad or {policy.close_runs} good runs in a row."
    )
    return [*told, *said, f"{voters}.", smoothing]


def _level(name: str, is_open: bool, bad: int, better: int, needed: Threshold, count: int) -> str:
    if is_open:
        return f"{bad} of {count} regions say {name}; it ends when {needed.close} of {count} say better ({better} do)."
    return f"{bad} of {count} regions say {name}; {needed.open} of {count} must."


def _round(state: State) -> str | None:
    if state.round is None:
        return None
    until = datetime.fromtimestamp(state.round.until, UTC).strftime("%H:%M:%S")
    return (
        f"A confirmation round is out: {len(state.round.answers)} of {state.round.wanted} answers are in; "
        f"it is judged at {until} UTC at the latest, and nothing opens before."
    )
