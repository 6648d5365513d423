"""Day partitions: made ahead, filled from the rest, dropped by age and by size, evidence before results."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from secrets import token_urlsafe
from uuid import uuid4

import asyncpg
import pytest

from engine.clock import SystemClock
from engine.partitions import is_passing
from engine.store import facts, objects, outbox, results, retention
from engine.store.audit import Actor
from engine.store.database import Connection, migrate, open_pool
from engine.store.facts import Logged
from engine.store.ids import new_id, show
from evaluators.facts import Continued, MemberChanged, RelationsChanged, Returned, SignalChanged, Suspended
from evaluators.model import Kind, Result, Stage, Timings, Verdict
from evaluators.policy import Bound

TODAY = date(2026, 11, 20)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Connection]:
    pool = await open_pool(database_url)
    await migrate(pool)
    async with pool.acquire() as connection:
        yield connection
    await pool.close()


async def put(db: Connection, day: date, count: int = 1, evidence: dict[str, object] | None = None) -> None:
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    rows = [
        Result(
            *(
                str(new_id()),
                str(uuid4()),
                "eu",
                Kind.SCHEDULED,
                Verdict.OK,
                at,
                at,
                n,
                1,
                Timings(total=0.1),
            ),
            evidence=evidence,
        )
        for n in range(count)
    ]
    await results.insert(db, [(str(uuid4()), at, row) for row in rows], at)


async def days(db: Connection) -> list[str]:
    rows = await db.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'results'::regclass AND c.relname <> 'results_rest' ORDER BY 1"
    )
    return [row["relname"] for row in rows]


async def test_days_are_made_from_yesterday_to_three_days_ahead_and_only_once(db: Connection) -> None:
    await retention.make_days(db, TODAY)
    await retention.make_days(db, TODAY)
    assert await days(db) == [f"results_202611{day}" for day in (19, 20, 21, 22, 23)]


async def test_rows_that_came_before_their_day_was_made_move_into_it(db: Connection) -> None:
    await put(db, TODAY, 3)
    assert await db.fetchval("SELECT count(*) FROM results_rest") == 3
    await retention.make_days(db, TODAY)
    assert await db.fetchval("SELECT count(*) FROM results_20261120") == 3
    assert await db.fetchval("SELECT count(*) FROM results_rest") == 0
    assert await db.fetchval("SELECT count(DISTINCT position) FROM results") == 3


async def test_rows_that_come_while_their_day_is_made_are_tried_again(
    db: Connection, database_url: str
) -> None:
    maker = await asyncpg.connect(database_url)
    making = maker.transaction()
    await making.start()
    await retention.make_days(maker, TODAY)
    coming = asyncio.create_task(put(db, TODAY))
    while not await maker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0.01)
    await making.commit()
    await maker.close()
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await coming
    assert is_passing(refused.value)
    await put(db, TODAY)
    assert await db.fetchval("SELECT count(*) FROM results_20261120") == 1


async def test_a_watermark_is_kept_while_anything_of_its_boot_is_heard(db: Connection) -> None:
    old, living = uuid4(), uuid4()
    await db.executemany(
        "INSERT INTO watermarks (boot_id, partition, seq, at) VALUES ($1, $2, 9, now() - $3 * interval '1 day')",
        [(old, 0, 31), (old, 1, 40), (living, 0, 90), (living, 1, 0)],
    )
    await retention.sweep(db, days=30)
    assert {row["boot_id"] for row in await db.fetch("SELECT boot_id FROM watermarks")} == {living}
    assert await db.fetchval("SELECT count(*) FROM watermarks") == 2


async def test_days_older_than_the_limit_are_dropped_whole(db: Connection) -> None:
    for back in (0, 10, 40):
        await retention.make_days(db, TODAY - timedelta(days=back))
    await put(db, TODAY)
    await put(db, TODAY - timedelta(days=40))
    dropped = await retention.drop_days(db, TODAY, days=30, evidence_days=30, max_bytes=10**12)
    assert len(dropped) == 10
    assert await db.fetchval("SELECT count(*) FROM results") == 1


async def test_the_oldest_days_go_first_when_all_take_too_much_and_today_never_goes(db: Connection) -> None:
    await retention.make_days(db, TODAY)
    await put(db, TODAY - timedelta(days=1), 50)
    await put(db, TODAY, 50)
    assert await retention.drop_days(db, TODAY, days=30, evidence_days=30, max_bytes=1) == [
        "evidence_20261119",
        "results_20261119",
    ]
    assert await db.fetchval("SELECT count(*) FROM results") == 50


async def test_evidence_goes_before_its_results(db: Connection) -> None:
    await retention.make_days(db, TODAY - timedelta(days=8))
    await retention.make_days(db, TODAY)
    await put(db, TODAY - timedelta(days=8), evidence={"status": 500})
    await put(db, TODAY, evidence={"status": 503})
    assert await db.fetchval("SELECT count(*) FROM evidence") == 2
    dropped = await retention.drop_days(db, TODAY, days=30, evidence_days=7, max_bytes=10**12)
    assert dropped == ["evidence_20261111", "evidence_20261112"]
    assert await db.fetchval("SELECT evidence->>'status' FROM evidence") == "503"
    assert await db.fetchval("SELECT count(*) FROM results") == 2


async def test_when_all_takes_too_much_all_evidence_of_the_past_goes_before_any_result(
    db: Connection,
) -> None:
    await retention.make_days(db, TODAY)
    for _ in range(30):  # of which no two are compressed alike
        await put(db, TODAY - timedelta(days=1), evidence={"body": token_urlsafe(10_000)})
    results_bytes = await db.fetchval(
        "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'results'::regclass"
    )
    dropped = await retention.drop_days(
        db, TODAY, days=30, evidence_days=30, max_bytes=int(results_bytes) + 250_000
    )
    assert dropped == ["evidence_20261119"]


async def test_a_row_that_belongs_to_a_dropped_day_is_kept_in_the_rest_until_it_is_too_old(
    db: Connection,
) -> None:
    await put(db, TODAY - timedelta(days=40))
    await put(db, TODAY - timedelta(days=20))
    await retention.drop_days(db, TODAY, days=30, evidence_days=30, max_bytes=10**12)
    assert await db.fetchval("SELECT count(*) FROM results_rest") == 1


async def test_a_sweep_of_an_empty_installation_is_no_error(db: Connection) -> None:
    await retention.sweep(db, days=30)


async def test_facts_are_kept_as_long_as_results_pauses_for_400_days_and_the_last_word_of_each(
    db: Connection,
) -> None:
    now, day, one = SystemClock().epoch_s(), 86400.0, uuid4()

    async def kept() -> list[str]:
        rows = await db.fetch("SELECT at, fact->>'type' AS type FROM facts ORDER BY position")
        return [f"{row['type']} {round((now - row['at']) / day)}" for row in rows]

    def ago(days: float) -> float:
        return now - days * day

    logged = [
        *(Logged(one, Suspended(ago(500 - n))) for n in (0, 1)),
        *(Logged(one, RelationsChanged(ago(90 - n)), Bound()) for n in (0, 1)),
        *(Logged(one, Continued(ago(80 - n))) for n in (0, 1)),
        *(Logged(one, MemberChanged(ago(70 - n), member, Stage.OK)) for n, member in enumerate("aab")),
        *(Logged(one, SignalChanged(ago(60 - n), "open", "critical")) for n in (0, 1)),
        Logged(one, SignalChanged(ago(60), "over", "critical")),
        Logged(one, SignalChanged(ago(59), "over", None)),
        *(Logged(one, Returned(ago(days))) for days in (50, 20, 10)),
    ]
    await facts.keep(db, logged)
    await retention.sweep(db, days=30)
    assert await kept() == [
        *("RelationsChanged 89", "Continued 80", "Continued 79", "MemberChanged 69", "MemberChanged 68"),
        *("SignalChanged 59", "Returned 20", "Returned 10"),
    ]
    await db.execute("UPDATE facts SET at = at - 500 * 86400.0")
    await retention.sweep(db, days=30)
    assert await kept() == [
        *(
            "RelationsChanged 589",
            "Continued 579",
            "MemberChanged 569",
            "MemberChanged 568",
            "SignalChanged 559",
        )
    ]


async def test_received_events_go_day_by_day_with_what_was_made_of_them(db: Connection) -> None:
    for back in (0, 1, 40):
        at = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - timedelta(days=back)
        await db.execute(
            "INSERT INTO events (id, inbox_id, received_at, address, headers, query, body) "
            "VALUES (gen_random_uuid(), gen_random_uuid(), $1, '', '[]', '', $2)",
            at,
            b"x" * 5000,
        )
        await db.execute(
            "INSERT INTO judged (inbox_id, event_id, received_at, at, is_repeat, verdict, outcomes) "
            "SELECT inbox_id, id, received_at, 0, false, 'unmatched', '{}' FROM events WHERE received_at = $1",
            at,
        )
    for back in (0, 40):
        await retention.make_days(db, TODAY - timedelta(days=back))
    assert await db.fetchval("SELECT count(*) FROM judged_20261120") == 1
    await retention.drop_events(db, TODAY, days=30, max_bytes=10**12)
    assert await db.fetchval("SELECT count(*) FROM events") == 2
    assert await retention.drop_events(db, TODAY, days=30, max_bytes=1) == [
        "events_20261119",
        "judged_20261119",
    ]
    assert await db.fetchval("SELECT count(*) FROM events") == 1
    assert await db.fetchval("SELECT count(*) FROM judged") == 1


async def test_what_a_removed_trigger_was_is_kept_for_a_month(db: Connection) -> None:
    actor = Actor("test", "api")
    page = await objects.create(db, actor, "page", None, {"slug": "p", "name": "P"})
    made = [await objects.create(db, actor, "trigger", page.id, {"slug": slug}) for slug in ("a", "b", "c")]
    for days, one in zip((40, 20), made, strict=False):
        await db.execute(
            "UPDATE objects SET removed_at = now() - $2 * interval '1 day' WHERE id = $1", one.id, days
        )
    await retention.sweep(db, days=30)
    for table, column in (("versions", "object_id"), ("trigger_states", "trigger_id")):
        assert {row[0] for row in await db.fetch(f"SELECT {column} FROM {table}")} == {made[1].id, made[2].id}


async def test_what_targets_call_something_is_forgotten_after_a_year_but_for_open_incidents(
    db: Connection,
) -> None:
    actor = Actor("test", "api")
    page = await objects.create(db, actor, "page", None, {"slug": "p", "name": "P"})
    lines = ["epi_" + "1" * 32]
    for status in ("investigating", "resolved"):
        made = await db.fetchval(
            "INSERT INTO incidents (id, page_id, title, status, created_at) "
            "VALUES (gen_random_uuid(), $1, 'x', $2, now()) RETURNING id",
            page.id,
            status,
        )
        lines.append(show("incident", made))
    for line in lines + [f"{line}:C1" for line in lines]:
        await outbox.remember(db, page.id, line, {"id": "1"})
    await db.execute("UPDATE remotes SET updated_at = now() - interval '401 days'")
    await outbox.remember(db, page.id, "new", {})
    await retention.sweep(db, days=30)
    kept = [row["line"] for row in await db.fetch("SELECT line FROM remotes ORDER BY line")]
    assert kept == [lines[1], f"{lines[1]}:C1", "new"]
