"""Incident policy: what Upbeat may say in public by itself, and who wins where the careful one holds."""

import pytest
from pydantic import ValidationError

from rules.beat import BEAT
from rules.incident import IncidentPolicy
from rules.kinds.http import HttpBeat


def test_by_default_a_person_opens_and_updates_and_policy_resolves() -> None:
    assert IncidentPolicy() == IncidentPolicy(open="draft", update="draft", resolve="auto")


def test_one_step_may_be_set_alone() -> None:
    beat = BEAT.validate_python(
        {"slug": "b", "type": "http", "url": "http://h/", "incidents": {"open": "auto"}}
    )
    assert isinstance(beat, HttpBeat)
    assert (beat.incidents.open, beat.incidents.update) == ("auto", "draft")


@pytest.mark.parametrize("mode", ["on", "manual", "", None, True, "Auto"])
def test_another_mode_is_refused(mode: object) -> None:
    with pytest.raises(ValidationError):
        IncidentPolicy.model_validate({"open": mode})


def test_another_step_is_refused() -> None:
    with pytest.raises(ValidationError):
        IncidentPolicy.model_validate({"close": "auto"})
