"""A region's vote, as pictures: what is seen on the left, what the region says after each on the right.

. ok   w warning   x critical   e error   m a manual critical run   d a dropped confirm run
O W X  the same three, of a confirm run
"""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from evaluators.model import Kind, Result, Timings, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.vote import Region, Vote, refold, see
from rules.beat import BEAT

VERDICTS = {".": Verdict.OK, "w": Verdict.WARNING, "x": Verdict.CRITICAL, "e": Verdict.ERROR}
SAID = {None: "-", Verdict.OK: "o", Verdict.WARNING: "w", Verdict.CRITICAL: "x"}
STEP_S = 60.0


def policy(open_runs: int = 2, close_runs: int = 2) -> Policy:
    beat = BEAT.validate_python(
        {
            "slug": "b",
            "type": "tcp",
            "host": "h",
            "port": 1,
            "quorum": {"consecutive": {"open": open_runs, "close": close_runs}},
        }
    )
    return compile_policy(beat, Bound(regions=("r",)))


def result(letter: str, seq: int) -> Result:
    kind = Kind.MANUAL if letter == "m" else Kind.CONFIRM if letter in "OWXd" else Kind.SCHEDULED
    verdict = {"O": Verdict.OK, "m": Verdict.CRITICAL, "d": Verdict.ERROR}.get(letter) or VERDICTS[
        letter.lower()
    ]
    at = seq * STEP_S
    return Result(f"r{seq}", "b", "r", kind, verdict, at, at, seq, 1, Timings(), stored=letter != "d")


def says(rule: Policy, seen: str) -> str:
    region, said = Region(), ""
    for seq, letter in enumerate(seen):
        region = see(rule, region, result(letter, seq), "boot", seq * STEP_S)
        said += SAID[region.vote.verdict]
    return said


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        pytest.param(".", "o", id="a first ok is a vote at once"),
        pytest.param("O", "o", id="a first ok is a vote at once even of a confirm run"),
        pytest.param("xx", "-x", id="a first critical waits for the second"),
        pytest.param("ww", "-w", id="a first warning waits for the second"),
        pytest.param("x.", "-o", id="one bad result before the first ok is forgiven"),
        pytest.param(".xx", "oox", id="two in a row turn an ok vote critical"),
        pytest.param(".x.x.x", "oooooo", id="a relapse restarts the count"),
        pytest.param(".xw", "oow", id="critical then warning are two bad results but only one critical"),
        pytest.param(".wx", "oow", id="warning then critical are a warning"),
        pytest.param(".wxx", "oowx", id="a second critical makes it critical"),
        pytest.param("xx..", "-xxo", id="two ok results in a row end a critical vote"),
        pytest.param("xx.x..", "-xxxxo", id="a bad result restarts the way back"),
        pytest.param("xx.w", "-xxw", id="two better results make a critical vote a warning"),
        pytest.param("xxww", "-xxw", id="two warnings make a critical vote a warning"),
        pytest.param("ww..", "-wwo", id="two ok results in a row end a warning vote"),
        pytest.param(".xX", "oox", id="a confirm run counts towards opening"),
        pytest.param(".xOx", "oooo", id="an ok confirm run breaks a bad streak"),
        pytest.param("xxOOOO", "-xxxxx", id="ok confirm runs never end a bad vote"),
        pytest.param("xx.O.", "-xxxo", id="an ok confirm run adds nothing to an ok streak and breaks none"),
        pytest.param("xx.X..", "-xxxxo", id="a bad confirm run breaks an ok streak"),
        pytest.param("xxWW.w", "-xxxxw", id="warning confirm runs do not lower a critical vote"),
        pytest.param(".exe.e", "oooooo", id="an error changes nothing"),
        pytest.param("xexe", "--xx", id="an error does not break a streak"),
        pytest.param("eee", "---", id="errors alone are no vote"),
        pytest.param(".mmmm", "ooooo", id="manual runs never vote"),
        pytest.param(".xdx", "ooox", id="a dropped run neither breaks a streak nor adds to it"),
    ],
)
def test_two_in_a_row_change_a_vote(seen: str, said: str) -> None:
    assert says(policy(), seen) == said


@pytest.mark.parametrize(
    ("opens", "closes", "seen", "said"),
    [
        pytest.param(1, 1, "x.x.", "xoxo", id="one and one follow every result"),
        pytest.param(3, 1, ".xxx.", "oooxo", id="three to open and one to close"),
        pytest.param(1, 3, "x..x...", "xxxxxxo", id="one to open and three to close"),
    ],
)
def test_consecutive_is_followed(opens: int, closes: int, seen: str, said: str) -> None:
    assert says(policy(opens, closes), seen) == said


def test_an_error_does_not_refresh_a_vote() -> None:
    region = see(policy(), Region(), result(".", 0), "boot", 0.0)
    assert see(policy(), region, result("e", 1), "boot", 60.0) is region


def test_a_vote_that_went_stale_smooths_nothing() -> None:
    rule = policy()
    region = see(rule, Region(), result("x", 0), "boot", 0.0)
    region = see(rule, region, result("x", 1), "boot", 60.0)
    late = 60.0 + rule.max_age_s + 1
    assert see(rule, region, result(".", 2), "boot", late).vote.verdict is Verdict.OK


def test_a_streak_that_went_stale_does_not_go_on() -> None:
    rule = policy()
    region = see(rule, Region(), result("x", 0), "boot", 0.0)
    assert see(rule, region, result("x", 1), "boot", rule.max_age_s + 1).vote == Vote(
        None, rule.max_age_s + 1, 1, 1
    )


def test_a_vote_does_not_age_while_nobody_looks() -> None:
    rule = policy()
    region = see(rule, Region(), result("x", 0), "boot", 0.0)
    region = see(rule, region, result("x", 1), "boot", 60.0)
    again = 60.0 + 10 * rule.max_age_s
    assert see(rule, region, result(".", 2), "boot", again + 1, again).vote.verdict is Verdict.CRITICAL


def test_a_late_result_takes_its_place() -> None:
    rule, region = policy(), Region()
    for seq in (0, 2, 1):
        region = see(rule, region, result(".x."[seq], seq), "boot", seq * STEP_S)
    assert [seen.seq for seen in region.recent] == [0, 1, 2]
    assert region.vote.verdict is Verdict.OK
    assert region.vote.good == 1


def test_within_a_boot_the_sequence_orders_whatever_its_clock_says() -> None:
    rule, region = policy(), Region()
    for letter, seq, at in ((".", 0, 100.0), ("x", 2, 90.0), ("x", 1, 95.0)):
        region = see(rule, region, result(letter, seq), "boot", at)
    assert [seen.seq for seen in region.recent] == [0, 1, 2]


def test_across_boots_time_orders_whatever_the_sequence_says() -> None:
    rule, region = policy(), Region()
    for boot, seq, at in (("new", 0, 200.0), ("old", 70, 140.0), ("new", 1, 260.0)):
        region = see(rule, region, result(".", seq), boot, at)
    assert [seen.at for seen in region.recent] == [140.0, 200.0, 260.0]


def test_what_was_not_run_does_not_vote_whatever_it_says() -> None:
    assert see(policy(), Region(), replace(result("x", 0), stored=False), "boot", 0.0) == Region()


def test_a_result_older_than_the_window_changes_no_vote() -> None:
    rule, region = policy(), Region()
    for seq in range(1, rule.window + 2):
        region = see(rule, region, result(".", seq), "boot", seq * STEP_S)
    assert see(rule, region, result("x", 0), "boot", 0.0) is region


Placed = tuple[str, str, int, float]  # letter, boot, seq, at


@st.composite
def shuffled(draw: st.DrawFn) -> tuple[list[Placed], list[Placed]]:
    """Results of up to three boots of one region in order, and the same in another order within the window."""
    letters = draw(st.lists(st.sampled_from(".wxeXOW"), min_size=1, max_size=5))
    boots = sorted(draw(st.lists(st.integers(0, 2), min_size=len(letters), max_size=len(letters))))
    ordered = [
        (letter, f"boot{boot}", n, n * STEP_S)
        for n, (letter, boot) in enumerate(zip(letters, boots, strict=True))
    ]
    return ordered, draw(st.permutations(ordered))


def folded(rule: Policy, seen: Sequence[Placed]) -> Region:
    region = Region()
    for letter, boot, seq, at in seen:
        region = see(rule, region, replace(result(letter, seq), seq=seq), boot, at)
    return region


@settings(max_examples=300, deadline=None)
@given(shuffled(), st.integers(1, 3), st.integers(1, 3))
def test_results_in_any_order_end_in_the_same_region(
    both: tuple[list[Placed], list[Placed]], opens: int, closes: int
) -> None:
    rule = policy(opens, closes)
    assert folded(rule, both[0]) == folded(rule, both[1])


def test_every_short_sequence_ends_in_the_same_vote_in_every_order() -> None:
    rule = policy()
    for letters in itertools.product(".wxX", repeat=4):
        ordered = [(letter, "boot", n, n * STEP_S) for n, letter in enumerate(letters)]
        wanted = folded(rule, ordered)
        assert all(folded(rule, order) == wanted for order in itertools.permutations(ordered))


def test_a_vote_is_bad_only_after_enough_bad_results_in_a_row() -> None:
    rule = policy()
    for letters in itertools.product(".wxX", repeat=6):
        text = "".join(letters)
        for n, said in enumerate(says(rule, text)):
            before = text[: n + 1].lower()
            if said == "x":
                assert "xx" in before
            if said == "w":
                assert any(pair in before for pair in ("xx", "xw", "wx", "ww"))


def test_another_policy_is_folded_over_the_kept_results() -> None:
    region = folded(policy(), [(letter, "boot", n, n * STEP_S) for n, letter in enumerate(".x")])
    assert region.vote.verdict is Verdict.OK
    assert refold(policy(1, 1), region).vote.verdict is Verdict.CRITICAL
