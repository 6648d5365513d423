"""Counting votes: whether a level (critical, warning) opens, and whether it ends. Of regions or of members; it keeps nothing."""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from evaluators.model import Verdict
from rules.quorum import ZONE, Level, Levels, resolve_count

BAD = frozenset({Verdict.WARNING, Verdict.CRITICAL})


class Zones(Struct, frozen=True):
    """Votes wanted per zone: at least `of` of these (voters, votes) must be reached."""

    needs: tuple[tuple[frozenset[str], int], ...]
    of: int

    def are_reached_by(self, voters: Collection[str]) -> bool:
        """Whether enough zones have enough of these."""
        return sum(len(zone.intersection(voters)) >= votes for zone, votes in self.needs) >= self.of


class Threshold(Struct, frozen=True):
    """What opens a level, and what ends it: numbers of votes, and where zones are counted their votes as well."""

    open: int
    close: int
    opens: Zones | None = None  # instead of `open`
    ends: tuple[Zones, ...] = ()  # beside `close`

    def is_opened_by(self, count: int, voters: Collection[str]) -> bool:
        """Whether so many votes (these, where zones count) at least that bad open the level."""
        return self.opens.are_reached_by(voters) if self.opens else count >= self.open

    def is_ended_by(self, count: int, voters: Collection[str]) -> bool:
        """Whether so many better votes end it."""
        return count >= self.close and all(zones.are_reached_by(voters) for zones in self.ends)


class Need(Struct, frozen=True):
    """A whole quorum, for a known number of voters."""

    critical: Threshold
    warning: Threshold
    min_voters: int
    holds: bool  # on_insufficient: hold
    zones: Zones | None = None  # these must be heard as well, else critical could not open

    def is_met_by(self, voters: Collection[str]) -> bool:
        """Whether enough are heard to say anything."""
        return len(voters) >= self.min_voters and (not self.zones or self.zones.are_reached_by(voters))


def compile_need(levels: Levels, voters: Sequence[str], zone_of: Mapping[str, str] | None = None) -> Need:
    """`levels` for these voters, each in at most one zone."""
    zones: dict[str, set[str]] = {}
    for voter in voters:
        if zone := (zone_of or {}).get(voter):
            zones.setdefault(zone, set()).add(voter)
    critical = _threshold(levels.critical, len(voters), zones)
    warning = _threshold(levels.warning, len(voters), zones)
    auto = levels.min_voters == "auto"
    min_voters = critical.open if auto else resolve_count(levels.min_voters, len(voters))
    holds = levels.on_insufficient == "hold"
    return Need(critical, warning, min_voters, holds, critical.opens if auto else None)


def _threshold(level: Level, of: int, zones: Mapping[str, Collection[str]]) -> Threshold:
    """A level never ends while it could still open: so many must be better that those left are too few."""
    opens = _zones(level.open, zones) if isinstance(level.open, dict) else None
    if isinstance(level.open, dict) and opens is None:  # none of its zones is left: nothing to count them in
        level = Level(open="all")
    ends: list[Zones] = []
    if opens is not None:
        open_, close = sum(sorted(votes for _, votes in opens.needs)[: opens.of]), 1
        left = tuple((zone, len(zone) - votes + 1) for zone, votes in opens.needs)
        ends.append(Zones(left, len(opens.needs) - opens.of + 1))
    else:
        assert not isinstance(level.open, dict)
        open_ = resolve_count(level.open, of)
        close = max(1, of - open_ + 1)
    if isinstance(level.close, dict):
        if (wanted := _zones(level.close, zones)) is not None:
            ends.append(wanted)
    elif level.close != "auto":
        close = max(close, resolve_count(level.close, of))
    return Threshold(open_, close, opens, tuple(ends))


def _zones(count: Mapping[str, int], zones: Mapping[str, Collection[str]]) -> Zones | None:
    """`count` of zones that are there, with no more votes than they have; None where there are none."""
    if ZONE in count:
        needs = tuple((frozenset(zone), 1) for zone in zones.values())
        return Zones(needs, min(count[ZONE], len(needs))) if needs else None
    needs = tuple(
        (frozenset(zones[zone]), min(votes, len(zones[zone])))
        for zone, votes in count.items()
        if zone in zones
    )
    return Zones(needs, len(needs)) if needs else None
