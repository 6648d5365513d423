"""Applying a document: what it declares becomes so, in one transaction. It touches only what it declares or once declared."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from engine.clock import SystemClock
from engine.store import installation, objects, triggers
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, transaction
from engine.store.objects import InUseError, Stored
from engine.store.telling import tell_of_beats
from rules.config import ConfigError, Document, Problem, parse
from rules.known import KINDS, plural
from rules.secret import Sources
from rules.shape import spec_of, written
from rules.trigger import Trigger

_log = logging.getLogger(__name__)


class UnreadableError(Exception):
    """The file is not there, may not be read or is not UTF-8."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How many objects the document created, changed, removed and left as they were."""

    created: int
    changed: int
    removed: int
    untouched: int

    def __str__(self) -> str:
        return f"{self.created} created, {self.changed} changed, {self.removed} removed, {self.untouched} untouched"


async def apply_file(pool: Pool, path: Path, sources: Sources) -> Applied:
    """Read, check and apply `path`. Raises `rules.config.ConfigError` with all problems, or `UnreadableError`.

    Then, and when the database fails, nothing changed.
    """
    path = path.absolute()  # objects remember the file that declared them, from wherever it was named
    try:
        text = await asyncio.to_thread(path.read_text, "utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise UnreadableError(str(failure)) from None
    async with transaction(pool) as connection:
        await objects.take_turns(connection)
        document = parse(text, str(path), sources, await objects.known(connection, "api"))
        applied = await _apply(connection, document)
    for warning in document.warnings:
        _log.warning("%s", warning)
    return applied


async def _apply(connection: Connection, document: Document) -> Applied:
    actor = Actor(document.file, "file")
    existing = await _existing(connection)
    pages: dict[str, UUID] = {
        stored.slug: stored.id for (kind, _, _), stored in existing.items() if kind == "page"
    }
    changes: list[tuple[str, Stored]] = []
    untouched = 0
    declared_keys: set[tuple[str, UUID | None, str]] = set()
    for declared in document.objects:
        page_id = pages[declared.page] if declared.page else None
        key = (declared.kind, page_id, declared.slug)
        declared_keys.add(key)
        spec, source = spec_of(declared.spec), f"{document.file}:{declared.line}"
        stored = existing.get(key)
        if stored is None:
            stored = await objects.create(connection, actor, declared.kind, page_id, spec, source=source)
            changes.append(("created", stored))
        elif stored.spec != spec or (stored.managed_by == "api" and declared.line):
            stored = await objects.replace(connection, actor, stored, spec, source=source)
            changes.append(("updated", stored))
        else:
            if stored.source != source and stored.managed_by == "file":
                await objects.moved(connection, stored, source)
            untouched += 1
        if declared.kind == "page":
            pages[declared.slug] = stored.id
        if isinstance(declared.spec, Trigger):
            try:
                await triggers.expect_target(connection, actor, page_id, declared.spec.target)
            except ValueError as refused:
                said = f"{declared.slug}: target.external: {refused}"
                raise ConfigError([Problem(document.file, declared.line, "triggers", said)]) from None
    leaving = await _remove(connection, actor, document, existing, declared_keys)
    await installation.write_settings(connection, written(document.settings))
    verbs = Counter(verb for verb, _ in changes)
    changes += [("deleted", stored) for stored in leaving]
    await tell_of_beats(connection, actor, changes, SystemClock().epoch_s())
    return Applied(verbs["created"], verbs["updated"], len(leaving), untouched)


async def _existing(connection: Connection) -> dict[tuple[str, UUID | None, str], Stored]:
    found: dict[tuple[str, UUID | None, str], Stored] = {}
    for kind in KINDS:
        for stored in await objects.listing(connection, kind):
            found[kind, stored.page_id, stored.slug] = stored
    return found


async def _remove(
    connection: Connection,
    actor: Actor,
    document: Document,
    existing: Mapping[tuple[str, UUID | None, str], Stored],
    declared: set[tuple[str, UUID | None, str]],
) -> list[Stored]:
    """What this file declared before and no longer does: none of that is in the way of the rest of it."""
    leaving = [
        stored
        for key, stored in existing.items()
        if key not in declared
        and stored.managed_by == "file"
        and (stored.source or "").rpartition(":")[0] == document.file
    ]
    ids = {stored.id for stored in leaving}
    for stored in leaving:
        try:
            await objects.remove(connection, actor, stored, by_file=True, leaving=ids)
        except InUseError as used:
            line = int((stored.source or ":0").rpartition(":")[2])
            said = f"{stored.slug} cannot be taken out: {used}"
            raise ConfigError([Problem(document.file, line, plural(stored.kind), said)]) from None
    return leaving
