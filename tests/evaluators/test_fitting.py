"""What a publisher is told of a step: which of its components, and how they are shown."""

from msgspec.structs import replace

from evaluators.fitting import fitted
from evaluators.model import Post
from rules.publishers.instatus import InstatusPublisher
from rules.publishers.publisher import PublisherRule
from rules.publishers.statuspage import StatuspagePublisher

POST = Post(
    id="1",
    step="resolve",
    incident="inc_1",
    kind="incident",
    page="shop",
    title="Outage: Site",
    status="resolved",
    impact="major",
    at=0.0,
    began_at=0.0,
    components={"shop/site": "operational", "shop/cart": "degraded_performance"},
    others={"shop/pay": "partial_outage", "shop/mail": "major_outage"},
)


def rule(**components: list[str]) -> PublisherRule:
    return StatuspagePublisher(slug="s", type="statuspage", key="k", page_id="p", components=components)


def test_where_several_are_one_there_it_is_shown_as_the_worst() -> None:
    assert fitted(POST, rule(cart=["x"], site=["x", "y"])).components == {
        "x": "degraded_performance",
        "y": "operational",
    }


def test_another_incident_that_lasts_keeps_what_they_share_as_it_is() -> None:
    assert fitted(POST, rule(site=["x"], pay=["x"])).components == {"x": "partial_outage"}


def test_what_another_incident_affects_alone_is_left_to_it() -> None:
    assert fitted(POST, rule(site=["x"], mail=["y"])).components == {"x": "operational"}


def test_what_was_called_off_is_over() -> None:
    off = replace(POST, kind="maintenance", status="cancelled")
    assert fitted(off, rule()).status == "completed"


def test_plain_words_are_no_markdown_where_that_is_shown() -> None:
    there = InstatusPublisher(slug="i", type="instatus", key="k", page_id="p")
    said = replace(POST, text="[Log in](https://evil.example) <b>")
    assert fitted(said, there).text == r"\[Log in\](https://evil.example) \<b>"
    assert fitted(replace(said, is_markdown=True), there).text == said.text
    assert fitted(said, rule()).text == said.text
