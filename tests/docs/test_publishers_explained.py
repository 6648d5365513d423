"""What the reference of publishers says of limits and JSON is what the code does."""

import json
import re

import pytest

from evaluators.model import Post
from exporters.publishers.webhook import payload
from rules.models import TYPED
from rules.publishers.publisher import PublisherRule
from tests.docs.test_docs import ROOT

TEXT = (ROOT / "docs/reference/publishers.md").read_text("utf-8")


@pytest.mark.parametrize(
    "kind",
    sorted(kind for kind, model in TYPED["publisher"].items() if not getattr(model, "takes_all", False)),
)
def test_limits_are_those_of_the_model(kind: str) -> None:
    model = TYPED["publisher"][kind]
    assert issubclass(model, PublisherRule)
    limits = TEXT.partition("## Limits")[2].partition("## ")[0]
    (row,) = re.findall(rf"^\| `{kind}` \|(.*)\|$", limits, re.MULTILINE)
    title, text, markdown, _, notifies = (cell.strip() for cell in row.split("|"))
    assert (int(title), int(text.replace(",", ""))) == (model.title_limit, model.text_limit)
    assert (markdown == "shown") == model.shows_markdown
    assert notifies.startswith("always:") == model.is_always_told


@pytest.mark.parametrize("section", ["Which has it exactly once", "Limits"])
def test_every_kind_has_its_row(section: str) -> None:
    part = TEXT.partition(f"## {section}")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) == set(TYPED["publisher"])


def test_every_kind_has_a_section_of_the_how_to() -> None:
    page = (ROOT / "docs/how-to/publish-elsewhere.md").read_text("utf-8")
    assert set(re.findall(r"^    type: (\w+)$", page, re.MULTILINE)) == set(TYPED["publisher"])


def test_the_json_of_a_webhook_is_what_is_sent() -> None:
    found = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert found
    shown = json.loads(found[1])
    said = {name: value for name, value in shown["data"].items() if name in Post.__struct_fields__}
    post = Post(**{**said, "at": 1_795_169_520.0, "began_at": 1_795_168_800.0})
    assert payload(post, "https://status.shop.example") == shown
