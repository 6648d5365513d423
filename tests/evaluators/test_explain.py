"""What is said of a stage: votes, needs, what stands beside it, what would change it. What it is, is test_quorum.py's."""

from typing import Any

import pytest
from msgspec.structs import replace

from evaluators import quorum
from evaluators.explain import Why, explain, named
from evaluators.model import Kind, Stage, Verdict
from evaluators.policy import Bound, Window, compile_policy
from evaluators.state import Member, Parent, Round, State
from evaluators.vote import Region, Seen, Vote
from rules.beat import BEAT
from rules.group import Group

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
NAMES = {"w": "deploy", "p": "Database", "g": "Checkout", "m1": "Cart", "m2": "Pay", "m3": "Search"}
REGIONS = ("eu", "us", "ap")


def regions(**letters: str) -> dict[str, Region]:
    """What each region says: `x`, `w` or `.`, and after `|` the streak of runs that is about to change it."""
    verdicts = {".": Verdict.OK, "w": Verdict.WARNING, "x": Verdict.CRITICAL}
    found = {}
    for slug, text in letters.items():
        said, _, streak = text.partition("|")
        runs = tuple(
            Seen(verdicts[letter], Kind.SCHEDULED, NOW - 5, "b", n) for n, letter in enumerate(streak or said)
        )
        bad = len(streak) if streak.strip(".") else 0
        good = len(streak) if streak and not bad else 0
        vote = Vote(verdicts[said], NOW - 5, bad if "x" in streak else 0, bad, good, good)
        found[slug] = Region(recent=runs, vote=vote)
    return found


def why(spec: dict[str, Any], state: State, bound: Bound | None = None, **more: Any) -> Why:
    beat = BEAT.validate_python({"slug": "b", "type": "tcp", "host": "h", "port": 1} | spec)
    policy = compile_policy(beat, bound or Bound(regions=REGIONS))
    return explain(policy, state, NOW, NAMES, **more)


def said(found: Why) -> list[str]:
    return [*found.because, *(note.text for note in found.beside), *found.change]


CALM = State(
    stage=Stage.OK, voted=Stage.OK, since=NOW - 60, at=NOW, born=True, regions=regions(eu=".", us=".", ap=".")
)
DOWN = State(
    stage=Stage.CRITICAL,
    voted=Stage.CRITICAL,
    since=NOW - 60,
    at=NOW,
    born=True,
    critical=True,
    warning=True,
    severity="critical",
    regions=regions(eu="x", us="x|.", ap="."),
)


@pytest.mark.parametrize(
    ("spec", "state", "expected"),
    [
        pytest.param(
            {},
            CALM,
            [
                "0 of 3 regions say critical; 2 of 3 must.",
                "0 of 3 regions say warning or worse; 2 of 3 must.",
                "2 critical votes of eu, us or ap would make it critical.",
                "2 warning or critical votes of eu, us or ap would make it a warning.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="a calm beat says what it would take",
        ),
        pytest.param(
            {},
            State(stage=Stage.OK, voted=Stage.OK, regions=regions(eu="x", us=".|x", ap=".")),
            [
                "1 of 3 regions say critical; 2 of 3 must.",
                "1 of 3 regions say warning or worse; 2 of 3 must.",
                "1 more critical vote of us or ap would make it critical.",
                "1 more warning or critical vote of us or ap would make it a warning.",
                "2 ok runs in eu would make its vote ok.",
                "1 more bad run in us would make its vote bad.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="one vote and one run short of an outage",
        ),
        pytest.param(
            {},
            DOWN,
            [
                "2 of 3 regions say critical; it ends when 2 of 3 say better (1 do).",
                "1 more ok vote of eu or us would make it ok.",
                "2 ok runs in eu would make its vote ok.",
                "1 more ok run in us would make its vote ok.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="an outage says which votes and runs end it",
        ),
        pytest.param(
            {"quorum": {"warning": {"open": 1, "close": 3}}},
            DOWN,
            [
                "2 of 3 regions say critical; it ends when 2 of 3 say better (1 do).",
                "1 more better vote of eu or us would end critical.",
                "2 more ok votes of eu and us would then make it ok.",
                "2 ok runs in eu would make its vote ok.",
                "1 more ok run in us would make its vote ok.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="levels that end apart are told apart",
        ),
        pytest.param(
            {},
            State(regions=regions(eu="x")),
            [
                "1 of 3 regions have a fresh vote, and 2 must: the stage is unknown until they do.",
                "1 more fresh vote of us or ap would say what it is.",
                "2 ok runs in eu would make its vote ok.",
                "1 ok run, or 2 bad ones in a row, in each of us and ap would be a vote.",
            ],
            id="too few votes",
        ),
        pytest.param(
            {"quorum": {"critical": {"open": {"europe": 2, "asia": 1}}, "warning": {"open": {"zone": 2}}}},
            State(stage=Stage.OK, voted=Stage.OK, regions=regions(eu="x", us=".", ap=".")),
            [
                "1 of 3 regions say critical; each of (eu and us; ap) must.",
                "1 of 3 regions say warning or worse; each of (eu or us; ap) must.",
                "1 more critical vote of us and 1 critical vote of ap would make it critical.",
                "1 warning or critical vote of ap would make it a warning.",
                "2 ok runs in eu would make its vote ok.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="zones",
        ),
        pytest.param(
            {"quorum": {"critical": {"zone": 1}, "warning": {"zone": 1}}},
            replace(DOWN, regions=regions(eu="x", us=".", ap=".")),
            [
                "1 of 3 regions say critical; it ends when each of (eu and us; ap) say better.",
                "1 more ok vote of eu would make it ok.",
                "2 ok runs in eu would make its vote ok.",
                "Without any run from now on it is unknown at 22:15:35 UTC.",
            ],
            id="zones that end",
        ),
    ],
)  # fmt: skip
def test_votes_and_what_would_change_them(spec: dict[str, Any], state: State, expected: list[str]) -> None:
    bound = Bound(regions=REGIONS, zones={"eu": "europe", "us": "europe", "ap": "asia"})
    assert said(why(spec, state, bound)) == expected


WINDOW = Bound(regions=REGIONS, windows=(Window(NOW - 60, NOW + 1000, "w"),))
PARENT = Bound(regions=REGIONS, parents=("p",))


def opened(**more: Any) -> State:
    """A bad stage, with something of the episode beside it."""
    known: dict[str, Any] = {
        "stage": Stage.CRITICAL,
        "voted": Stage.CRITICAL,
        "critical": True,
        "warning": True,
    }
    given = known | {"regions": regions(eu="x", us="x", ap="x"), "since": NOW - 60, "born": True}
    return State(**(given | more))


@pytest.mark.parametrize(
    ("state", "bound", "expected"),
    [
        pytest.param(
            opened(suppressed_by=("maintenance:w",)),
            WINDOW,
            {
                "Maintenance deploy until 22:30:00 UTC: measuring goes on, nothing opens meanwhile.",
                "When maintenance deploy ends at 22:30:00 UTC, it opens if it is still bad.",
            },
            id="maintenance, and when it opens after it",
        ),
        pytest.param(
            opened(severity="critical"),
            WINDOW,
            {"Maintenance deploy until 22:30:00 UTC: measuring goes on, it ends nothing that is open."},
            id="maintenance of what was open before",
        ),
        pytest.param(
            CALM,
            Bound(regions=REGIONS, windows=(Window(NOW + 7200, NOW + 9000, "w"),)),
            {"Maintenance deploy begins at 15 Nov 00:13:20 UTC."},
            id="maintenance that is near",
        ),
        pytest.param(
            opened(suppressed_by=("dependency:p",), parents={"p": Parent(Stage.CRITICAL)}),
            PARENT,
            {
                "It depends on Database, which is critical: nothing opens here meanwhile.",
                "When Database is no longer critical, every region looks again, and it opens if it is still bad.",
            },
            id="a parent that is down",
        ),
        pytest.param(
            opened(suppressed_by=("asking",), asks_until=NOW + 4),
            PARENT,
            {
                "What it depends on was asked to look: nothing opens until it has, or 22:13:24 UTC.",
                "It opens once what it depends on has answered and is not critical, or at 22:13:24 UTC.",
            },
            id="parents that are asked",
        ),
        pytest.param(
            opened(suppressed_by=("asking",), clear_after=NOW - 3),
            PARENT,
            {
                "What it depends on came back at 22:13:17 UTC: it opens when enough regions have been bad since."
            },
            id="a parent that came back",
        ),
        pytest.param(
            opened(round=Round("r", NOW + 3, 6, (("eu", 0), ("us", 0)))),
            None,
            {
                (
                    "A confirmation round is out: 2 of 6 answers are in; it is judged at 22:13:23 UTC at the latest, "
                    "and nothing opens before."
                )
            },
            id="a round that is out",
        ),
        pytest.param(
            opened(severity="critical", flapping=True, changes=(NOW - 900, NOW - 500, NOW - 100)),
            None,
            {
                (
                    "Flapping, 3 changes since 21:58:20 UTC: nothing more is said until it is quiet, "
                    "at 22:26:40 UTC if nothing changes."
                )
            },
            id="flapping",
        ),
        pytest.param(
            opened(severity="critical", critical=False, stage=Stage.WARNING, regions=regions(eu="w", us="w", ap="w")),
            None,
            {"The episode is still critical; it becomes warning at 22:14:20 UTC if that lasts."},
            id="a severity that waits for its hold time",
        ),
        pytest.param(
            State(stage=Stage.OK, voted=Stage.OK, severity="critical", since=NOW - 60),
            None,
            {"The episode ends at 22:14:20 UTC if it stays ok."},
            id="an end that waits for its delay",
        ),
        pytest.param(
            State(stage=Stage.OK, voted=Stage.OK, recovered_at=NOW - 60),
            None,
            {"Bad again before 22:17:20 UTC, the last episode goes on."},
            id="an episode that may go on",
        ),
        pytest.param(
            State(severity="critical"),
            None,
            {"The episode stays critical: unknown neither opens nor ends one."},
            id="unknown ends nothing",
        ),
        pytest.param(
            State(suspended=True, frozen=True, severity="critical"),
            None,
            {
                "It is paused: nothing is measured. Its episode is frozen until it runs again.",
                "Resuming it: fresh votes are then awaited.",
            },
            id="a pause",
        ),
        pytest.param(
            State(stage=Stage.OK, dissent=("eu",), dissent_since=NOW - 60),
            None,
            {"Worse than the stage since 22:12:20 UTC: eu; operators are told at 22:27:20 UTC."},
            id="a minority",
        ),
        pytest.param(
            State(stage=Stage.OK, dissent=("eu",), dissent_since=NOW - 60, advised=True),
            None,
            {"Worse than the stage since 22:12:20 UTC: eu; operators were told."},
            id="an advisory",
        ),
        pytest.param(
            CALM,
            Bound(regions=REGIONS, sick=("ap",)),
            {"Suspended as sick, without a vote until others agree: ap."},
            id="a sick region",
        ),
        pytest.param(
            State(group="g"), Bound(group="g"), {"Its group Checkout owns its episodes."}, id="a member"
        ),
        pytest.param(
            opened(severity="critical"),
            Bound(regions=REGIONS, group="g"),
            {"It joins the group Checkout when it is ok; until then its episode is its own."},
            id="joining in mid-episode",
        ),
        pytest.param(
            opened(between=True),
            None,
            {"It left its group while it was bad: no episode is opened for it until it is ok."},
            id="leaving in mid-episode",
        ),
        pytest.param(
            State(held_until=NOW + 60),
            None,
            {"Fresh votes are awaited until 22:14:20 UTC: the stage is held."},
            id="held until somebody looked",
        ),
        pytest.param(
            opened(signals={quorum.signal_key("report", "disk"): "critical"}),
            None,
            {
                "1 open signal from others.",
                "A recovery of each of these would end what others report: disk.",
            },
            id="signals",
        ),
        pytest.param(
            opened(severity="critical", careful=True),
            None,
            {
                "A change of policy or of members made it what it is: what customers would be told is a draft."
            },
            id="drafts only",
        ),
    ],
)  # fmt: skip
def test_what_stands_beside_the_stage(state: State, bound: Bound | None, expected: set[str]) -> None:
    found = why({"episodes": {"resolve_delay": "2m", "reopen_window": "5m"}}, state, bound)
    assert expected <= set(said(found))


def test_a_group_is_told_by_its_members() -> None:
    policy = compile_policy(Group.model_validate({"slug": "g", "quorum": {"critical": 2}}), Bound())
    members = {
        "m1": Member(Stage.CRITICAL, NOW - 60),
        "m2": Member(Stage.CRITICAL, NOW - 50, is_suppressed=True),
        "m3": Member(Stage.OK, NOW - 40, counts=False),
    }
    state = State(stage=Stage.WARNING, voted=Stage.WARNING, warning=True, severity="warning", members=members)
    found = explain(policy, state, NOW, NAMES)
    assert [(vote.name, vote.verdict, vote.note) for vote in found.votes] == [
        ("Cart", "critical", ""),
        ("Pay", "critical", "suppressed: it opens nothing"),
        ("Search", None, "paused: it does not count"),
    ]
    assert "2 ok votes of Cart and Pay would make it ok." in found.change
    assert named(policy, state) == set(members)


def test_a_group_of_nobody_says_so() -> None:
    policy = compile_policy(Group.model_validate({"slug": "g"}), Bound())
    assert explain(policy, State(), NOW, {}).because == (
        "It has no member that counts: nobody can say what it is.",
    )


def test_a_vote_of_what_is_over_opens_nothing() -> None:
    state = replace(CALM, regions=regions(eu="x", us=".", ap="."), ok_at=NOW)
    found = why({}, state)
    assert found.votes[0].note == "seen before it became ok: it opens nothing"
    assert "2 critical votes of eu, us or ap would make it critical." in found.change


def test_a_minority_has_an_advisory_or_none_yet() -> None:
    state = replace(CALM, dissent=("eu",), dissent_since=NOW - 60)
    assert [note.about for note in why({}, state).beside] == ["dissent"]
    assert [note.about for note in why({}, replace(state, advised=True)).beside] == ["advisory"]
    assert "nobody is told of it meanwhile" in why({}, state, WINDOW).beside[-1].text


def test_a_group_whose_members_are_suppressed_says_that_nothing_opens() -> None:
    policy = compile_policy(Group.model_validate({"slug": "g"}), Bound())
    members = {"m1": Member(Stage.CRITICAL, NOW - 60, is_suppressed=True)}
    state = State(
        stage=Stage.CRITICAL, critical=True, warning=True, members=members, suppressed_by=("member:m1",)
    )
    (note,) = explain(policy, state, NOW, NAMES).beside
    assert (
        note.text == "Only members that are suppressed themselves make it bad: Cart; nothing opens for them."
    )


def test_a_vote_says_when_it_goes_stale_and_what_may_change_it() -> None:
    (eu, us, _) = why({}, DOWN).votes
    assert (eu.fresh, eu.stale_at and eu.stale_at.timestamp()) == (True, NOW - 5 + 140.5)
    assert (us.recent, us.streak) == (("ok",), "1 ok in a row")


def test_regions_of_one_process_are_one_failure_domain() -> None:
    assert "see its failures together" in why({}, CALM, together=True).rules[-1]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "external"}, "No probe runs it: it is ok until somebody reports otherwise."),
        ({"type": "heartbeat", "every": "1h"}, "It waits for its first ping; until then nothing is missed."),
    ],
)
def test_what_no_probe_runs(spec: dict[str, Any], expected: str) -> None:
    policy = compile_policy(BEAT.validate_python({"slug": "b"} | spec), Bound(regions=REGIONS))
    assert expected in said(explain(policy, State(stage=Stage.OK), NOW, {}))
