"""What an episode may say in public: single situations, then every short story of an episode and its reviewer."""

import itertools
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from evaluators.facts import Of
from evaluators.model import Severity
from evaluators.review import (
    PUBLISHED,
    Action,
    Approve,
    Command,
    Propose,
    Revise,
    Status,
    Withdraw,
    is_owed_resolve,
    mode_of,
    propose,
    withdraw_pending,
)
from rules.incident import IncidentPolicy, Mode, Step

DEFAULT = IncidentPolicy()
SEVERITIES: dict[str, Severity] = {"w": "warning", "x": "critical"}
STATUSES = {
    "p": Status.PENDING,
    "a": Status.APPROVED,
    "r": Status.REJECTED,
    "e": Status.EXPIRED,
    "W": Status.WITHDRAWN,
    "d": Status.DONE,
    "f": Status.FAILED,
}
STEPS: dict[str, Step] = {"o": "open", "u": "update", "m": "update", "b": "update", "e": "resolve"}
OF: dict[str, Of] = {"m": "member", "b": "reopened"}


def actions(picture: str) -> tuple[Action, ...]:
    """`opx uaw`: an open, pending, critical; an update, approved, warning. `m`: of a member, `b`: it is back."""
    return tuple(
        Action(f"{n}", STEPS[word[0]], STATUSES[word[1]], SEVERITIES[word[2]], OF.get(word[0], "severity"))
        for n, word in enumerate(picture.split())
    )


def told(commands: Sequence[Command]) -> str:
    words = []
    for command in commands:
        if isinstance(command, Propose):
            of = f" of {command.of}" if command.of != "severity" else ""
            words.append(f"+{command.step}{of} {command.severity} {command.mode}")
        elif isinstance(command, Revise):
            words.append(f"~{command.action} {command.severity}")
        else:
            words.append(f"-{command.action}")
    return ", ".join(words)


@pytest.mark.parametrize(
    ("had", "step", "severity", "does"),
    [
        pytest.param("", "o", "x", "+open critical draft", id="an open is a draft by default"),
        pytest.param("opx", "o", "x", "", id="the same open twice is one"),
        pytest.param("opw", "u", "x", "~0 critical", id="a pending open is revised when severity rises"),
        pytest.param("opx", "u", "w", "~0 warning", id="and when it falls"),
        pytest.param("oax", "o", "x", "", id="an approved open is not asked again"),
        pytest.param("orx", "o", "x", "", id="a rejected open stays rejected"),
        pytest.param("orx", "u", "w", "", id="also for something milder"),
        pytest.param("orw", "u", "x", "+open critical draft", id="something worse is asked again"),
        pytest.param("orw opx", "u", "w", "-1", id="and taken back when it is no worse any more"),
        pytest.param("orw oWx", "u", "w", "", id="what was rejected stays so after a draft was taken back"),
        pytest.param(
            "orw oWx", "u", "x", "+open critical draft", id="and is asked when it is worse once more"
        ),
        pytest.param(
            "oWx", "o", "x", "+open critical draft", id="a draft that a pause took back is owed again"
        ),
        pytest.param("oex", "u", "w", "+open warning draft", id="an expired open is asked anew"),
        pytest.param("", "u", "x", "", id="no update without an open"),
        pytest.param("oaw", "u", "x", "+update critical draft", id="an update after an approved open"),
        pytest.param("oaw", "u", "w", "", id="no update that says what was said"),
        pytest.param(
            "oaw upx", "u", "w", "-1", id="an update is taken back when it is back to what was said"
        ),
        pytest.param("oax upw", "u", "w", "", id="a pending update is not asked twice"),
        pytest.param(
            "oax uaw", "u", "x", "+update critical draft", id="an update compares with the last said"
        ),
        pytest.param("odx", "e", "x", "+resolve critical auto", id="a resolve is automatic by default"),
        pytest.param("ofx", "e", "x", "+resolve critical auto", id="a failed delivery is still told the end"),
        pytest.param("", "e", "x", "", id="no resolve where nothing was said"),
        pytest.param("opx", "e", "x", "-0", id="recovery withdraws a pending open"),
        pytest.param(
            "oax upw", "e", "w", "-1, +resolve warning auto", id="recovery withdraws a pending update"
        ),
        pytest.param("orx", "e", "x", "", id="no resolve after a rejected open"),
        pytest.param("oax eax", "e", "x", "", id="one resolve is enough"),
        pytest.param(
            "oax epx", "o", "x", "-1", id="a resolve drafted by a pause is taken back when it is still bad"
        ),
        pytest.param(
            "oax epx", "e", "x", "-1, +resolve critical auto", id="and replaced by policy after recovery"
        ),
        pytest.param("oax eax", "u", "w", "", id="nothing more is said once customers were told it is over"),
        pytest.param("oax", "m", "x", "+update of member critical draft", id="a late member is an update"),
        pytest.param("oax max", "m", "x", "", id="another one after it is the same news"),
        pytest.param("oax mpx", "m", "x", "", id="or waits for review already"),
        pytest.param("oax upw", "m", "w", "", id="what waits of another severity tells enough"),
        pytest.param("oaw mpw", "u", "x", "~1 critical", id="an update of a member follows the severity"),
        pytest.param("oaw mpx", "u", "w", "~1 warning", id="and is as true when it falls again"),
        pytest.param("oax mrx", "m", "x", "", id="a rejected one stays rejected"),
        pytest.param("opx", "m", "x", "", id="no update of a member before an approved open"),
        pytest.param("oax eax", "m", "x", "", id="nor after the end"),
        pytest.param(
            "oax edx", "b", "w", "+update of reopened warning draft", id="it is back: a draft reopens"
        ),
        pytest.param("oax edx bpw", "b", "w", "", id="once"),
        pytest.param("oax edx bpw", "u", "x", "~2 critical", id="and follows the severity"),
        pytest.param("oax edx brx", "u", "x", "", id="a rejected reopening stays rejected"),
        pytest.param(
            "oax edx brw", "u", "x", "+update of reopened critical draft", id="unless it is worse than that"
        ),
        pytest.param("oax edx bpx", "e", "x", "-2", id="over again before it was approved, nothing was said"),
        pytest.param(
            "oax edx bax", "e", "x", "+resolve critical auto", id="after it was, the end is owed again"
        ),
        pytest.param("oax edx bax", "u", "w", "+update warning draft", id="and updates go on"),
        pytest.param(
            "oax edx bax edx", "b", "x", "+update of reopened critical draft", id="a third time, too"
        ),
        pytest.param("oax epx", "b", "x", "-1", id="where the end was not told yet it is taken back"),
        pytest.param("oWx", "b", "x", "+open critical draft", id="where nothing was told it is an open"),
    ],
)
def test_an_episode_speaks_by_the_default_policy(had: str, step: str, severity: str, does: str) -> None:
    of = OF.get(step, "severity")
    assert told(propose(actions(had), DEFAULT, STEPS[step], SEVERITIES[severity], of=of)) == does


@pytest.mark.parametrize(
    ("mode", "most", "said"),
    [
        pytest.param("off", "auto", "off", id="off says nothing"),
        pytest.param("off", "draft", "off", id="off says nothing however careful"),
        pytest.param("draft", "draft", "draft", id="a draft stays one"),
        pytest.param("auto", "auto", "auto", id="auto is approved by policy"),
        pytest.param("auto", "draft", "draft", id="a careful auto is a draft"),
        pytest.param("auto", "off", "off", id="what may say nothing says nothing"),
    ],
)
def test_the_mode_of_a_step(mode: Mode, most: Mode, said: Mode) -> None:
    assert mode_of(IncidentPolicy(open=mode), "open", most) == said


def test_a_careful_resolve_is_a_draft_and_stays_one() -> None:
    assert (
        told(propose(actions("oax"), DEFAULT, "resolve", "critical", most="draft"))
        == "+resolve critical draft"
    )
    assert propose(actions("oax epx"), DEFAULT, "resolve", "critical", most="draft") == ()


def test_a_reopening_that_is_confirmed_is_approved_by_policy() -> None:
    had, bold = actions("oax edx bpx"), IncidentPolicy(update="auto")
    assert propose(had, bold, "update", "critical", most="auto", of="reopened") == (Approve("2"),)
    assert propose(had, bold, "update", "critical", most="draft", of="reopened") == ()
    assert propose(had, DEFAULT, "update", "critical", most="auto", of="reopened") == ()
    assert propose(had, bold, "update", "critical", most="auto") == ()  # it only got worse, and better again


def test_off_takes_back_what_waits_and_proposes_nothing() -> None:
    silent = IncidentPolicy(open="off", update="off", resolve="off")
    assert propose((), silent, "open", "critical") == ()
    assert told(propose(actions("oax upw"), silent, "resolve", "warning")) == "-1"


def test_a_resolve_is_owed_only_after_an_open_and_before_a_resolve() -> None:
    assert [
        is_owed_resolve(actions(had)) for had in ("", "opx", "oax", "oax epx", "oax eax", "orx", "oax erx")
    ] == [
        False,
        False,
        True,
        True,
        False,
        False,
        True,
    ]


def test_everything_that_waits_can_be_taken_back() -> None:
    assert told(withdraw_pending(actions("oax upw epx"), "paused")) == "-1, -2"


# ---- every short story


class Episode:
    """An episode's actions, with commands and a person's word applied as the store applies them."""

    def __init__(self, policy: IncidentPolicy) -> None:
        self.policy, self.actions = policy, list[Action]()

    def happens(self, event: str) -> None:
        if event in ("approve", "reject"):
            self._reviewed(Status.APPROVED if event == "approve" else Status.REJECTED)
            return
        if event == "pause":
            self._obey(withdraw_pending(self.actions, "paused"))
            if is_owed_resolve(self.actions):
                self._obey([Propose("resolve", "critical", "draft")])
            return
        step, severity = event.split()
        of = OF.get(step, "severity")
        given = propose(self.actions, self.policy, STEPS[step], SEVERITIES[severity], of=of)
        self._obey(given)
        again = propose(self.actions, self.policy, STEPS[step], SEVERITIES[severity], of=of)
        assert again == (), f"proposing {event} twice changed something"

    def _reviewed(self, status: Status) -> None:
        waiting = [n for n, action in enumerate(self.actions) if action.status is Status.PENDING]
        if waiting:
            self.actions[waiting[0]] = replace(self.actions[waiting[0]], status=status)

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Propose):
                status = Status.APPROVED if command.mode == "auto" else Status.PENDING
                number = str(len(self.actions))
                self.actions.append(Action(number, command.step, status, command.severity, command.of))
                continue
            n = int(command.action)
            assert self.actions[n].status is Status.PENDING, "only what waits is revised or withdrawn"
            if isinstance(command, Withdraw):
                self.actions[n] = replace(self.actions[n], status=Status.WITHDRAWN)
            elif isinstance(command, Approve):
                self.actions[n] = replace(self.actions[n], status=Status.DONE)
            else:
                self.actions[n] = replace(self.actions[n], severity=command.severity)


POLICIES = [
    DEFAULT,
    IncidentPolicy(open="auto", update="auto", resolve="auto"),
    IncidentPolicy(open="draft", update="draft", resolve="draft"),
    IncidentPolicy(open="auto", update="off", resolve="off"),
]
EVENTS = ("u w", "u x", "e x", "approve", "reject", "pause")


@pytest.mark.parametrize(
    "policy", POLICIES, ids=lambda policy: f"{policy.open}-{policy.update}-{policy.resolve}"
)
def test_the_laws_of_review_hold_for_every_short_story(policy: IncidentPolicy) -> None:
    for story in itertools.product(EVENTS, repeat=5):
        episode = Episode(policy)
        for event in ("o w", *story):
            episode.happens(event)
            published = [action.step for action in episode.actions if action.status in PUBLISHED]
            assert published.count("open") <= 1
            assert published.count("resolve") <= 1
            assert not published or published[0] == "open"
            pending = [action.step for action in episode.actions if action.status is Status.PENDING]
            assert len(pending) <= 1
            assert "open" not in pending or "open" not in published
            if event == "e x":
                assert set(pending) <= {"resolve"}


@pytest.mark.parametrize(
    "policy", POLICIES, ids=lambda policy: f"{policy.open}-{policy.update}-{policy.resolve}"
)
def test_what_customers_are_told_opens_and_ends_in_turn_in_every_short_story(policy: IncidentPolicy) -> None:
    for story in itertools.product(("u x", "m w", "e x", "b w", "approve", "reject"), repeat=5):
        episode = Episode(policy)
        for event in ("o w", "approve", "e x", *story):
            episode.happens(event)
            said = [action for action in episode.actions if action.status in PUBLISHED]
            turns = [
                "e" if a.step == "resolve" else "o" for a in said if a.step != "update" or a.of == "reopened"
            ]
            assert "".join(turns) in "oeoeoeoeoe"
            assert not turns or turns[0] == "o"
            assert sum(action.status is Status.PENDING for action in episode.actions) <= 1


def test_recovery_withdraws_whatever_waits_in_every_short_story() -> None:
    for story in itertools.product(("u w", "u x", "approve", "reject"), repeat=4):
        episode = Episode(DEFAULT)
        for event in ("o w", *story, "e x"):
            episode.happens(event)
        assert not [action for action in episode.actions if action.status is Status.PENDING]
        assert not is_owed_resolve(episode.actions)
