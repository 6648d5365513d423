"""Episodes through the API: who looks at what, what was said, who was told; and how channels are doing."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, outbox, people, reviews, targets
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from evaluators.facts import EpisodeClosed, EpisodeOpened
from evaluators.model import Notice

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("t", "api")
Do = Callable[..., Awaitable[Any]]


@pytest.fixture
async def beat(server: "Server") -> Stored:
    slug = f"b-{new_id().hex[-8:]}"
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        hook = {"slug": f"c-{slug}", "type": "webhook", "url": "http://x.example/"}
        await objects.create(db, ACTOR, "channel", page.id, hook)
        spec = {"slug": slug, "name": "Cart", "type": "tcp", "host": "x.example", "port": 1}
        made = await objects.create(db, ACTOR, "beat", page.id, spec | {"channels": [f"c-{slug}"]})
        at = server.services.clock.epoch_s()
        await reviews.open_episodes(db, [(made, EpisodeOpened(at, 1, "critical"))])
    return made


@pytest.fixture
def do(server: "Server", beat: Stored) -> Do:
    """Do something with the episode of `beat`."""
    path = f"/api/v1/episodes/{show('episode', reviews.episode_id(beat.id, 1))}"

    async def do(verb: str = "", body: Any = None, who: str = "reviewer") -> Any:
        return await server.call("POST" if verb else "GET", f"{path}/{verb}".rstrip("/"), body, who=who)

    return do


async def _told(server: "Server", beat: Stored) -> list[tuple[str, str, str]]:
    async with server.services.pool.acquire() as db:
        rows = await db.fetch("SELECT item FROM outbox WHERE item->>'beat' = $1 ORDER BY id", beat.slug)
    return [(row["item"]["told"], row["item"]["title"], row["item"]["by"]) for row in rows]


async def _somebody(server: "Server") -> str:
    email = f"{new_id().hex[-8:]}@shop.example"
    async with transaction(server.services.pool) as db:
        await people.create_user(db, ACTOR, email, "Somebody", {None: "viewer"})
    return email


async def test_a_second_acknowledgement_shows_who_was_first(server: "Server", beat: Stored, do: Do) -> None:
    first = await do("acknowledge")
    assert (first.status, first.body["acknowledged_by"]) == (200, who := first.body["notes"][0]["by"])
    second = await do("acknowledge", who="editor")
    assert (second.status, second.body) == (200, first.body)
    assert await _told(server, beat) == [("acknowledged", f"{who} acknowledged Cart", who)]
    (newest, *_) = (await server.call("GET", "/api/v1/audit", who="admin")).body["items"]
    assert (newest["verb"], newest["object"], newest["actor"]) == (
        "episode.acknowledge",
        first.body["id"],
        who,
    )
    undone = await do("unacknowledge")
    assert undone.body["acknowledged_at"] is None
    assert [note["kind"] for note in undone.body["notes"]] == ["acknowledged", "unacknowledged"]


async def test_what_people_do_is_noted_and_told_under_the_episode(
    server: "Server", beat: Stored, do: Do
) -> None:
    email = await _somebody(server)
    assert (await do("comment", {"text": "the disk is full"})).status == 200
    assert (await do("assign", {"to": email})).body["assignee"] == email
    assert (await do("escalate", {"text": "we need help"})).body["escalated_at"] is not None
    assert (await do("snooze", {"for": "2h"})).body["snoozed_until"] is not None
    assert (await do("snooze", {"for": None})).body["snoozed_until"] is None
    whole = (await do("assign", {"to": None})).body
    assert [(note["kind"], note["text"]) for note in whole["notes"]] == [
        ("comment", "the disk is full"),
        ("assigned", email),
        ("escalated", "we need help"),
        ("snoozed", "for 2h"),
        ("snoozed", ""),
        ("assigned", ""),
    ]
    told = [told for told, _, _ in await _told(server, beat)]
    assert told == ["comment", "assigned", "escalation", "snoozed", "snoozed", "assigned"]
    async with server.services.pool.acquire() as db:
        lines = await db.fetch(
            "SELECT DISTINCT line, item->>'episode' AS e FROM outbox WHERE line = $1", whole["id"]
        )
    assert [tuple(row) for row in lines] == [(whole["id"], whole["id"])]


async def test_it_is_given_only_to_who_may_look_at_it(server: "Server", beat: Stored, do: Do) -> None:
    email, gone = await _somebody(server), f"{new_id().hex[-8:]}@shop.example"
    async with transaction(server.services.pool) as db:
        blog = await objects.find(db, "page", "blog")
        await people.create_user(db, ACTOR, gone, "Elsewhere", {blog.id: "admin"})
    assert (await do("assign", {"to": email.upper()})).body["assignee"] == email
    assert (await do("assign", {"to": gone})).status == 422
    assert (await do("assign", {"to": email})).status == 200  # again: nothing new is told
    assert [told for told, _, _ in await _told(server, beat)] == ["assigned"]
    page = await server.call("GET", f"/console/episodes/{show('episode', reviews.episode_id(beat.id, 1))}")
    assert gone not in str(page.body)


async def test_lists_are_of_a_state_or_of_somebody(server: "Server", do: Do) -> None:
    me = (await do("acknowledge")).body

    async def listed(query: str, who: str = "reviewer") -> list[str]:
        found = await server.call("GET", f"/api/v1/episodes?{query}", who=who)
        return [item["id"] for item in found.body["items"]]

    assert me["id"] in await listed("state=acknowledged")
    assert me["id"] not in await listed("state=unacknowledged")
    await do("snooze", {"for": "1h"})
    assert me["id"] in await listed("state=snoozed")
    email = await _somebody(server)
    await do("assign", {"to": email})
    assert me["id"] in await listed(f"assignee={email}")
    assert me["id"] not in await listed("assignee=nobody@x.example")


@pytest.mark.parametrize(
    ("verb", "body", "said"),
    [
        ("comment", {}, "/text"),
        ("comment", {"text": ""}, "/text"),
        ("assign", {}, "/to"),
        ("assign", {"to": "nobody@x.example"}, "/to: there is no user 'nobody@x.example' of this page"),
        ("snooze", {}, "/for"),
        ("snooze", {"for": "8d"}, "/for: '8d' is out of range"),
        ("snooze", {"for": "soon"}, "/for: 'soon' is not a duration"),
    ],
)
async def test_what_cannot_be_done_says_why(do: Do, verb: str, body: Any, said: str) -> None:
    answer = await do(verb, body)
    assert answer.status == 422
    assert said in answer.body["detail"]


async def test_one_that_is_over_can_still_be_commented(server: "Server", beat: Stored, do: Do) -> None:
    async with transaction(server.services.pool) as db:
        closed = EpisodeClosed(server.services.clock.epoch_s(), 1, "recovered")
        await reviews.close_episode(db, beat.id, closed)
    for verb, body in (("acknowledge", None), ("escalate", {}), ("snooze", {"for": "1h"})):
        assert (await do(verb, body)).status == 409
    assert (await do("comment", {"text": "why was it?"})).status == 200


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("reader", 403), ("other", 404)])
async def test_only_a_reviewer_of_its_page_works_on_it(do: Do, who: str, status: int) -> None:
    for verb, body in (("acknowledge", None), ("comment", {"text": "x"}), ("assign", {"to": None})):
        assert (await do(verb, body, who)).status == status
    assert (await do(who=who)).status == (404 if who == "other" else 200)


async def test_a_channel_shows_its_health_and_sends_its_dead_letters_again(
    server: "Server", beat: Stored
) -> None:
    path = f"/api/v1/channels/c-{beat.slug}"
    assert (await server.call("GET", f"{path}/health", who="viewer")).body["state"] == "new"
    async with transaction(server.services.pool) as db:
        channel = await objects.find(db, "channel", f"c-{beat.slug}")
        for key in ("one", "two"):
            await outbox.put(db, [channel.id], key, f"{key} {channel.id}", Notice(key, "open", key, 1.0))
        for row in await db.fetch("SELECT id FROM outbox WHERE target_id = $1", channel.id):
            await outbox.failed(db, row["id"], "HTTP 410", None)
        await targets.ill(db, channel.id, 1.0, "HTTP 410", is_gone=True)
    health = (await server.call("GET", f"{path}/health", who="viewer")).body
    assert (health["state"], health["dead"], health["error"]) == ("stopped", 2, "HTTP 410")
    assert (await server.call("POST", f"{path}/replay-dead", who="viewer")).status == 403
    assert (await server.call("POST", f"{path}/replay-dead", who="editor")).body == {"replayed": 2}
    health = (await server.call("GET", f"{path}/health", who="viewer")).body
    assert (health["state"], health["dead"], health["pending"]) == ("failing", 0, 2)


async def test_who_wants_to_know_is_told_what_is_done_to_beats(server: "Server") -> None:
    slug = new_id().hex[-8:]
    hook = {"slug": f"c-{slug}", "page": "shop", "type": "webhook", "url": "http://x.example/"}
    await server.call("POST", "/api/v1/channels", hook | {"on": ["beat"], "everything": True}, who="editor")
    spec = {"slug": slug, "page": "shop", "type": "tcp", "host": "x.example", "port": 1}
    assert (await server.call("POST", "/api/v1/beats", spec, who="editor")).status == 201
    path = f"/api/v1/beats/{slug}?page=shop"
    assert (await server.call("PATCH", path, {"port": 2}, who="editor")).status == 200
    for verb in ("pause", "resume"):
        assert (
            await server.call("POST", f"/api/v1/beats/{slug}/{verb}?page=shop", {}, who="editor")
        ).status == 200
    assert (await server.call("DELETE", path, who="editor")).status == 204
    async with server.services.pool.acquire() as db:
        rows = await db.fetch("SELECT item FROM outbox WHERE item->>'beat' = $1 ORDER BY id", slug)
    assert [row["item"]["why"][0] for row in rows] == ["created", "updated", "paused", "unpaused", "deleted"]
    await server.call("DELETE", f"/api/v1/channels/c-{slug}?page=shop", who="editor")
