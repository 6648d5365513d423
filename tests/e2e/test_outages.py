"""What an outage becomes, from the target's failure to what operators and customers are told, in one running Upbeat."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from tests.e2e.conftest import AUTO, http, serving
from tests.rig.story import Target
from tests.rig.targets import DnsTarget, Mood, StreamTarget

NAMES = ("draft", "auto", "early", "steady")
HOSTILE: dict[Mood, str] = {
    "hangs": "http.timeout",
    "drags": "body.timeout",
    "resets": "http.reset",
    "babbles": "http.protocol",
    "fails": "status",
}


def beats(targets: Mapping[str, Target]) -> dict[str, str]:
    ports = {slug: target.port for slug, target in targets.items()}
    return {
        "draft": http("draft", ports["draft"]),
        "auto": http("auto", ports["auto"], AUTO),
        "early": http("early", ports["early"]),
        "steady": http("steady", ports["steady"], AUTO),
        **{mood: http(mood, ports[mood]) for mood in HOSTILE},
        "port": f"{{slug: port, type: tcp, host: 127.0.0.1, port: {ports['port']}, components: [port]}}",
        "name": f"{{slug: name, type: dns, host: shop.example, resolver: '127.0.0.1:{ports['name']}', components: [name]}}",
    }


def hostile_story() -> str:
    lines = [f"by 15  {mood} is ok" for mood in HOSTILE]
    lines += [f"then   {mood} {mood}" for mood in HOSTILE]
    lines += [f"by 15  {mood} is critical" for mood in HOSTILE]
    lines += [f"by 15  errors of {mood}: critical {kind}" for mood, kind in HOSTILE.items()]
    lines += ["by 15  steady is ok", "by 15  episodes of steady: none"]
    lines += [f"then   {mood} answers" for mood in HOSTILE]
    lines += [f"by 15  {mood} is ok" for mood in HOSTILE]
    return "\n".join(lines)


STORIES = {
    "an outage is drafted, approved, published and resolved by recovery": """
        by 15    draft is ok
        then     draft fails
        0.2..12  draft is critical
        by 12    actions of draft: open pending
        by 12    incidents of draft: none
        by 14    told of draft: open, draft      # operators are told at once, review or not
        then     approve draft
        by 2     incidents of draft: investigating
        then     draft answers
        1..12    draft is ok
        by 12    incidents of draft: resolved
        by 12    episodes of draft: recovered
        by 14    told of draft: open, draft, draft, recovery
    """,
    "a policy of auto publishes and resolves by itself": """
        by 15    auto is ok
        then     auto refuses
        0.2..12  auto is critical
        by 12    incidents of auto: investigating
        then     auto answers
        1..12    auto is ok
        by 12    incidents of auto: resolved
        by 12    actions of auto: open done, resolve done
    """,
    "recovery before the review withdraws the draft": """
        by 15    early is ok
        then     early hangs
        0.2..12  actions of early: open pending
        then     early answers
        1..12    actions of early: open withdrawn
        by 12    incidents of early: none
        by 14    told of early: open, draft, recovery
    """,
    "hostile targets are outages of their own kinds and nobody else's": hostile_story(),
    "tcp and dns targets go down and come back": """
        by 15    port is ok
        by 15    name is ok
        then     port refuses
        then     name hangs
        0.2..12  port is critical
        by 12    name is critical
        then     port answers
        then     name answers
        1..12    port is ok
        by 12    name is ok
    """,
}


@pytest.fixture(scope="module")
async def played() -> AsyncIterator[dict[str, "asyncio.Task[None]"]]:
    """All stories at once, each about beats of its own."""
    targets: dict[str, Target] = {name: StreamTarget() for name in (*NAMES, *HOSTILE)}
    targets |= {"port": StreamTarget("tcp"), "name": DnsTarget()}
    async with serving(targets, beats) as world:
        tasks = {name: asyncio.create_task(world.play(story)) for name, story in STORIES.items()}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("story", STORIES, ids=list(STORIES))
async def test(played: dict[str, "asyncio.Task[None]"], story: str) -> None:
    await played[story]
