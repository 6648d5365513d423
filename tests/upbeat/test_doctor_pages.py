"""What doctor says of pages that are not public and cannot let in those they should."""

from pathlib import Path

from engine.store import installation, objects, subscribers
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from engine.store.subscribers import Entry
from upbeat.doctor import examine
from upbeat.settings import ServeSettings

ACTOR = Actor("test", "api")


async def test_a_page_that_cannot_let_in_who_it_should_is_found(database_url: str, tmp_path: Path) -> None:
    async def said() -> list[str]:
        found = await examine(ServeSettings(data=tmp_path), database_url, None)
        return [one.said for one in found if one.about in ("pages", "secrets") and one.level == "warn"]

    pool = await open_pool(database_url)
    await migrate(pool)
    async with transaction(pool) as db:
        await installation.write_settings(db, {"public_url": "https://up.example"})
        access = {"emails": ["corp.example"], "networks": ["10.0.0.0/8"], "password": "${env:PAGE_PASSWORD}"}
        await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P", "access": access})
        await objects.create(db, ACTOR, "page", None, {"slug": "q", "name": "Q"})
    assert await said() == [
        "of the page p: ${env:PAGE_PASSWORD} is not set; export PAGE_PASSWORD or put it in the service's environment",
        "p cannot mail links that let in",
        "p lets nobody in by address: all come by a proxy that is not trusted",
    ]
    async with transaction(pool) as db:
        mail = {"host": "mail.example", "sender": "status@corp.example"}
        proxies = {"trusted_proxies": ["10.0.0.1/32"]}
        await installation.write_settings(db, {"public_url": "https://up.example", "mail": mail} | proxies)
    assert len(await said()) == 1
    await pool.close()


async def test_a_file_whose_page_cannot_mail_links_is_found_where_nothing_runs(tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"

    async def said(text: str) -> list[str]:
        file.write_text(f"version: 1\npage: {{slug: p, name: P, access: {{emails: [corp.example]}}}}\n{text}")
        found = await examine(ServeSettings(data=tmp_path, config=file), None, None)
        return [one.said for one in found if one.about == "pages"]

    assert await said("") == ["p cannot mail links that let in"]
    mail = "mail: {host: mail.example, sender: status@corp.example}\n"
    assert await said(f"{mail}public_url: https://up.example\n") == []


async def test_subscribers_who_cannot_be_mailed_or_led_to_the_page_are_found(
    database_url: str, tmp_path: Path
) -> None:
    async def said() -> list[str]:
        found = await examine(ServeSettings(data=tmp_path), database_url, None)
        return [one.said for one in found if one.about == "subscribers"]

    pool = await open_pool(database_url)
    await migrate(pool)
    assert await said() == []
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P"})
        await subscribers.add(db, page.id, Entry("email", "ada@a.example"))
    assert await said() == [
        "1 subscribers are told by mail, and there is no relay: what they are to read waits",
        "links in what subscribers are sent lead to where this process listens",
    ]
    async with transaction(pool) as db:
        mail = {"host": "mail.example", "sender": "status@corp.example"}
        await installation.write_settings(db, {"public_url": "https://up.example", "mail": mail})
    assert await said() == []
    await pool.close()
