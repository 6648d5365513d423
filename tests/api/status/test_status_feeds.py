"""Feeds as independent readers see them: well-formed whatever is in them, a new entry for each thing that is said, the same ids for ever."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import feedparser
import pytest
from lxml import etree
from msgspec.structs import replace as changed

from api.status.document import Update
from api.status.feeds import MOST_ENTRIES
from rules.language import LANGUAGES
from rules.markdown import one_line
from tests.api.status.test_status_attacks import hostile
from tests.api.status.test_status_hostile import ATTACKS
from tests.api.status.told import FAILED, LASTS, NOW, WEB, body, incident, page, place

XML = ("feed.rss", "feed.atom")
ALL = (*XML, "feed.json")


def read(path: str, *args: Any, **asked: Any) -> Any:
    """As feedparser reads it, which complains of what is not well-formed."""
    found = feedparser.parse(body(path, *args, **asked))
    assert not found.bozo, found.get("bozo_exception")
    return found


def ids(path: str, *args: Any, **asked: Any) -> list[str]:
    if path == "feed.json":
        return [item["id"] for item in json.loads(body(path, *args, **asked))["items"]]
    return [entry.id for entry in read(path, *args, **asked).entries]


@pytest.mark.parametrize("path", XML)
def test_each_thing_that_was_said_is_an_entry_newest_first(path: str) -> None:
    feed = read(path)
    assert [entry.title for entry in feed.entries] == [
        "Report · Payments fail",
        "Identified · Payments fail",
        "Resolved · Payments fail",
        "Monitoring · Payments fail",
        "Investigating · Payments fail",
        "Scheduled · A move",
        "In progress · Payments fail",
        "Scheduled · Payments fail",
        "Cancelled · Payments fail",
        "Scheduled · Payments fail",
    ]
    newest = feed.entries[1]
    said = newest.content[0].value if path == "feed.atom" else newest.summary
    assert "<p>A &amp; B &lt;c&gt;</p>" in said
    assert "<li>Pay: Partial outage</li><li>App: Degraded performance</li>" in said
    assert [tag.term for tag in newest.tags] == ["Pay", "App"]
    assert newest.link == f"https://up.example/p/shop/incidents/{LASTS.id}#{LASTS.updates[0].id}"
    assert feed.entries[0].link == f"https://up.example/p/shop/incidents/{FAILED.id}#report"
    assert newest.published_parsed[:5] == (2026, 11, 20, 11, 0)
    assert feed.feed.title == "The Shop & Co."
    assert feed.feed.link == "https://up.example/p/shop"
    assert {"rel": "self", "href": f"https://up.example/p/shop/{path}"}.items() <= next(
        link for link in feed.feed.links if link.rel == "self"
    ).items()


def letters(text: str) -> str:
    return "".join(filter(str.isprintable, text)).strip()


def test_rss_has_what_rss_2_asks_for() -> None:
    root = etree.fromstring(body("feed.rss"))
    assert (root.tag, root.get("version")) == ("rss", "2.0")
    (channel,) = root
    assert {"title", "link", "description", "language", "lastBuildDate"} <= {one.tag for one in channel}
    for item in channel.findall("item"):
        guid = item.find("guid")
        assert guid.get("isPermaLink") == "false"
        assert UUID(guid.text).urn == guid.text


def test_atom_has_what_rfc_4287_asks_for() -> None:
    names = {"a": "http://www.w3.org/2005/Atom"}
    root = etree.fromstring(body("feed.atom"))
    for one in [root, *root.findall("a:entry", names)]:
        for tag in ("id", "title", "updated"):
            assert len(one.findall(f"a:{tag}", names)) == 1
        assert UUID(one.findtext("a:id", namespaces=names)).urn
        assert datetime.fromisoformat(one.findtext("a:updated", namespaces=names)).tzinfo
    assert root.find("a:author/a:name", names) is not None
    assert root.find("a:updated", names).text == root.find("a:entry/a:updated", names).text


def test_json_feed_has_what_version_1_1_asks_for() -> None:
    feed = json.loads(body("feed.json"))
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    assert feed["title"] == "The Shop & Co."
    assert (feed["language"], feed["feed_url"]) == ("en", "https://up.example/p/shop/feed.json")
    assert len(feed["items"]) == 10
    for item in feed["items"]:
        assert item.keys() == {"id", "url", "title", "content_html", "date_published", "tags"}
        assert datetime.fromisoformat(item["date_published"]).tzinfo is not None
    assert len({item["id"] for item in feed["items"]}) == 10


@pytest.mark.parametrize("path", ALL)
def test_another_update_is_one_more_entry_and_the_others_are_as_they_were(path: str) -> None:
    known = ids(path)
    said = Update(f"upd_{999:032x}", "monitoring", "Mended.", True, NOW + timedelta(minutes=1))
    later = [said, *LASTS.updates]
    more = page(incidents=[changed(LASTS, updates=later), FAILED])
    assert ids(path, more) == [UUID(int=999).urn, *known]


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    "how",
    [
        "a host of its own",
        "another language",
        "an export",
        "a password",
        "another name",
        "components renamed",
    ],
)
def test_ids_outlive(path: str, how: str) -> None:
    document, where = page(), place()
    if how == "a host of its own":
        where = place(base="", origin="https://status.shop.example")
    elif how == "another language":
        where = place("de")
    elif how == "an export":
        where = replace(place(base="", origin=""), is_live=False)
    elif how == "a password":
        document, where = replace(page(rule={"access": {"password": "x"}}), proof="k"), place(key="k")
    elif how == "another name":
        document = replace(document, rule=document.rule.model_copy(update={"slug": "other", "name": "Other"}))
    else:
        document = replace(
            document,
            components=[changed(one, name="New", slug=f"n-{one.slug}") for one in document.components],
        )
    assert ids(path, document, where) == ids(path)
    if path == "feed.atom" and how != "another language":
        assert read(path, document, where).feed.id == read(path).feed.id


def test_feeds_of_languages_and_components_are_different_feeds_of_the_same_entries() -> None:
    feeds = [
        read("feed.atom"),
        read("feed.atom", page(), place("de")),
        read("feed.atom", components="web"),
        read("feed.atom", components="pay,web"),
    ]
    assert len({feed.feed.id for feed in feeds}) == 4
    assert {entry.id for feed in feeds[1:] for entry in feed.entries} <= {
        entry.id for entry in feeds[0].entries
    }
    assert feeds[1].feed.language == "de"


@pytest.mark.parametrize("path", ALL)
def test_a_feed_may_be_of_some_components(path: str) -> None:
    assert len(ids(path, components="web")) == 1
    assert len(ids(path, components="app,web,nosuch")) == 2
    assert ids(path, components="nosuch") == []
    assert b"components=app,web" in body(path, components="web,nosuch,app")


@pytest.mark.parametrize("path", ALL)
def test_no_feed_is_longer_than_it_may_be(path: str) -> None:
    many = [
        incident(n, {"investigating": "x", "resolved": "y"}, about={WEB: "major_outage"})
        for n in range(1, 60)
    ]
    assert len(ids(path, page(incidents=many))) == MOST_ENTRIES


@pytest.mark.parametrize("path", ALL)
def test_a_page_of_which_nothing_was_said_has_a_feed(path: str) -> None:
    for empty in (page(incidents=[], maintenances=[]), page(incidents=[], maintenances=[], components=[])):
        assert ids(path, empty) == []


@pytest.mark.parametrize("path", ALL)
def test_where_a_page_needs_a_proof_every_link_of_its_feeds_carries_it(path: str) -> None:
    document = replace(page(rule={"access": {"password": "x"}}), proof="a+key")
    made = body(path, document, place(key="a+key")).decode()
    assert made.count("https://up.example/") == made.count("key=a%2Bkey")
    chosen = body(path, document, place(key="a+key"), components="web").decode()
    assert f"/{path}?components=web&key=a%2Bkey" in chosen.replace("&amp;", "&")


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_feeds(code: str) -> None:
    where = replace(place(), language=place(code).language)
    assert all(len(ids(path, page(), where)) == 10 for path in ALL)


@pytest.mark.parametrize("path", XML)
def test_two_hundred_attacks_are_well_formed_and_text(path: str) -> None:
    control = ["\0\x01\x08\x0b\x1f\x7f\x85\ufffe\uffff]]>", "&#0;&nbsp;&bogus;", "a\r\nb\tc", "🙂\u2028x"]
    attacks = [*ATTACKS, *control]
    for number in range(0, len(attacks), 10):  # so many that all they say is in the feed
        made = body(path, hostile(number, attacks[number : number + 10]))
        root = etree.fromstring(made)
        found = feedparser.parse(made, sanitize_html=False)
        assert not found.bozo
        for entry in found.entries:
            shown = etree.HTML(f"<main>{entry.get('content', [entry.get('summary_detail')])[0].value}</main>")
            assert not shown.xpath(
                "//script|//img|//iframe|//svg|//style|//object|//form|//@*[starts-with(name(), 'on')]|//@style"
            )
            assert all(
                href.startswith(("https://", "http://", "mailto:")) for href in shown.xpath("//a/@href")
            )
        titles = {letters(one.text.partition(" · ")[2]) for one in root.iter("{*}title") if " · " in one.text}
        assert titles == {letters(one_line(one)) for one in attacks[number : number + 10]}


@pytest.mark.parametrize(("old", "new"), [("history.rss", "feed.rss"), ("history.atom", "feed.atom")])
def test_the_addresses_of_statuspage_lead_to_the_same(old: str, new: str) -> None:
    assert body(old) == body(new)
