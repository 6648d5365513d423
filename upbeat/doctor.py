"""What `upbeat doctor` finds: what is used, where, how durable it is, and what is wrong. It repairs nothing."""

import asyncio
import contextlib
import importlib.util
import ipaddress
import json
import os
import re
import resource
import shutil
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg
import nats
import nats.errors
from nats.aio.client import Client as NatsClient
from nats.js.errors import NotFoundError

from engine.browser.find import find_chromium
from engine.browser.pool import slots_here
from engine.browser.sandbox import confinement
from engine.bus import EVALUATOR, STREAM, consumer
from engine.embedded.nats import Program
from engine.embedded.postgres import Programs
from engine.embedded.process import ServerError
from engine.probes.icmp import allowed_kind
from engine.probes.trouble import TroubleError
from engine.secrets import Secrets
from engine.store import artifacts, events, installation, regions, secrets, subscribers
from engine.store.database import Connection, Row, codecs, versions
from engine.store.ids import PARTITIONS
from engine.store.triggers import modes_of
from evaluators.modes import Modes
from evaluators.words import region_is_sick
from rules.config import ConfigError, parse
from rules.incident import IncidentPolicy
from rules.kinds.browser import BrowserBeat
from rules.pace import run_deadline_s
from rules.page import Access, Page
from rules.secret import UnsetReferenceError, references, value_of
from rules.settings import Settings
from rules.trigger import Trigger
from upbeat import __version__
from upbeat.keys import keyring
from upbeat.settings import ServeSettings, SettingsError

Level = Literal["ok", "warn", "fail"]
FILES_LEAST: Final = 4096
DISK_FAIL_BYTES: Final = 200 << 20
DISK_WARN_BYTES: Final = 2 << 30
SKEW_WARN_S: Final = 1.0
SKEW_FAIL_S: Final = 5.0
BACKLOG_WARN: Final = 1000
MORE: Final = "Start more evaluators: upbeat serve --roles evaluator"
EVENTS_WARN_S: Final = 15.0
ANSWER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `todo` says what to do when it is not well."""

    about: str
    level: Level
    said: str
    todo: str = ""


def _judged(about: str, said: str, todo: str, *, warn: bool = False, fail: bool = False) -> Finding:
    """What is well unless it is said to be worth a warning, or to fail: then `todo` helps."""
    level: Level = "fail" if fail else "warn" if warn else "ok"
    return Finding(about, level, said, "" if level == "ok" else todo)


async def examine(
    settings: ServeSettings,
    database_url: str | None,
    nats_url: str | None,
    base_url: str | None = None,
    *,
    starts_browser: bool = True,
) -> list[Finding]:
    """Everything there is to say. The URLs are those of running servers; None where nothing runs.

    A browser is started to see how it is confined, which costs a second of CPU; checks of health do without.
    """
    found = [
        *_program(),
        *[one async for one in _browser(settings.environment, starts=starts_browser)],
        *_folder(settings),
        *_configuration(settings),
        *_address(settings, base_url),
    ]
    if database_url is None:
        found += _stopped(settings)
        return found
    found += [one async for one in _database(settings, database_url)]
    if nats_url is not None:
        found += [one async for one in _bus(settings, nats_url)]
    return [*dict.fromkeys(found)]  # a file and the database that it was applied to lack the same


def _program() -> Iterator[Finding]:
    yield Finding("upbeat", "ok", f"version {__version__}")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_enough = soft == resource.RLIM_INFINITY or soft >= FILES_LEAST
    todo = f"Allow {FILES_LEAST} or more: `ulimit -n`, or LimitNOFILE= of the systemd unit."
    yield _judged("open files", f"{soft} allowed", todo, warn=not is_enough)
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    todo, said = "Install uvloop: runs start later without it.", "present" if has_uvloop else "missing"
    yield _judged("uvloop", said, todo, warn=not has_uvloop)
    yield _icmp()


async def _browser(environment: Mapping[str, str], *, starts: bool) -> AsyncIterator[Finding]:
    chromium = find_chromium(environment)
    if chromium is None:
        named = environment.get("UPBEAT_CHROMIUM")
        said = (
            f"UPBEAT_CHROMIUM={named} is no program" if named else "no Chromium; only browser beats need one"
        )
        todo = "Name one that is there, or none: then one is looked for."
        yield _judged("browser", said, todo, fail=bool(named))
        return
    if not starts:
        yield Finding("browser", "ok", f"{chromium.path} ({chromium.found})")
        return
    try:
        confined = await confinement(chromium)
    except OSError as trouble:
        said = f"{chromium.path} ({chromium.found}) does not start: {trouble}"
        yield Finding(
            "browser", "warn", said, "Install chromium-headless-shell, or name one with UPBEAT_CHROMIUM."
        )
        return
    yield Finding("browser", "ok", f"{confined.version}, {chromium.path} ({chromium.found})")
    own = "with Chromium's own sandbox" if confined.has_browser_sandbox else "without Chromium's own sandbox"
    said = f"{confined.level}, {own}"
    yield _judged("browser sandbox", said, ". ".join(confined.lacks), warn=not confined.runs_scripts)
    wants = environment.get("UPBEAT_BROWSER_SCRIPTS") == "1"
    if wants and not confined.runs_scripts:
        said = "allowed by UPBEAT_BROWSER_SCRIPTS, and cannot be confined: they are refused"
        yield Finding("browser scripts", "fail", said, "See the browser sandbox, and mend what it lacks.")
    else:
        off = "not allowed on this machine: UPBEAT_BROWSER_SCRIPTS=1 allows them"
        yield Finding("browser scripts", "ok", "allowed" if wants else off)


def _icmp() -> Finding:
    try:
        kind = allowed_kind(socket.AF_INET)
    except TroubleError as trouble:
        return Finding("icmp", "ok", "not allowed to this user; only icmp beats need it", str(trouble))
    return Finding("icmp", "ok", "ping sockets" if kind == socket.SOCK_DGRAM else "raw sockets")


def _folder(settings: ServeSettings) -> Iterator[Finding]:
    if settings.database_url:
        return
    data = settings.data
    record = data / "format.json"
    if not record.exists():
        yield Finding(
            "data folder",
            "warn",
            f"{data} holds no data yet",
            "Start `upbeat serve`, or name another with --data.",
        )
        return
    try:
        known = json.loads(record.read_text("utf-8"))
        sizes = {name: _size_bytes(data / name) for name in ("pg", "nats", "log")}
    except (OSError, ValueError) as failure:
        yield Finding(
            "data folder",
            "fail",
            f"{data} cannot be read: {failure}",
            "Run doctor as the user of the server.",
        )
        return
    used = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    yield Finding("data folder", "ok", f"{data}, for PostgreSQL {known.get('postgres')}: {used}")
    free = shutil.disk_usage(data).free
    todo = "Free some space, or shorten `retention`: a full disk stops everything."
    said = f"{free / 1e9:.1f} GB free"
    yield _judged("disk", said, todo, warn=free < DISK_WARN_BYTES, fail=free < DISK_FAIL_BYTES)


def _size_bytes(folder: Path) -> int:
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(parent) / file).lstat().st_blocks * 512
    return total


def _configuration(settings: ServeSettings) -> Iterator[Finding]:
    if settings.config is None:
        yield Finding("configuration", "ok", "no file was named: what is declared is in the database")
        return
    try:
        document = parse(
            settings.config.read_text("utf-8"),
            str(settings.config),
            Secrets(settings.environment).of(None),
        )
    except OSError as failure:
        yield Finding(
            "configuration", "fail", f"{settings.config}: {failure.strerror}", "Name a file that is there."
        )
    except ConfigError as wrong:
        for problem in wrong.problems:
            yield Finding(
                "configuration", "fail", str(problem), "Mend it: until then the old one stays in force."
            )
    else:
        yield Finding(
            "configuration", "ok", f"{settings.config} is valid, with {len(document.objects)} objects"
        )
        url = settings.public_url or document.settings.public_url or ""
        for one in document.objects:
            if isinstance(one.spec, Page):
                yield from _access(one.slug, one.spec.access, document.settings, url)


def _access(slug: str, access: Access, kept: Settings, url: str) -> Iterator[Finding]:
    """Whom a page that is not public cannot let in, though it says so."""
    if access.emails and not (url and kept.mail):
        said = f"{slug} cannot mail links that let in"
        yield Finding("pages", "warn", said, "Set `mail` and `public_url` in upbeat.yaml.")
    if access.networks and url.startswith("https://") and not kept.trusted_proxies:
        said = f"{slug} lets nobody in by address: all come by a proxy that is not trusted"
        yield Finding("pages", "warn", said, "List the proxy's address in `trusted_proxies`.")


def _address(settings: ServeSettings, base_url: str | None) -> Iterator[Finding]:
    port = (urlsplit(base_url).port if base_url else None) or settings.port
    is_near = settings.host == "localhost"
    with contextlib.suppress(ValueError):
        is_near = ipaddress.ip_address(settings.host).is_loopback
    is_well = is_near or (settings.public_url or "").startswith("https://")
    reach = f", {settings.public_url or 'this machine only'}"
    said = reach if is_well else " is reachable from elsewhere without TLS"
    todo = "Put a reverse proxy with TLS before it and set public_url to its https address."
    yield _judged("address", f"{settings.host}:{port}{said}", todo, warn=not is_well)


def _stopped(settings: ServeSettings) -> Iterator[Finding]:
    yield Finding("server", "warn", "nothing runs on this data folder", "Start it: upbeat serve")
    try:
        postgres, nats_server = Programs.find(), Program.find()
    except ServerError as missing:
        yield Finding("programs", "fail", str(missing), "Install what is missing.")
        return
    yield Finding(
        "programs", "ok", f"PostgreSQL {postgres.version} and nats-server {nats_server.version} would be run"
    )


# ---- the database


async def _database(settings: ServeSettings, url: str) -> AsyncIterator[Finding]:
    where = "embedded" if not settings.database_url else _place(url)
    try:
        connection = await asyncpg.connect(url, timeout=ANSWER_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as failure:
        said = f"{where} does not answer: {str(failure) or type(failure).__name__}"
        yield Finding("database", "fail", said, "Start it, or mend UPBEAT_DATABASE_URL.")
        return
    try:
        await codecs(connection)
        row = await connection.fetchrow(
            "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync, "
            "current_setting('synchronous_commit') AS commits, current_setting('full_page_writes') AS pages, "
            "current_setting('max_connections') AS connections, pg_database_size(current_database()) AS size"
        )
        assert row is not None
        yield Finding("database", "ok", f"PostgreSQL {row['version']}, {where}, {row['size'] / 1e6:.0f} MB")
        yield _durability(row)
        yield await _skew(connection)
        steps = await _migrations(connection)
        yield steps
        if steps.level == "ok":
            async for one in _installation(settings, connection):
                yield one
    finally:
        await connection.close()


def _durability(row: Row) -> Finding:
    said = f"fsync {row['fsync']}, synchronous_commit {row['commits']}, full_page_writes {row['pages']}"
    if row["fsync"] == "off" or row["pages"] == "off":
        return Finding(
            "durability", "fail", said, "Turn both on: a power cut may destroy the whole database."
        )
    if row["commits"] == "off":
        return Finding(
            "durability", "warn", said, "A power cut loses the last commits: turn synchronous_commit on."
        )
    return Finding("durability", "ok", f"database: {said}")


async def _skew(connection: Connection) -> Finding:
    before = time.time()
    there = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    skew_s = abs(there - (before + time.time()) / 2)
    todo = "Let NTP set both clocks: votes age and leases end by the database's."
    said = f"{skew_s * 1000:.0f} ms between this machine and the database"
    return _judged("clock", said, todo, warn=skew_s > SKEW_WARN_S, fail=skew_s > SKEW_FAIL_S)


async def _migrations(connection: Connection) -> Finding:
    known = versions()
    try:
        rows = await connection.fetch("SELECT version FROM migrations ORDER BY version")
    except asyncpg.UndefinedTableError:
        return Finding("migrations", "warn", "the database is empty", "`upbeat serve` makes its tables.")
    applied = [row["version"] for row in rows]
    if applied == known:
        return Finding("migrations", "ok", f"at {known[-1]}, the newest")
    if applied == known[: len(applied)]:
        return Finding(
            "migrations", "warn", f"{len(known) - len(applied)} to come", "`upbeat serve` applies them."
        )
    return Finding(
        "migrations", "fail", f"at {applied[-1]}, newer than this program", "Use the newer program."
    )


async def _installation(settings: ServeSettings, connection: Connection) -> AsyncIterator[Finding]:
    members = await connection.fetch("SELECT kind, holder FROM members WHERE until > now() ORDER BY kind")
    kinds = {row["kind"].partition(":")[0] for row in members}
    holders = {row["holder"] for row in members}
    said = f"{len(holders)} process(es): {', '.join(sorted(kinds))}"
    said = said if members else "no server works on this database now"
    yield _judged("members", said, "Start it: upbeat serve", warn=not members)
    free = await connection.fetchval("SELECT count(*) FROM leases WHERE kind = 'evaluator' AND until < now()")
    if members and free:
        said = f"{free} partitions have no evaluator"
        yield Finding("leases", "warn", said, "Start one: upbeat serve --roles evaluator")
    for part in (
        _regions,
        _backlog,
        partial(_journeys, settings),
        _files,
        _webhooks,
        partial(_secrets, settings),
        partial(_pages, settings),
    ):
        async for one in part(connection):
            yield one


async def _journeys(settings: ServeSettings, connection: Connection) -> AsyncIterator[Finding]:
    """Whether all journeys that run as long as they may would have a browser, were every region's probe this machine."""
    rows = await connection.fetch(
        "SELECT o.spec, (SELECT count(*) FROM objects r WHERE r.kind = 'region' AND r.removed_at IS NULL) AS regions "
        "FROM objects o WHERE o.kind = 'beat' AND o.removed_at IS NULL AND o.spec->>'type' = 'browser'"
    )
    beats = [(BrowserBeat.model_validate(row["spec"]), row["regions"]) for row in rows]
    needed = sum(
        len(beat.regions or range(regions))
        * run_deadline_s(beat.interval, beat.timeout, beat.retries)
        / beat.interval
        for beat, regions in beats
        if beat.enabled
    )
    if not needed:
        return
    there = settings.browsers or slots_here()
    said = f"journeys that all take their whole time need {needed:.1f} browsers at once; this machine has {there}"
    todo = (
        "A longer interval, a shorter timeout, fewer retries or regions, more probes, or a higher UPBEAT_BROWSERS; "
        "else runs are `probe.busy` in an outage."
    )
    yield _judged("browsers", said, todo, warn=needed > there)


async def _files(connection: Connection) -> AsyncIterator[Finding]:
    limit = Settings.model_validate(await installation.read_settings(connection)).retention.artifact_size
    said = f"{await artifacts.size_bytes(connection) / 1e6:.0f} of {limit / 1e6:.0f} MB of files kept of browser runs"
    yield Finding("evidence", "ok", said)


async def _secrets(settings: ServeSettings, connection: Connection) -> AsyncIterator[Finding]:
    try:
        ring = keyring(settings)
    except SettingsError as wrong:
        yield Finding("secrets", "fail", str(wrong), "Mend it: secrets are neither stored nor used.")
        return
    held = Secrets(settings.environment, ring)
    await held.refresh(connection)
    sealed = Counter(kept.key_id for kept in (await secrets.read(connection)).values())
    for key_id, count in sorted(sealed.items()):
        said = f"{count} stored, sealed with the key {key_id}"
        if key_id not in ring.ids:
            todo = "Set UPBEAT_SECRET_KEY, or put back secret.key of the data folder: the same for every process."
            yield Finding("secrets", "fail", f"{said}, which is not here", todo)
        elif key_id != ring.ids[0]:
            yield Finding("secrets", "warn", f"{said}, an old one", "Run `upbeat secrets rotate`.")
        else:
            yield Finding("secrets", "ok", said)
    specs = await connection.fetch(
        "SELECT kind, slug, coalesce(page_id, CASE WHEN kind = 'page' THEN id END) AS page_id, spec FROM objects WHERE removed_at IS NULL "
        "AND spec::text LIKE '%${%' ORDER BY kind, slug"
    )
    for row in specs:
        sources = held.of(row["page_id"])
        for reference in sorted({*references(row["spec"])}):
            try:
                value_of(reference, sources)
            except UnsetReferenceError as unset:
                said = f"of the {row['kind']} {row['slug']}: {unset}"
                yield Finding("secrets", "warn", said, "It matters where the beat runs; here it is not so.")


async def _pages(settings: ServeSettings, connection: Connection) -> AsyncIterator[Finding]:
    """Whom pages that are not public cannot let in, though they say so, and whom others cannot tell."""
    kept = Settings.model_validate(await installation.read_settings(connection))
    url = settings.public_url or kept.public_url or ""
    rows = await connection.fetch(
        "SELECT slug, spec->'access' AS access FROM objects WHERE kind = 'page' AND removed_at IS NULL AND spec ? 'access' "
        "ORDER BY slug"
    )
    for row in rows:
        for one in _access(row["slug"], Access.model_validate(row["access"]), kept, url):
            yield one
    mailed, told = await subscribers.told(connection)
    if mailed and kept.mail is None:
        said = f"{mailed} subscribers are told by mail, and there is no relay: what they are to read waits"
        yield Finding("subscribers", "warn", said, "Set `mail` in upbeat.yaml.")
    if told and not url:
        said = "links in what subscribers are sent lead to where this process listens"
        yield Finding("subscribers", "warn", said, "Set `public_url` in upbeat.yaml.")


async def _regions(connection: Connection) -> AsyncIterator[Finding]:
    rows = await connection.fetch(
        "SELECT o.slug, array_agg(m.holder) FILTER (WHERE m.holder IS NOT NULL) AS holders FROM objects o "
        "LEFT JOIN members m ON m.kind = 'probe:' || o.slug AND m.until > now() "
        "WHERE o.kind = 'region' AND o.removed_at IS NULL GROUP BY o.slug ORDER BY o.slug"
    )
    for slug, row in (await regions.suspended(connection)).items():
        said = (
            f"{slug} is suspended since {row['began_at']:%Y-%m-%d %H:%M} UTC: {region_is_sick(**row['why'])}"
        )
        yield Finding("regions", "warn", said, "Look at its probe and network; it returns when it is well.")
    if silent := [row["slug"] for row in rows if not row["holders"]]:
        yield Finding(
            "regions", "warn", f"no probe in {', '.join(silent)}", "Start one: upbeat serve --roles probe"
        )
    shared = [row["slug"] for row in rows if row["holders"]]
    if len(shared) > 1 and len({holder for row in rows for holder in row["holders"] or ()}) == 1:
        said = f"{', '.join(shared)} run in one process: one failure domain, seen from one place"
        yield Finding("regions", "ok", said)
    elif shared:
        yield Finding("regions", "ok", f"{', '.join(shared)} have probes")


async def _backlog(connection: Connection) -> AsyncIterator[Finding]:
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM outbox WHERE status = 'pending') AS pending, "
        "(SELECT count(*) FROM outbox WHERE status = 'dead') AS dead, "
        "(SELECT count(*) FROM dead_letters) AS letters"
    )
    assert row is not None
    todo = "See `upbeat deliveries --status dead`, mend the channel, then `upbeat deliveries retry`."
    said = f"{row['pending']} notices wait, {row['dead']} were given up"
    yield _judged("deliveries", said, todo, warn=row["dead"] or row["pending"] > BACKLOG_WARN)
    if row["letters"]:
        said = f"{row['letters']} messages could not be used"
        yield Finding(
            "dead letters", "warn", said, "The table dead_letters has each with its traceback: report it."
        )


async def _webhooks(connection: Connection) -> AsyncIterator[Finding]:
    """Of inboxes and triggers what makes them say nothing."""
    rows = await connection.fetch(
        "SELECT o.id, o.slug, EXISTS (SELECT FROM inbox_tokens t WHERE t.inbox_id = o.id "
        " AND (t.expires_at IS NULL OR t.expires_at > now())) AS is_open, "
        "EXISTS (SELECT FROM events e WHERE e.inbox_id = o.id) AS is_used FROM objects o "
        "WHERE o.kind = 'inbox' AND o.removed_at IS NULL ORDER BY o.slug"
    )
    if not rows:
        return
    if shut := [row["slug"] for row in rows if not row["is_open"]]:
        said = f"no token opens {', '.join(shut)}"
        yield Finding("inboxes", "warn", said, "Make one: upbeat inboxes rotate INBOX")
    unused = {row["id"] for row in rows if not row["is_used"]}
    found = await connection.fetch(
        "SELECT o.slug, o.spec, s.promoted, i.id AS inbox_id FROM objects o JOIN trigger_states s ON s.trigger_id = o.id "
        "JOIN objects i ON i.kind = 'inbox' AND i.page_id = o.page_id AND i.slug = o.spec->>'inbox' "
        "AND i.removed_at IS NULL WHERE o.kind = 'trigger' AND o.removed_at IS NULL ORDER BY o.slug"
    )
    triggers = [(row, Trigger.model_validate(row["spec"])) for row in found]
    if mute := [row["slug"] for row, rule in triggers if rule.enabled and row["inbox_id"] in unused]:
        said = f"{', '.join(mute)} can say nothing: no event ever came to the inbox"
        yield Finding("triggers", "warn", said, "Have the sender post to the inbox's ingest_url.")
    timid = [
        row["slug"]
        for row, rule in triggers
        if rule.enabled and _allowed(rule.incidents) != _allowed(modes_of(rule, row["promoted"]))
    ]
    if timid:
        said = f"{', '.join(timid)} ask for auto and are not promoted: they make drafts"
        yield Finding("triggers", "warn", said, "See their record: upbeat triggers record TRIGGER")
    waiting, oldest_s = await events.waiting(connection)
    said = f"{len(rows)} with {len(triggers)} triggers; {waiting} events wait to be judged"
    yield _judged("inboxes", said, MORE, warn=oldest_s > EVENTS_WARN_S)


def _allowed(modes: IncidentPolicy | Modes) -> tuple[str, ...]:
    return modes.open, modes.update, modes.resolve


# ---- the bus


async def _bus(settings: ServeSettings, url: str) -> AsyncIterator[Finding]:
    where = "embedded" if not settings.nats_url else _place(url)
    client = NatsClient()
    try:
        async with asyncio.timeout(ANSWER_S):
            await client.connect(
                servers=url.split(","), allow_reconnect=False, connect_timeout=2, error_cb=_hush
            )
    except (OSError, TimeoutError, nats.errors.Error) as failure:
        said = f"NATS, {where}, does not answer: {str(failure) or type(failure).__name__}"
        yield Finding("bus", "fail", said, "Start it, or mend UPBEAT_NATS_URL.")
        return
    try:
        stream = client.jetstream(timeout=ANSWER_S)
        seen = client.connected_server_version
        version = f"{seen.major}.{seen.minor}.{seen.patch}"
        try:
            info = await stream.stream_info(STREAM)
        except NotFoundError:
            yield Finding(
                "bus", "warn", f"NATS {version}, {where}, has no stream {STREAM}", "`upbeat serve` makes it."
            )
            return
        size, kept = info.state.bytes, info.config.max_bytes or 0
        yield Finding(
            "bus", "ok", f"NATS {version}, {where}, {size / 1e6:.1f} of {kept / 1e6:.0f} MB in {STREAM}"
        )
        yield _bus_durability(settings, info.config.num_replicas or 1)
        waiting = 0
        for partition in range(PARTITIONS):
            with contextlib.suppress(NotFoundError):
                held = await stream.consumer_info(STREAM, consumer(EVALUATOR, partition))
                waiting += (held.num_pending or 0) + (held.num_ack_pending or 0)
        said = f"{waiting} batches of results are not committed yet"
        yield _judged("backlog", said, MORE, warn=waiting > BACKLOG_WARN)
    except (nats.errors.Error, TimeoutError) as failure:
        yield Finding(
            "bus", "fail", f"JetStream does not answer: {failure}", "Turn JetStream on in nats-server."
        )
    finally:
        await client.close()


def _bus_durability(settings: ServeSettings, replicas: int) -> Finding:
    if settings.nats_url:
        said = f"bus: R{replicas}, fsync as its servers are set (sync_interval: always is safest)"
        todo = (
            "Set UPBEAT_NATS_REPLICAS=3 with three servers. Results are not lost meanwhile: probes keep them."
        )
        return _judged("durability", said, todo, warn=replicas < 2)
    conf = settings.data / "nats" / "nats.conf"
    written = re.search(r"sync_interval:\s*\"?(\w+)", conf.read_text("utf-8")) if conf.exists() else None
    return Finding("durability", "ok", f"bus: R{replicas}, fsync {written[1] if written else 'unknown'}")


async def _hush(_: Exception) -> None:
    """What goes wrong is told as a finding."""


def _place(url: str) -> str:
    """Host and port of a URL, without what is secret in it."""
    parts = urlsplit(url.split(",", maxsplit=1)[0])
    return f"{parts.hostname or 'a socket'}:{parts.port or ''}".rstrip(":")
