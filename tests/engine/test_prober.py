"""The probe role end to end: declared beats, a real target, a real bus, committed results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

from engine.bus import Bus
from engine.clock import SystemClock
from engine.prober import Prober
from engine.probes.context import Context
from engine.secrets import Secrets
from engine.spool import Spool
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import Pool, transaction
from engine.store.ids import derived_id, partition_of
from engine.store.objects import Stored
from evaluators.model import Batch, ConfirmOrder, Kind, Result, Verdict
from rules import known
from rules.address import EgressPolicy
from tests.rig.targets import DnsTarget

ACTOR = Actor("test", "api")
Until = Callable[..., Awaitable[None]]
Running = Callable[[Awaitable[None]], "asyncio.Task[None]"]


class Committer(Protocol):
    """What the fixture gives."""

    results: list[Result]
    batches: list[Batch]

    async def run(self) -> None: ...


@dataclass
class Stand:
    """A page, two regions, a target that accepts connections, and what is committed."""

    pool: Pool
    bus: Bus
    committer: Committer
    running: Running
    page: Stored
    port: int

    async def beat(self, slug: str, **spec: Any) -> Stored:
        given = {"type": "tcp", "host": "127.0.0.1", "port": self.port, "interval": "1s", "timeout": "1s"}
        return await declare(self.pool, "beat", self.page, slug=slug, **{**given, **spec})

    async def prober(self, holder: str = "one", **options: Any) -> Prober:
        clock = SystemClock()
        spool = Spool(self.bus, self.pool, str(uuid4()), clock=clock, poll_s=0.1)
        given = {"holder": holder, "secrets": Secrets({}), "ttl_s": 1.0, "renew_s": 0.1, **options}
        return Prober(self.pool, self.bus, spool, Context(EgressPolicy()), clock, **given)

    def of(self, beat: Stored, **wanted: Any) -> list[Result]:
        return [
            result
            for result in self.committer.results
            if result.beat_id == str(beat.id)
            and all(getattr(result, name) == value for name, value in wanted.items())
        ]


async def declare(pool: Pool, kind: known.Kind, page: Stored | None = None, **spec: Any) -> Stored:
    async with transaction(pool) as connection:
        return await objects.create(connection, ACTOR, kind, page.id if page else None, spec)


@pytest.fixture
async def stand(pool: Pool, bus: Bus, committer: Committer, running: Running) -> AsyncIterator[Stand]:
    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    for slug in ("eu", "us"):
        await declare(pool, "region", slug=slug)
    page = await declare(pool, "page", slug="shop")
    running(committer.run())
    yield Stand(pool, bus, committer, running, page, server.sockets[0].getsockname()[1])
    server.close()


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_good_dns_run_brings_its_answers_where_they_have_changed_and_a_manual_one_always(
    stand: Stand, until: Until
) -> None:
    async with DnsTarget() as server:
        asked = {
            "type": "dns",
            "host": "shop.example",
            "resolver": f"127.0.0.1:{server.port}",
            "regions": ["eu"],
        }
        home = {"slug": "names", "interval": "1s", "timeout": "1s", **asked}
        beat = await declare(stand.pool, "beat", stand.page, **home)
        probing = stand.running((await stand.prober()).run())

        def texts() -> list[str | None]:
            return [
                (one.evidence or {"records": [{"text": None}]})["records"][0]["text"]
                for one in stand.of(beat)
            ]

        await until(lambda: len(texts()) >= 3, 15.0)
        assert texts()[:3] == ["192.0.2.7", None, None]
        server.address = "192.0.2.8"
        await until(lambda: "192.0.2.8" in texts(), 15.0)
        asked_for = ConfirmOrder(str(beat.id), "asked", 1, 0.0, Kind.MANUAL)
        await stand.bus.order("eu", partition_of(beat.id), asked_for)
        await until(lambda: bool(stand.of(beat, kind=Kind.MANUAL)), 15.0)
        assert (stand.of(beat, kind=Kind.MANUAL)[0].evidence or {})["records"][0]["text"] == "192.0.2.8"
        await end(probing)
    assert texts().count("192.0.2.7") == 1


async def test_a_beat_is_run_in_its_regions_in_turn_and_committed(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop")
    probing = stand.running((await stand.prober()).run())
    await until(lambda: all(len(stand.of(beat, region=region)) >= 4 for region in ("eu", "us")), 15.0)
    await end(probing)
    results = stand.of(beat)
    assert {result.verdict for result in results} == {Verdict.OK}
    assert {(result.kind, result.check_version, result.stored) for result in results} == {
        (Kind.SCHEDULED, 1, True)
    }
    assert all(UUID(result.run_id).version == 7 for result in results)
    assert len({result.seq for result in results}) == len(results)
    eu, us = (stand.of(beat, region=region)[-1].scheduled_at for region in ("eu", "us"))
    assert abs((eu - us) % 1.0 - 0.5) < 0.05  # half an interval apart


async def test_what_is_paused_or_removed_runs_no_more_and_what_is_resumed_does(
    stand: Stand, until: Until
) -> None:
    beat, other = await stand.beat("shop"), await stand.beat("other")
    prober = await stand.prober()
    stand.running(prober.run())
    await until(lambda: len(prober.scheduler.entries) == 4)
    async with transaction(stand.pool) as connection:
        await connection.execute(
            "UPDATE states SET paused_until = clock_timestamp() + interval '0.5 s' WHERE subject_id = $1",
            beat.id,
        )
        await connection.execute("UPDATE objects SET updated_at = clock_timestamp() WHERE id = $1", beat.id)
        await objects.remove(connection, ACTOR, other)
    await until(lambda: len(prober.scheduler.entries) == 0)
    await until(lambda: len(prober.scheduler.entries) == 2, 5.0)  # the pause is over
    before = len(stand.of(beat))
    await until(lambda: len(stand.of(beat)) > before)


async def test_an_order_is_run_at_once_and_again_under_derived_ids(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop", interval="1h")
    prober = await stand.prober(regions=["eu"])
    stand.running(prober.run())
    await until(lambda: len(stand.of(beat)) == 1)
    order = ConfirmOrder(str(beat.id), "round-1", 2, 0.2)
    await stand.bus.order("eu", partition_of(beat.id), order)
    await until(lambda: len(stand.of(beat, kind=Kind.CONFIRM)) == 2)
    first, second = stand.of(beat, request="round-1")
    assert [first.run_id, second.run_id] == [str(derived_id("round-1", "eu", n)) for n in range(2)]
    assert second.scheduled_at - first.scheduled_at == pytest.approx(0.2)
    manual = ConfirmOrder(str(beat.id), "by-hand", 1, 0.0, Kind.MANUAL)
    await stand.bus.order("eu", partition_of(beat.id), manual)
    await until(lambda: stand.of(beat, kind=Kind.MANUAL, verdict=Verdict.OK))


async def test_two_probes_that_answer_one_order_make_one_row(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop", interval="1h")
    probers = [await stand.prober(holder, regions=["eu"]) for holder in ("one", "two")]
    for prober in probers:
        stand.running(prober.run())
        await prober.catalog.loaded.wait()
        await stand.bus.orders("eu", partition_of(beat.id), prober._take_order("eu"))  # as if both held it
    await stand.bus.order("eu", partition_of(beat.id), ConfirmOrder(str(beat.id), "round", 1, 0.0))

    def seen() -> list[tuple[str, float, str]]:
        return [
            (batch.boot_id, result.scheduled_at, result.run_id)
            for batch in stand.committer.batches
            for result in batch.results
            if result.request == "round"
        ]

    await until(lambda: len({boot for boot, _, _ in seen()}) == 2)
    assert len({(at, run) for _, at, run in seen()}) == 1


async def test_an_order_over_the_share_of_slots_is_answered_as_dropped(stand: Stand, until: Until) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    beat = await declare(
        stand.pool,
        "beat",
        stand.page,
        slug="hangs",
        type="http",
        url=url,
        interval="1h",
        timeout="1s",
        retries=0,
    )
    prober = await stand.prober(regions=["eu"], slots=5)
    stand.running(prober.run())
    await until(lambda: len(stand.of(beat)) == 1)
    for request in ("one", "two"):
        await stand.bus.order("eu", partition_of(beat.id), ConfirmOrder(str(beat.id), request, 1, 0.0))
    await until(lambda: len(stand.of(beat, kind=Kind.CONFIRM)) == 2)
    (dropped,) = stand.of(beat, request="two")
    assert (dropped.verdict, dropped.stored) == (Verdict.ERROR, False)
    assert dropped.failure is not None
    assert dropped.failure.type == "probe.dropped"
    (made,) = stand.of(beat, request="one")
    assert (made.verdict, made.stored) == (Verdict.CRITICAL, True)
    server.close()


async def test_an_unset_reference_is_the_probes_own_trouble(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop", host="${env:NOT_SET_HERE}")
    stand.running((await stand.prober(regions=["eu"])).run())
    await until(lambda: stand.of(beat))
    result = stand.of(beat)[0]
    assert result.verdict is Verdict.ERROR
    assert result.failure is not None
    assert result.failure.type == "probe.config"
    assert "NOT_SET_HERE" in result.failure.message


async def test_two_probes_share_a_region_and_one_takes_over_from_the_other(
    stand: Stand, until: Until
) -> None:
    for n in range(16):
        await stand.beat(f"beat-{n}", regions=["eu"])
    one, other = await stand.prober("one"), await stand.prober("other")
    first, _ = stand.running(one.run()), stand.running(other.run())
    await until(lambda: [len(leases.held) for probe in (one, other) for leases in probe.leases] == [4] * 4)
    await until(lambda: len(one.scheduler.entries) + len(other.scheduler.entries) == 16)
    assert set(one.scheduler.entries).isdisjoint(other.scheduler.entries)
    await end(first)
    assert one.spool.held == 0  # drained
    await until(lambda: len(other.scheduler.entries) == 16, 5.0)


async def test_a_region_that_comes_is_probed_and_one_that_goes_is_not(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop")
    prober = await stand.prober()
    stand.running(prober.run())
    ap = await declare(stand.pool, "region", slug="ap")
    await until(lambda: stand.of(beat, region="ap"), 15.0)
    async with transaction(stand.pool) as connection:
        await objects.remove(connection, ACTOR, ap)
    await until(lambda: {region for _, region in prober.scheduler.entries} == {"eu", "us"})


async def test_a_region_may_reach_less_than_the_others(stand: Stand, until: Until) -> None:
    beat = await stand.beat("shop")
    await declare(stand.pool, "region", slug="ap", egress={"private": "deny"})
    stand.running((await stand.prober()).run())
    await until(lambda: all(stand.of(beat, region=region) for region in ("eu", "ap")), 15.0)
    refused = stand.of(beat, region="ap")[0]
    assert refused.failure is not None
    assert (refused.failure.type, refused.verdict) == ("egress.refused", Verdict.CRITICAL)
    assert stand.of(beat, region="eu")[0].verdict is Verdict.OK


async def test_equal_parts_of_beats_are_one_object(stand: Stand, until: Until) -> None:
    assertions = [{"of": "body", "matches": "ok"}]
    for n in range(2):
        await stand.beat(f"beat-{n}", type="tcp", interval="1h")
    for n in range(2):
        await declare(
            stand.pool,
            "beat",
            stand.page,
            slug=f"http-{n}",
            type="http",
            url=f"http://127.0.0.1:{stand.port}/{n}",
            interval="1h",
            timeout="1s",
            assertions=assertions,
        )
    prober = await stand.prober(regions=["eu"])
    stand.running(prober.run())
    await prober.catalog.loaded.wait()
    checks = [entry.check for entry in prober.catalog.entries.values() if entry.check is not None]
    assert len({id(check.pace) for check in checks}) == 1
    assert len({id(check.expectations) for check in checks}) == 2
