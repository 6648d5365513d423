"""The catalog on a real PostgreSQL: it follows what is declared, paused, removed, and which regions there are."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.catalog import Catalog, Declared, Vantage
from engine.relations import Relations
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.objects import Stored
from evaluators.policy import Bound
from rules.component import Egress
from rules.known import Kind

ACTOR = Actor("test", "api")
Until = Callable[..., Awaitable[None]]
Running = Callable[[Awaitable[None]], object]
Entry = tuple[int, tuple[str, ...], bool]


def compiled(beat: Declared, bound: Bound) -> Entry:
    if beat.spec.get("description") == "broken":
        raise RuntimeError("a bug")
    return beat.revision, tuple(beat.spec.get("regions", bound.regions)), beat.paused_until_s is not None


async def declare(pool: Pool, kind: Kind, page: Stored | None = None, **spec: Any) -> Stored:
    async with transaction(pool) as connection:
        return await objects.create(connection, ACTOR, kind, page.id if page else None, spec)


async def change(pool: Pool, stored: Stored, **spec: Any) -> Stored:
    async with transaction(pool) as connection:
        return await objects.replace(connection, ACTOR, stored, {**stored.spec, **spec})


async def pause(pool: Pool, beat: Stored, to: datetime | str | None) -> None:
    moment = to.isoformat() if isinstance(to, datetime) else to
    async with transaction(pool) as connection:
        await connection.execute(
            "UPDATE states SET paused_until = $2::text::timestamptz WHERE subject_id = $1", beat.id, moment
        )
        await connection.execute("UPDATE objects SET updated_at = clock_timestamp() WHERE id = $1", beat.id)
        await connection.execute("SELECT pg_notify($1, 'beat')", objects.CHANGED)


@pytest.fixture
async def page(pool: Pool) -> Stored:
    await declare(pool, "region", slug="eu")
    return await declare(pool, "page", slug="shop")


async def test_what_was_seen_is_not_read_again(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    """Ten thousand beats applied at once would else be read at every look, as long as nothing newer comes."""
    await declare(pool, "beat", page, slug="one", type="tcp")
    await pool.execute("UPDATE objects SET updated_at = updated_at - interval '1 minute'")
    catalog = Catalog(pool, compiled, poll_s=60.0)
    running(catalog.run())
    await until(catalog.loaded.is_set)
    read: list[object] = []
    catalog._apply = lambda *row: read.append(row)  # type: ignore[method-assign]
    await catalog.refresh()
    assert not read


async def test_what_is_there_is_loaded_and_what_comes_is_heard_of(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    heard: list[tuple[UUID, Entry | None]] = []
    one = await declare(pool, "beat", page, slug="one", type="tcp")
    catalog = Catalog(pool, compiled, on_change=lambda *change: heard.append(change), poll_s=60.0)
    running(catalog.run())
    await catalog.loaded.wait()
    assert catalog.entries == {one.id: (1, ("eu",), False)}
    two = await declare(pool, "beat", page, slug="two", type="tcp")
    await until(lambda: two.id in catalog.entries)
    one = await change(pool, one, name="One")
    await until(lambda: catalog.entries[one.id][0] == 2)
    async with transaction(pool) as connection:
        await objects.remove(connection, ACTOR, two)
    await until(lambda: two.id not in catalog.entries)
    assert [(beat, entry and entry[0]) for beat, entry in heard] == [
        (one.id, 1),
        (two.id, 1),
        (one.id, 2),
        (two.id, None),
    ]


async def test_a_pause_is_seen_and_its_end_too(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    beat = await declare(pool, "beat", page, slug="one", type="tcp")
    catalog = Catalog(pool, compiled, poll_s=60.0)
    running(catalog.run())
    await catalog.loaded.wait()
    await pause(pool, beat, datetime.now(UTC) + timedelta(seconds=0.5))  # noqa: TID251
    await until(lambda: catalog.entries[beat.id][2])
    await until(lambda: not catalog.entries[beat.id][2], 5.0)
    await pause(pool, beat, "infinity")
    await until(lambda: catalog.entries[beat.id][2])
    await pause(pool, beat, None)
    await until(lambda: not catalog.entries[beat.id][2])


async def test_a_new_region_concerns_beats_that_name_none(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    everywhere = await declare(pool, "beat", page, slug="everywhere", type="tcp")
    here = await declare(pool, "beat", page, slug="here", type="tcp", regions=["eu"])
    catalog = Catalog(pool, compiled, poll_s=60.0)
    running(catalog.run())
    await catalog.loaded.wait()
    await declare(
        pool,
        "region",
        slug="us",
        reference=["one.example:443", "[2001:db8::1]:53"],
        egress={"private": "deny"},
    )
    await until(lambda: catalog.entries[everywhere.id][1] == ("eu", "us"))
    assert catalog.entries[here.id][1] == ("eu",)
    assert catalog.regions == {
        "eu": Vantage(),
        "us": Vantage((("one.example", 443), ("2001:db8::1", 53)), Egress(private="deny")),
    }


async def test_without_a_notification_the_poll_finds_it(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    beat = await declare(pool, "beat", page, slug="one", type="tcp")
    catalog = Catalog(pool, compiled, poll_s=0.05)
    running(catalog.run())
    await catalog.loaded.wait()
    await pool.execute(
        "UPDATE objects SET revision = 7, updated_at = clock_timestamp() WHERE id = $1", beat.id
    )
    await until(lambda: catalog.entries[beat.id][0] == 7)


async def test_a_beat_that_cannot_be_compiled_keeps_its_entry_and_holds_up_nobody(
    pool: Pool, page: Stored, until: Until, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    broken = await declare(pool, "beat", page, slug="broken", type="tcp")
    catalog = Catalog(pool, compiled, poll_s=60.0)
    running(catalog.run())
    await catalog.loaded.wait()
    await change(pool, broken, description="broken")
    other = await declare(pool, "beat", page, slug="other", type="tcp")
    await until(lambda: other.id in catalog.entries)
    assert catalog.entries[broken.id][0] == 1
    assert "cannot be compiled" in caplog.text


async def test_a_lost_database_connection_loses_nothing(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    beat = await declare(pool, "beat", page, slug="one", type="tcp")
    catalog = Catalog(pool, compiled, poll_s=0.1)
    running(catalog.run())
    await catalog.loaded.wait()
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert beat.id in catalog.entries
    beat = await change(pool, beat, name="One")
    await until(lambda: catalog.entries[beat.id][0] == 2)


async def test_a_window_that_became_visible_late_is_found_by_the_sweep(
    pool: Pool, page: Stored, until: Until, running: Running
) -> None:
    one = await declare(pool, "beat", page, slug="one", type="tcp")
    catalog = Catalog(pool, lambda _, bound: len(bound.windows), relations=Relations(), poll_s=60.0)
    running(catalog.run())
    await catalog.loaded.wait()
    assert catalog.entries == {one.id: 0}
    spec = {"slug": "m", "start": "2026-01-01T00:00", "duration": "1h", "rrule": "FREQ=YEARLY;BYDAY=SU"}
    long_ago = "UPDATE objects SET updated_at = updated_at - interval '1 minute' WHERE id = $1"
    async with transaction(pool) as connection:
        made = await objects.create(connection, ACTOR, "maintenance", page.id, spec)
        await connection.execute(long_ago, made.id)
    async with pool.acquire() as connection, catalog._looking:
        await catalog._sweep(connection)
    assert catalog.entries[one.id] > 4
    async with transaction(pool) as connection:
        await objects.remove(connection, ACTOR, made)
        await connection.execute(long_ago, made.id)
    async with pool.acquire() as connection, catalog._looking:
        await catalog._sweep(connection)
    assert catalog.entries == {one.id: 0}
