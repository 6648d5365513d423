"""The quorum schema: how many regions must say so, for how long, before a beat's stage changes."""

import math
import re
from typing import Annotated, Literal

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


Count = Annotated[
    int | str,
    BeforeValidator(_count),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"enum": ["majority", "all", "any"]},
                {"type": "string", "pattern": _PERCENT.pattern},
            ]
        }
    ),
]


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

    open: Count = Field(default="majority", description="Fresh votes at least this bad that open the level.")
    close: Count | Literal["auto"] = Field(
        default="auto", description="Fresh better votes that end it; auto is N - open + 1."
    )

    def resolve(self, of: int) -> tuple[int, int]:
        """(open, close) as numbers of regions. `close` never lets a level end while it could still open."""
        opens = resolve_count(self.open, of)
        least = max(1, of - opens + 1)
        return opens, least if self.close == "auto" else max(least, resolve_count(self.close, of))


def _level(value: object) -> object:
    return value if isinstance(value, Level | dict) else {"open": value}


LevelRule = Annotated[Level, BeforeValidator(_level, json_schema_input_type=Count | Level)]


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


def _confirm(value: object) -> object:
    # YAML 1.2 reads `off` as text, JSON clients write false.
    return None if value in ("off", False) else value


class Quorum(Rule):
    """`quorum:` of a beat. See docs/explanation/deciding.md."""

    critical: LevelRule = Field(default=Level(), description="When the stage is critical.")
    warning: LevelRule = Field(
        default=Level(), description="When it is warning; critical votes count for it too."
    )
    consecutive: Consecutive = Field(default=Consecutive(), description="A region's own smoothing.")
    max_age: Duration | Literal["auto"] = Field(
        default="auto", description="How long a vote stays fresh; auto is 2 x interval + run deadline."
    )
    min_voters: Count | Literal["auto"] = Field(
        default="auto", description="Regions that must have a vote; auto is what critical.open resolves to."
    )
    on_insufficient: Literal["unknown", "hold"] = Field(
        default="unknown", description="The stage while fewer than `min_voters` regions have a fresh vote."
    )
    confirm: Annotated[
        Confirm | None,
        BeforeValidator(_confirm, json_schema_input_type=Confirm | Literal["off", False] | None),
    ] = Field(default=Confirm(), description="Fast confirmation of a first bad result, or `off`.")

    def refuse_overlap(self, regions: int) -> None:
        """Raises `ValueError` when, with this many regions, a level could open and close on the same votes."""
        for name, level in (("critical", self.critical), ("warning", self.warning)):
            for side, count in (("open", level.open), ("close", level.close)):
                if isinstance(count, int) and count > regions:
                    raise ValueError(
                        f"quorum.{name}.{side} is {count}, but the beat runs in {regions} region(s)"
                    )
            if level.close == "auto":
                continue
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
