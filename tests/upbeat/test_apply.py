"""Applying files: what one takes out together is not in its own way, and what others need stays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import Pool, migrate, open_pool, transaction
from rules.config import ConfigError
from upbeat.apply import apply_file

BARE = "pages: [{slug: shop, name: Shop}]\n"
WHOLE = f"""{BARE}
channels: [{{slug: ops, type: webhook, url: https://hook.example/}}]
components: [{{slug: site, name: Site}}]
groups: [{{slug: all, channels: [ops], components: [site], depends_on: [net]}}]
beats:
  - {{slug: net, type: external}}
  - {{slug: web, type: external, group: all, depends_on: [net]}}
maintenances: [{{slug: later, groups: [all], start: 2150-01-01T00:00:00Z, duration: 1h}}]
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url)
    await migrate(opened)
    yield opened
    await opened.close()


async def apply(pool: Pool, path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    return str(await apply_file(pool, path, {}))


async def test_a_group_goes_with_all_that_names_it(pool: Pool, tmp_path: Path) -> None:
    await apply(pool, tmp_path / "upbeat.yaml", WHOLE)
    said = await apply(pool, tmp_path / "upbeat.yaml", BARE)
    assert said == "0 created, 0 changed, 7 removed, 1 untouched"


@pytest.mark.parametrize(
    ("user", "left"),
    [
        ({"group": "all"}, "all cannot be taken out: group 'all' is used by beat 'mine'"),
        ({"depends_on": ["group:all"]}, "all cannot be taken out: group 'all' is used by beat 'mine'"),
        ({"depends_on": ["shop/net"]}, "net cannot be taken out: beat 'net' is used by beat 'mine'"),
        ({"channels": ["ops"]}, "ops cannot be taken out: channel 'ops' is used by beat 'mine'"),
    ],
)
async def test_what_the_api_made_keeps_what_it_names(
    pool: Pool, tmp_path: Path, user: dict[str, object], left: str
) -> None:
    await apply(pool, tmp_path / "upbeat.yaml", WHOLE)
    async with transaction(pool) as connection:
        page = await objects.find(connection, "page", "shop")
        spec = {"slug": "mine", "type": "external", **user}
        await objects.create(connection, Actor("test", "api"), "beat", page.id, spec)
    with pytest.raises(ConfigError, match=left):
        await apply(pool, tmp_path / "upbeat.yaml", BARE)
    assert await pool.fetchval("SELECT count(*) FROM objects WHERE removed_at IS NOT NULL") == 0


TRIGGERED = """
pages: [{slug: shop, name: Shop}]
inboxes: [{slug: in}]
triggers:
  - {slug: t, inbox: in, critical: true, recovery: false, fingerprint: single, target: {external: them}}
"""


async def test_the_external_beat_of_a_trigger_is_made_and_kept(pool: Pool, tmp_path: Path) -> None:
    await apply(pool, tmp_path / "upbeat.yaml", TRIGGERED)
    assert await apply(pool, tmp_path / "upbeat.yaml", TRIGGERED) == (
        "0 created, 0 changed, 0 removed, 3 untouched"
    )
    async with pool.acquire() as connection:
        beat = await objects.find(connection, "beat", "them")
    assert (beat.spec, beat.managed_by) == ({"slug": "them", "type": "external"}, "api")
    await apply(pool, tmp_path / "upbeat.yaml", BARE)
    assert await pool.fetchval("SELECT removed_at IS NULL FROM objects WHERE id = $1", beat.id)


async def test_a_trigger_whose_external_beat_is_a_check_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    text = f"{TRIGGERED}beats: [{{slug: them, type: tcp, host: x.example, port: 1}}]\n"
    with pytest.raises(ConfigError, match=r"triggers: t: target.external: the beat 'them' is there already"):
        await apply(pool, tmp_path / "upbeat.yaml", text)
    assert await pool.fetchval("SELECT count(*) FROM objects") == 0


async def test_who_wants_to_know_is_told_what_a_file_does_to_beats(pool: Pool, tmp_path: Path) -> None:
    hook = "{slug: log, type: webhook, url: https://log.example/, on: [beat], everything: true, tags: [prod]}"
    channel, file = f"{BARE}channels: [{hook}]\n", tmp_path / "upbeat.yaml"
    both = channel + "beats: [{slug: web, type: external, tags: [prod]}, {slug: other, type: external}]\n"
    for text in (both, both, both.replace("web,", "web, name: Web,"), channel):
        await apply(pool, file, text)
    rows = await pool.fetch("SELECT item->>'title' AS title FROM outbox ORDER BY id")
    said = ["web was created", "Web was updated", "Web was deleted"]
    assert [row["title"] for row in rows] == [f"{one} by {file}" for one in said]
