"""The rule of what has a stage: a beat's, or a group's."""

from collections.abc import Mapping
from typing import Any

from rules.beat import BEAT, AnyBeat
from rules.group import Group


def rule_of(kind: str, spec: Mapping[str, Any]) -> AnyBeat | Group:
    """A beat's or group's spec as the rule it is."""
    return Group.model_validate(spec) if kind == "group" else BEAT.validate_python(spec)
