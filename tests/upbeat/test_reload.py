"""A saved configuration on a real database: no save is missed, none is refused because the database was away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.store.database import Pool, migrate, open_pool
from upbeat import serve
from upbeat.settings import serve_settings

BEFORE = "pages: [{slug: shop, name: Shop}]\n"
SAVED = BEFORE.replace("Shop", "Saved")


@pytest.fixture
async def pool(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    monkeypatch.setattr(serve, "LOOK_S", 0.05)
    opened = await open_pool(database_url)
    await migrate(opened)
    yield opened
    opened.terminate()


@pytest.fixture
async def config(tmp_path: Path, pool: Pool) -> AsyncIterator[Path]:
    """A file that was applied and is looked at."""
    path = tmp_path / "upbeat.yaml"
    path.write_text(BEFORE, "utf-8")
    settings = serve_settings({}, config=path)
    await serve._apply(pool, path, settings)
    node = cast("Any", SimpleNamespace(pool=pool, applied=serve.saved_as(path)))
    path.write_text(BEFORE.replace("Shop", "Saved before the first look"), "utf-8")
    looking = asyncio.create_task(serve._reloads(settings, node, asyncio.Event()))
    yield path
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def named(pool: Pool, name: str) -> None:
    async with asyncio.timeout(10):
        while await pool.fetchval("SELECT spec ->> 'name' FROM objects WHERE slug = 'shop'") != name:
            await asyncio.sleep(0.02)


async def test_a_save_before_the_first_look_is_applied(pool: Pool, config: Path) -> None:
    await named(pool, "Saved before the first look")


async def test_a_save_while_the_database_is_away_is_applied_when_it_is_back(
    pool: Pool, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await named(pool, "Saved before the first look")
    await pool.execute("ALTER TABLE objects RENAME TO elsewhere")
    config.write_text(SAVED, "utf-8")
    async with asyncio.timeout(10):
        while "is not applied yet" not in caplog.text:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert caplog.text.count("is not applied yet") == 1
    await pool.execute("ALTER TABLE elsewhere RENAME TO objects")
    await named(pool, "Saved")
