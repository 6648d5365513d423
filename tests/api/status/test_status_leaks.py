"""Every address of a page: gated where it is not public, and silent of what the page does not show. A view that is added is asked, too."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from api.status.access import COOKIE
from api.status.document import Document
from api.status.view import View
from api.status.views import VIEWS
from engine.clock import SystemClock
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server

HIDDEN = "hidden-4417"
"""Is in the name and text of all that the page must not show."""
SEEN = "seen-4418"
LIVE = ("subscribe", "subscribe?component=pay", "manage", "manage?token=x", "manage/x", "confirm", "confirm?token=x",
        "confirm/x", "unsubscribe", "unsubscribe?token=x", "unsubscribe/x", "unlock", "unlock?ticket=x")  # fmt: skip


def paths(view: View, page: Document) -> list[str]:
    """Some of each kind of address; those that no export has are like those of a view that it has."""
    if found := list(view.paths(page)):
        return found
    others = [path for other in VIEWS for path in other.paths(page)]
    alike = [path.rpartition(".")[0] + f".{end}" for path in others for end in ("png", "ics", "txt", "xml")]
    alike.append(view.pattern.pattern.replace("\\", ""))
    found = [path for path in alike if view.pattern.fullmatch(path)]
    assert found, f"no address of {view.pattern.pattern} is known: it must be asked here"
    return found


def addresses(page: Document) -> Iterator[tuple[View, str]]:
    """All of them, in each language."""
    for view in VIEWS:
        for path in paths(view, page):
            yield view, path
            if view.is_spoken:
                yield view, f"de/{path}"


class Stage:
    """A page that is not public, and much that it does not show."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.slug, self.other = f"l-{new_id().hex[-8:]}", f"m-{new_id().hex[-8:]}"
        self.hidden: list[str] = []  # ids
        self.cookie = ""

    async def make(self, path: str, body: Any) -> Any:
        made = await self.server.call("POST", f"/api/v1/{path}", body)
        assert made.status in (200, 201, 202), made.body
        return made.body

    async def incident(self, title: str, components: Any, page: str | None = None, **more: Any) -> Any:
        said = {
            "title": title,
            "text": title,
            "status": "investigating",
            "notify": True,
            "components": components,
        }
        return await self.make("incidents", {"page": page or self.slug} | said | more)

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        headers |= {"Cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        url = f"{self.server.url}/p/{self.slug}/{path}"
        async with self.server.session.request(
            method, url.rstrip("/"), headers=headers, allow_redirects=False
        ) as answer:
            head = str(answer.headers)
            return answer.status, head + (await answer.read()).decode("latin-1")

    async def enter(self) -> None:
        form, url = {"password": "open sesame"}, f"{self.server.url}/p/{self.slug}/unlock"
        async with self.server.session.post(url, data=form, allow_redirects=False) as answer:
            self.cookie = answer.cookies[COOKIE].value

    @property
    def page(self) -> Document:
        document: Document = self.server.app.state.status_pages.copies[self.slug].document
        return document


class Later(SystemClock):
    """The machine's clock in half a minute."""

    def monotonic_s(self) -> float:
        return super().monotonic_s() + 30


@pytest.fixture(scope="module")
async def stage(server: "Server") -> Stage:
    it = Stage(server)
    page = {
        "name": "Inner",
        "access": {"password": "open sesame"},
        "languages": ["en", "de"],
        "frames": "any",
    }
    await it.make("pages", page | {"slug": it.slug})
    await it.make("pages", {"slug": it.other, "name": HIDDEN})
    for slug, more in (
        ("pay", {"name": SEEN}),
        ("own", {"name": HIDDEN, "listed": False}),
        ("old", {"name": HIDDEN}),
    ):
        made = await it.make(f"components?page={it.slug}", {"slug": slug, "description": more["name"]} | more)
        it.hidden += [made["id"]] if slug != "pay" else []
    await it.make(f"components?page={it.other}", {"slug": "their", "name": HIDDEN})
    await server.call("DELETE", f"/api/v1/components/old?page={it.slug}")
    it.gate = (await it.ask(""))[1]  # type: ignore[attr-defined]
    seen = await it.incident(SEEN, {"pay": "major_outage", "own": "major_outage"})
    drafted = {"text": HIDDEN, "status": "identified", "notify": True, "draft": True}
    await it.make(f"incidents/{seen['id']}/updates", drafted)
    over = await it.incident(f"{SEEN} too", {"pay": "degraded_performance"})
    ended = {"text": SEEN, "status": "resolved", "notify": False}
    await it.make(f"incidents/{over['id']}/updates", ended)
    report = await server.call("PUT", f"/api/v1/incidents/{over['id']}/report", {"text": HIDDEN})
    assert report.status in (200, 201), report.body
    for made in (
        await it.incident(HIDDEN, {"own": "major_outage"}),
        await it.incident(HIDDEN, {f"{it.slug}/own": "major_outage", "their": "major_outage"}, it.other),
        await it.incident(HIDDEN, {"their": "major_outage"}, it.other),
        gone := await it.incident(HIDDEN, {"pay": "partial_outage"}),
    ):
        it.hidden.append(made["id"])
    removed = await server.call("DELETE", f"/api/v1/incidents/{gone['id']}")
    assert removed.status == 204, removed.body
    await it.incident(HIDDEN, {"pay": "major_outage"}, draft=True)
    server.services.clock = Later()
    await it.enter()
    await it.ask("")
    it.cookie = ""
    return it


async def test_every_address_of_a_page_that_is_not_public_is_gated(stage: Stage) -> None:
    stage.cookie = ""
    assert [one.title for one in stage.page.open] == [SEEN]
    asked = list(addresses(stage.page))
    assert len(asked) > 60
    for view, path in asked:
        for method in ("GET", "HEAD", "POST"):
            status, body = await stage.ask(path, method)
            assert status in ((200, 404, 405) if view.is_open else (401,)), path
            assert SEEN not in body, path
            assert HIDDEN not in body, path
    for path in (
        *LIVE,
        "nothing",
        "history/1999-01",
        f"incidents/{stage.hidden[-1]}",
        "?key=x",
        "index.html",
    ):
        for one in (path, f"de/{path}"):
            status, body = await stage.ask(one)
            assert status != 404 or one.startswith(
                ("unsubscribe", "confirm", "de/unsubscribe", "de/confirm")
            ), one
            assert SEEN not in body, one
            assert HIDDEN not in body, one
            if "subscribe" in one.partition("un")[0] or "manage" in one:
                assert status == 401, one


async def test_the_gate_does_not_tell_how_things_are(stage: Stage) -> None:
    stage.cookie = ""
    for headers in ({}, {"User-Agent": "curl/8"}, {"Accept": "text/html"}):
        now = (await stage.ask("", **headers))[1]
        assert SEEN not in now
        assert "outage" not in now
    assert (await stage.ask(""))[1].partition("<!doctype")[2] == stage.gate.partition("<!doctype")[2]  # type: ignore[attr-defined]


async def test_no_address_tells_of_what_the_page_does_not_show(stage: Stage) -> None:
    await stage.enter()
    told = 0
    for _, path in addresses(stage.page):
        status, body = await stage.ask(path)
        assert status in (200, 404), path
        assert HIDDEN not in body, path
        assert not [one for one in stage.hidden if one in body or one.partition("_")[2] in body], path
        told += SEEN in body
    assert told > 20
    for one in stage.hidden:
        for path in (f"incidents/{one}", f"incidents/{one}.txt", f"incidents/{one}.ics", f"badge/{one}.svg"):
            assert (await stage.ask(path))[0] == 404, path
    for path in ("badge/own.svg", "badge/own.png", "badge/own.json", "badge/old.svg"):
        assert (await stage.ask(path))[0] == 404, path
    for view in VIEWS:
        for option in view.options:
            for given in ("own", "old", stage.hidden[0], "pay,own"):
                for path in paths(view, stage.page)[:2]:
                    assert HIDDEN not in (await stage.ask(f"{path}?{option}={given}"))[1], (path, option)
