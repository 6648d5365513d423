"""Every picture of docs/explanation/triggers.md is what the code does."""

import json
import re
from pathlib import Path

import pytest

from evaluators.matching import Matched
from evaluators.trigger import Course, Head, Signalled
from tests.evaluators.test_trigger import T0, item_of, rule

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "triggers.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"<!-- (\{.*\}) -->\n```text\n([^`]*)```", PAGE)
ENDS = {"recovery": "C", "silence": "S", "expiry": "E", "present": "P"}
LEFT = 9  # characters before the first column


def drawn(said: Signalled) -> str:
    """One letter for a signal."""
    if said.severity is None:
        return ENDS[said.cause]
    return "A" if said.cause == "absence" else "X" if said.severity == "critical" else "W"


@pytest.mark.parametrize(
    ("more", "picture"), PICTURES, ids=[f"picture {n + 1}" for n in range(len(PICTURES))]
)
def test_a_picture_shows_what_happens(more: str, picture: str) -> None:
    rows = {line[:LEFT].strip(): line[LEFT:].rstrip()[::2] for line in picture.splitlines()}
    width = max(map(len, rows.values()))
    course = Course(rule(**json.loads(more)), Head(), {})
    said = course.switch(T0, enabled=True)
    for column in range(width):
        at = T0 + 60.0 * column
        for name, row in rows.items():
            if not name.startswith("→") and row[column : column + 1].strip():
                item = item_of(row[column], name, at)
                said += course.fold(at, f"{name} {column}", Matched((item,)))[1]
        said += course.pass_time(at + 59.0)
    for name, row in rows.items():
        if name.startswith("→"):
            letters = [" "] * width
            for one in said:
                if one.fingerprint == name[1:].strip():
                    letters[int((one.at - T0) // 60)] = drawn(one)
            assert "".join(letters).rstrip() == row, name


def test_no_picture_is_left_out() -> None:
    assert len(PICTURES) == PAGE.count("```text") == 7
