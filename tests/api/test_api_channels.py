"""A channel tested before it is saved, and deliveries of one channel."""

from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, outbox
from evaluators.model import Notice

if TYPE_CHECKING:
    from tests.api.conftest import Server

TEST = "/api/v1/channels/test"
HOOK: dict[str, Any] = {"slug": "trial", "type": "discord", "url": "https://discord.example/api/webhooks/1/t"}


async def test_a_channel_is_tested_before_it_is_saved(server: "Server") -> None:
    answer = await server.call("POST", TEST, HOOK | {"page": "shop"}, who="editor")
    assert (answer.status, answer.body) == (200, {"outcome": "rejected", "reason": "trial said HTTP 410"})
    assert (await server.call("GET", "/api/v1/channels/trial", who="editor")).status == 404
    line = (await server.call("GET", "/api/v1/audit?limit=1")).body["items"][0]
    assert (line["verb"], line["object"]) == ("channel.test", "trial")


@pytest.mark.parametrize(
    ("who", "document", "status", "pointer"),
    [
        ("viewer", {"page": "shop"}, 403, None),
        ("reader", {"page": "shop"}, 403, None),
        ("editor", {"page": "blog"}, 422, "/page"),
        ("editor", {"type": "nothing"}, 422, "/type"),
        ("editor", {"url": "nowhere"}, 422, "/url"),
        ("editor", {"url": "${env:HOME}"}, 422, "/url"),
        ("editor", {"url": "${file:/etc/passwd}"}, 422, "/url"),
        ("editor", {"url": "${secret:/OF_ALL}"}, 422, "/url"),
        ("editor", {"url": "${secret:NOT_STORED}"}, 422, "/url"),
        ("editor", {"type": "apprise", "url": None, "urls": ["mailto://a@b.example"]}, 422, "/urls/0"),
    ],
)
async def test_it_is_refused_as_saving_it_would_be(
    server: "Server", who: str, document: dict[str, Any], status: int, pointer: str | None
) -> None:
    sent = {key: value for key, value in (HOOK | document).items() if value is not None}
    tested = await server.call("POST", TEST, sent, who=who)
    saved = await server.call("POST", "/api/v1/channels", sent, who=who)
    assert (tested.status, saved.status) == (status, status)
    if pointer is not None:
        assert tested.body["errors"] == saved.body["errors"]
        assert tested.body["errors"][0]["pointer"] == pointer


async def test_deliveries_of_one_channel_are_listed(server: "Server") -> None:
    for slug in ("first", "second"):
        made = HOOK | {"slug": f"listed-{slug}", "page": "shop"}
        assert (await server.call("POST", "/api/v1/channels", made, who="editor")).status == 201
        async with server.services.pool.acquire() as db:
            channel = await objects.find(db, "channel", f"listed-{slug}")
            await outbox.put(db, [channel.id], slug, slug, Notice(slug, "open", f"{slug} is down", 1.0))
    listed = (await server.call("GET", "/api/v1/deliveries?channel=listed-first", who="viewer")).body["items"]
    assert [item["title"] for item in listed] == ["first is down"]
    assert (await server.call("GET", "/api/v1/deliveries?channel=none", who="viewer")).status == 404
