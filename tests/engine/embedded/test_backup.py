from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from engine.embedded.backup import BackupError, _without_password, backup, restore
from engine.embedded.supervisor import Embedded


@pytest.fixture
async def elsewhere(servers: Embedded) -> AsyncIterator[str]:
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute("CREATE DATABASE elsewhere")
    yield servers.database_url.replace("/upbeat?", "/elsewhere?")
    await admin.execute("DROP DATABASE elsewhere WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def made(database_url: str, tmp_path: Path) -> Path:
    await run(
        database_url,
        """
        CREATE SCHEMA "Odd name";
        CREATE TYPE stage AS ENUM ('ok', 'critical');
        CREATE TABLE beat (id uuid PRIMARY KEY DEFAULT uuidv7(), name text, stage stage, at timestamptz)
            PARTITION BY RANGE (id);
        CREATE TABLE beat_all PARTITION OF beat DEFAULT;
        CREATE TABLE "Odd name".t (n bigint GENERATED ALWAYS AS IDENTITY, body jsonb, raw bytea);
        INSERT INTO beat (name, stage, at) SELECT 'ü' || n, 'critical', now() FROM generate_series(1, 1000) n;
        INSERT INTO "Odd name".t (body, raw) SELECT '{"a": "\\\\."}', sha256(n::text::bytea) FROM generate_series(1, 5000) n;
        """,
    )
    target = tmp_path / "upbeat.backup"
    await backup(database_url, target)
    return target


async def run(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def content(url: str) -> list[object]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT * FROM beat ORDER BY id")
    rows += await connection.fetch('SELECT * FROM "Odd name".t ORDER BY n')
    await connection.close()
    return [tuple(row) for row in rows]


async def test_what_was_backed_up_comes_back(database_url: str, elsewhere: str, made: Path) -> None:
    header = await restore(elsewhere, made)
    assert await content(elsewhere) == await content(database_url)
    assert header.size_bytes == made.stat().st_size - 512
    assert made.stat().st_mode == 0o100600
    assert [item.name for item in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("place", [5, 600, -1], ids=["header", "middle", "end"])
async def test_one_wrong_byte_is_found_before_anything_is_touched(
    elsewhere: str, made: Path, place: int
) -> None:
    damaged = bytearray(made.read_bytes())
    damaged[place] ^= 1
    made.write_bytes(damaged)
    with pytest.raises(BackupError, match="damaged"):
        await restore(elsewhere, made)
    await run(elsewhere, "CREATE TABLE beat ()")  # still empty


async def test_a_cut_file_is_found(elsewhere: str, made: Path) -> None:
    made.write_bytes(made.read_bytes()[:-100])
    with pytest.raises(BackupError, match=r"is damaged: \d+ of \d+ bytes"):
        await restore(elsewhere, made)


async def test_a_database_that_is_not_empty_is_refused_unless_forced(
    database_url: str, elsewhere: str, made: Path
) -> None:
    await run(elsewhere, "CREATE TABLE precious (); CREATE TABLE beat ()")
    with pytest.raises(BackupError, match=r"not empty \(2 tables.*force"):
        await restore(elsewhere, made)
    await restore(elsewhere, made, force=True)
    assert await content(elsewhere) == await content(database_url)
    with pytest.raises(asyncpg.UndefinedTableError):
        await run(elsewhere, "SELECT FROM precious")


async def test_a_restore_that_fails_leaves_the_database_as_it_was(elsewhere: str, made: Path) -> None:
    await run(elsewhere, "CREATE TABLE precious ()")
    blocker = await asyncpg.connect(elsewhere)
    await blocker.execute("ALTER DATABASE elsewhere SET default_transaction_read_only = on")
    await blocker.close()
    with pytest.raises(BackupError, match=r"Nothing was restored: .*read-only transaction"):
        await restore(elsewhere, made, force=True)
    await run(elsewhere, "SELECT FROM precious")


async def test_a_database_that_does_not_answer_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="The database does not answer"):
        await backup(f"postgresql://upbeat@/upbeat?host={tmp_path}", tmp_path / "never")
    assert not list(tmp_path.iterdir())


async def test_a_place_that_does_not_exist_is_no_backup(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"absent/file cannot be written .*Choose another place"):
        await backup(database_url, tmp_path / "absent" / "file")


@pytest.mark.parametrize(
    ("url", "clean", "password"),
    [
        ("postgresql://u:p%40w@db:5432/n?sslmode=require", "postgresql://u@db:5432/n?sslmode=require", "p@w"),
        ("postgresql://u@/n?host=/run/x&password=s", "postgresql://u@/n?host=%2Frun%2Fx", "s"),
        ("postgresql://db/n", "postgresql://db/n", None),
    ],
)
def test_no_password_shows_among_the_arguments(url: str, clean: str, password: str | None) -> None:
    assert _without_password(url) == (clean, {"PGPASSWORD": password} if password else {})
