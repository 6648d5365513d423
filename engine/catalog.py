"""A process's compiled view of the declared beats (and groups), kept fresh: told by PostgreSQL, and looked up in case it was not.

It keeps only what `compile_beat` makes of a row, never the row. Without the database it goes on with what it has.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from msgspec.structs import replace

from engine.relations import KINDS as RELATED
from engine.relations import Relations
from engine.store.database import Connection, Pool, Row, follow
from engine.store.objects import CHANGED
from evaluators.policy import Bound
from rules.component import Egress
from rules.known import Kind

POLL_S: Final = 5.0
OVERLAP_S: Final = 10.0  # rows may become visible this long after the time they carry
SWEEP_S: Final = 60.0  # how often everything is compared, for transactions longer than OVERLAP_S
QUERY_TIMEOUT_S: Final = 60.0
_AT_ONCE: Final = 25  # rows compiled before others have a turn

T = TypeVar("T")
_log = logging.getLogger(__name__)

# `paused_for_s` by the database's clock; a pause that is over is none.
_ROWS: Final = (
    "SELECT o.id, o.kind, o.page_id, o.slug, o.spec, o.revision, o.removed_at IS NOT NULL AS removed, "
    "extract(epoch FROM o.updated_at)::float8 AS updated_s, "
    "CASE WHEN s.paused_until = 'infinity' THEN 'infinity'::float8 "
    "ELSE extract(epoch FROM s.paused_until - clock_timestamp())::float8 END AS paused_for_s, "
    "CASE WHEN s.paused_until = 'infinity' THEN 'infinity'::float8 "
    "ELSE extract(epoch FROM s.paused_until)::float8 END AS paused_until_s "
    "FROM objects o LEFT JOIN states s ON s.subject_id = o.id WHERE o.kind = ANY ($1) AND "
)
_STAMPS: Final = (
    "SELECT id, extract(epoch FROM updated_at)::float8 AS updated_s FROM objects "
    "WHERE kind = ANY ($1) AND removed_at IS NULL"
)
_LIGHT: Final = "SELECT o.id, o.kind, o.page_id, o.slug, o.spec, o.removed_at IS NOT NULL AS removed FROM objects o WHERE o.kind = ANY ($1) AND "
_SICK: Final = "SELECT region FROM suspensions WHERE ended_at IS NULL"
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_REGIONS: Final = "SELECT slug, spec FROM objects WHERE kind = 'region' AND removed_at IS NULL ORDER BY slug"


@dataclass(frozen=True, slots=True)
class Declared:
    """A living beat or group as it stands in the database. `paused_until_s`: epoch seconds, inf, or None when it is not paused."""

    id: UUID
    kind: Kind
    page_id: UUID | None
    slug: str
    spec: dict[str, Any]
    revision: int
    paused_until_s: float | None


class Vantage(NamedTuple):
    """What a region says of runs in it. `egress` None stands for the installation's."""

    reference: tuple[tuple[str, int], ...] = ()
    egress: Egress | None = None
    zone: str | None = None


class Catalog(Generic[T]):
    """All living beats, each as `compile_beat(declared, bound)` made it; regions are all there are, by slug.

    With `relations` groups as well, and whatever changes for one because of another: what `bound` says is complete then,
    and else only the regions. `on_change(beat_id, entry)` is called with every entry that is new or changed, or whose pause is over, and with
    None for one that is removed. `on_regions()` is called after `regions` has changed. A beat that `compile_beat` raises for keeps its
    former entry; that is a bug, and logged.
    """

    def __init__(
        self,
        pool: Pool,
        compile_beat: Callable[[Declared, Bound], T],
        *,
        relations: Relations | None = None,
        on_change: Callable[[UUID, T | None], None] | None = None,
        on_regions: Callable[[], None] | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        self.entries: dict[UUID, T] = {}
        self.regions: dict[str, Vantage] = {}  # by slug
        self.loaded = asyncio.Event()
        self.trouble: str | None = None
        self._pool, self._compile, self._poll_s = pool, compile_beat, poll_s
        self._relations, self._kinds = relations, ["beat"] if relations is None else ["beat", "group"]
        self._sick = frozenset[str]()
        self._on_change, self._on_regions = on_change, on_regions
        self._stamps: dict[UUID, float] = {}  # when each entry was last changed, by the database
        self._pauses: dict[UUID, float] = {}  # when each pause that has an end is over, by the loop's clock
        self._looked_s = float("-inf")  # by the database, when all that was to be seen was
        self._told = asyncio.Event()
        self._looking = asyncio.Lock()  # what was read before is not applied after what was read later
        self._regions_moved = False
        self._secrets_wanted = self._secrets_seen = 0  # how often a secret changed

    async def run(self) -> None:
        """Load everything, then follow what changes, until cancelled."""
        swept_s = float("-inf")

        async def look(connection: Connection) -> float:
            nonlocal swept_s
            async with asyncio.timeout(QUERY_TIMEOUT_S), self._looking:
                if _now_s() - swept_s >= SWEEP_S:
                    await self._sweep(connection)
                    swept_s = _now_s()
                else:
                    await self._follow(connection)
            self.trouble = None
            return self._wait_s()

        await follow(self._pool, [CHANGED], look, told=self._told, on_away=self._say)

    def _wait_s(self) -> float:
        """Until the next look: `poll_s`, or the end of a pause if that is sooner."""
        soonest_s = min(self._pauses.values(), default=float("inf")) - _now_s()
        return min(self._poll_s, max(soonest_s, 0.0) + 0.01)

    def recompile(self) -> None:
        """Compile again what refers to secrets: one of them has another value."""
        self._secrets_wanted += 1
        self._told.set()

    async def refresh(self, connection: "Connection | None" = None) -> None:
        """Look now, without waiting to be told. Raises what the database does. `connection`: that of who is in a transaction.

        Whoever looks has a connection already: nobody waits for one while others, in transactions, wait for their turn to look.
        """
        if connection is None:
            async with self._pool.acquire() as mine:
                await self.refresh(mine)
        else:
            async with self._looking:
                await self._follow(connection)

    def _say(self, failure: Exception) -> None:
        reason = str(failure) or type(failure).__name__
        if self.trouble is None:
            _log.warning("beats are not followed, those known are kept: %s", reason)
        self.trouble = reason

    async def _sweep(self, connection: Connection) -> None:
        """Compare everything: the first load, and once in a while what `_follow` may have missed."""
        looking_s: float = await connection.fetchval(_NOW)
        await self._read_regions(connection)
        living, changed = set[UUID](), list[UUID]()
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_STAMPS, self._kinds, prefetch=500):
                living.add(row["id"])
                if self._stamps.get(row["id"]) != row["updated_s"]:
                    changed.append(row["id"])
        for beat_id in [known for known in self._stamps if known not in living]:
            self._remove(beat_id)
        lately = "(o.removed_at IS NULL OR o.removed_at > clock_timestamp() - interval '1 hour')"
        rebound = await self._relate(connection, lately)
        await self._take(connection, "o.id = ANY ($2) ORDER BY o.id", changed)
        if rebound:
            await self._take(connection, "o.id = ANY ($2)", list(rebound), again=True)
        await self._regroup(connection)
        self._looked_s = max(self._looked_s, looking_s)
        self.loaded.set()

    async def _follow(self, connection: Connection) -> None:
        """What changed since the last look, and a little before it."""
        looking_s: float = await connection.fetchval(_NOW)
        await self._read_regions(connection)
        since_s = self._looked_s - OVERLAP_S
        rebound = await self._relate(connection, "o.updated_at > to_timestamp($2)", since_s)
        await self._take(connection, "o.updated_at > to_timestamp($2)", since_s)
        if rebound:
            await self._take(connection, "o.id = ANY ($2)", list(rebound), again=True)
        await self._regroup(connection)
        self._looked_s = max(self._looked_s, looking_s)
        if over := [beat_id for beat_id, end_s in self._pauses.items() if end_s <= _now_s()]:
            await self._take(connection, "o.id = ANY ($2)", over, again=True)

    async def _regroup(self, connection: Connection) -> None:
        """A region came, went, got sick or well: beats are compiled anew. So are those with secrets that changed."""
        if self._regions_moved:
            await self._take(connection, "o.removed_at IS NULL", again=True)
            self._regions_moved = False
        if (wanted := self._secrets_wanted) != self._secrets_seen:
            await self._take(connection, "o.removed_at IS NULL AND o.spec::text LIKE '%${%'", again=True)
            self._secrets_seen = wanted

    async def _take(
        self, connection: Connection, which: str, *arguments: object, again: bool = False
    ) -> None:
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_ROWS + which, self._kinds, *arguments, prefetch=_AT_ONCE):
                if again or self._stamps.get(row["id"]) != row["updated_s"]:
                    self._apply(row)

    async def _relate(self, connection: Connection, which: str, *arguments: object) -> set[UUID]:
        """Follow what objects make of each other; returns those that another one's change concerns."""
        if self._relations is None:
            return set()
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_LIGHT + which, list(RELATED), *arguments, prefetch=500):
                if row["removed"]:
                    self._relations.drop(row["id"])
                else:
                    self._relations.put(row["id"], row["kind"], row["page_id"], row["slug"], row["spec"])
        return self._relations.settle(await connection.fetchval(_NOW)) & self.entries.keys()

    def _bound(self, beat_id: UUID) -> Bound:
        zones = {slug: vantage.zone for slug, vantage in self.regions.items() if vantage.zone}
        bound = self._relations.bound(beat_id) if self._relations is not None else Bound()
        return replace(bound, regions=tuple(self.regions), sick=tuple(sorted(self._sick)), zones=zones)

    def _apply(self, row: Row) -> None:
        beat_id: UUID = row["id"]
        if row["removed"]:
            self._remove(beat_id)
            return
        self._stamps[beat_id] = row["updated_s"]
        paused_for_s = row["paused_for_s"] or 0.0
        self._pauses.pop(beat_id, None)
        if 0 < paused_for_s < float("inf"):
            self._pauses[beat_id] = _now_s() + paused_for_s
        until_s = row["paused_until_s"] if paused_for_s > 0 else None
        declared = Declared(
            beat_id, row["kind"], row["page_id"], row["slug"], row["spec"], row["revision"], until_s
        )
        try:
            entry = self._compile(declared, self._bound(beat_id))
        except Exception:
            _log.exception(
                "the %s %s, revision %d, cannot be compiled", row["kind"], row["slug"], row["revision"]
            )
            return
        self.entries[beat_id] = entry
        if self._on_change is not None:
            self._on_change(beat_id, entry)

    def _remove(self, beat_id: UUID) -> None:
        self._stamps.pop(beat_id, None)
        self._pauses.pop(beat_id, None)
        if self.entries.pop(beat_id, None) is not None and self._on_change is not None:
            self._on_change(beat_id, None)

    async def _read_regions(self, connection: Connection) -> None:
        rows = await connection.fetch(_REGIONS)
        regions = {row["slug"]: _vantage(row["spec"]) for row in rows}
        sick = frozenset[str]()
        if self._relations is not None:
            sick = frozenset(row["region"] for row in await connection.fetch(_SICK))
        if regions == self.regions and sick == self._sick:
            return
        is_moved = sick != self._sick or _zones(regions) != _zones(self.regions)
        self._regions_moved |= self.loaded.is_set() and is_moved
        self.regions, self._sick = regions, sick
        if self._on_regions is not None:
            self._on_regions()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _zones(regions: Mapping[str, Vantage]) -> dict[str, str | None]:
    return {slug: vantage.zone for slug, vantage in regions.items()}


def _vantage(spec: Mapping[str, Any]) -> Vantage:
    egress = spec.get("egress")
    return Vantage(
        references(spec.get("reference", ())),
        Egress.model_validate(egress) if egress else None,
        spec.get("zone"),
    )


def references(targets: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """(host, port) of each `host:port` or `[address]:port`, which the rule has judged."""
    parted = (target.rpartition(":") for target in targets)
    return tuple((host.strip("[]"), int(port)) for host, _, port in parted)
