"""The roles split over five processes against one PostgreSQL and NATS: it works, and a part that dies does no harm."""

import contextlib
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from tests.e2e.conftest import AUTO, document, http
from tests.rig.installation import Installation, connect, send, split
from tests.rig.process import fresh_folder, until
from tests.rig.story import Target, World
from tests.rig.targets import Receiver, StreamTarget


class Split(World):
    """A world of several processes."""

    installation: Installation


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[Split]:
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(fresh_folder())
        receiver = await stack.enter_async_context(Receiver())
        targets: dict[str, Target] = {
            name: await stack.enter_async_context(StreamTarget()) for name in ("web", "other")
        }
        beats = {name: http(name, target.port, AUTO) for name, target in targets.items()}
        installation = await stack.enter_async_context(split(folder, document(receiver.url, beats)))
        made = Split(installation.front, targets, receiver, {})
        made.installation = installation
        await made.play("by 30  web is ok\nby 30  other is ok")
        yield made


async def test_an_outage_is_seen_told_and_resolved_over_process_borders(world: Split) -> None:
    await world.play("""
        then     web refuses
        0.2..12  web is critical
        by 14    incidents of web: investigating
        then     web answers
        1..12    web is ok
        by 14    incidents of web: resolved
        by 16    told of web: open, recovery
    """)


async def test_a_killed_probe_makes_its_region_stale_and_two_of_three_still_decide(world: Split) -> None:
    world.installation.processes["probe-eu"].kill()
    await world.play("""
        by 12    votes of web: ap ok, eu stale, us ok
        by 12    web is ok
        then     web refuses
        0.2..12  web is critical
        then     web answers
        1..12    web is ok
    """)
    world.installation.processes["probe-eu"].launch()
    await world.play("by 20  votes of web: ap ok, eu ok, us ok")


async def test_too_few_regions_are_unknown_and_open_nothing(world: Split) -> None:
    world.installation.processes["probe-rest"].kill()
    await world.play("""
        by 12    other is unknown
        by 14    told of other: unknown
        then     other refuses
        to 3     other is unknown           # one region alone decides nothing
        then     other answers
        by 2     episodes of other: none
    """)
    world.installation.processes["probe-rest"].launch()
    await world.play("""
        by 20    other is ok
        by 20    episodes of other: none
    """)


async def test_when_an_evaluator_dies_the_other_takes_its_partitions(world: Split) -> None:
    world.installation.processes["evaluator-1"].kill()
    await world.play("""
        then     web refuses
        then     other refuses
        by 25    web is critical             # within the time to live of a lease, and the outage's own time
        by 25    other is critical
        then     web answers
        then     other answers
        by 15    web is ok
        by 15    other is ok
    """)
    world.installation.processes["evaluator-1"].launch()


async def test_a_bus_that_dies_with_all_its_data_loses_no_result(world: Split) -> None:
    pid = world.installation.server("nats")
    send([pid], signal.SIGSTOP)
    shutil.rmtree(world.installation.servers / "nats" / "jetstream")
    send([pid], signal.SIGKILL)
    database = await connect(world.installation)

    async def no_hole() -> bool:
        rows = await database.fetch(
            "SELECT boot_id, count(DISTINCT seq) AS have, max(seq) AS want FROM results "
            "WHERE boot_id IN (SELECT DISTINCT boot_id FROM results WHERE seen_at > now() - interval '3 s') GROUP BY 1"
        )
        return len(rows) == 2 and all(row["have"] == row["want"] for row in rows)

    try:
        await until(no_hole, "every run of both probes is stored", 30)
    finally:
        await database.close()
    await world.play("""
        by 10    web is ok
        then     web refuses
        by 15    web is critical
        then     web answers
        by 15    web is ok
    """)
