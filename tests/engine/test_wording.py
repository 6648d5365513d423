"""What customers read, from events and runs on a real PostgreSQL and NATS: by whose template, anew when it says something else, never not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from engine.listening import keep_listening
from engine.store import inboxes, triggers
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.inboxes import Delivery
from engine.triggering import Triggering
from rules.trigger import Trigger
from tests.engine.world import ACTOR, World, evaluated, made

OPEN = {"text": "{{ name }} fails in {{ regions|join(' and ') }}: {{ evidence }}."}
AUTO = {"open": "auto", "update": "auto", "resolve": "auto"}


@pytest.fixture
async def world(database_url: str, nats_url: str) -> AsyncIterator[World]:
    async with made(database_url, nats_url) as world, evaluated(world):
        yield world


@pytest.fixture
async def inbox(world: World) -> AsyncIterator[None]:
    await world.declare("inbox", "in")
    worker = Triggering(world.pool, world.bus, holder="one")
    tasks = [asyncio.create_task(keep_listening(world.pool)), asyncio.create_task(worker.run())]
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def said(world: World) -> list[tuple[str, int, str]]:
    rows = await world.pool.fetch("SELECT step, revision, text FROM actions ORDER BY created_at, id")
    return [(row["step"], row["revision"], row["text"]) for row in rows]


async def becomes(world: World, *expected: tuple[str, int, str]) -> None:
    async def is_so() -> bool:
        return await said(world) == list(expected)

    try:
        await world.until(is_so)
    except TimeoutError:
        assert await said(world) == list(expected)


async def votes(world: World, slug: str, region: str) -> bool:
    """Whether that region says that it is down."""
    return (await world.state(slug)).regions[region].vote.verdict == "critical"


async def post(world: World, **body: str) -> None:
    now = world.clock.epoch_s()
    sent = Delivery(new_id(), world.declared["in"].id, now, "192.0.2.1", [], "", msgspec.json.encode(body))
    async with transaction(world.pool) as connection:
        await inboxes.put(connection, [sent])
    for number in inboxes.partitions([sent.inbox_id]):
        await world.bus.announce(f"{inboxes.SUBJECT}.{number}", str(number).encode())


async def trigger(world: World, **spec: Any) -> None:
    rule: dict[str, Any] = {
        "inbox": "in",
        "enabled": True,
        "critical": {"value": "$.state", "eq": "down"},
        "recovery": {"value": "$.state", "eq": "up"},
        "fingerprint": "{$.host}",
        "message": "{$.secret}",
        "values": {"city": "$.city", "secret": "$.secret"},
        "publish": ["city"],
        **spec,
    }
    async with transaction(world.pool) as connection:
        target = Trigger.model_validate({"slug": "t", **rule}).target
        await triggers.expect_target(connection, ACTOR, world.page.id, target)
    await world.declare("trigger", "t", **rule)


async def test_a_region_that_joins_changes_what_a_template_says_and_the_draft_is_told_again(
    world: World,
) -> None:
    await world.beat("shop", name="Shop", templates={"open": OPEN}, channels=["ops"])
    await world.well("shop")
    world.down |= {"shop@eu", "shop@us"}
    await world.look("shop", times=2)
    await becomes(world, ("open", 1, "Shop fails in eu and us: no connection."))
    world.down.add("shop@ap")
    await world.look("shop", times=2)
    await becomes(world, ("open", 2, "Shop fails in ap and eu and us: no connection."))
    drafts = await world.pool.fetch(
        "SELECT item->>'revision' AS revision FROM outbox WHERE item->>'told' = 'draft' ORDER BY id"
    )
    assert [row["revision"] for row in drafts] == ["1", "2"]


async def test_default_words_are_not_revised_by_a_region_that_joins(world: World) -> None:
    await world.beat("shop", name="Shop")
    await world.well("shop")
    world.down |= {"shop@eu", "shop@us"}
    await world.look("shop", times=2)
    words = "Shop is currently unavailable or failing for some customers. We are investigating."
    await becomes(world, ("open", 1, words))
    world.down.add("shop@ap")
    await world.look("shop", times=2)
    await world.until(lambda: votes(world, "shop", "ap"))
    assert await said(world) == [("open", 1, words)]


async def test_what_a_person_wrote_is_not_worded_anew(world: World) -> None:
    await world.beat("shop", name="Shop", templates={"open": OPEN})
    await world.well("shop")
    world.down |= {"shop@eu", "shop@us"}
    await world.look("shop", times=2)
    await becomes(world, ("open", 1, "Shop fails in eu and us: no connection."))
    await world.pool.execute("UPDATE actions SET text = 'Mine.', original = '{}'")
    world.down.add("shop@ap")
    await world.look("shop", times=2)
    await world.until(lambda: votes(world, "shop", "ap"))
    assert await said(world) == [("open", 1, "Mine.")]


async def test_a_trigger_speaks_where_only_its_signal_says_so_and_shows_what_it_lists(
    world: World, inbox: None
) -> None:
    await world.beat("shop", name="Shop", templates={"open": OPEN})
    await trigger(
        world,
        target={"beat": "shop"},
        templates={
            "open": {"text": "Trouble in {{ captures.city|default('some places') }}, says {{ evidence }}."}
        },
    )
    await world.well("shop")
    await post(world, host="a", state="down", city="Aachen\n{{ 7*7 }}" + "x" * 300, secret="s3cret")
    city = ("Aachen {{ 7*7 }}" + "x" * 300)[:200]
    await becomes(world, ("open", 1, f"Trouble in {city}, says it was reported to us."))
    stored = await world.pool.fetchval("SELECT string_agg(evidence::text, '') FROM signals")
    assert '"captures"' in stored
    world.down.add("shop")
    await world.look("shop", times=2)  # now the beat says so, too
    await becomes(world, ("open", 2, "Shop fails in ap and eu and us: no connection, it was reported to us."))


async def test_another_capture_is_another_revision(world: World, inbox: None) -> None:
    await trigger(
        world,
        target={"external": "ext"},
        critical={"value": "$.state", "eq": "down"},
        templates={"open": {"text": "Trouble in {{ captures.city }}."}},
    )
    await post(world, host="b", state="down", city="Bonn")
    await becomes(world, ("open", 1, "Trouble in Bonn."))
    await post(world, host="a", state="down", city="Aachen")
    await post(world, host="b", state="up")
    await becomes(world, ("open", 2, "Trouble in Aachen."))


async def test_an_end_says_where_it_was_and_whose_words_count(world: World) -> None:
    await world.change_page(
        templates={
            "open": {"title": "{{ page.name }}: {{ what }}", "text": "page"},
            "resolve": {"text": "**{{ what }}** is well in {{ regions|join(', ') }}.", "format": "markdown"},
        }
    )
    await world.declare("component", "web", name="*Web*")
    await world.beat("shop", templates={"open": {"text": "beat"}}, incidents=AUTO, components=["web"])
    await world.well("shop")
    world.down.add("shop")
    await world.look("shop", times=2)
    await becomes(world, ("open", 1, "beat"))
    world.down.clear()
    await world.look("shop", times=3)
    await becomes(world, ("open", 1, "beat"), ("resolve", 1, "**\\*Web\\*** is well in ap, eu, us."))
    incident = await world.pool.fetchrow("SELECT title, status FROM incidents")
    assert tuple(incident or ()) == ("P: *Web*", "resolved")
    updates = await world.pool.fetch("SELECT is_markdown FROM updates ORDER BY at")
    assert [row["is_markdown"] for row in updates] == [False, True]


@pytest.mark.parametrize(
    ("template", "budget_s", "warning"),
    [
        ("{{ 7*7 }}", 60.0, "the text is not that of the beat's template: line 1: arithmetic is not allowed"),
        ("{{ what|round }}", 60.0, "the text is not that of the beat's template: could not convert"),
        ("{{ captures.nothing }}", 60.0, "the text is not that of the beat's template: it says nothing"),
        ("{{ what }}", -1.0, "the text is not that of the beat's template: it takes too long"),
    ],
)
async def test_a_bad_template_gives_way_to_the_default_words_with_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch, template: str, budget_s: float, warning: str
) -> None:
    monkeypatch.setattr("engine.store.wording.RENDERING_S", budget_s)
    await world.beat("shop", name="Shop", templates={"open": {"text": template}}, incidents=AUTO)
    await world.well("shop")
    world.down.add("shop")
    await world.look("shop", times=2)
    await becomes(
        world,
        ("open", 1, "Shop is currently unavailable or failing for some customers. We are investigating."),
    )
    (found,) = await world.pool.fetchval("SELECT warnings FROM actions")
    assert found.startswith(warning)
    assert await world.pool.fetchval("SELECT status FROM incidents") == "investigating"


async def test_threads_that_are_held_up_hold_up_no_incident(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.wording.WAITING_S", 0.0)
    await world.beat("shop", name="Shop", templates={"open": {"text": "{{ what }}"}}, incidents=AUTO)
    await world.well("shop")
    world.down.add("shop")
    await world.look("shop", times=2)
    await becomes(
        world,
        ("open", 1, "Shop is currently unavailable or failing for some customers. We are investigating."),
    )
    (found,) = await world.pool.fetchval("SELECT warnings FROM actions")
    assert found == "no thread could render its templates within 0 s"


async def test_captures_of_runs_are_shown_where_the_beat_lists_them(world: World) -> None:
    step = {
        "name": "a",
        "url": "http://shop.example/",
        "capture": {"city": {"json": "$.c"}, "x": {"json": "$.x"}},
    }
    await world.declare(
        "beat",
        "shop",
        type="http",
        steps=[step],
        publish=["city"],
        templates={"open": {"text": "{{ captures.city }}{{ captures.x }}"}},
        quorum={"confirm": "off", "consecutive": {"open": 1, "close": 1}},
    )
    await world.well("shop")
    world.down.add("shop")
    for region in ("ap", "eu", "us"):
        await world.publish([world.result("shop", region, evidence={"published": {"city": "Aachen"}})])
    await becomes(world, ("open", 1, "Aachen"))
