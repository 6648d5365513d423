"""How pages are served: whatever is asked in whatever way, made once for everybody, within bounds, and whole though a view is broken."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from api.status import front, kept
from api.status.addresses import away
from api.status.document import Document
from api.status.kept import MOST_ORIGINS, Kept, Made, Shelf, made
from api.status.view import OPEN, Place, Rendition, View, view
from api.status.views import VIEWS
from rules.language import language
from rules.page import Access, Page
from tests.api.status import shown

if TYPE_CHECKING:
    from tests.api.conftest import Server

PLACE = Place("/p/shop", "http://up.example", language("en"))
NOW = datetime(2026, 11, 20, tzinfo=UTC)


async def raw(server: "Server", *lines: bytes) -> tuple[int, dict[str, str], bytes]:
    """The answer to a head that no client library would send."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, *headers = head.decode("latin-1").split("\r\n")
    named = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
    return int(status.split(" ")[1]), named, body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/p/shop", 200, id="the page"),
        pytest.param("/p/shop/", 200, id="with a slash at its end"),
        pytest.param("/p/sh%6Fp/status.json", 200, id="written otherwise"),
        pytest.param("/p/shop?a=1&a=2&a=%ff%00", 200, id="names in the query twice, and what is no text"),
        pytest.param("/p/shop?" + "&".join(f"o{n}=1" for n in range(500)), 200, id="many names"),
        pytest.param("/p/shop?q=" + "x" * 30_000, 200, id="a long query"),
        pytest.param("/p/shop//", 404, id="two slashes"),
        pytest.param("/p//shop", 404, id="no slug"),
        pytest.param("/p/", 404, id="nothing"),
        pytest.param("/p/shop/%00", 404, id="NUL below the page"),
        pytest.param("/p/%00", 404, id="NUL as its name"),
        pytest.param("/p/" + "x" * 30_000, 404, id="a long name"),
        pytest.param("/p/shop/" + "x/" * 10_000, 404, id="a long path"),
        pytest.param("/p/shop/..%2f..%2fetc%2fpasswd", 404, id="upwards"),
        pytest.param("/p/shop/de", 404, id="a language that the page does not have"),
        pytest.param("/p/SHOP", 404, id="another case"),
    ],
)
async def test_an_address_is_answered(server: "Server", path: str, status: int) -> None:
    found, headers, _ = await raw(server, f"GET {path} HTTP/1.1".encode(), b"Host: up.example")
    assert found == status
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/p/usual/history/", "/p/usual/history"),
        ("/p/usual/de/history/2026-11/?a=1&b=/", "/p/usual/de/history/2026-11?a=1&b=/"),
        ("/p/usual/incidents/inc_none/", "/p/usual/incidents/inc_none"),
        ("/p/usual/subscribe/?kind=email", "/p/usual/subscribe?kind=email"),
        ("/p/usual/confirm/a%0d%0aX:1/", None),
        ("/p/usual//e.example/", None),
        ("/p/usual/de//", None),
        ("/p/usual/nothing/", None),
    ],
)
async def test_a_slash_at_its_end_leads_to_the_address_without(
    server: "Server", path: str, there: str | None
) -> None:
    async with shown.showing(server, shown.usual()):
        for method in (b"GET", b"HEAD"):
            status, headers, _ = await raw(
                server, method + b" %b HTTP/1.1" % path.encode(), b"Host: up.example"
            )
            assert (status, headers.get("location")) == ((308, there) if there else (404, None))


async def test_a_terminal_is_shown_text_where_nothing_is_and_at_the_gate(server: "Server") -> None:
    gated = shown.usual("gated", access={"password": "x"})
    async with shown.showing(server, shown.usual(), gated):
        for agent, media_type in (
            (b"curl/8.5.0", "text/plain; charset=utf-8"),
            (b"x", "text/html; charset=utf-8"),
        ):
            for path, status, said in (
                (b"usual/nothing", 404, b"There is nothing here"),
                (b"usual/de/incidents/inc_none", 404, b"Hier ist nichts"),
                (b"usual/badge/nix.svg", 404, b"There is nothing here"),
                (b"gated", 401, b"This page is not public"),
                (b"gated/history", 401, b"This page is not public"),
            ):
                lines = (b"GET /p/%b HTTP/1.1" % path, b"Host: up.example", b"User-Agent: " + agent)
                found, headers, body = await raw(server, *lines)
                assert (found, headers["content-type"], said in body) == (status, media_type, True), (
                    path,
                    body,
                )
                assert headers["cache-control"] == "no-store"
                assert path.startswith(b"usual") or b"Checkout" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"up.example:8000", 200),
        (b"UP.example.", 200),
        (b"[::1]:8000", 200),
        (b"[::1", 400),
        (b"up.example:port", 400),
        (b'"><script>xss()</script>', 400),
        (b"a b", 400),
        (b"x@evil.example", 400),
        (b"\xff\xfe", 400),
        (b"x" * 20_000, 400),
        (b"", 200),
    ],
)
@pytest.mark.parametrize("path", [b"/p/shop", b"/healthz"])
async def test_a_host_header_names_a_host_or_nothing_is_answered(
    server: "Server", host: bytes, status: int, path: bytes
) -> None:
    assert (await raw(server, b"GET " + path + b" HTTP/1.1", b"Host: " + host))[0] == status


async def test_a_head_is_that_of_the_whole(server: "Server") -> None:
    for encoding in (b"identity", b"gzip"):
        asked = b"Host: up.example", b"Accept-Encoding: " + encoding
        _, whole, body = await raw(server, b"GET /p/shop HTTP/1.1", *asked)
        status, head, nothing = await raw(server, b"HEAD /p/shop HTTP/1.1", *asked)
        assert (status, nothing) == (200, b"")
        assert head | {"date": ""} == whole | {"date": ""}
        assert int(head["content-length"]) == len(body)


@pytest.mark.parametrize(
    ("encodings", "is_gzip"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("notgzip", False),
        ("identity", False),
    ],
)
async def test_gzip_is_sent_to_who_takes_it(server: "Server", encodings: str, is_gzip: bool) -> None:
    asked = b"Host: up.example", b"Accept-Encoding: " + encodings.encode()
    _, headers, body = await raw(server, b"GET /p/shop HTTP/1.1", *asked)
    assert ("content-encoding" in headers) is is_gzip
    assert b"<html" in (gzip.decompress(body) if is_gzip else body)
    assert "Accept-Encoding" in headers["vary"]


async def test_who_has_it_is_told_so_in_every_way_of_asking(server: "Server") -> None:
    _, headers, _ = await raw(server, b"GET /p/shop HTTP/1.1", b"Host: up.example")
    etag = headers["etag"]
    assert re.fullmatch(r'W/"\w+"', etag)
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        status, same, body = await raw(
            server, b"GET /p/shop HTTP/1.1", b"Host: up.example", b"If-None-Match: " + known.encode()
        )
        assert (status, body, same["etag"]) == (304, b"", etag)
        assert "content-type" not in same
    lines = b'If-None-Match: "other"', b"If-None-Match: " + etag.encode(), b'If-None-Match: "third"'
    assert (await raw(server, b"GET /p/shop HTTP/1.1", b"Host: up.example", *lines))[0] == 304
    for known in ('"other"', "", etag[:-2]):
        asked = b"Host: up.example", b"If-None-Match: " + known.encode()
        assert (await raw(server, b"GET /p/shop HTTP/1.1", *asked))[0] == 200


async def test_what_changes_things_is_refused(server: "Server") -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        status, headers, _ = await raw(server, f"{method} /p/shop HTTP/1.1".encode(), b"Host: up.example")
        assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_many_who_ask_for_pages_that_are_not_there_cost_few_queries(server: "Server") -> None:
    asked, pool = 0, server.services.pool

    class Counted:
        def acquire(self) -> Any:
            nonlocal asked
            asked += 1
            return pool.acquire()

    await server.call("GET", "/p/shop", who=None)
    server.services.pool = Counted()  # type: ignore[assignment]
    try:
        paths = [f"/p/nobody-{n}" for n in range(60)]
        answers = await asyncio.gather(*(server.call("GET", path, who=None) for path in paths))
    finally:
        server.services.pool = pool
    assert {answer.status for answer in answers} == {404}
    assert asked < 20


def document(**more: Any) -> Document:
    return Document("page_x", Page(slug="shop", name="Shop", **more), "operational", [], [], [], NOW, {})


@pytest.fixture
async def own(server: "Server", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Document]]:
    """Pages by slug, served instead of those that are stored, with views of which some are broken."""
    pages: dict[str, Document] = {}

    async def read(slug: str) -> Document | None:
        return pages.get(slug)

    def broken(*_: object) -> Rendition:
        raise KeyError("a bug")

    def said(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
        return Rendition(f"{place.path()} {sorted(given.items())}".encode() * 50, "text/csv", OPEN)

    views = (view(r"broken\.json", broken), view(r"said\.json", said, options={"size"}), *VIEWS)
    monkeypatch.setattr(front, "VIEWS", views)
    server.app.state.status_pages = Kept(read)
    yield pages
    server.app.state.status_pages = None


async def test_a_broken_view_takes_nothing_else_away(
    server: "Server", own: dict[str, Document], caplog: pytest.LogCaptureFixture
) -> None:
    own["shop"] = document()
    for _ in range(3):
        broken = await server.call("GET", "/p/shop/broken.json", who=None)
        assert (broken.status, broken.headers["Cache-Control"]) == (500, "no-store")
        assert (await server.call("GET", "/p/shop", who=None)).status == 200
    assert [record.exc_info is not None for record in caplog.records if "broken.json" in record.message] == [
        True
    ]


async def test_of_a_page_that_is_not_public_others_may_neither_keep_nor_read_anything(
    server: "Server", own: dict[str, Document]
) -> None:
    own["open"] = document()
    own["shut"] = document(access=Access(networks=["127.0.0.0/8"]))
    public = (await server.call("GET", "/p/open/said.json", who=None)).headers
    assert (public["Cache-Control"], public["Access-Control-Allow-Origin"]) == ("public, no-cache", "*")
    private = (await server.call("GET", "/p/shut/said.json", who=None)).headers
    assert private["Cache-Control"] == "private, no-cache"
    assert private["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Cookie" in private["Vary"]
    assert "Access-Control-Allow-Origin" not in private
    assert private["X-Robots-Tag"] == "noindex"


async def test_a_query_changes_what_a_view_heeds_and_nothing_else(
    server: "Server", own: dict[str, Document]
) -> None:
    own["shop"] = document()

    async def body(query: str) -> Any:
        async with server.session.get(f"{server.url}/p/shop/said.json{query}") as answer:
            return await answer.read()

    assert await body("?size=1") != await body("")
    assert await body("?other=1&size=") == await body("")
    assert await body("?size=1&size=2") == await body("?size=2")
    assert await body("?size=" + "x" * 1000) == await body("")
    pages: Kept = server.app.state.status_pages
    assert len(pages.plain.made) == 1
    assert len(pages.optional.made) == 2


async def test_a_page_that_is_another_now_is_shown_as_that(
    server: "Server", own: dict[str, Document]
) -> None:
    own["shop"] = document()
    before = (await server.call("GET", "/p/shop/status.json", who=None)).body
    pages: Kept = server.app.state.status_pages
    own["shop"] = replace(document(), id="page_y", rule=Page(slug="shop", name="Another"))
    pages.copies["shop"].read_s -= kept.SOON_S + 1
    after = (await server.call("GET", "/p/shop/status.json", who=None)).body
    assert (before["page"]["name"], after["page"]["name"]) == ("Shop", "Another")
    del own["shop"]
    pages.copies["shop"].read_s -= kept.SOON_S + 1
    assert (await server.call("GET", "/p/shop/status.json", who=None)).status == 404
    assert (pages.plain.size_bytes, len(pages.plain.made)) == (0, 0)


def plain(body: bytes) -> Made:
    return made(Rendition(body, "text/plain"), is_public=True, is_listed=True)


async def test_a_thousand_who_want_what_is_not_made_yet_have_it_made_once() -> None:
    shelf, made_times = Shelf(1 << 20), list[int]()

    def make() -> Made:
        made_times.append(1)
        return plain(b"x")

    key = (1, "", "", "", "", ())
    waiting = [asyncio.create_task(shelf.take(key, make)) for _ in range(1000)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who came first and left takes nothing from the others
    assert len({id(one) for one in await asyncio.gather(*waiting[1:])}) == 1
    assert made_times == [1]
    assert shelf.making == {}


async def test_what_is_kept_is_bounded_in_bytes_and_the_oldest_goes_first() -> None:
    shelf = Shelf(100_000)
    for n in range(100):
        await shelf.take((1, "", "", "", "main", ()), lambda: plain(b"main"))
        await shelf.take((2, "", "", "", f"{n}", ()), lambda: plain(bytes(1000)))
        assert shelf.size_bytes <= 100_000
        assert shelf.size_bytes == sum(one.size_bytes for one in shelf.made.values())
    assert shelf.get((1, "", "", "", "main", ())) is not None  # it is asked for all the time
    assert shelf.get((2, "", "", "", "0", ())) is None
    shelf.forget(2)
    assert [key[0] for key in shelf.made] == [1]
    assert await shelf.take((3, "", "", "", "", ()), lambda: None) is None
    assert len(shelf.made) == 1


async def test_what_options_make_takes_no_room_from_the_page() -> None:
    async def read(_: str) -> Document:
        return document()

    pages = Kept(read, optional=Shelf(50_000))
    copy = await pages.page("shop", 0.0)
    assert copy is not None
    many = View(re.compile(""), lambda *_: Rendition(bytes(2000), "image/png"), options=frozenset({"size"}))
    await pages.rendition(copy, many, PLACE, "", {}, {})
    for n in range(200):
        await pages.rendition(copy, many, PLACE, "", {}, {"size": str(n)})
    assert (len(pages.plain.made), pages.optional.size_bytes <= 50_000) == (1, True)
    for n in range(200):
        await pages.rendition(copy, many, replace(PLACE, origin=f"https://{n}.example"), "", {}, {})
    assert (len(pages.plain.made), pages.optional.size_bytes <= 50_000) == (MOST_ORIGINS, True)


async def test_a_page_says_when_it_was_last_read_not_when_it_last_changed() -> None:
    moments = iter([NOW, NOW.replace(second=30), NOW.replace(second=45)])
    is_away = False

    async def read(_: str) -> Document:
        if is_away:
            raise ConnectionRefusedError
        return replace(document(), at=next(moments))

    pages = Kept(read)
    first = await pages.page("shop", 0.0)
    same = await pages.page("shop", 20.0)
    assert first is not None
    assert first is same
    is_away = True
    stale = await pages.page("shop", 40.0)
    assert stale is not None
    assert stale.document.stale_since == NOW.replace(second=30)
    assert await pages.page("shop", 60.0) is stale
    is_away = False
    again = await pages.page("shop", 80.0)
    assert again is not None
    assert (again.document.stale_since, again.document.at) == (None, NOW.replace(second=45))


@pytest.mark.parametrize(
    ("trouble", "level"),
    [(KeyError("a bug"), "ERROR"), (away("this page"), "WARNING")],
    ids=["a bug", "away"],
)
async def test_trouble_in_reading_takes_no_page_away(
    trouble: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    is_broken = False

    async def read(_: str) -> Document:
        if is_broken:
            raise trouble
        return document()

    pages = Kept(read)
    await pages.page("shop", 0.0)
    is_broken = True
    found = await pages.page("shop", 20.0)
    assert found is not None
    assert found.document.stale_since == NOW
    assert [record.levelname for record in caplog.records] == [level]


def test_programs_are_told_the_impact_that_people_gave_an_incident() -> None:
    hour = timedelta(hours=1)
    page = shown.document(
        "shop", [], [shown.incident(1, "No mail", "investigating", hour, impact="critical")]
    )
    made = next(one for one in VIEWS if one.pattern.fullmatch("status.json")).make(page, PLACE, {})
    assert made is not None
    assert json.loads(made.body)["open"][0]["impact"] == "critical"
