"""A Beat Group: owns episodes, incidents, channels and component impact for its members. A beat says which group it is in."""

from typing import Literal

from pydantic import Field, field_validator

from rules.owner import OwnerRule
from rules.quorum import GroupQuorum, Level


class Group(OwnerRule):
    """Beats that fail together are one outage: one episode, one incident, told once."""

    quorum: GroupQuorum = Field(
        default=GroupQuorum(),
        description="How the stages of members become its own: `any` unless said otherwise.",
    )
    late_members: Literal["evidence", "update"] = Field(
        default="evidence",
        description="What a member is that fails after the incident was opened: shown to reviewers, or an update as well.",
    )
    group: None = Field(
        default=None, exclude=True, json_schema_extra={"not": {}}, description="Groups do not nest."
    )

    @field_validator("group", mode="before")
    @classmethod
    def _is_not_nested(cls, value: object) -> object:
        if value is not None:
            raise ValueError(
                f"groups do not nest: put the beats themselves into {value!r}, or let it depend_on this one"
            )
        return value

    @field_validator("quorum")
    @classmethod
    def _has_no_zones(cls, quorum: GroupQuorum) -> GroupQuorum:
        for name, level in (("critical", quorum.critical), ("warning", quorum.warning)):
            if _is_by_zone(level):
                raise ValueError(
                    f"quorum.{name} counts zones, but members of a group have none; write a count"
                )
        return quorum

    @property
    def target(self) -> str:
        """What is measured, in a line for people."""
        return "its members"


def _is_by_zone(level: Level) -> bool:
    return isinstance(level.open, dict) or isinstance(level.close, dict)
