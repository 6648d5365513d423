"""What an outage becomes, from the target's failure to what operators and customers are told, in one running Upbeat."""

from collections.abc import AsyncIterator, Mapping

import pytest

from tests.e2e.conftest import AUTO, http, serving
from tests.rig.story import Target, World
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


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    targets: dict[str, Target] = {name: StreamTarget() for name in (*NAMES, *HOSTILE)}
    targets |= {"port": StreamTarget("tcp"), "name": DnsTarget()}
    async with serving(targets, beats) as world:
        yield world


async def test_an_outage_is_drafted_approved_published_and_resolved_by_recovery(world: World) -> None:
    await world.play("""
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
        by 14    told of draft: open, draft, recovery
    """)


async def test_a_policy_of_auto_publishes_and_resolves_by_itself(world: World) -> None:
    await world.play("""
        by 5     auto is ok
        then     auto refuses
        0.2..12  auto is critical
        by 12    incidents of auto: investigating
        then     auto answers
        1..12    auto is ok
        by 12    incidents of auto: resolved
        by 12    actions of auto: open done, resolve done
    """)


async def test_recovery_before_the_review_withdraws_the_draft(world: World) -> None:
    await world.play("""
        by 5     early is ok
        then     early hangs
        0.2..12  actions of early: open pending
        then     early answers
        1..12    actions of early: open withdrawn
        by 12    incidents of early: none
        by 14    told of early: open, draft, recovery
    """)


async def test_hostile_targets_are_outages_of_their_own_kind_and_nobody_elses(world: World) -> None:
    lines = [f"by 12  {mood} is ok" for mood in HOSTILE]
    lines += [f"then   {mood} {mood}" for mood in HOSTILE]
    lines += [f"by 15  {mood} is critical" for mood in HOSTILE]
    lines += [f"by 15  errors of {mood}: critical {kind}" for mood, kind in HOSTILE.items()]
    lines += ["by 15  steady is ok", "by 15  episodes of steady: none"]
    lines += [f"then   {mood} answers" for mood in HOSTILE]
    lines += [f"by 15  {mood} is ok" for mood in HOSTILE]
    await world.play("\n".join(lines))


async def test_tcp_and_dns_targets_go_down_and_come_back(world: World) -> None:
    await world.play("""
        by 5     port is ok
        by 5     name is ok
        then     port refuses
        then     name hangs
        0.2..12  port is critical
        by 12    name is critical
        then     port answers
        then     name answers
        1..12    port is ok
        by 12    name is ok
    """)
