"""What doctor says of inboxes and triggers that are declared and say nothing."""

from pathlib import Path

from engine.store import inboxes, objects
from engine.store.audit import Actor
from engine.store.database import migrate, open_pool, transaction
from upbeat.doctor import examine
from upbeat.settings import ServeSettings

ACTOR = Actor("test", "api")
RULE = {
    "slug": "t",
    "inbox": "in",
    "enabled": True,
    "critical": {"value": "$.state", "eq": "down"},
    "recovery": {"value": "$.state", "eq": "up"},
    "fingerprint": "{$.host}",
    "target": {"external": "ext"},
    "incidents": {"open": "auto"},
}


async def test_what_keeps_webhooks_from_saying_anything_is_found(database_url: str, tmp_path: Path) -> None:
    async def said() -> list[tuple[str, str]]:
        found = await examine(ServeSettings(data=tmp_path), database_url, None)
        return [(one.level, one.said) for one in found if one.about in ("inboxes", "triggers")]

    pool = await open_pool(database_url)
    await migrate(pool)
    async with transaction(pool) as db:
        page = await objects.create(db, ACTOR, "page", None, {"slug": "p", "name": "P"})
    assert await said() == []
    async with transaction(pool) as db:
        inbox = await objects.create(db, ACTOR, "inbox", page.id, {"slug": "in"})
        await objects.create(db, ACTOR, "trigger", page.id, RULE)
    assert await said() == [
        ("warn", "no token opens in"),
        ("warn", "t can say nothing: no event ever came to the inbox"),
        ("warn", "t ask for auto and are not promoted: they make drafts"),
        ("ok", "1 with 1 triggers; 0 events wait to be judged"),
    ]
    async with transaction(pool) as db:
        await inboxes.issue_token(db, ACTOR, inbox)
        await db.execute(
            "INSERT INTO arrivals (partition, inbox_id, event_id, received_at, at) "
            "VALUES (0, $1, $1, now(), now() - interval '1 minute')",
            inbox.id,
        )
    found = await said()
    assert ("warn", "no token opens in") not in found
    assert ("warn", "1 with 1 triggers; 1 events wait to be judged") in found
    await pool.close()
