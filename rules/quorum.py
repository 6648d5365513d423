"""The quorum schema: how many regions, or members of a group, must say so, and for how long, before a stage changes."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from rules.duration import Duration
from rules.shape import Rule

_PERCENT = re.compile(r"^(\d{1,3}(?:\.\d+)?)%$")


def _count(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str):
        if value in ("majority", "all", "any"):
            return value
        match = _PERCENT.fullmatch(value)
        if match and 0 < float(match.group(1)) <= 100:
            return value
    raise ValueError(f"{value!r} is not a number of regions; write 1 or more, '60%', majority, all or any")


_COUNT_SCHEMAS: Final[list[Any]] = [
    {"type": "integer", "minimum": 1},
    {"enum": ["majority", "all", "any"]},
    {"type": "string", "pattern": _PERCENT.pattern},
]
Count = Annotated[int | str, BeforeValidator(_count), WithJsonSchema({"anyOf": _COUNT_SCHEMAS})]


ZONE: Final = "zone"
"""In `{zone: n}`: so many different zones, whichever they are. No zone may have this name."""


def _zones(value: object) -> object:
    if not isinstance(value, dict):
        return _count(value)
    if not value or not all(isinstance(zone, str) for zone in value):
        raise ValueError(
            f"{value!r} names no zone; write {{europe: 2, asia: 1}}, or {{zone: 2}} for any two zones"
        )
    if ZONE in value and len(value) > 1:
        raise ValueError(
            f"{value!r} mixes {{zone: n}}, which is any n zones, with zones by name; write one of them"
        )
    for zone, count in value.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{count!r} is not a number of votes of {zone}; write 1 or more")
    return value


_ZONES_SCHEMA: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "integer", "minimum": 1},
}
ZoneCount = Annotated[
    int | str | dict[str, int],
    BeforeValidator(_zones),
    WithJsonSchema({"anyOf": [*_COUNT_SCHEMAS, _ZONES_SCHEMA]}),
]
"""A count; or votes per zone, all of which must be reached; or `{zone: n}`, at least one vote from each of n zones."""


def resolve_count(count: int | str, of: int) -> int:
    """`count` as a number of regions when `of` regions are assigned and not suspended: always 1 to max(of, 1)."""
    if isinstance(count, int):
        wanted = count
    elif count == "majority":
        wanted = of // 2 + 1
    elif count == "all":
        wanted = of
    elif count == "any":
        wanted = 1
    else:
        wanted = math.ceil(of * float(count[:-1]) / 100 - 1e-9)
    return max(1, min(wanted, max(of, 1)))


class Level(Rule):
    """When one severity opens, and when it ends."""

    open: ZoneCount = Field(
        default="majority", description="Fresh votes at least this bad that open the level."
    )
    close: ZoneCount | Literal["auto"] = Field(
        default="auto",
        description="Fresh better votes that end it; auto: as soon as it could no longer open.",
    )


def _level(value: object) -> object:
    if isinstance(value, Level) or (isinstance(value, dict) and value.keys() & {"open", "close"}):
        return value
    if value == {}:  # how a level of defaults is stored, where that is not the default of its owner
        return Level()
    return {"open": value}


LevelRule = Annotated[Level, BeforeValidator(_level, json_schema_input_type=ZoneCount | Level)]


def off(value: object) -> object:
    """None for what turns a field off."""
    # YAML 1.2 reads `off` as text, JSON clients write false.
    return None if value in ("off", False) else value


DurationOrOff = Annotated[
    Duration | None, BeforeValidator(off, json_schema_input_type=Duration | Literal["off", False] | None)
]


class Levels(Rule):
    """How votes become a stage: of regions for a beat, of members for a group."""

    critical: LevelRule = Field(default=Level(), description="When the stage is critical.")
    warning: LevelRule = Field(
        default=Level(), description="When it is warning; critical votes count for it too."
    )
    min_voters: Count | Literal["auto"] = Field(
        default="auto",
        description="Fresh votes that are needed to say anything; auto is what critical.open resolves to.",
    )
    on_insufficient: Literal["unknown", "hold"] = Field(
        default="unknown", description="The stage while there are fewer than `min_voters` fresh votes."
    )
    advisory_after: DurationOrOff = Field(
        default=900.0,
        gt=0,
        description="A minority that stays bad for so long is an advisory to operators, or `off`.",
    )


class GroupQuorum(Levels):
    """`quorum:` of a group: its members vote with their stages. A member that is `unknown` has no vote."""

    critical: LevelRule = Field(default=Level(open="any"), description="When the group is critical.")
    warning: LevelRule = Field(
        default=Level(open="any"), description="When it is warning; critical members count for it too."
    )


class Consecutive(Rule):
    """A region's own smoothing: results in a row before its vote changes."""

    open: int = Field(default=2, ge=1, le=20, description="Bad results before its vote is bad.")
    close: int = Field(default=2, ge=1, le=20, description="Ok results before its vote is ok again.")


class Confirm(Rule):
    """A round of extra runs in every region after a region's first bad result."""

    runs: int = Field(default=2, ge=1, le=5, description="Extra runs per region.")
    spacing: Duration = Field(default=1.0, description="Between a region's confirm runs.")
    wait: Duration = Field(
        default=5.0, description="After this a round is judged without the missing answers."
    )


class Quorum(Levels):
    """`quorum:` of a beat. See docs/explanation/deciding.md."""

    consecutive: Consecutive = Field(default=Consecutive(), description="A region's own smoothing.")
    max_age: Duration | Literal["auto"] = Field(
        default="auto", description="How long a vote stays fresh; auto is 2 x interval + run deadline."
    )
    confirm: Annotated[
        Confirm | None,
        BeforeValidator(off, json_schema_input_type=Confirm | Literal["off", False] | None),
    ] = Field(default=Confirm(), description="Fast confirmation of a first bad result, or `off`.")

    def refuse_overlap(self, regions: int, zones: Mapping[str, Iterable[str]] | None = None) -> None:
        """Raises `ValueError` when, with these regions (by zone), a level could never open, or open and close at once."""
        for name, level in (("critical", self.critical), ("warning", self.warning)):
            for side, count in (("open", level.open), ("close", level.close)):
                if isinstance(count, int) and count > regions:
                    raise ValueError(
                        f"quorum.{name}.{side} is {count}, but the beat runs in {regions} region(s)"
                    )
                if isinstance(count, dict):
                    _expect_zones(f"quorum.{name}.{side}", count, zones or {})
            if level.close == "auto" or isinstance(level.open, dict) or isinstance(level.close, dict):
                continue  # of zones it ends only where it could no longer open
            opens, closes = resolve_count(level.open, regions), resolve_count(level.close, regions)
            if opens + closes <= regions:
                raise ValueError(
                    f"quorum.{name}: open {opens} + close {closes} must be more than the {regions} regions, "
                    "or it could open and close on the same votes"
                )
        if isinstance(self.min_voters, int) and self.min_voters > regions:
            raise ValueError(
                f"quorum.min_voters is {self.min_voters}, but the beat runs in {regions} region(s)"
            )


def _expect_zones(key: str, count: Mapping[str, int], zones: Mapping[str, Iterable[str]]) -> None:
    known = ", ".join(sorted(zones)) or "none"
    if ZONE in count:
        if count[ZONE] > len(zones):
            raise ValueError(
                f"{key} wants {count[ZONE]} zones, but the beat runs in {len(zones)}; known: {known}"
            )
        return
    for zone, votes in count.items():
        there = len(list(zones.get(zone, ())))
        if not there:
            raise ValueError(
                f"{key} names the zone {zone!r}, which none of its regions is in; known: {known}"
            )
        if votes > there:
            raise ValueError(
                f"{key} wants {votes} votes of {zone}, but the beat runs in {there} of its regions"
            )
