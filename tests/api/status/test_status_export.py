"""A page as static files: whole, in every language, with links that lead somewhere wherever it is put, and nothing that is not public."""

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from api.status import export
from api.status.document import Document
from api.status.view import Place
from exporters.outcome import Delivered, Rejected
from exporters.publishers.folder import Folder
from exporters.static import MANIFEST, Rendered, StaticPublisher
from rules.language import LANGUAGES, language
from tests.api.status import told
from tests.rig.browser import chromium

ORIGIN, LIVE = "https://status.example.com", "https://up.example/p/shop"


def page(**rule: Any) -> Document:
    """Of the shop, in all languages."""
    made = told.page(seal="the seal", proof="the proof")
    return replace(made, rule=made.rule.model_copy(update={"languages": [*LANGUAGES], **rule}))


def exported(
    document: Document | None = None, *, base: str = "/status", origin: str = ORIGIN, index: bool = False
) -> dict[str, tuple[bytes, str]]:
    document = document or page()
    place = export.place_of(document, origin, base, LIVE, index=index)
    return {path: (body, media_type) for path, body, media_type in export.files(document, place)}


class Links(HTMLParser):
    """What a page leads to or loads, and everything else of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.rest: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        led = [given.pop(name) for name in ("href", "src", "srcset", "action") if name in given]
        self.found += [one for one in led if one]
        if given.get("http-equiv") != "Content-Security-Policy" and not re.match(
            r"https?://", given.get("content") or ""
        ):
            self.rest.append(f"{tag} {sorted(given.items(), key=str)} {len(led)}")

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.rest.append(data.strip())


def test_files_are_named_as_any_host_finds_them() -> None:
    found = exported()
    first, *others = LANGUAGES
    assert {"index.html", "history/index.html", "history/2026-11/index.html", "feed.atom"} <= found.keys()
    assert {"status.json", "api/v2/summary.json", "badge.svg", "calendar.ics"} <= found.keys()
    assert f"incidents/inc_{2:032x}/index.html" in found
    for code in others:
        assert {f"{code}/index.html", f"{code}/history/index.html", f"{code}/feed.atom"} <= found.keys()
    assert not any(path.startswith(f"{first}/") for path in found)
    assert list(found)[-1] == "index.html"
    assert set(list(found)[-len(LANGUAGES) : -1]) == {f"{code}/index.html" for code in others}


@pytest.mark.parametrize("base", ["", "/status", "/a/b-c"])
@pytest.mark.parametrize("index", [False, True], ids=["folders", "index.html"])
def test_every_link_of_every_page_leads_to_a_file(base: str, index: bool) -> None:
    found = exported(base=base, index=index)
    led = 0
    for path, (body, media_type) in found.items():
        if not media_type.startswith("text/html"):
            continue
        for link in Links(body.decode()).found:
            url = urljoin(f"{ORIGIN}{base}/{path}", link)
            if url.startswith((LIVE, "mailto:")):
                continue
            assert url.startswith(f"{ORIGIN}{base}/"), (path, link)
            target = urlsplit(url).path.removeprefix(f"{base}/")
            if target.endswith("/") or not target:
                assert not index, (path, link)
                target += "index.html"
            assert target in found, (path, link)
            led += 1
    assert led > 300


@pytest.mark.parametrize("code", LANGUAGES)
def test_an_exported_page_differs_from_the_live_one_in_its_links_alone(code: str) -> None:
    document = page()
    is_prefixed = code != LANGUAGES[0]
    live = Place("/p/shop", "https://up.example", language(code), is_prefixed=is_prefixed)
    found = exported(document)
    prefix = f"{code}/" if is_prefixed else ""
    for path in ("", "history", "history/2026-11", f"incidents/inc_{2:032x}", f"incidents/inc_{1:032x}"):
        ours = Links(found[f"{prefix}{path}/index.html".replace("//", "/").removeprefix("/")][0].decode())
        theirs = Links(told.body(path, document, live).decode())
        # How often it looks for news, and on the page itself when it was made.
        more = [line for line in ours.rest if line not in theirs.rest and not _is_link(line)]
        less = [line for line in theirs.rest if line not in ours.rest and not _is_link(line)]
        assert less == []
        assert [line.split(" ", 1)[0] for line in more if line[:4] == "time"] == ["time"] * (path == "")
        assert len(more) == 2 * (path == ""), more


def _is_link(line: str) -> bool:
    return line.startswith("https://") or (line.startswith("body") and "data-every" in line)


def test_what_files_cannot_take_leads_to_the_live_page_where_that_is_known() -> None:
    assert f'href="{LIVE}/subscribe"' in exported()["index.html"][0].decode()
    for unknown in ("", "http://127.0.0.1:8000/p/shop"):
        place = export.place_of(page(), ORIGIN, "", unknown, index=False)
        for _, body, __ in export.files(page(), place):
            assert b"/subscribe" not in body
            assert b"127.0.0.1" not in body


def test_feeds_carry_the_address_where_the_page_is_read() -> None:
    found = exported()
    for path in ("feed.atom", "feed.rss", "feed.json", "de/feed.atom", "sitemap.xml"):
        text = found[path][0].decode()
        assert f"{ORIGIN}/status/" in text
        assert "up.example" not in text


def test_nothing_in_it_lets_into_anything() -> None:
    document = page(access=page().rule.access.model_copy(update={"password": "the password"}))
    for path, (body, _) in exported(document).items():
        for secret in (b"the seal", b"the proof", b"the password", b"key="):
            assert secret not in body, path


def test_a_page_says_itself_what_it_may_load() -> None:
    text = exported()["index.html"][0].decode()
    policy = re.search(r'<head><meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)
    assert policy
    assert "default-src" in policy[1]
    assert "frame-ancestors" not in policy[1]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own static server, which says nothing."""

    answered: list[tuple[int, str]]

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self.answered.append((int(code), self.path))

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    answered: list[tuple[int, str]] = []
    handler = functools.partial(type("Handler", (_Quiet,), {"answered": answered}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", answered
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.browser
async def test_a_browser_walks_all_of_it_on_a_plain_server_and_asks_nobody_else(tmp_path: Path) -> None:
    document = page()
    with _served(tmp_path) as (origin, answered):
        place = export.place_of(document, origin, "/pages/status", "", index=False)

        async def render() -> Rendered | Rejected:
            return Rendered("shop", "", export.files(document, place))

        folder = tmp_path / "pages" / "status"
        assert isinstance(await StaticPublisher(Folder(str(folder)), render).write(), Delivered)
        async with chromium() as browser:
            tab = await browser.new_page()
            said: list[str] = []
            asked: list[str] = []
            tab.on("console", lambda message: said.append(f"{tab.url}: {message.text}"))
            tab.on("pageerror", lambda error: said.append(f"{tab.url}: {error}"))
            tab.on("request", lambda request: asked.append(request.url))
            ahead, seen = [f"{origin}/pages/status/"], set[str]()
            while ahead:
                if (url := ahead.pop()) in seen:
                    continue
                seen.add(url)
                if "." in urlsplit(url).path.rpartition("/")[2]:
                    assert (folder / urlsplit(url).path.removeprefix("/pages/status/")).is_file(), url
                    continue
                await tab.goto(url, wait_until="load")
                assert await tab.title()
                links = await tab.evaluate("[...document.links].map(one => one.href.split('#')[0])")
                ahead += [link for link in links if not link.startswith("mailto:")]
        titles = {url for url in seen if url.endswith("/")}
        assert {f"{origin}/pages/status/{code}/" for code in LANGUAGES if code != "en"} <= titles
        assert len(titles) > 10 * len(LANGUAGES)
        assert [url for url in asked if not url.startswith(f"{origin}/pages/status/")] == []
        assert [one for one in answered if one[0] not in (200, 304)] == []
        assert said == []
    assert (folder / MANIFEST).is_file()
