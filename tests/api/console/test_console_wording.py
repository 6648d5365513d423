"""The console's editor of templates: previewed and saved without JavaScript, by who may."""

from typing import TYPE_CHECKING

import pytest

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn


@pytest.fixture
async def slug(server: "Server") -> str:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {
            "slug": f"w-{new_id().hex[-8:]}",
            "type": "tcp",
            "host": "x.example",
            "port": 1,
            "name": "Tills",
        }
        return (await objects.create(db, Actor("t", "api"), "beat", page.id, spec)).slug


async def test_templates_are_previewed_and_saved_and_taken_away(
    server: "Server", admin: "Person", slug: str
) -> None:
    path = f"/console/beats/{slug}/templates?page=shop"
    assert f"/console/beats/{slug}/templates" in (await admin.get(f"/console/beats/{slug}?page=shop")).html
    page = await admin.get(path)
    assert "Outage: Tills" in page.html  # the default words
    assert "a sample" in page.html
    words = {"open_text": "**{{ what }}** <script>alert(1)</script>", "open_markdown": "on", "do": "preview"}
    shown = await admin.post(path, words | {"resolve_preset": "resolved"})
    assert "<strong>Tills</strong> &lt;script&gt;" in shown.html
    assert "We are sorry for the trouble" in shown.html
    assert "Title of: default; text of: beat." in shown.html
    saved = await admin.post(path, words | {"do": "save", "resolve_preset": "resolved"})
    assert (saved.status, "Saved." in saved.html) == (200, True)
    async with server.services.pool.acquire() as db:
        stored = await objects.find(db, "beat", slug)
    assert stored.spec["templates"] == {
        "open": {"text": "**{{ what }}** <script>alert(1)</script>", "format": "markdown"},
        "resolve": {"preset": "resolved"},
    }
    await admin.post(path, {"do": "save"})
    async with server.services.pool.acquire() as db:
        assert "templates" not in (await objects.find(db, "beat", slug)).spec


async def test_a_mistake_keeps_what_was_written_and_says_where_it_is(admin: "Person", slug: str) -> None:
    path = f"/console/beats/{slug}/templates?page=shop"
    for button in ("save", "preview"):
        wrong = await admin.post(path, {"open_title": "{{ wat }}", "do": button})
        assert wrong.status == 422
        assert "templates/open/title" in wrong.html
        assert "did you mean what?" in wrong.html
        assert 'value="{{ wat }}"' in wrong.html


@pytest.mark.parametrize(
    "path", ["/console/pages/shop/templates", "/console/components/site/templates?page=shop"]
)
async def test_pages_have_words_and_components_have_none(admin: "Person", path: str) -> None:
    page = await admin.get(path)
    assert page.status == (200 if "pages" in path else 404)


async def test_who_may_not_edit_sees_and_saves_nothing(sign_in: "SignIn", slug: str) -> None:
    person = await sign_in("viewer@shop")
    path = f"/console/beats/{slug}/templates?page=shop"
    page = await person.get(path)
    assert (page.status, 'value="save"' in page.html) == (200, False)
    assert (await person.post(path, {"open_text": "x", "do": "preview"})).status == 200
    assert (await person.post(path, {"open_text": "x", "do": "save"})).status == 403
