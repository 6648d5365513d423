"""The bot's channel against a local Slack, which slack-sdk, unmodified, shows to be one."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from evaluators.model import Notice, Post, Stage
from exporters.channels.slack_bot import SlackBotExporter
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Retry
from exporters.slack import WHAT_TO_DO, Web, bearer
from tests.rig.slack import TOKEN, LocalSlack, local_slack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

C = "C0123ABCD"
HOSTILE = "<!channel> <@U123> <https://evil.example|click> & @here &lt;!here&gt;"


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    async with local_slack() as found:
        found.add(C)
        yield found


@pytest.fixture
def bot(slack: LocalSlack, session: aiohttp.ClientSession) -> SlackBotExporter:
    return SlackBotExporter(Web(session, f"{slack.url}/api/", bearer(TOKEN)), C)


@pytest.fixture
def post() -> Post:
    return Post(
        id="p1",
        step="open",
        incident="inc_" + "0" * 32,
        kind="incident",
        page="shop",
        title="Checkout is down",
        status="investigating",
        impact="major",
        at=1_790_000_100.0,
        began_at=1_790_000_000.0,
        components={"shop/checkout": "major_outage"},
        text="We look into it.",
    )


def _remote(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Delivered), outcome
    return dict(outcome.remote or {})


def _actions(message: dict[str, Any]) -> dict[str, str]:
    elements = [one for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]
    return {one["action_id"]: one["value"] for one in elements}


async def test_an_episode_is_a_thread_whose_first_message_shows_what_is_true_now(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    remote = _remote(await bot.export(notice))
    worse = replace(notice, id="n2", told="change", title="It is worse")
    remote = _remote(await bot.export(worse, Memory(remote)))
    comment = replace(notice, id="n3", told="comment", title="ada: I look")
    remote = _remote(await bot.export(comment, Memory(remote)))

    root, *replies = slack.channels[C]["messages"]
    assert [one["thread_ts"] for one in replies] == [root["ts"]] * 2
    assert root["text"] == "🟠 It is worse"
    assert set(_actions(root)) == {"acknowledge", "assign", "snooze", "escalate", "comment"}

    over = replace(notice, id="n4", told="recovery", title="It is over", stage=Stage.OK)
    await bot.export(over, Memory(remote))
    assert (root["text"], _actions(root)) == ("🟢 It is over", {})


async def test_a_draft_has_buttons_until_somebody_decided_and_says_who(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    remote = _remote(await bot.export(notice))
    draft = replace(notice, id="d1", told="draft", title="A draft waits: X", action="act_1", revision=1)
    remote = _remote(await bot.export(draft, Memory(remote)))
    _, offer = slack.channels[C]["messages"]
    assert _actions(offer) == {"approve": "act_1:1", "reject": "act_1:1", "open": "act_1:1"}

    edited = replace(draft, id="d2", revision=2, title="Edited by bob: Y")
    remote = _remote(await bot.export(edited, Memory(remote)))
    assert len(slack.channels[C]["messages"]) == 2
    assert _actions(offer)["approve"] == "act_1:2"

    again = replace(edited, id="d3", title="A draft still waits: Y")
    remote = _remote(await bot.export(again, Memory(remote)))
    assert slack.channels[C]["messages"][-1]["text"] == "📝 A draft still waits: Y"

    decided = replace(edited, id="d4", title="Approved by ada: Y", by="ada")
    remote = _remote(await bot.export(decided, Memory(remote)))
    assert (offer["text"], _actions(offer)) == ("📝 Approved by ada: Y", {})
    assert "drafts" not in remote
    assert len(slack.channels[C]["messages"]) == 3


async def test_a_draft_whose_message_was_removed_by_hand_is_offered_anew(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    draft = replace(notice, id="d1", told="draft", action="act_1", revision=1, link="/of-no-web-address")
    remote = _remote(await bot.export(draft))
    slack.channels[C]["messages"].clear()
    await bot.export(replace(draft, id="d2", revision=2), Memory(remote))
    (offer,) = slack.channels[C]["messages"]
    assert _actions(offer) == {"approve": "act_1:2", "reject": "act_1:2"}


async def test_a_lost_answer_leads_to_a_look_and_not_to_a_second_message(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    slack.lost = 1
    assert isinstance(await bot.export(notice), Retry)
    remote = _remote(await bot.export(notice, Memory(is_repeat=True)))
    slack.lost = 1
    reply = replace(notice, id="n2", told="comment")
    assert isinstance(await bot.export(reply, Memory(remote)), Retry)
    assert _remote(await bot.export(reply, Memory(remote, is_repeat=True)))["ts"] == remote["ts"]

    assert len(slack.channels[C]["messages"]) == 2
    assert slack.calls[-2:] == ["chat.postMessage", "conversations.replies"]


async def test_a_message_that_never_arrived_is_posted_after_the_look(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    for n in range(150):  # more than one page of others
        slack.channels[C]["messages"].append({"ts": f"{1_790_000_100 + n}.000000", "text": "hi"})
    assert "ts" in _remote(await bot.export(notice, Memory(is_repeat=True)))
    assert slack.calls == ["conversations.history"] * 2 + ["chat.postMessage"]


async def test_an_announcement_is_a_thread_and_quiet_steps_only_change_its_first_message(
    slack: LocalSlack, bot: SlackBotExporter, post: Post
) -> None:
    remote = _remote(await bot.export(post, Memory({"channel": C})))
    quiet = replace(post, id="p2", step="edit", title="Checkout fails", notify=False)
    remote = _remote(await bot.export(quiet, Memory(remote)))
    end = replace(post, id="p3", step="resolve", status="resolved", title="Checkout fails", text="Fixed.")
    remote = _remote(await bot.export(end, Memory(remote)))

    root, reply = slack.channels[C]["messages"]
    assert (root["text"], _actions(root)) == ("🟢 Checkout fails", {})
    assert reply["blocks"][0]["text"]["text"] == "*Resolved*\nFixed."
    same = Notice(id="n", told="incident", title="Incident resolved", at=1.0, incident=post.incident)
    assert await bot.export(same, Memory(remote)) == Delivered()
    assert len(slack.channels[C]["messages"]) == 2


async def test_data_can_neither_mention_nor_link(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice, post: Post
) -> None:
    hostile = replace(notice, title=HOSTILE, why=(HOSTILE,), beat_title=HOSTILE, link=None)
    await bot.export(hostile)
    remote = _remote(await bot.export(replace(post, title=HOSTILE, text=HOSTILE, is_markdown=True)))
    await bot.export(replace(post, id="p9", step="update", title=HOSTILE, text=HOSTILE), Memory(remote))

    for message in slack.channels[C]["messages"]:
        texts = [one for one in _texts(message["blocks"]) if one["type"] == "mrkdwn"]
        assert all(one["verbatim"] for one in texts)
        assert not re.findall(r"<[^>]*>", message["text"] + "".join(one["text"] for one in texts))


def _texts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if not isinstance(value, dict):
        return []
    return [value] if value.get("type") in ("mrkdwn", "plain_text") else _texts(list(value.values()))


async def test_the_largest_notice_with_buttons_keeps_slacks_limits(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    large = replace(notice, title="🔥" * 5000, why=("&" * 10_000, *("x" * 2_999,) * 200))
    assert isinstance(await bot.export(large), Delivered)


@pytest.mark.parametrize(("word", "do"), [pytest.param(word, do, id=word) for word, do in WHAT_TO_DO.items()])
async def test_what_slack_refuses_for_good_says_what_to_do(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice, word: str, do: str
) -> None:
    slack.refusals = [("chat.postMessage", word)]
    assert await bot.export(notice) == Rejected(f"Slack says {word}: {do}")


async def test_slacks_pace_is_kept(slack: LocalSlack, bot: SlackBotExporter, notice: Notice) -> None:
    slack.refusals = [("chat.postMessage", 30)]
    outcome = await bot.export(notice)
    assert outcome == Retry("HTTP 429", 30.0)
    asked = len(slack.calls)
    outcome = await bot.export(notice)
    assert isinstance(outcome, Retry)
    assert outcome.after_s
    assert len(slack.calls) == asked


async def test_a_thread_that_somebody_deleted_begins_anew(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    remote = _remote(await bot.export(notice))
    slack.channels[C]["messages"].clear()
    remote = _remote(await bot.export(replace(notice, id="n2", told="change"), Memory(remote)))
    (root,) = slack.channels[C]["messages"]
    assert remote["ts"] == root["ts"]


async def test_an_announcement_that_somebody_deleted_begins_anew(
    slack: LocalSlack, bot: SlackBotExporter, post: Post
) -> None:
    remote = _remote(await bot.export(post))
    slack.channels[C]["messages"].clear()
    end = replace(post, id="p2", step="resolve", status="resolved", text="Fixed.")
    remote = _remote(await bot.export(end, Memory(remote)))
    (root,) = slack.channels[C]["messages"]
    assert (remote["ts"], root["text"], _actions(root)) == (root["ts"], "🟢 Checkout is down", {})


async def test_slack_sdk_works_with_the_same_local_slack(
    slack: LocalSlack, bot: SlackBotExporter, notice: Notice
) -> None:
    remote = _remote(await bot.export(notice))
    slack.add("C8", archived=True)
    slack.add("C7", member=False)
    client = WebClient(TOKEN, base_url=f"{slack.url}/api/")

    def use() -> None:
        assert client.auth_test()["team_id"] == "T0123ABCD"
        history = client.conversations_history(channel=C, include_all_metadata=True)
        assert history["messages"][0]["metadata"]["event_payload"] == {"id": notice.id}
        sent = client.chat_postMessage(channel=C, text="hello", thread_ts=remote["ts"])
        client.chat_update(channel=C, ts=sent["ts"], text="changed")
        replies = client.conversations_replies(channel=C, ts=remote["ts"])["messages"]
        assert [one["text"] for one in replies] == ["🔴 Checkout API is down", "changed"]
        client.chat_postEphemeral(channel=C, user="U1", text="only you")
        for wrong, word in (("C9", "channel_not_found"), ("C8", "is_archived"), ("C7", "not_in_channel")):
            with pytest.raises(SlackApiError, match=word):
                client.chat_postMessage(channel=wrong, text="x")
        with pytest.raises(SlackApiError, match="expired_trigger_id"):
            client.views_open(trigger_id="t", view={"type": "modal"})
        with pytest.raises(SlackApiError, match="token_revoked"):
            WebClient("xoxb-other", base_url=f"{slack.url}/api/").auth_test()

    await asyncio.to_thread(use)
    assert json.dumps(slack.said[0]["text"]) == '"only you"'
