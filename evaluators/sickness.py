"""Whether a region is sick: by difference to the others on the same beats, never by its own failures alone. Not what follows from it.

A beat is *lonely* in a region that says it is bad, while every other region has looked since that began and says ok.
Where the others agree it is an outage; where they have not looked yet nobody knows. A suspended region is no voter, but
it is measured and compared all the same, so that its return is seen.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct

from evaluators.levels import BAD
from evaluators.model import Verdict
from evaluators.policy import Policy
from evaluators.state import State as BeatState
from evaluators.vote import Region

HOSTS_KEPT: Final = 3
"""Of the hosts of lonely beats, as many are kept as are asked for."""

Standing = Literal["ok", "lonely", "shared"]
"""What one fresh vote means for its region; `shared`: bad, but not there alone."""


class Limits(Struct, frozen=True):
    """When a region is sick, and when it is well again: less than a quarter lonely and half ok, for `hold_s`."""

    beats: int = 3
    hosts: int = 3
    sick_share: float = 0.5
    well_share: float = 0.25
    ok_share: float = 0.5
    hold_s: float = 120.0


class Count(Struct, frozen=True):
    """Fresh votes of one region: `beats` of them, those that are ok, those that are lonely and some of their hosts."""

    beats: int = 0
    ok: int = 0
    lonely: int = 0
    hosts: frozenset[str] = frozenset()

    def __add__(self, other: "Count") -> "Count":
        """Both together."""
        return Count(
            self.beats + other.beats,
            self.ok + other.ok,
            self.lonely + other.lonely,
            self.hosts | other.hosts,
        )


class Counted(Struct, frozen=True):
    """The fact: what is seen of all regions now. `regions` are those that are declared."""

    at: float
    regions: tuple[str, ...]
    counts: Mapping[str, Count]


class State(Struct, frozen=True):
    """Suspended regions and since when; those of them that seem well, and since when."""

    sick: Mapping[str, float] = {}
    well: Mapping[str, float] = {}


class RegionSuspended(Struct, frozen=True):
    """It is sick: its votes do not count from now on."""

    at: float
    region: str
    count: Count


class RegionReturned(Struct, frozen=True):
    """Its votes count again. `removed`: nobody declares it any more; `outnumbered`: too few others are left to judge it."""

    at: float
    region: str
    cause: Literal["well", "removed", "outnumbered"]


Effect = RegionSuspended | RegionReturned


def decide(limits: Limits, state: State, fact: Counted) -> tuple[State, tuple[Effect, ...]]:
    """Who is suspended and who returns. Never more than a minority: of those that vote now, and of those declared."""
    effects: list[Effect] = []
    sick, well = dict(state.sick), dict[str, float]()
    for region, since in sorted(state.sick.items(), key=lambda item: (-item[1], item[0])):
        seems_well = _is_well(limits, fact.counts.get(region, Count()))
        if seems_well:
            well[region] = state.well.get(region, fact.at)
        if region not in fact.regions:
            effects.append(RegionReturned(fact.at, region, "removed"))
        elif len(sick) > _minority(len(fact.regions)):
            effects.append(RegionReturned(fact.at, region, "outnumbered"))
        elif seems_well and fact.at >= well[region] + limits.hold_s:
            effects.append(RegionReturned(fact.at, region, "well"))
        else:
            sick[region] = since
            continue
        del sick[region]
        well.pop(region, None)
    voting = [region for region in fact.regions if region in sick or fact.counts.get(region, Count()).beats]
    found = {
        region: count
        for region in voting
        if region not in state.sick and _is_sick(limits, count := fact.counts[region])
    }
    worst = sorted(found, key=lambda region: (-found[region].lonely / found[region].beats, region))
    for region in worst[: max(_minority(len(voting)) - len(sick), 0)]:
        sick[region] = fact.at
        effects.append(RegionSuspended(fact.at, region, found[region]))
    return State(sick, well), tuple(effects)


def _minority(of: int) -> int:
    return max(of - 1, 0) // 2


def _is_sick(limits: Limits, count: Count) -> bool:
    return (
        count.lonely >= max(limits.beats, limits.sick_share * count.beats)
        and len(count.hosts) >= limits.hosts
    )


def _is_well(limits: Limits, count: Count) -> bool:
    """Silence is no health: somebody has to say ok."""
    is_seldom_lonely = count.lonely < limits.well_share * count.beats
    return is_seldom_lonely and count.ok >= max(limits.ok_share * count.beats, 1)


def standings(policy: Policy, state: BeatState) -> dict[str, Standing]:
    """What a beat's fresh votes mean for their regions; a bad one that nothing can be compared with means nothing."""
    if state.suspended or policy.is_pushed:
        return {}
    fresh = {
        slug: region
        for slug in (*policy.regions, *policy.sick)
        if (region := state.regions.get(slug)) is not None
        and region.vote.verdict is not None
        and state.at < region.vote.at + policy.max_age_s
    }
    found: dict[str, Standing] = {}
    for slug, region in fresh.items():
        if region.vote.verdict not in BAD:
            found[slug] = "ok"
        elif others := [fresh[other] for other in policy.regions if other != slug and other in fresh]:
            found[slug] = "lonely" if _is_lonely(region, others) else "shared"
    return found


def _is_lonely(region: Region, others: Iterable[Region]) -> bool:
    """Whether each of the others has looked since this one went bad, and saw nothing."""
    streak = region.recent[-region.vote.bad :] if region.vote.bad else ()
    return bool(streak) and all(
        other.vote.verdict is Verdict.OK and not other.vote.bad and other.vote.at > streak[0].at
        for other in others
    )
