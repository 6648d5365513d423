"""A running Upbeat: a reload leaves what is untouched alone, a bad file changes nothing, no network is no outage."""

import asyncio
import contextlib
import itertools
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from tests.e2e.conftest import document, http, serving
from tests.rig.process import Upbeat, fresh_folder, until
from tests.rig.story import Target, World
from tests.rig.targets import Receiver, StreamTarget

NAMES = ("kept", "edited", "removed")


def beats(targets: Mapping[str, Target]) -> dict[str, str]:
    return {name: http(name, targets[name].port) for name in NAMES}


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    targets: dict[str, Target] = {name: StreamTarget() for name in NAMES}
    async with serving(targets, beats) as world:
        yield world


async def scheduled(world: World, beat: str) -> dict[str, list[float]]:
    """By region, when its latest runs were due, seconds since the epoch."""
    due: dict[str, list[float]] = {}
    for row in await world.upbeat.items(f"/beats/{beat}/results?limit=60"):
        if row["kind"] == "scheduled":
            at = datetime.fromisoformat(row["scheduled_at"]).timestamp()
            due.setdefault(row["region"], []).append(at)
    return due


async def test_a_reload_changes_what_changed_and_does_not_make_the_rest_jump(world: World) -> None:
    await world.play("\n".join(f"by 15  {name} is ok" for name in NAMES))
    config = world.upbeat.config
    assert config is not None
    wanted = beats(world.targets)
    del wanted["removed"]
    wanted["edited"] = wanted["edited"].replace("slug: edited", "slug: edited, name: Edited")
    wanted["added"] = http("added", world.targets["kept"].port)
    config.write_text(document(world.receiver.url, wanted), "utf-8")
    await asyncio.sleep(1.5)
    world.upbeat.reload()
    await world.play("by 10  added is ok")
    assert (await world.upbeat.call("GET", "/beats/removed"))[0] == 404
    assert (await world.upbeat.get("/beats/edited"))["name"] == "Edited"
    await asyncio.sleep(3)
    for region, due in (await scheduled(world, "kept")).items():
        # The oldest is the first run of all: the second one falls into phase.
        steps = [later - earlier for later, earlier in itertools.pairwise(due[:-1])]
        assert all(abs(step - 1.0) < 0.2 for step in steps), (region, steps)
        assert len(steps) > 2


async def test_a_saved_file_is_applied_without_being_asked(world: World) -> None:
    config = world.upbeat.config
    assert config is not None
    config.write_text(
        config.read_text("utf-8").replace("slug: kept,", "slug: kept, description: Saved,"), "utf-8"
    )

    async def renamed() -> bool:
        return bool((await world.upbeat.get("/beats/kept")).get("description") == "Saved")

    await until(renamed, "the saved file is applied", 5.0)


async def test_a_bad_file_keeps_what_runs_and_says_what_is_wrong(world: World) -> None:
    config = world.upbeat.config
    assert config is not None
    good = config.read_text("utf-8")
    config.write_text(good.replace("type: http", "type: htp"), "utf-8")
    world.upbeat.reload()

    async def said() -> bool:
        return "is not applied" in world.upbeat.log.read_text("utf-8")

    await until(said, "the bad file is refused")
    assert "htp" in world.upbeat.last_words()
    await world.play("""
        by 15  kept is ok
        then   kept refuses
        by 12  kept is critical
        then   kept answers
        by 12  kept is ok
    """)
    config.write_text(good, "utf-8")


# ---- the network is gone


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace joined to ours by a pair of interfaces: 10.213.7.1 here, 10.213.7.2 there."""
    name, near, far = f"upbeat-{os.getpid()}", f"ub{os.getpid() % 100000}a", f"ub{os.getpid() % 100000}b"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as refused:
        pytest.skip(f"no network namespaces here: {refused}")
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", "10.213.7.1/24", "dev", near)
        ip("link", "set", near, "up")
        for words in (
            ["addr", "add", "10.213.7.2/24", "dev", far],
            ["link", "set", far, "up"],
            ["link", "set", "lo", "up"],
        ):
            ip("-n", name, *words)
        yield f"{name}/{far}"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", near)
        ip("netns", "del", name)


async def test_all_regions_losing_the_network_is_error_and_no_outage(namespace: str) -> None:
    name, _, interface = namespace.partition("/")
    with fresh_folder() as folder:
        async with Receiver() as receiver:
            target = StreamTarget()
            target.host = "10.213.7.1"
            async with target:
                beat = f'{{slug: far, type: http, url: "http://10.213.7.1:{target.port}/"}}'
                config = folder / "upbeat.yaml"
                config.write_text(document(receiver.url, {"far": beat}), "utf-8")
                prefix = ("ip", "netns", "exec", name)
                async with Upbeat(folder / "data", config, prefix=prefix, host="10.213.7.2") as upbeat:
                    await upbeat.start()
                    world = World(upbeat, {"far": target}, receiver, {})
                    await world.play("by 15  far is ok")
                    database = await asyncpg.connect(
                        host=str(folder / "data" / "run"), user="upbeat", database="upbeat"
                    )
                    try:
                        ip("-n", name, "link", "set", interface, "down")
                        await until(lambda: _errors(database, 9), "every region errs", 30)
                        assert await database.fetchval("SELECT count(*) FROM episodes") == 0
                        assert await database.fetchval("SELECT stage FROM states") in ("ok", "unknown")
                        ip("-n", name, "link", "set", interface, "up")
                        await world.play("by 15  far is ok")
                        assert await database.fetchval("SELECT count(*) FROM episodes") == 0
                    finally:
                        await database.close()


async def _errors(database: "asyncpg.Connection[Any]", least: int) -> bool:
    rows = await database.fetch(
        "SELECT region, count(*) AS n, min(failure_type) AS type FROM results WHERE verdict = 'error' GROUP BY region"
    )
    assert await database.fetchval("SELECT count(*) FROM results WHERE verdict = 'critical'") == 0
    assert all(row["type"] == "probe.no_route" for row in rows), [dict(row) for row in rows]
    return len(rows) == 3 and all(row["n"] >= least // 3 for row in rows)
