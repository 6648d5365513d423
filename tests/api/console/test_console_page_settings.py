"""The console's settings of a status page: all of it by a form, without JavaScript and without YAML, by who may."""

import io
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from PIL import Image

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from exporters.outcome import Retry
from tests.api.console.test_console_hostile import ALL
from tests.rig.browser import barriers

if TYPE_CHECKING:
    from engine.store.objects import Stored
    from tests.api.conftest import Server
    from tests.api.console.conftest import Page, Person, SignIn, Tab

ACTOR = Actor("t", "api")
LOOKS = {
    "look": {
        "theme": "dark",
        "style": "cards",
        "accent": "#aa3300",
        "colours": {"major_outage": "#990000"},
        "css": "h1 { letter-spacing: 0 }",
        "branded": False,
    }
}
FORM = {
    "name": "Shop",
    "description": "What we sell.\r\nAnd where.",
    "homepage": "https://shop.example",
    "contact": "mailto:help@shop.example",
    "language": "de",
    "languages": "tr",
    "timezone": "Europe/Berlin",
    "look.theme": "dark",
    "look.style": "cards",
    "look.accent": "#aa3300",
    "accent_own": "on",
    "operational": "#00ff00",  # its box is not ticked
    "major_outage": "#990000",
    "major_outage_own": "on",
    "look.css": "h1 { letter-spacing: 0 }",
    "access.networks": "10.0.0.0/8\r\nfd00::/8",
    "access.emails": "shop.example",
    "domain": "status.shop.example",
    "frames": "https://www.shop.example\r\nhttps://*.shop.example",
    "kinds": "email",
    "subscribers.reply_to": "help@shop.example",
}
SAVED = LOOKS | {
    "name": "Shop",
    "description": "What we sell.\nAnd where.",
    "homepage": "https://shop.example",
    "contact": "mailto:help@shop.example",
    "languages": ["de", "tr"],
    "timezone": "Europe/Berlin",
    "access": {"networks": ["10.0.0.0/8", "fd00::/8"], "emails": ["shop.example"]},
    "domain": "status.shop.example",
    "frames": ["https://www.shop.example", "https://*.shop.example"],
    "indexed": False,
    "subscribers": {"kinds": ["email"], "reply_to": "help@shop.example"},
}


@pytest.fixture
async def slug(server: "Server") -> str:
    return await _made(server)


async def _made(server: "Server", **spec: Any) -> str:
    slug = f"s-{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        await objects.create(db, ACTOR, "page", None, {"slug": slug, "name": "Shop"} | spec)
    return slug


async def _stored(server: "Server", slug: str) -> "Stored":
    async with server.services.pool.acquire() as db:
        return await objects.find(db, "page", slug)


async def test_the_form_saves_all_that_it_has_and_shows_it_again(
    server: "Server", admin: "Person", slug: str
) -> None:
    assert f'href="/console/pages/{slug}"' in (await admin.get("/console/pages")).html
    saved = await admin.post(f"/console/pages/{slug}", FORM)
    assert (saved.status, "Saved." in saved.html) == (200, True)
    assert (await _stored(server, slug)).spec == {"slug": slug} | SAVED
    for shown in ('value="#aa3300"', "fd00::/8", "https://*.shop.example", "h1 { letter-spacing: 0 }"):
        assert shown in saved.html
    emptied = await admin.post(
        f"/console/pages/{slug}", {"name": "Shop", "indexed": "on", "look.branded": "on"}
    )
    assert emptied.status == 200
    assert (await _stored(server, slug)).spec == {
        "slug": slug,
        "name": "Shop",
        "subscribers": {"kinds": []},
    }


async def test_what_the_form_does_not_have_stays(server: "Server", admin: "Person") -> None:
    slug = await _made(server, reopen_within=3600.0, review={"public": 2})
    await admin.post(f"/console/pages/{slug}", FORM)
    kept = (await _stored(server, slug)).spec
    assert (kept["reopen_within"], kept["review"]) == (3600.0, {"public": 2})


async def test_a_mistake_keeps_what_was_written_and_says_where_it_is(
    server: "Server", admin: "Person", slug: str
) -> None:
    wrong = await admin.post(
        f"/console/pages/{slug}",
        FORM
        | {"timezone": "Mars/Olympus", "look.css": "@import 'x.css'", "frames": "shop.example"}
        | {"access.networks": "10.0.0.0/8 us"},
    )
    assert wrong.status == 422
    for said in ("Mars/Olympus", "@import", "<code>timezone</code>", "<code>look/css</code>", "<code>frames"):
        assert said in wrong.html
    for name in ("timezone", "look.css", "frames", "access.networks"):
        assert re.search(rf'name="{name}"[^>]*aria-invalid="true"', wrong.html), name
    assert (await _stored(server, slug)).revision == 1


async def test_a_password_is_set_kept_and_taken_away_and_never_shown(
    server: "Server", admin: "Person", slug: str
) -> None:
    form = {"name": "Shop", "access.password": "tulips and more"}
    set_now = await admin.post(f"/console/pages/{slug}", form)
    assert (await _stored(server, slug)).spec["access"] == {"password": "tulips and more"}
    assert "tulips" not in set_now.html
    assert "One is set" in set_now.html
    assert "badge.svg?key=" in set_now.html  # what is copied lets in
    await admin.post(f"/console/pages/{slug}", {"name": "Other"})
    assert (await _stored(server, slug)).spec["access"] == {"password": "tulips and more"}
    await admin.post(f"/console/pages/{slug}", {"name": "Other", "access.password": " with blanks "})
    assert (await _stored(server, slug)).spec["access"] == {"password": " with blanks "}
    await admin.post(f"/console/pages/{slug}", {"name": "Other", "access.open": "on"})
    assert "access" not in (await _stored(server, slug)).spec


async def test_a_mistake_elsewhere_loses_no_password_and_says_of_none_that_it_is_set(
    server: "Server", admin: "Person", slug: str
) -> None:
    path, wrong = f"/console/pages/{slug}", {"name": "Shop", "timezone": "Mars/Olympus"}
    refused = await admin.post(path, wrong | {"access.password": "tulips"})
    assert (refused.status, "One is set" in refused.html, 'value="tulips"' in refused.html) == (
        422,
        False,
        True,
    )
    saved = await admin.post(path, {"name": "Shop", "access.password": "tulips"})
    assert ("One is set" in saved.html, "tulips" in saved.html) == (True, False)
    refused = await admin.post(path, wrong | {"access.open": "on"})
    assert ("One is set" in refused.html, 'name="access.open" value="on" checked' in refused.html) == (
        True,
        True,
    )


async def test_who_may_not_use_the_machine_s_secrets_sets_the_rest_of_a_page_that_rests_on_one(
    server: "Server", sign_in: "SignIn"
) -> None:
    slug = await _made(server, access={"password": "${env:HOME}"}, languages=["en", "tr", "de"])
    person = await sign_in(f"admin@{slug}")
    form = {"name": "Shop", "look.accent": "#aa3300", "accent_own": "on"}
    assert "Saved." in (await person.post(f"/console/pages/{slug}", form)).html
    spec = (await _stored(server, slug)).spec
    assert (spec["access"], spec["look"]["accent"]) == ({"password": "${env:HOME}"}, "#aa3300")
    lent = await person.post(f"/console/pages/{slug}", form | {"access.password": "${env:PATH}"})
    assert (lent.status, "is the installation" in lent.html) == (422, True)


async def test_languages_stay_in_their_order(server: "Server", admin: "Person") -> None:
    slug = await _made(server, languages=["tr", "fr", "en"])
    shown = (await admin.get(f"/console/pages/{slug}")).html
    ticks = re.findall(r'name="languages" value="(\w\w)"', shown)
    assert ticks == ["tr", "fr", "en", "de"]
    form = [
        ("csrf", admin.csrf),
        ("name", "Shop"),
        ("language", "tr"),
        *(("languages", one) for one in ticks[:3]),
    ]
    async with admin.session.post(f"{admin.base}/console/pages/{slug}", data=form) as answer:
        assert answer.status == 200
    assert (await _stored(server, slug)).spec["languages"] == ["tr", "fr", "en"]


async def test_who_may_not_edit_sees_no_secret_and_saves_nothing(server: "Server", sign_in: "SignIn") -> None:
    slug = await _made(server, access={"password": "tulips"})
    for role in ("viewer", "editor"):
        person = await sign_in(f"{role}@{slug}")
        shown = await person.get(f"/console/pages/{slug}")
        assert (shown.status, "<fieldset" in shown.html) == (200, True)
        assert "disabled" in shown.html.partition("<fieldset")[2].partition(">")[0]
        assert "tulips" not in shown.html
        assert "key=" not in shown.html
        assert (await person.post(f"/console/pages/{slug}", FORM)).status == 403
        assert (">Upload" in shown.html) is (role == "editor")


async def test_a_page_of_a_file_is_read_only_and_says_where_it_is(server: "Server", admin: "Person") -> None:
    slug = await _made(server)
    async with server.services.pool.acquire() as db:
        await db.execute(
            "UPDATE objects SET managed_by = 'file', source = 'upbeat.yaml:12' WHERE slug = $1", slug
        )
    shown = await admin.get(f"/console/pages/{slug}")
    assert "upbeat.yaml:12" in shown.html
    assert ">Save<" not in shown.html
    assert (await admin.post(f"/console/pages/{slug}", FORM)).status == 409


async def test_what_somebody_else_changed_meanwhile_is_not_lost_unseen(
    server: "Server", admin: "Person", slug: str
) -> None:
    await admin.post(f"/console/pages/{slug}", {"name": "Theirs", "revision": "1"})
    mine = await admin.post(f"/console/pages/{slug}", {"name": "Mine", "revision": "1"})
    assert (mine.status, "somebody else" in mine.html, 'value="Mine"' in mine.html) == (412, True, True)
    assert (await _stored(server, slug)).spec["name"] == "Theirs"


async def _upload(person: "Person", path: str, body: bytes) -> "Page":
    form = aiohttp.FormData({"csrf": person.csrf})
    form.add_field("file", body, filename="logo.png", content_type="image/png")
    async with person.session.post(person.base + path, data=form, headers={"Accept": "text/html"}) as answer:
        return await person._page(answer)


async def test_pictures_are_uploaded_shown_and_taken_away(
    server: "Server", admin: "Person", slug: str
) -> None:
    await admin.get(f"/console/pages/{slug}")
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(file, "PNG")
    shown = await _upload(admin, f"/console/pages/{slug}/pictures/logo", file.getvalue())
    assert (shown.status, f"/p/{slug}/assets/logo-" in shown.html) == (200, True)
    refused = await _upload(admin, f"/console/pages/{slug}/pictures/favicon", b"a text")
    assert (refused.status, "the picture" in refused.html) == (422, True)
    without = await admin.post(f"/console/pages/{slug}/pictures/logo/delete")
    assert (without.status, "/assets/logo-" in without.html) == (200, False)


@pytest.fixture
async def dns(server: "Server") -> AsyncIterator[dict[str, list[str]]]:
    """What names say; others are away."""
    said: dict[str, list[str]] = {}
    before = server.services.txt

    async def txt(name: str) -> list[str] | Retry:
        return said.get(name, Retry("no name server answered"))

    server.services.txt = txt
    yield said
    server.services.txt = before


async def test_a_host_name_is_proved_by_the_record_that_is_shown(
    server: "Server", admin: "Person", dns: dict[str, list[str]]
) -> None:
    name = f"{new_id().hex[-8:]}.example"
    slug = await _made(server, domain=name)
    path = f"/console/pages/{slug}"
    proof = (await admin.get(path)).html.partition("upbeat-verify=")[2].partition("<")[0]
    assert len(proof) == 43
    away = await admin.post(f"{path}/domain/check")
    assert "no name server answered" in away.html
    dns[f"_upbeat.{name}"] = ["v=spf1 -all"]
    other = await admin.post(f"{path}/domain/check")
    assert "v=spf1 -all" in other.html
    dns[f"_upbeat.{name}"] = [f"upbeat-verify={proof}"]
    proved = await admin.post(f"{path}/domain/check")
    assert "The record is there" in proved.html
    assert f"://{name}/embed" in proved.html  # what is copied is of that name


@pytest.mark.browser
async def test_settings_are_made_by_keyboard_on_a_phone(server: "Server", tab: "Tab", slug: str) -> None:
    page = tab.page
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.goto(f"{server.url}/console/pages/{slug}")
    assert await barriers(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.get_by_label("Name", exact=True).focus()
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.type("Bakery")
    await page.get_by_label("Deutsch").focus()
    await page.keyboard.press("Space")
    await page.get_by_role("checkbox", name="Major outage").focus()
    await page.keyboard.press("Space")
    await page.get_by_label("Partial outage").first.fill("#777700")  # ticks itself
    await page.get_by_role("button", name="Save").focus()
    await page.keyboard.press("Enter")
    await page.get_by_text("Saved.", exact=True).wait_for()
    spec = (await _stored(server, slug)).spec
    assert (spec["name"], spec["languages"]) == ("Bakery", ["en", "de"])
    assert spec["look"] == {"colours": {"partial_outage": "#777700", "major_outage": "#b91f2e"}}
    await page.get_by_role("button", name="Copy The page in a frame").click()
    await page.get_by_role("button", name="Copied").wait_for()
    assert tab.trouble == []


@pytest.mark.browser
async def test_hostile_settings_are_text(server: "Server", tab: "Tab") -> None:
    slug = await _made(server, name=ALL[:200], description=ALL[:4000])
    await tab.page.goto(f"{server.url}/console/pages/{slug}")
    assert await tab.page.locator("main script, main iframe, main object, main embed").count() == 0
    assert (await tab.attacks(), tab.trouble) == ([], [])


async def test_who_may_not_edit_a_page_sees_neither_its_password_nor_what_proves_it(
    server: "Server", sign_in: "SignIn"
) -> None:
    slug, secret = f"s-{new_id().hex[-8:]}", "canary-sesame-78"
    async with transaction(server.services.pool) as db:
        spec = {"slug": slug, "name": "Inner", "access": {"password": secret}}
        await objects.create(db, ACTOR, "page", None, spec)
    link = (await server.call("GET", f"/api/v1/pages/{slug}/link")).body["link"]
    proof = link.partition("key=")[2]
    assert len(proof) > 40
    for role, is_shown in (("viewer", False), ("reviewer", False), ("editor", False), ("admin", True)):
        person = await sign_in(f"{role}@{slug}")
        settings = await person.get(f"/console/pages/{slug}")
        assert settings.status == 200
        assert (proof in settings.html) is is_shown
        assert secret not in settings.html
        declared = (await person.get(f"/console/pages/{slug}/edit")).html
        assert (secret in declared) is is_shown
        assert proof not in declared


async def test_a_password_that_stands_for_nothing_is_said_to(server: "Server", admin: "Person") -> None:
    for password, is_said in (("${env:NOT_SET_HERE}", True), ("open sesame", False)):
        slug = f"s-{new_id().hex[-8:]}"
        async with transaction(server.services.pool) as db:
            spec = {"slug": slug, "name": "Inner", "access": {"password": password}}
            await objects.create(db, ACTOR, "page", None, spec)
        html = (await admin.get(f"/console/pages/{slug}")).html
        assert ("stands for nothing here" in html) is is_said
