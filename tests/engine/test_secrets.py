"""What references stand for: files and variables of this machine, stored secrets of a real PostgreSQL, and their changes."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.catalog import Catalog
from engine.probed import Compiler
from engine.secrets import FILE_MOST_BYTES, Secrets, refusal
from engine.store import objects, secrets
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.objects import InUseError, Stored
from engine.store.secrets import Keyring, LockedError, parse_keys
from rules.kinds.http import HttpCheck
from rules.secret import UnknownHereError, UnsetReferenceError, expand
from rules.settings import Lending

ACTOR = Actor("test", "api")
OLD, NEW = bytes(32), bytes(range(32))
Until = Callable[..., Awaitable[None]]
Running = Callable[[Awaitable[None]], object]


async def declare(pool: Pool, slug: str = "shop") -> Stored:
    async with transaction(pool) as db:
        return await objects.create(db, ACTOR, "page", None, {"slug": slug, "name": slug})


async def store(pool: Pool, keyring: Keyring, page: Stored | None, name: str, value: str) -> None:
    page_id = page.id if page else None
    async with transaction(pool) as db:
        await secrets.put(db, ACTOR, page_id, name, keyring.seal(page_id, name, value))


async def refreshed(pool: Pool, *keys: bytes) -> Secrets:
    held = Secrets({}, Keyring(keys))
    async with pool.acquire() as db:
        await held.refresh(db)
    return held


def test_a_file_is_read_without_the_newline_at_its_end(tmp_path: Path) -> None:
    for written, value in (("s3cret\n", "s3cret"), ("a\nb\n\n", "a\nb\n"), ("x\r\n", "x"), ("", "")):
        path = tmp_path / "token"
        path.write_bytes(written.encode())
        assert Secrets({}).of(None)[f"file:{path}"] == value


def test_a_file_that_cannot_be_used_says_why_and_not_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"canary" * FILE_MOST_BYTES)
    (tmp_path / "binary").write_bytes(b"canary\xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    wrong = {
        "large": "64 KiB",
        "binary": "not UTF-8",
        "pipe": "no ordinary file",
        "folder": "",
        "none": "No such file",
    }
    for name, said in wrong.items():
        with pytest.raises(UnsetReferenceError) as refused:
            expand(f"${{file:{tmp_path}/{name}}}", Secrets({}).of(None))
        assert said in str(refused.value)
        assert "canary" not in str(refused.value)


def test_what_is_upbeats_own_is_lent_to_nobody() -> None:
    held = Secrets({"UPBEAT_ADMIN_TOKEN": "canary", "SHOP": "s3cret"})
    assert held.of(None)["env:SHOP"] == "s3cret"
    with pytest.raises(UnsetReferenceError, match="lent to nobody"):
        held.of(None)["env:UPBEAT_ADMIN_TOKEN"]


def test_what_is_lent_is_what_is_listed(tmp_path: Path) -> None:
    listed, other = tmp_path / "listed", tmp_path / "other"
    listed.mkdir()
    other.touch()
    (listed / "way-out").symlink_to(other)
    lending = Lending(env=["SHOP_*", "TOKEN"], files=[str(listed)])
    for reference in ("env:SHOP_X", "env:TOKEN", f"file:{listed}/token", "secret:X"):
        assert refusal(reference, lending) is None
    for reference in ("env:TOKENS", f"file:{other}", f"file:{listed}/../other", f"file:{listed}/way-out"):
        assert "list it in upbeat.yaml as `secrets: {" in (refusal(reference, lending) or "")
    assert "${secret:NAME}" in (refusal("env:TOKEN", Lending()) or "")


def test_a_command_does_not_know_stored_secrets() -> None:
    with pytest.raises(UnknownHereError, match="running server"):
        Secrets({}).of(None)["secret:X"]


def test_keys_are_32_bytes_each() -> None:
    keys = Keyring([OLD, NEW])
    assert parse_keys(keys.text) == (OLD, NEW)
    for text in ("short", "AAAA", "ä"):
        with pytest.raises(ValueError, match="openssl rand -base64 32"):
            parse_keys(text)


async def test_a_secret_is_of_its_page_or_said_to_be_of_the_installation(pool: Pool) -> None:
    shop, blog = await declare(pool), await declare(pool, "blog")
    keyring = Keyring([OLD])
    await store(pool, keyring, shop, "TOKEN", "of the shop")
    await store(pool, keyring, None, "TOKEN", "of all")
    held = await refreshed(pool, OLD)
    assert held.of(shop.id)["secret:TOKEN"] == "of the shop"
    assert held.of(blog.id)["secret:/TOKEN"] == "of all"
    assert held.of(None)["secret:TOKEN"] == "of all"
    with pytest.raises(UnsetReferenceError, match="upbeat secrets set TOKEN"):
        expand("${secret:TOKEN}", held.of(blog.id))


async def test_what_is_kept_is_sealed_and_bound_to_its_place(pool: Pool) -> None:
    shop = await declare(pool)
    await store(pool, Keyring([OLD]), shop, "ONE", "canary7731")
    await store(pool, Keyring([OLD]), shop, "TWO", "canary7732")
    rows = await pool.fetch("SELECT * FROM secrets")
    assert "canary" not in repr(rows)
    await pool.execute("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name = 'ONE')")
    held = await refreshed(pool, OLD)
    assert held.of(shop.id)["secret:ONE"] == "canary7731"
    with pytest.raises(UnsetReferenceError, match="was altered"):
        held.of(shop.id)["secret:TWO"]


async def test_a_process_without_the_key_says_which_it_lacks(pool: Pool) -> None:
    await store(pool, Keyring([OLD]), None, "TOKEN", "s3cret")
    held = await refreshed(pool)
    with pytest.raises(UnsetReferenceError, match=f"{Keyring([OLD]).ids[0]}, which this process lacks"):
        held.of(None)["secret:TOKEN"]
    with pytest.raises(LockedError, match="set UPBEAT_SECRET_KEY"):
        Keyring().seal(None, "X", "value")


async def test_after_a_rotation_the_old_key_may_go(pool: Pool) -> None:
    await store(pool, Keyring([OLD]), None, "ONE", "first")
    await store(pool, Keyring([NEW]), None, "TWO", "second")
    async with transaction(pool) as db:
        assert await secrets.rotate(db, ACTOR, Keyring([NEW, OLD])) == 1
    mine = (await refreshed(pool, NEW)).of(None)
    assert (mine["secret:ONE"], mine["secret:TWO"]) == ("first", "second")
    async with transaction(pool) as db:
        with pytest.raises(LockedError, match="is sealed with the key"):
            await secrets.rotate(db, ACTOR, Keyring([OLD]))


async def test_a_secret_in_use_is_not_forgotten_unless_forced(pool: Pool) -> None:
    shop = await declare(pool)
    await store(pool, Keyring([OLD]), shop, "A.B_C", "s3cret")
    async with transaction(pool) as db:
        spec = {"slug": "home", "type": "http", "url": "http://h/", "body": "x${secret:A.B_C}"}
        await objects.create(db, ACTOR, "beat", shop.id, spec)
        (kept,) = await secrets.listing(db)
        assert kept.used_by == ["beat shop/home"]
        with pytest.raises(InUseError, match="beat shop/home"):
            await secrets.remove(db, ACTOR, kept)
        await secrets.remove(db, ACTOR, kept, force=True)
        assert await secrets.listing(db) == []


async def test_a_changed_file_or_stored_secret_is_compiled_in_without_being_another_check(
    pool: Pool, tmp_path: Path, until: Until, running: Running
) -> None:
    shop, keyring, path = await declare(pool), Keyring([OLD]), tmp_path / "token"
    spec = {"slug": "home", "type": "http", "url": "http://h/", "body": f"${{secret:S}} ${{file:{path}}}"}
    async with transaction(pool) as db:
        await objects.create(db, ACTOR, "region", None, {"slug": "eu"})
        beat = await objects.create(db, ACTOR, "beat", shop.id, spec, source="upbeat.yaml:1")
    await store(pool, keyring, shop, "S", "first")
    held = await refreshed(pool, OLD)
    catalog = Catalog(pool, Compiler(held), poll_s=60.0)
    held.on_change.append(catalog.recompile)
    running(held.run(pool))
    running(catalog.run())

    def body() -> bytes | None:
        check = catalog.entries[beat.id].check
        return check.body if isinstance(check, HttpCheck) else None

    await until(lambda: catalog.entries)
    assert catalog.entries[beat.id].failure is not None  # the file is not there yet
    path.write_text("one\n")
    await until(lambda: body() == b"first one")
    await store(pool, keyring, shop, "S", "second")
    await until(lambda: body() == b"second one")
    path.with_name("new").write_text("two\n")
    path.with_name("new").replace(path)
    await until(lambda: body() == b"second two")
    assert catalog.entries[beat.id].revision == 1
