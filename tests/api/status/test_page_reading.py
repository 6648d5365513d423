"""What is read of a page: all that it remembers, each incident made once per revision; latency of public beats and of no others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest

from api.status import reading
from api.status.document import Document, Series
from api.status.reading import Reader
from engine.clock import SystemClock
from engine.store import objects, results, retention, rollups
from engine.store.audit import Actor
from engine.store.database import Connection, Pool, transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from evaluators.model import Kind, Result, Timings, Verdict

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("seed", "api")


class Later(SystemClock):
    """The machine's clock, moved on by hand."""

    __slots__ = ("ahead_s",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def epoch_s(self) -> float:
        return super().epoch_s() + self.ahead_s


class Shown:
    """A page with the components `a` and `b`, how it is told of trouble, and how it is read."""

    def __init__(self, server: "Server") -> None:
        self.server, self.clock, self.slug = server, Later(), f"r{new_id().hex[-8:]}"
        self.reader = Reader(replace(server.services, clock=self.clock))
        self.now = datetime.fromtimestamp(int(self.clock.epoch_s()), UTC)

    async def make(self, kind: Any, slug: str, page: Stored | None = None, **spec: Any) -> Stored:
        async with transaction(self.server.services.pool) as db:
            home = page or (self.page if kind != "page" else None)
            return await objects.create(db, ACTOR, kind, home.id if home else None, {"slug": slug, **spec})

    async def begin(self) -> "Shown":
        self.page = await self.make("page", self.slug, name="Shop")
        self.parts = {slug: await self.make("component", slug, name=slug.upper()) for slug in "ab"}
        async with transaction(self.server.services.pool) as db:
            await db.execute(
                "UPDATE objects SET created_at = $2 WHERE page_id = $1", self.page.id, self.now - days(2000)
            )
        return self

    async def tell(
        self, begun: timedelta, *said: tuple[timedelta, str, dict[str, str]], kind: str = "incident"
    ) -> UUID:
        """An incident that began so long ago, of which was said so long ago: status, and what of whom."""
        incident = new_id()
        last = said[-1]
        is_over = last[1] in ("resolved", "completed")
        async with transaction(self.server.services.pool) as db:
            await db.execute(
                "INSERT INTO incidents (id, page_id, title, status, components, created_at, resolved_at, kind, starts_at, "
                "ends_at) VALUES ($1, $2, 'Trouble', $3, $4, $5, $6, $7, $8, $6)",
                incident,
                self.page.id,
                last[1],
                self._keyed(last[2]),
                self.now - begun,
                self.now - last[0] if is_over else None,
                kind,
                self.now - begun if kind == "maintenance" else None,
            )
            for ago, status, components in said:
                await db.execute(
                    "INSERT INTO updates (id, incident_id, status, text, components, at, by) "
                    "VALUES ($1, $2, $3, 'x', $4, $5, 't')",
                    new_id(),
                    incident,
                    status,
                    self._keyed(components),
                    self.now - ago,
                )
        return incident

    def _keyed(self, said: dict[str, str]) -> dict[str, str]:
        return {str(self.parts[slug].id): status for slug, status in said.items()}

    async def read(self) -> Document:
        found = await self.reader.page(self.slug)
        assert found is not None
        return found

    async def latency(self) -> dict[str, Sequence[Series]]:
        """By component."""
        return {one.slug: one.latency for one in (await self.read()).components}

    async def run(self, beat: Stored, *seconds: float, ago_s: float = 5.0) -> None:
        """Runs that took so long."""
        at = self.clock.epoch_s() - ago_s
        made = [
            Result(
                str(new_id()),
                str(beat.id),
                "eu",
                Kind.SCHEDULED,
                Verdict.OK,
                at,
                at,
                1,
                n,
                Timings(total=total),
            )
            for n, total in enumerate(seconds)
        ]
        async with transaction(self.server.services.pool) as db:
            await retention.make_days(db, self.now.date())
            await results.insert(db, [(str(beat.id), at, one) for one in made], at)


@pytest.fixture
async def shown(server: "Server") -> Shown:
    return await Shown(server).begin()


def days(count: float) -> timedelta:
    return timedelta(days=count)


DOWN = {"a": "major_outage"}


async def test_what_is_long_over_is_remembered_in_order_with_what_is_new(shown: Shown) -> None:
    ids = [
        await shown.tell(days(ago), (days(ago), "investigating", DOWN), (days(ago - 1), "resolved", {}))
        for ago in (900, 400, 120, 30, 2)
    ]
    window = await shown.tell(
        days(300),
        (days(300), "scheduled", {"a": "under_maintenance"}),
        (days(299), "completed", {}),
        kind="maintenance",
    )
    page = await shown.read()
    assert [one.id for one in page.incidents] == [show("incident", one) for one in reversed(ids)]
    assert [one.id for one in page.maintenances] == [show("incident", window)]
    assert [update.status for update in page.incidents[-1].updates] == ["resolved", "investigating"]


async def test_an_incident_is_made_once_until_it_changes(shown: Shown) -> None:
    old = await shown.tell(days(200), (days(200), "investigating", DOWN), (days(199), "resolved", {}))
    new = await shown.tell(days(3), (days(3), "investigating", DOWN), (days(2), "resolved", {}))
    before = (await shown.read()).incidents
    again = (await shown.read()).incidents
    assert [one is other for one, other in zip(before, again, strict=True)] == [True, True]
    async with transaction(shown.server.services.pool) as db:
        await db.execute(
            "UPDATE incidents SET title = 'Reworded', revision = revision + 1 WHERE id = ANY ($1)", [old, new]
        )
    soon = (await shown.read()).incidents
    assert [one.title for one in soon] == [
        "Reworded",
        "Trouble",
    ]  # of what is long over it is seen a little later
    shown.clock.ahead_s += reading.ARCHIVED_S + 1
    assert [one.title for one in (await shown.read()).incidents] == ["Reworded", "Reworded"]


@pytest.mark.parametrize("ago", [3, 200], ids=["of late", "long over"])
async def test_what_is_removed_is_gone(shown: Shown, ago: int) -> None:
    incident = await shown.tell(
        days(ago), (days(ago), "investigating", DOWN), (days(ago - 1), "resolved", {})
    )
    assert len((await shown.read()).incidents) == 1
    async with transaction(shown.server.services.pool) as db:
        await db.execute(
            "UPDATE incidents SET removed_at = now(), revision = revision + 1 WHERE id = $1", incident
        )
    shown.clock.ahead_s += reading.ARCHIVED_S + 1 if ago > 100 else 0
    page = await shown.read()
    assert page.incidents == []
    assert page.components[0].days[-1].status == "operational"


class Only:
    """A pool of this one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self._connection


async def test_a_page_takes_as_many_queries_whatever_it_says(shown: Shown) -> None:
    counts = []
    for number in (1, 20):
        for n in range(number):
            await shown.tell(days(1 + n), (days(1 + n), "investigating", DOWN), (days(n), "resolved", {}))
        queries: list[str] = []
        async with shown.server.services.pool.acquire() as db:
            reader = Reader(replace(shown.reader.services, pool=cast("Pool", Only(db))))
            with db.query_logger(lambda said, queries=queries: queries.append(said.query)):
                await reader.page(shown.slug)
                first = len(queries)
                await reader.page(shown.slug)
            counts.append((first, len(queries) - first))
    assert counts[0] == counts[1]
    assert counts[0][1] < counts[0][0]  # what is known is not read again


async def test_what_incidents_say_over_each_other_is_the_worst_and_then_what_is_left(shown: Shown) -> None:
    hour = timedelta(hours=1)
    await shown.tell(hour * 3, (hour * 3, "investigating", {"a": "degraded_performance"}))
    assert (await shown.read()).components[0].status == "degraded_performance"
    worse = await shown.tell(hour * 2, (hour * 2, "investigating", DOWN | {"b": "partial_outage"}))
    page = await shown.read()
    assert [one.status for one in page.components] == ["major_outage", "partial_outage"]
    assert [one.updated_at for one in page.components] == [shown.now - hour * 2] * 2
    async with transaction(shown.server.services.pool) as db:
        await db.execute(
            "UPDATE incidents SET status = 'resolved', resolved_at = $2, revision = revision + 1 WHERE id = $1",
            worse,
            shown.now - hour,
        )
        await db.execute(
            "INSERT INTO updates (id, incident_id, status, text, components, at, by) "
            "VALUES ($1, $2, 'resolved', 'x', '{}', $3, 't')",
            new_id(),
            worse,
            shown.now - hour,
        )
    page = await shown.read()
    assert [one.status for one in page.components] == ["degraded_performance", "operational"]
    assert [one.updated_at for one in page.components] == [shown.now - hour] * 2
    assert page.components[0].days[-1].status == "major_outage"


async def test_a_component_that_nothing_was_said_of_is_as_old_as_it_is(shown: Shown) -> None:
    page = await shown.read()
    assert [one.updated_at for one in page.components] == [one.created_at for one in page.components]


def beat(**more: Any) -> dict[str, Any]:
    return {"type": "http", "url": "https://x.example/", **more}


async def test_latency_is_shown_of_beats_that_are_public_and_of_no_others(shown: Shown) -> None:
    hidden = await shown.make("beat", "hidden", **beat(components={"a": {}}))
    public = await shown.make("beat", "public", **beat(name="Checkout", public=True, components={"a": {}}))
    elsewhere = await shown.make("beat", "elsewhere", **beat(public=True))
    for one in (hidden, public, elsewhere):
        await shown.run(one, 0.1, 0.2, 9.0)
    found = await shown.latency()
    assert found["b"] == []
    (series,) = found["a"]
    assert (series.name, len(series.p50), series.step_s) == ("Checkout", reading.HOURS, 3600)
    assert [value for value in series.p50 if value is not None] == [pytest.approx(0.2, rel=0.02)]
    assert all(value is None or value < 9.5 for value in series.p95)
    # What is hidden again is so at once, not when it is next measured.
    async with transaction(shown.server.services.pool) as db:
        now = await objects.find(db, "beat", "public", pages=[shown.page.id])
        await objects.replace(db, ACTOR, now, now.spec | {"public": False})
    assert (await shown.latency())["a"] == []


async def test_latency_is_shown_through_groups_and_across_pages(shown: Shown) -> None:
    other = await shown.make("page", f"o{shown.slug}", name="Other")
    await shown.make("group", "front", components={"b": {}})
    member = await shown.make("beat", "member", **beat(public=True, group="front"))
    cross = await shown.make("beat", "cross", other, **beat(public=True, components={f"{shown.slug}/a": {}}))
    same_name = await shown.make("beat", "same", other, **beat(public=True, components={"a": {}}))
    for one in (member, cross, same_name):
        await shown.run(one, 0.1)
    found = await shown.latency()
    assert {slug: [one.name for one in series] for slug, series in found.items()} == {
        "a": ["cross"],
        "b": ["member"],
    }


async def test_latency_is_whole_before_and_after_runs_are_rolled_up(shown: Shown) -> None:
    public = await shown.make("beat", "public", **beat(public=True, components={"a": {}}))
    await shown.run(public, 0.1, 0.1, 0.1)
    before = (await shown.latency())["a"][0]
    await rollups.roll(shown.server.services.pool)
    shown.clock.ahead_s += reading.MEASURED_S
    after = (await shown.latency())["a"][0]
    assert after.p50[-2:] == before.p50[-2:] or after.since != before.since
    assert [value for value in after.p50 if value is not None] == [pytest.approx(0.1, rel=0.02)]


async def test_what_was_about_an_unlisted_component_stays_unsaid_when_that_is_removed(shown: Shown) -> None:
    hidden = shown.parts["h"] = await shown.make("component", "h", name="Inner", listed=False)
    hour = timedelta(hours=1)
    incident = await shown.tell(hour, (hour, "investigating", {"h": "major_outage"}))
    async with transaction(shown.server.services.pool) as db:
        await db.execute("UPDATE incidents SET named = $2 WHERE id = $1", incident, [hidden.id])
    assert (await shown.read()).incidents == []
    async with transaction(shown.server.services.pool) as db:
        await objects.remove(db, ACTOR, hidden)
    assert (await shown.read()).incidents == []


async def test_a_page_is_the_same_while_nothing_happens_though_time_goes_on(shown: Shown) -> None:
    hour = timedelta(hours=1)
    await shown.tell(days(9), (days(9), "investigating", DOWN), (days(9) - hour, "resolved", {}))
    await shown.tell(hour, (hour, "investigating", DOWN))
    begin = -shown.clock.epoch_s() % 60 + 1
    shown.clock.ahead_s = begin
    first = await shown.read()
    shown.clock.ahead_s = begin + 30
    again = await shown.read()
    assert replace(again, at=first.at) == first
    shown.clock.ahead_s = begin + 60
    later = await shown.read()
    assert replace(later, at=first.at) != first  # the share of the time that it was up
    assert [one.date for one in later.components[0].days][-1] == later.at.date().isoformat()


async def test_what_was_just_said_is_seen_in_the_days_at_once(shown: Shown) -> None:
    assert (await shown.read()).components[0].days[-1].status == "operational"
    await shown.tell(timedelta(0), (timedelta(0), "investigating", DOWN))
    shown.clock.ahead_s = 0.5
    assert (await shown.read()).components[0].days[-1].status == "major_outage"


async def test_a_reader_remembers_the_pages_that_were_read_last(
    server: "Server", shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_PAGES", 2)
    pages = [shown, *[await Shown(server).begin() for _ in range(3)]]
    for one in pages:
        await shown.reader.page(one.slug)
        await shown.read()
    assert set(shown.reader.pages) == {pages[-1].page.id, shown.page.id}
