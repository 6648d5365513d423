"""What is said would change a stage does: over every combination of votes, and neither with more nor with fewer of them."""

import re
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from evaluators import quorum
from evaluators.explain import explain
from evaluators.model import Kind, Stage, Verdict
from evaluators.policy import Bound, Policy, compile_policy
from evaluators.state import State
from evaluators.vote import Region, Seen, Vote
from rules.beat import BEAT

NOW = 1_700_000_000.0
REGIONS = ("r1", "r2", "r3", "r4")
ZONES = {"r1": "east", "r2": "east", "r3": "west", "r4": "west"}
VERDICTS = {
    "ok": Verdict.OK,
    "better": Verdict.WARNING,
    "critical": Verdict.CRITICAL,
    "warning or critical": Verdict.WARNING,
}
ENDS = {
    "make it critical": lambda state: state.voted is Stage.CRITICAL,
    "make it a warning": lambda state: state.voted in (Stage.WARNING, Stage.CRITICAL),
    "end critical": lambda state: not state.critical,
    "then make it ok": lambda state: state.voted is Stage.OK,
    "make it ok": lambda state: state.voted is Stage.OK,
}
PART = re.compile(
    r"(\d+) (?:more )?(ok|better|critical|warning or critical) votes? of ((?:r\d(?:, | or | and )?)+)"
)


Votes = dict[str, tuple[Verdict | None, float]]


def said(policy: Policy, state: State, votes: Votes, at: float) -> State:
    """The state when regions have said these, each at its time."""
    regions = {
        slug: Region(recent=(Seen(verdict, Kind.SCHEDULED, seen_at, "b", 1),), vote=Vote(verdict, seen_at))
        for slug, (verdict, seen_at) in votes.items()
        if verdict is not None
    }
    return quorum.judge(policy, replace(state, at=at, regions=regions))[0]


@pytest.mark.parametrize("before", [Verdict.OK, Verdict.CRITICAL], ids=["after ok", "in an outage"])
@pytest.mark.parametrize(
    "levels",
    [
        {},
        {"critical": "all", "warning": 1},
        {"critical": {"open": 2, "close": 4}, "warning": {"open": 1, "close": 4}},
        {"critical": {"east": 2, "west": 1}, "warning": {"zone": 2}},
        {"critical": {"open": {"zone": 2}, "close": {"east": 1, "west": 2}}, "min_voters": 1},
        {"critical": 3, "on_insufficient": "hold"},
    ],
    ids=str,
)
def test_what_would_change_it_does(levels: dict[str, Any], before: Verdict) -> None:
    spec = {"slug": "b", "type": "tcp", "host": "h", "port": 1, "quorum": {"confirm": "off"} | levels}
    policy = compile_policy(BEAT.validate_python(spec), Bound(regions=REGIONS, zones=ZONES))
    begin = said(policy, State(), dict.fromkeys(REGIONS, (before, NOW - 1)), NOW - 1)
    checked = 0
    for verdicts in product([None, Verdict.OK, Verdict.WARNING, Verdict.CRITICAL], repeat=len(REGIONS)):
        votes: Votes = {slug: (verdict, NOW) for slug, verdict in zip(REGIONS, verdicts, strict=True)}
        state = said(policy, begin, votes, NOW)
        ended, better = state, votes
        is_known = True
        for sentence in explain(policy, state, NOW, {}).change:
            what = next((end for end in ENDS if sentence.endswith(f" would {end}.")), None)
            is_known &= " of these" not in sentence and " in all" not in sentence  # which ones is left open
            if what is None or not is_known:
                continue
            parts = [
                (int(n), VERDICTS[word], re.findall(r"r\d", of)) for n, word, of in PART.findall(sentence)
            ]
            assert parts, sentence
            begun, was = (ended, better) if what.startswith("then") else (state, votes)
            asked: Votes = {}
            for short in (1, 0):  # one vote fewer is not enough
                asked = {slug: (verdict, NOW + 2) for n, verdict, of in parts for slug in of[: n - short]}
                after = said(policy, begun, was | asked, NOW + 2)
                assert ENDS[what](after) is not bool(short), (sentence, votes)
            ended, better = said(policy, state, votes | asked, NOW + 2), votes | asked
            checked += 1
    assert checked > 100
