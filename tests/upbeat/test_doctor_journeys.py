"""What doctor says where journeys may need more browsers than there are."""

from pathlib import Path
from typing import Any

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from upbeat.doctor import examine
from upbeat.settings import ServeSettings

ACTOR = Actor("test", "api")


async def test_more_journeys_than_browsers_are_found(database_url: str, tmp_path: Path) -> None:
    async def said(browsers: int) -> list[tuple[str, str]]:
        found = await examine(
            ServeSettings(data=tmp_path, browsers=browsers), database_url, None, starts_browser=False
        )
        return [(one.level, one.said) for one in found if one.about == "browsers"]

    pool = await open_pool(database_url)
    await migrate(pool)
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P"})
        for region in ("a", "b", "c"):
            await objects.create(db, ACTOR, "region", None, {"slug": region})
    assert await said(1) == []
    beat: dict[str, Any] = {"type": "browser", "url": "https://shop.example/", "steps": [{"goto": "/"}]}
    async with transaction(pool) as db:
        more = {"slug": "x", "interval": "60s", "timeout": "30s", "retries": 0}
        await objects.create(db, ACTOR, "beat", page.id, beat | more)
    needed = "journeys that all take their whole time need 1.5 browsers at once; this machine has"
    assert await said(1) == [("warn", f"{needed} 1")]
    assert await said(2) == [("ok", f"{needed} 2")]
    await pool.close()
