"""The Discord channel against a server with the rules of Discord's webhooks."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from aiohttp import ClientSession, web
from msgspec.structs import replace

from evaluators.model import Notice, Stage
from exporters.channels.discord import DiscordExporter, payload
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Retry
from tests.rig.services import Discord, served

HOSTILE = "@everyone <@123> <#5> **b** [x](https://evil.example) `c` ||s|| https://evil.example \x00\u202e"


def _memory(outcome: Outcome) -> Memory:
    assert isinstance(outcome, Delivered), outcome
    assert outcome.remote is not None
    return Memory(outcome.remote)


def test_of_what_is_too_long_the_beginning_is_said(notice: Notice) -> None:
    said = payload(replace(notice, why=("short", "x" * 9000, "more")))["embeds"][0][
        "description"
    ].splitlines()
    assert [line[:9] for line in said] == ["short", "x" * 9, "… and mor"]
    assert 3000 < len(said[1]) < 3500


@pytest.mark.parametrize("link", ["http://localhost:8000/console", "http://upbeat/", "http://[::1]:8000/"])
async def test_a_link_that_discord_refuses_is_left_out(
    link: str, session: ClientSession, notice: Notice
) -> None:
    async with served(Discord()) as service:
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t")
        assert isinstance(await exporter.export(replace(notice, link=link)), Delivered)
    assert payload(notice)["embeds"][0]["url"] == "https://upbeat.example/beats/checkout-api"


async def test_the_first_message_of_an_episode_says_how_it_stands(
    session: ClientSession, notice: Notice
) -> None:
    async with served(Discord()) as service:
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t")
        memory = _memory(await exporter.export(notice))
        over = replace(
            notice, told="recovery", title="Checkout API is well", stage=Stage.OK, was=Stage.CRITICAL
        )
        await exporter.export(over, memory)
        messages = [embed["title"] for _, embed in service.messages.values()]
    assert messages == ["🟢 Checkout API is well", "🟢 Checkout API is well"]
    assert [asked.method for asked in service.asked] == ["POST", "PATCH", "POST"]


async def test_in_a_forum_an_episode_is_a_post_and_the_rest_its_replies(
    session: ClientSession, notice: Notice
) -> None:
    async with served(Discord(is_forum=True)) as service:
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t", forum=True)
        memory = _memory(await exporter.export(notice))
        memory = _memory(await exporter.export(replace(notice, told="comment", title="Ann says"), memory))
        memory = _memory(await exporter.export(replace(notice, told="recovery"), memory))
        threads = {thread for thread, _ in service.messages.values()}
        assert (len(threads), len(service.messages)) == (1, 3)
        await exporter.export(replace(notice, episode="epi_other"), memory)
        assert len({thread for thread, _ in service.messages.values()}) == 2


async def test_what_was_removed_by_hand_begins_anew(session: ClientSession, notice: Notice) -> None:
    async with served(Discord(is_forum=True)) as service:
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t", forum=True)
        memory = _memory(await exporter.export(notice))
        service.messages.clear()
        for told in ("recovery", "comment"):
            service.messages.clear()
            again = _memory(await exporter.export(replace(notice, told=told), memory))
            assert again.remote["message"] in service.messages
            assert again.remote["thread"] == again.remote["message"]


async def test_a_channel_that_is_no_forum_refuses_threads(session: ClientSession, notice: Notice) -> None:
    async with served(Discord()) as service:
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t", forum=True)
        assert await exporter.export(notice) == Rejected("HTTP 400 code 220003")


@pytest.mark.parametrize("size", [1, 200, 5000])
async def test_no_text_is_too_long_or_means_anything(
    session: ClientSession, notice: Notice, size: int
) -> None:
    long = HOSTILE * size + "🔥" * size
    hostile = replace(
        notice, title=long, beat_title=long, group_title=long, page="shop", why=(long,) * 5, by=long
    )
    async with served(Discord(is_forum=True)) as service:
        assert isinstance(
            await DiscordExporter(session, f"{service.url}/api/webhooks/1/t", forum=True).export(hostile),
            Delivered,
        )
    sent = json.dumps(payload(hostile)["embeds"], ensure_ascii=False)
    texts = re.sub(r"https://upbeat\S+", "", sent)
    assert "@everyone" not in texts
    assert "://evil" not in texts
    assert not re.search(r"(?<!\\)[*`|<>]", payload(hostile)["embeds"][0]["description"])
    assert payload(hostile)["allowed_mentions"] == {"parse": []}


async def test_waiting_is_what_the_answer_says_in_seconds(session: ClientSession, notice: Notice) -> None:
    async with served(Discord()) as service:
        limited = {"message": "You are being rate limited.", "retry_after": 64.57, "global": False}
        service.instead = [web.json_response(limited, status=429, headers={"Retry-After": "65"})]
        exporter = DiscordExporter(session, f"{service.url}/api/webhooks/1/t")
        assert await exporter.export(notice) == Retry("HTTP 429", 64.57)
        service.instead = [web.Response(status=429, headers={"Retry-After": "9"}, text="<html>")]
        assert await exporter.export(notice) == Retry("HTTP 429", 9.0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Rejected("HTTP 401")),
        (500, Retry("HTTP 500")),
        (301, Rejected("HTTP 301: redirects are not followed")),
        (410, Rejected("HTTP 410: gone for good", for_good=True)),
    ],
)
async def test_each_answer_has_an_outcome(
    session: ClientSession, notice: Notice, status: int, expected: Outcome
) -> None:
    async with served(Discord()) as service:
        service.instead = [web.Response(status=status, text='{"message": "theirs"}')]
        assert await DiscordExporter(session, f"{service.url}/api/webhooks/1/t").export(notice) == expected


async def test_a_deleted_webhook_is_gone_for_good(session: ClientSession, notice: Notice) -> None:
    async with served(Discord(is_deleted=True)) as service:
        outcome = await DiscordExporter(session, f"{service.url}/api/webhooks/1/t").export(notice)
    assert outcome == Rejected("HTTP 404 code 10015: the webhook is gone for good", for_good=True)


async def test_a_url_that_is_none_is_refused_and_not_shown(session: ClientSession, notice: Notice) -> None:
    assert await DiscordExporter(session, "http://[secret").export(notice) == Rejected(
        "the URL is not a usable http or https address"
    )


async def test_a_message_that_was_taken_is_not_sent_again_when_its_answer_stays_away(
    session: ClientSession, notice: Notice
) -> None:
    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/webhooks/1/t"
    assert await DiscordExporter(session, url).export(notice) == Delivered()
    server.close()
