"""The demo's story as a table: what is seen, second by second, and the phase that follows."""

from dataclasses import replace
from itertools import product

import pytest

from upbeat.demo.script import APPROVED, Pace, Phase, Seen, Story, advance, is_down, is_mute, is_slow, tell

PACE = Pace()


Look = tuple[float, dict[str, object]]


def play(*looks: Look) -> list[tuple[float, Phase]]:
    """The phases that begin, and when. A look's facts last until the next; the story looks every 0.25 s."""
    story, seen, began = Story(), Seen(0.0), [(0.0, Phase.WAITING)]
    for (at_s, facts), until_s in zip(looks, [at for at, _ in looks[1:]] + [looks[-1][0] + 80], strict=True):
        seen = replace(seen, **facts)  # type: ignore[arg-type]
        now_s = at_s
        while now_s < until_s:
            story = advance(PACE, story, replace(seen, now_s=now_s))
            if story.phase is not began[-1][1]:
                began.append((now_s, story.phase))
            now_s += 0.25
    return began


def phases(*looks: Look) -> str:
    return " ".join(phase for _, phase in play(*looks))


OPENED: Look = (10.0, {"is_open": True, "stage": "ok"})
DRAFTED: Look = (30.0, {"stage": "critical", "draft": "act_1", "status": "pending"})
APPROVAL: Look = (40.0, {"status": "done", "incident": "investigating"})
RECOVERY: Look = (60.0, {"stage": "ok", "incident": "resolved"})


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param(((0.0, {"stage": "ok"}),), "waiting", id="nothing happens before the page is open"),
        pytest.param((OPENED,), "waiting hello slow outage", id="the outage follows the opening"),
        pytest.param(
            ((10.0, {"is_open": True, "stage": "unknown"}),),
            "waiting hello",
            id="no outage before all was seen well",
        ),
        pytest.param((OPENED, DRAFTED), "waiting hello slow outage", id="a draft waits for its decision"),
        pytest.param(
            (OPENED, DRAFTED, APPROVAL),
            "waiting hello slow outage decided recovering",
            id="after approval the shop recovers",
        ),
        pytest.param(
            (OPENED, DRAFTED, APPROVAL, RECOVERY),
            "waiting hello slow outage decided recovering reported calm slow outage",
            id="after the incident is resolved it is calm, then it repeats",
        ),
        pytest.param(
            (OPENED, DRAFTED, (40.0, {"status": "rejected"}), (60.0, {"stage": "ok"})),
            "waiting hello slow outage decided recovering reported calm slow outage",
            id="a rejected draft needs no incident to end",
        ),
        pytest.param(
            (OPENED, DRAFTED, (330.0, {"status": "withdrawn", "stage": "ok"})),
            "waiting hello slow outage unattended slow outage",
            id="nobody decides: it recovers by itself, then it repeats",
        ),
        pytest.param(
            (OPENED, DRAFTED, (321.0, {"status": "approved"})),
            "waiting hello slow outage unattended decided recovering",
            id="an approval in the last moment counts",
        ),
        pytest.param(
            (
                OPENED,
                (11.0, {"draft": "act_0", "status": "done"}),
                (30.0, {"draft": "act_1", "status": "pending"}),
            ),
            "waiting hello slow outage",
            id="a draft of an earlier life of the folder decides nothing",
        ),
    ],
)
def test_the_story_goes_on_with_what_is_seen(looks: tuple[Look, ...], expected: str) -> None:
    assert phases(*looks) == expected


def test_the_outage_begins_within_15_s_of_the_opening() -> None:
    began = {phase: at for at, phase in play(OPENED)}
    assert began[Phase.OUTAGE] - 10.0 < 15.0


def test_the_shop_recovers_15_s_after_the_approval() -> None:
    began = {phase: at for at, phase in play(OPENED, DRAFTED, APPROVAL)}
    assert began[Phase.RECOVERING] - 40.0 == 15.0


def test_the_outage_lasts_five_minutes_at_most() -> None:
    began = {phase: at for at, phase in play(OPENED, DRAFTED, (400.0, {}))}
    assert began[Phase.UNATTENDED] - began[Phase.OUTAGE] == 300.0


def test_the_shop_is_down_exactly_from_the_outage_to_recovery() -> None:
    assert {phase for phase in Phase if is_down(Story(phase))} == {Phase.OUTAGE, Phase.DECIDED}
    assert {phase for phase in Phase if is_slow(Story(phase))} == {Phase.SLOW, Phase.OUTAGE, Phase.DECIDED}


def test_a_mute_button_is_all_that_is_wrong_in_its_round() -> None:
    stories = [Story(phase, is_mute=True) for phase in Phase]
    assert {story.phase for story in stories if is_mute(story)} == {Phase.OUTAGE, Phase.DECIDED}
    assert {story.phase for story in stories if is_slow(story)} == {Phase.SLOW}
    assert not any(map(is_down, stories))


def test_rounds_take_turns_where_a_journey_is_well() -> None:
    story = Story()
    failed: list[str] = []
    for now_s in range(0, 2000, 10):
        decided = "act_1" if story.phase is Phase.OUTAGE else None
        seen = Seen(now_s, True, "ok", "ok", f"{decided}-{len(failed)}", "rejected", "resolved")
        before, story = story, advance(PACE, story, seen)
        if story.phase is Phase.OUTAGE is not before.phase:
            failed.append("mute" if is_mute(story) else "down")
    assert failed[:4] == ["mute", "down", "mute", "down"]


def test_a_journey_that_is_never_well_is_waited_for_a_minute_only() -> None:
    began = {phase: at for at, phase in play((10.0, {"is_open": True, "stage": "ok", "journey": "unknown"}))}
    assert began[Phase.SLOW] - 10.0 == PACE.settle_s


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("was_approved", [False, True])
def test_every_moment_has_its_guide(phase: Phase, was_approved: bool) -> None:
    drafts = ("act_1",) if phase is Phase.DECIDED else (None, "act_1")
    for draft, is_mute_now in product(drafts, (False, True)):
        guide = tell(Story(phase, 0.0, draft, was_approved, is_mute=is_mute_now), ["Checkout is down"])
        assert guide.title
        assert guide.text
        assert (guide.link is None) == (guide.link_label is None)


def test_the_guide_leads_to_the_draft() -> None:
    guide = tell(Story(Phase.OUTAGE, 0.0, "act_1"), ["Checkout is down"])
    assert guide.link == "/console/actions/act_1"
    assert "Checkout is down" in guide.text


def test_a_faster_pace_is_the_same_story() -> None:
    assert PACE.scaled(0.5) == Pace(2.0, 2.5, 30.0, 150.0, 7.5, 7.5, 22.5)


def test_approved_are_the_statuses_of_what_is_published() -> None:
    assert {"approved", "done", "failed"} == APPROVED
