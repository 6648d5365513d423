"""Every picture and every YAML of docs/explanation/deciding.md is what the code does."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from rules.config import parse
from rules.episode import Episodes
from rules.kinds.http import HttpBeat
from rules.quorum import Quorum
from tests.evaluators.timeline import Timeline

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "deciding.md").read_text(encoding="utf-8")
PLAYED = runpy.run_path(str(ROOT / "tests" / "evaluators" / "test_quorum.py"))["played"]
PICTURES = re.findall(r"<!-- (\{.*\}) -->\n```text\n([^`]*)```", PAGE)
STORIES = re.findall(r"<!-- of (\{.*\}) -->\n```text\n([^`]*)```", PAGE)


def rows(picture: str, left: int = 7) -> dict[str, str]:
    """Each row without the blanks between its columns; shorter ones end in silence."""
    found = {line[:left].strip(): line[left::2] for line in picture.splitlines()}
    width = max(map(len, found.values()))
    return {name: row.ljust(width) for name, row in found.items()}


@pytest.mark.parametrize(
    ("quorum", "picture"), PICTURES, ids=[f"picture {n + 1}" for n in range(len(PICTURES))]
)
def test_a_picture_shows_what_happens(quorum: str, picture: str) -> None:
    drawn: dict[str, Any] = rows(picture)
    stage = drawn.pop("stage")
    assert PLAYED(json.loads(quorum), "/".join(drawn.values())) == stage


@pytest.mark.parametrize(("specs", "picture"), STORIES, ids=[f"story {n + 1}" for n in range(len(STORIES))])
def test_a_story_shows_what_happens(specs: str, picture: str) -> None:
    drawn = rows(picture, 15)
    said = {name[5:]: row for name, row in drawn.items() if name.startswith("said ")}
    told = Timeline(json.loads(specs)).play(
        {name: row for name, row in drawn.items() if not name.startswith("said ")}
    )
    assert {name: told[name] for name in said} == said


def test_no_picture_is_left_out() -> None:
    assert len(PICTURES) + len(STORIES) == PAGE.count("```text") == 12


def test_the_defaults_on_the_page_are_the_defaults() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (beat,) = [one.spec for one in parse(text, "deciding.md", {}).objects if one.kind == "beat"]
    assert isinstance(beat, HttpBeat)
    assert beat.quorum == Quorum()
    assert beat.episodes == Episodes()
