"""What machines are told beside the page: its head, sitemap, robots, and its state for shields.io."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from lxml import etree, html

from api.status.document import Document
from api.status.kept import Kept
from api.status.previews import head
from rules.page import Page
from tests.api.status.test_status_attacks import hostile
from tests.api.status.test_status_hostile import ATTACKS
from tests.api.status.told import FAILED, LASTS, body, page, place

if TYPE_CHECKING:
    from tests.api.conftest import Server


def shown(document: Document, **where: Any) -> Any:
    made = head(document, place(**where), "Partial outage", "Payments fail.", "history/2026-11")
    return html.fromstring(f"<html><head>{made}</head><body></body></html>")


def meta(document: Document, **where: Any) -> dict[str, str]:
    return {
        one.get("property") or one.get("name"): one.get("content")
        for one in shown(document, **where).iter("meta")
    }


def test_a_link_to_the_page_is_shown_with_its_state() -> None:
    said = meta(page())
    assert said["og:title"] == "Partial outage"
    assert said["og:description"] == said["description"] == "Payments fail."
    assert said["og:image"] == "https://up.example/p/shop/preview.png"
    assert said["og:url"] == "https://up.example/p/shop/history/2026-11"
    assert said["og:site_name"] == "The Shop & Co."
    assert "robots" not in said
    assert "theme-color" not in said


def test_a_page_names_itself_in_every_language_it_has() -> None:
    links = shown(page(), code="de").xpath("//link[@hreflang]")
    assert {one.get("hreflang"): one.get("href") for one in links} == {
        "en": "https://up.example/p/shop/history/2026-11",
        "de": "https://up.example/p/shop/de/history/2026-11",
        "x-default": "https://up.example/p/shop/history/2026-11",
    }
    (canonical,) = shown(page(), code="de").xpath("//link[@rel='canonical']")
    assert canonical.get("href") == "https://up.example/p/shop/de/history/2026-11"


def test_the_feeds_of_a_page_are_found_from_it() -> None:
    def feeds(document: Document, **where: Any) -> dict[str, str]:
        links = shown(document, **where).xpath("//link[@rel='alternate' and @type]")
        return {one.get("type"): one.get("href") for one in links}

    assert feeds(page()) == {
        "application/atom+xml": "https://up.example/p/shop/feed.atom",
        "application/rss+xml": "https://up.example/p/shop/feed.rss",
        "application/feed+json": "https://up.example/p/shop/feed.json",
        "text/calendar": "https://up.example/p/shop/calendar.ics",
    }
    closed = page(rule={"access": {"password": "x"}})
    assert all(href.endswith("?key=a%2Bkey") for href in feeds(closed, key="a+key").values())


@pytest.mark.parametrize("rule", [{"indexed": False}, {"access": {"password": "x"}}])
def test_a_page_that_may_not_be_listed_says_so(rule: dict[str, Any]) -> None:
    assert meta(page(rule=rule))["robots"] == "noindex"
    assert body("sitemap.xml", page(rule=rule)) == b""
    assert b"Sitemap" not in body("robots.txt", page(rule=rule))


def test_the_accent_is_the_colour_of_the_browser() -> None:
    assert meta(page(rule={"look": {"accent": "#123456"}}))["theme-color"] == "#123456"


def test_attacks_in_a_head_are_text() -> None:
    for attack in ATTACKS:
        rule = Page(slug="x", name=attack[:200].strip() or "x", description=attack)
        made = head(replace(page(), rule=rule), place(), attack, attack, "")
        parsed = html.fromstring(f"<html><head>{made}</head><body></body></html>")
        assert {one.tag for one in parsed.find("head")} == {"meta", "link"}
        assert {name for one in parsed.find("head") for name in one.attrib} == {
            "name", "property", "content", "rel", "href", "type", "title",
        }  # fmt: skip


def test_a_sitemap_has_every_page_in_every_language() -> None:
    root = etree.fromstring(body("sitemap.xml"))
    found = root.xpath("//*[local-name()='loc']/text()")
    for path in ("", f"/incidents/{LASTS.id}", f"/incidents/{FAILED.id}"):
        assert f"https://up.example/p/shop{path}" in found
        assert f"https://up.example/p/shop/de{path or '/'}" in found
    assert not any(".ics" in url or ".png" in url for url in found)
    assert len(found) == len({*found})


def test_robots_of_a_page_lead_to_its_sitemap() -> None:
    where = place(base="", origin="https://status.shop.example")
    assert body("robots.txt", page(), where).decode().splitlines() == [
        "User-agent: *",
        "Allow: /",
        "Sitemap: https://status.shop.example/sitemap.xml",
    ]


async def test_search_engines_are_sent_to_public_pages_only(server: "Server") -> None:
    answer = await server.call("GET", "/robots.txt", who=None)
    assert answer.body.splitlines() == ["User-agent: *", "Allow: /p/", "Allow: /static/", "Disallow: /"]


async def test_what_has_no_head_says_by_a_header_that_it_may_not_be_listed(server: "Server") -> None:
    async def kept(slug: str) -> Document | None:
        return page(rule={"indexed": slug == "shop"})

    server.app.state.status_pages = Kept(kept)
    try:
        listed = await server.call("GET", "/p/shop/feed.rss", who=None)
        hidden = await server.call("GET", "/p/hidden/feed.rss", who=None)
    finally:
        server.app.state.status_pages = None
    assert "X-Robots-Tag" not in listed.headers
    assert hidden.headers["X-Robots-Tag"] == "noindex"


def test_shields_io_is_told_the_state_of_page_and_component() -> None:
    assert json.loads(body("badge.json")) == {
        "schemaVersion": 1,
        "label": "The Shop & Co.",
        "message": "Partial outage",
        "color": "#a84300",
    }
    app = json.loads(body("badge/app.json"))
    assert (app["label"], app["message"]) == ("App", "Degraded performance")
    assert body("badge/nosuch.json") == b""
    german = json.loads(body("badge.json", page(), place("de")))
    assert german["message"] != "Partial outage"
    coloured = page(rule={"look": {"colours": {"partial_outage": "#010203"}}})
    assert json.loads(body("badge.json", coloured))["color"] == "#010203"
    assert json.loads(body("badge.json", hostile(1, ATTACKS[:40])))["schemaVersion"] == 1
