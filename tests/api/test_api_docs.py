"""docs/reference/api.md names every problem there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_problem_is_in_the_reference() -> None:
    text = (ROOT / "docs/reference/api.md").read_text("utf-8")
    source = "".join(path.read_text("utf-8") for path in (ROOT / "api").glob("*.py"))
    names = set(re.findall(r'(?:ProblemError\(|: \()\s*\d{3},\s*"([a-z-]+)"', source))
    names |= set(re.findall(r'\d{3}: \("([a-z-]+)"', source))
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in text} == set()
