"""Conditions are bounded before they are read."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from rules.condition import MAX_CONDITIONS, MAX_DEPTH, Condition, Conditions

CONDITIONS: TypeAdapter[Condition] = TypeAdapter(Conditions)
ONE = {"value": "$.a", "eq": 1}
WRONG = {"value": "a path that reading would complain of", "eq": 1}


def nested(levels: int, inside: Any) -> Any:
    return inside if levels == 1 else {"any": [nested(levels - 1, inside)]}


def test_as_many_and_as_deep_as_there_may_be() -> None:
    wide = [{"any": [ONE] * 50}, {"none": [ONE] * (MAX_CONDITIONS - 50)}]
    assert sum(1 for _ in CONDITIONS.validate_python(wide).leaves()) == MAX_CONDITIONS
    assert CONDITIONS.validate_python(nested(MAX_DEPTH, ONE)).group


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"any": [WRONG] * 50}] * 3, "there are 150 conditions; 100 are allowed"),
        (nested(MAX_DEPTH + 1, WRONG), "conditions are nested 6 deep; 5 is allowed"),
        (nested(900, WRONG), "conditions are nested 900 deep; 5 is allowed"),
    ],
)
def test_more_is_refused_before_it_is_read(given: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CONDITIONS.validate_python(given)
    assert [error["msg"] for error in refused.value.errors()] == [f"Value error, {message}"]
