"""One file that holds one database, and the way back. For any PostgreSQL, embedded or not; it schedules nothing.

The file is a header of 512 bytes (JSON, padded with spaces) and the gzipped SQL of ``pg_dump``, which reads one
snapshot. NATS is transport and needs no backup. A restore is one transaction: all of it, or the target as it was.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg

from engine.embedded.postgres import Programs

FORMAT = 1
_HEADER_BYTES = 512
_CHUNK_BYTES = 256 << 10
_EMPTY_IT = b"""
SET lock_timeout = '10s';
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
END $$;
CREATE SCHEMA public;
"""
_RELATIONS = """
SELECT count(*) FROM pg_class c
WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""


class BackupError(Exception):
    """No backup was made, or nothing was restored. The message says what happened, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The header of a backup file."""

    format: int
    created: str  # RFC 3339, UTC
    postgres: str
    size_bytes: int  # of what follows the header
    sha256: str


async def backup(database_url: str, target: Path) -> Backup:
    """Write the database to the file ``target`` (mode 0600): complete and on disk, or not at all.

    It is consistent while Upbeat runs. Raises ``BackupError``.
    """
    fresh = target.with_name(f".{target.name}.new")
    dump = (
        "pg_dump",
        "--format=plain",
        "--compress=gzip:6",
        "--no-owner",
        "--no-privileges",
        "--no-password",
    )
    digest, size_bytes, stdin, stdout = (
        hashlib.sha256(),
        0,
        asyncio.subprocess.DEVNULL,
        asyncio.subprocess.PIPE,
    )
    try:
        version = str(await _ask(database_url, "SELECT current_setting('server_version')"))
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b" " * _HEADER_BYTES)
            async with _client(dump, database_url, "No backup was made", stdin, stdout) as child:
                assert child.stdout
                while chunk := await child.stdout.read(_CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    size_bytes += len(chunk)
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            header = Backup(FORMAT, created, version, size_bytes, digest.hexdigest())
            file.seek(0)
            file.write(
                json.dumps({"upbeat_backup": asdict(header)}).encode().ljust(_HEADER_BYTES - 1) + b"\n"
            )
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
        _sync_folder(target.parent)
    except OSError as failure:
        raise BackupError(
            f"No backup was made: {target} cannot be written ({failure.strerror or failure}). Choose another place."
        ) from failure
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
    return header


async def restore(database_url: str, source: Path, *, force: bool = False) -> Backup:
    """Fill the empty database with what the file ``source`` holds, in one transaction, after checking the whole file.

    ``force`` replaces everything in a database that is not empty. Raises ``BackupError``; the database is then as
    it was.
    """
    psql = ("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-password")
    try:
        with source.open("rb") as file:
            header = await asyncio.to_thread(_verify, file, source)
            if not force and (count := await _ask(database_url, _RELATIONS)):
                raise BackupError(
                    f"Nothing was restored: the database is not empty ({count} tables, indexes and other relations). "
                    "Name an empty one, or force it to lose what is in there."
                )
            stdin, stdout = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
            async with _client(psql, database_url, "Nothing was restored", stdin, stdout) as child:
                assert child.stdin
                child.stdin.write(b"BEGIN;\n" + (_EMPTY_IT if force else b""))
                with gzip.GzipFile(fileobj=file) as text:
                    while chunk := await asyncio.to_thread(text.read, _CHUNK_BYTES):
                        child.stdin.write(chunk)
                        await child.stdin.drain()
                child.stdin.write(b"\nCOMMIT;\n")  # whatever stops us before this line rolls back
                child.stdin.close()
                await child.stdin.wait_closed()
    except OSError as failure:
        raise BackupError(f"Nothing was restored: {source}: {failure.strerror or failure}.") from failure
    return header


def _verify(file: BinaryIO, source: Path) -> Backup:
    """The header of ``file``, which is left where the dump begins."""
    try:
        header = Backup(**json.loads(file.read(_HEADER_BYTES))["upbeat_backup"])
    except (ValueError, KeyError, TypeError):
        raise BackupError(
            f"{source} is not a backup of Upbeat, or its beginning is damaged. Use another one."
        ) from None
    if header.format != FORMAT:
        raise BackupError(
            f"{source} has format {header.format}, this Upbeat reads {FORMAT}. Use the one that wrote it."
        )
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
    if (size_bytes, digest.hexdigest()) != (header.size_bytes, header.sha256):
        raise BackupError(
            f"{source} is damaged: {size_bytes} of {header.size_bytes} bytes, checksum {digest.hexdigest()[:12]} "
            f"instead of {header.sha256[:12]}. Use another backup."
        )
    file.seek(_HEADER_BYTES)
    return header


async def _ask(database_url: str, question: str) -> object:
    try:
        connection = await asyncpg.connect(database_url, timeout=10.0)
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:
        reason = str(failure) or type(failure).__name__
        raise BackupError(f"The database does not answer: {reason}. Start it, or check its URL.") from failure


@contextlib.asynccontextmanager
async def _client(
    command: tuple[str, ...], database_url: str, prefix: str, stdin: int, stdout: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a client program of PostgreSQL; raises ``BackupError`` with what it said if it fails. Never outlives us."""
    programs = await asyncio.to_thread(Programs.find)
    url, secret = _without_password(database_url)
    program, *options = command
    with tempfile.TemporaryFile() as said:
        child = await asyncio.create_subprocess_exec(
            programs.bin / program,
            *options,
            f"--dbname={url}",
            env=os.environ | secret,
            stdin=stdin,
            stdout=stdout,
            stderr=said,
        )
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it says why it went away
                yield child
            if await child.wait() != 0:
                said.seek(0)
                words = "; ".join(said.read().decode(errors="replace").splitlines()[-3:])
                raise BackupError(f"{prefix}: {words or f'{program} ended with status {child.returncode}'}")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """Split off the password, which everybody on this machine could read in the arguments of a process."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    query = dict(parse_qsl(parts.query))
    password = query.pop("password", unquote(password))
    clean = parts._replace(netloc=f"{user}{at}{hosts}", query=urlencode(query, quote_via=quote))
    return clean.geturl(), {"PGPASSWORD": password} if password else {}


def _sync_folder(folder: Path) -> None:
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
