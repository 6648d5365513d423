"""What happens next in the demo, and what a newcomer is told about it. Pure: time and what was seen are handed in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from api.context import Guide
from upbeat.demo.shop import INBOX, JOURNEY


class Phase(StrEnum):
    """Where the story is."""

    WAITING = "waiting"  # for somebody to open the page
    HELLO = "hello"
    SLOW = "slow"
    OUTAGE = "outage"  # until the draft is decided
    DECIDED = "decided"  # approved or rejected; the shop is still down
    RECOVERING = "recovering"
    REPORTED = "reported"  # another system says that something is wrong
    CALM = "calm"  # until it repeats
    UNATTENDED = "unattended"  # nobody decided: the shop is back, the draft goes


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the phases last, in seconds. The outage begins `hello_s + slow_s` after the page was opened: under 15."""

    hello_s: float = 4.0
    slow_s: float = 5.0
    settle_s: float = 60.0  # for a first journey, before the story does without
    patience_s: float = 300.0
    hold_s: float = 15.0
    report_s: float = 15.0
    calm_s: float = 45.0

    def scaled(self, factor: float) -> "Pace":
        """The same story, faster or slower."""
        names = self.__slots__
        return Pace(*(getattr(self, name) * factor for name in names))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server says at one moment. `draft` is the newest opening proposed for the checkout, of any round."""

    now_s: float
    is_open: bool = False  # somebody has opened the page
    stage: str = "unknown"  # of the checkout
    journey: str | None = None  # stage of the journey; None where there is no browser
    draft: str | None = None
    status: str | None = None  # of that draft
    incident: str | None = None  # status of the newest incident


@dataclass(frozen=True, slots=True)
class Story:
    """Where it is, since when, and whose draft it is about."""

    phase: Phase = Phase.WAITING
    since_s: float = 0.0
    draft: str | None = None  # of this round
    was_approved: bool = False
    before: str | None = None  # the draft of the round before
    is_mute: bool = False  # what fails in this round: the button to pay, else the database


TOLD_SHOWN: Final = 3
APPROVED: Final = frozenset({"approved", "done", "failed"})
_STEPS: Final = {
    Phase.WAITING: "1 of 6: watch",
    Phase.HELLO: "1 of 6: watch",
    Phase.SLOW: "1 of 6: watch",
    Phase.OUTAGE: "2 of 6: an outage",
    Phase.DECIDED: "4 of 6: customers",
    Phase.RECOVERING: "5 of 6: recovery",
    Phase.REPORTED: "6 of 6: other systems",
    Phase.CALM: "Over",
    Phase.UNATTENDED: "Over",
}
_DOWN: Final = frozenset({Phase.OUTAGE, Phase.DECIDED})


def is_slow(story: Story) -> bool:
    """Whether the search answers slowly."""
    return story.phase is Phase.SLOW or is_down(story)


def is_down(story: Story) -> bool:
    """Whether the database refuses connections, and the checkout fails for it."""
    return story.phase in _DOWN and not story.is_mute


def is_mute(story: Story) -> bool:
    """Whether the button to pay does nothing, which only a browser sees."""
    return story.phase in _DOWN and story.is_mute


def advance(pace: Pace, story: Story, seen: Seen) -> Story:
    """The story after one look. Total; at most one phase further."""
    if story.draft is None and seen.draft is not None and seen.draft != story.before:
        story = replace(story, draft=seen.draft)
    phase = _following(pace, story, seen)
    if phase is None:
        return story
    after = replace(story, phase=phase, since_s=seen.now_s)
    if phase is Phase.DECIDED:
        return replace(after, was_approved=_status(story, seen) in APPROVED)
    if phase is Phase.SLOW:  # a new round
        after = replace(after, draft=None, was_approved=False, before=story.draft or story.before)
        return replace(
            after, is_mute=seen.journey == "ok" and not story.is_mute
        )  # in turns, where there is a browser
    return after


def _status(story: Story, seen: Seen) -> str | None:
    return seen.status if story.draft is not None and seen.draft == story.draft else None


def _following(pace: Pace, story: Story, seen: Seen) -> Phase | None:
    """The phase that begins now, if any does."""
    spent_s, status = seen.now_s - story.since_s, _status(story, seen)
    match story.phase:
        case Phase.WAITING:
            return Phase.HELLO if seen.is_open else None
        case Phase.HELLO:
            is_settled = seen.stage == "ok" and (
                seen.journey in (None, "ok") or spent_s >= pace.settle_s
            )  # an outage is seen only by who saw it well before
            return Phase.SLOW if spent_s >= pace.hello_s and is_settled else None
        case Phase.SLOW:
            return Phase.OUTAGE if spent_s >= pace.slow_s else None
        case Phase.OUTAGE:
            if status in APPROVED or status == "rejected":
                return Phase.DECIDED
            return Phase.UNATTENDED if spent_s >= pace.patience_s else None
        case Phase.DECIDED:
            return Phase.RECOVERING if spent_s >= pace.hold_s else None
        case Phase.RECOVERING:
            is_over = seen.incident == "resolved" if story.was_approved else seen.stage == "ok"
            return Phase.REPORTED if is_over else None
        case Phase.REPORTED:
            return Phase.CALM if spent_s >= pace.report_s else None
        case Phase.UNATTENDED:
            if status in APPROVED:  # in the last moment
                return Phase.DECIDED
            return Phase.SLOW if spent_s >= pace.calm_s and seen.stage == "ok" else None
        case Phase.CALM:
            return Phase.SLOW if spent_s >= pace.calm_s and seen.stage == "ok" else None


def tell(story: Story, told: Sequence[str]) -> Guide:
    """What the console shows on top. `told` is what operators heard in this round, oldest first."""
    heard = f" Operators were told: {'; '.join(told[-TOLD_SHOWN:])}." if told else ""
    draft = f"/console/actions/{story.draft}" if story.draft else None
    step = _STEPS[story.phase]
    match story.phase:
        case Phase.WAITING | Phase.HELLO:
            return Guide(
                step,
                "Welcome. All is well, for a moment",
                "Three regions look at a small shop every few seconds. Watch the beats: soon something goes wrong.",
            )
        case Phase.SLOW:
            return Guide(
                step,
                "The search has become slow",
                f"Slower than its degraded_after is a warning. It concerns operators, not customers.{heard}",
            )
        case Phase.OUTAGE if draft is None and story.is_mute:
            return Guide(
                step,
                "The pay button does nothing, and every check is green",
                "A release broke the page's script, while each address answers as before. Only a browser that buys a mug "
                f"every few seconds can see it; it takes a picture when its last step fails.{heard}",
                f"/console/beats/{JOURNEY}",
                "See its runs",
            )
        case Phase.OUTAGE if draft is None:
            return Guide(
                step,
                "The checkout fails, and so does its database",
                "One region saw it and asked the others to look at once. When most agree, operators are told and a "
                f"draft for customers is made: one for both, as they are a group.{heard}",
            )
        case Phase.OUTAGE:
            return Guide(
                "3 of 6: your turn",
                "A draft waits for you",
                f"Customers know nothing yet. Open the draft, see what each region saw, and approve it.{heard}",
                draft,
                "Open the draft",
            )
        case Phase.DECIDED if story.was_approved:
            return Guide(
                step,
                "Customers are told",
                "You approved it, so the status page shows an incident. The shop is about to recover by itself.",
                "/p/shop",
                "See what customers see",
            )
        case Phase.DECIDED:
            return Guide(
                step,
                "You rejected it",
                "Customers hear nothing of this outage unless it becomes worse. The shop is about to recover.",
                draft,
                "See the rejected draft",
            )
        case Phase.RECOVERING:
            return Guide(
                step,
                "The shop is back",
                f"Once most regions have seen it well twice, Upbeat ends the incident by itself.{heard}",
                "/p/shop",
                "See what customers see",
            )
        case Phase.REPORTED:
            return Guide(
                step,
                "The parcel service says that it is late",
                "No check saw that: another system posted it to an inbox. A trigger made it a warning of Delivery, and a draft; "
                f"it says of every event what became of it, and why.{heard}",
                f"/console/inboxes/{INBOX}",
                "See what it posted",
            )
        case Phase.UNATTENDED:
            return Guide(
                step,
                "Nobody approved it, and the shop is back",
                "The draft was withdrawn: customers heard nothing of what is over. It begins again soon.",
                draft,
                "See the withdrawn draft" if draft else None,
            )
        case Phase.CALM:
            return Guide(
                step,
                "It is over",
                "That was the whole path: seen or reported, decided, told, drafted, approved, resolved; and a draft goes when what it is "
                f"about is over.{heard} It begins again soon.",
                "/p/shop",
                "See the history customers see",
            )
