"""Badges of pages: whatever a page is called and whatever is asked, a picture comes out, and it runs nothing."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from api.status.badge import COLOURS, HEIGHTS, THEMES, VARIANTS, VIEWS, writable
from api.status.document import Document, Shown
from api.status.view import Place, Rendition
from rules.language import LANGUAGES, language
from rules.page import Page
from tests.api.console.conftest import WATCH
from tests.api.console.test_console_hostile import PAYLOADS
from tests.rig.browser import chromium

PLACE = Place("/p/shop", "https://up.example", language("en"))
NAMES = [
    "Shop",
    "Ödeme & Şube",
    "Привет",
    "日本語",
    "עברית",
    "🦊",
    "\u202egnp",
    "x" * 200,
    "<>&\"'",
    *PAYLOADS,
]


def _page(name: str = "Shop", status: str = "operational", **look: Any) -> Document:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    one = Shown("c", "pay", f"{name}'s payments", "", None, status, 0, at, at, None, "manual", [])
    rule = Page(slug="shop", name=name, look=look)
    return Document("page_x", rule, status, [one], [], [], at, {})


def _made(
    path: str, page: Document, asked: Mapping[str, str] | None = None, place: Place = PLACE
) -> Rendition:
    for view in VIEWS:
        if found := view.pattern.fullmatch(path):
            named = {name: value for name, value in found.groupdict().items() if value is not None}
            made = view.make(page, place, {**(asked or {}), **named})
            assert made is not None
            return made
    raise AssertionError(path)


def _texts(rendition: Rendition) -> list[str]:
    root = ET.fromstring(rendition.body)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_badge_says_what_it_is_of_and_how_that_is() -> None:
    assert _texts(_made("badge.svg", _page())) == ["Shop", "All systems operational"]
    assert _texts(_made("badge/pay.svg", _page(status="major_outage"))) == ["Shop's payments", "Major outage"]
    assert _texts(_made("badge.svg", _page(), {"label": "Status"})) == ["Status", "All systems operational"]
    assert _texts(_made("badge.svg", _page(), {"label": ""})) == ["All systems operational"]
    root = ET.fromstring(_made("badge.svg", _page()).body)
    assert (root.get("role"), root.get("aria-label")) == ("img", "Shop: All systems operational")


def test_there_is_no_badge_of_a_component_that_the_page_does_not_show() -> None:
    for view in VIEWS:
        if view.pattern.fullmatch("badge/other.png") or view.pattern.fullmatch("badge/other.svg"):
            assert view.make(_page(), PLACE, {"component": "other"}) is None


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_words_of_every_language_are_drawn_as_they_are_written(code: str) -> None:
    for status in COLOURS:
        said = language(code).say(f"status_{status}")
        assert writable(said, "") == said


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Ödeme Şube ğıİ", "Ödeme Şube ğıİ"),
        ("Привет", "Привет"),
        ("ﬁne ①", "fine 1"),
        ("日本語のページ", "shop"),
        ("🦊", "shop"),
        ("   ", "shop"),
        ("", ""),
    ],
)
def test_what_the_font_lacks_is_said_otherwise(text: str, drawn: str) -> None:
    assert writable(text, "shop") == drawn


@pytest.mark.parametrize("status", COLOURS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_png_is_twice_as_sharp_in_few_bytes(status: str, variant: str) -> None:
    for size, (height, _) in HEIGHTS.items():
        made = _made("badge.png", _page(status=status), {"size": size, "variant": variant, "theme": "dark"})
        with Image.open(io.BytesIO(made.body)) as picture:
            picture.load()
            assert (picture.format, picture.height) == ("PNG", 2 * height)
            assert picture.width > 2 * height
        assert len(made.body) < 5000


@pytest.mark.parametrize("name", NAMES)
def test_the_preview_of_a_link_has_the_size_that_is_asked_for(name: str) -> None:
    made = _made("preview.png", _page(name, "partial_outage"))
    with Image.open(io.BytesIO(made.body)) as picture:
        assert picture.size == (1200, 630)
        assert picture.convert("RGB").getpixel((5, 600)) == tuple(
            bytes.fromhex(COLOURS["partial_outage"][1:])
        )
    assert len(made.body) < 40_000


def test_text_on_a_colour_of_the_page_can_be_read() -> None:
    made = _made("badge.svg", _page(colours={"operational": "#ffee00"}))
    assert b'fill="#ffee00"' in made.body
    assert b'fill="#000000">All systems' in made.body


@settings(max_examples=60, deadline=None)
@given(
    name=st.one_of(st.sampled_from(NAMES), st.text(min_size=1, max_size=200).filter(str.strip)),
    asked=st.fixed_dictionaries(
        {},
        optional={
            "size": st.one_of(st.sampled_from(list(HEIGHTS)), st.text(max_size=5)),
            "theme": st.one_of(st.sampled_from(list(THEMES)), st.text(max_size=5)),
            "variant": st.one_of(st.sampled_from(VARIANTS), st.text(max_size=5)),
            "label": st.one_of(st.sampled_from(NAMES), st.text(max_size=300)),
        },
    ),
    status=st.sampled_from(list(COLOURS)),
    path=st.sampled_from(["badge", "badge/pay"]),
)
def test_whatever_is_asked_a_picture_comes_out(
    name: str, asked: Mapping[str, str], status: str, path: str
) -> None:
    page = _page(name, status)
    root = ET.fromstring(_made(f"{path}.svg", page, asked).body)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "rect",
        "g",
        "text",
    }
    assert float(root.get("width", "0")) < 2000
    with Image.open(io.BytesIO(_made(f"{path}.png", page, asked).body)) as picture:
        picture.load()


@pytest.mark.browser
async def test_a_badge_that_is_opened_by_itself_runs_nothing() -> None:
    async with chromium() as browser:
        context = await browser.new_context()
        await context.add_init_script(WATCH)
        tab = await context.new_page()
        made: dict[str, Rendition] = {}

        async def answer(route: Any) -> None:
            rendition = made[route.request.url]
            headers = {**rendition.headers, "Content-Type": rendition.media_type}
            await route.fulfill(body=rendition.body, headers=headers)

        await context.route("**/*.svg", answer)
        for at, payload in enumerate(PAYLOADS):
            url = f"http://badges.example/{at}.svg"
            made[url] = _made("badge.svg", _page(payload), {"label": payload})
            await tab.goto(url)
            assert await tab.evaluate("document.documentElement.tagName") == "svg"
            assert await tab.evaluate("window.attacks ?? []") == []
