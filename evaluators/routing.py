"""Which channel wants which notice, and when it leaves. Pure: time is the notice's; what was told before is said."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from evaluators.model import Notice
from rules.channels.channel import DAYS, ChannelRule, Hours, Told

BEGINS: Final = ("open", "escalation")
_ABOUT: Final = ("acknowledged", "comment", "assigned", "snoozed", "recovery", "flapping")
"""What is only said of an episode to who was told of it, however bad it is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a channel knows of an episode: how it began last. `held`: why news of it wait there, which may still be taken back."""

    is_told: bool = False
    held: Literal["after", "hours"] | None = None

    def then(self, told: str, held: Literal["after", "hours"] | None) -> "Standing":
        """After one more of its news, which left or (`held`) waits. Where nothing waits, an opening that does is not known."""
        begins_anew = self.held is None and told == "open"
        return Standing(not held or (self.is_told and not begins_anew), self.held or held)


@dataclass(frozen=True, slots=True)
class Place:
    """A notice's place in the outbox. `due_at` None: at once, or behind what waits there.

    `dropped`: why it never leaves; `drops`: why what waits there never does.
    """

    due_at: float | None = None
    waits: Literal["after", "hours"] | None = None
    dropped: str | None = None
    drops: str | None = None


def wants(channel: ChannelRule, notice: Notice, *, is_listed: bool, also: Told | None = None) -> bool:
    """Whether `channel` is told; `is_listed`: what it is about names it. `also`: what else the notice tells."""
    if not (channel.enabled and (is_listed or channel.everything)):
        return False
    if {notice.told, also}.isdisjoint(channel.on):
        return False
    bad = {notice.severity, notice.was} - {None, "ok", "unknown"}
    if bad and notice.told not in _ABOUT and bad.isdisjoint(channel.severities):
        return False
    # What is of a page as a whole, or of a region, is nobody's in particular.
    is_anybodys = notice.beat is None and notice.group is None
    is_any = is_anybodys or not (channel.beats or channel.groups or channel.tags)
    return (
        is_any
        or notice.beat in channel.beats
        or notice.group in channel.groups
        or not set(notice.tags).isdisjoint(channel.tags)
    )


def place(
    channel: ChannelRule, notice: Notice, standing: Standing | None, *, ends: bool = False
) -> Place | None:
    """When `channel` is told what it wants; None: never, for it was not told how it began.

    `standing` None: it is no news of an episode. `ends`: nothing more comes of it.
    """
    due_at = waits = drops = None
    is_told = standing is not None and standing.is_told
    if standing is not None:
        if ends and standing.held:
            drops = "it was over before its opening was told"
            if not is_told:
                return Place(dropped=drops, drops=drops)
            drops = "it was over before"  # and of that they are told
        elif standing.held == "after" and notice.told == "acknowledged":
            drops = f"{notice.by} acknowledged it before"
            return Place(dropped=drops, drops=drops)
        elif notice.told == "escalation" and standing.held == "after":
            drops = "it was escalated before"
        elif notice.told == "open" and channel.after:
            due_at, waits = notice.at + channel.after, "after"
        elif standing.held:
            return Place(waits=standing.held)  # it stays behind what waits
        elif notice.told not in BEGINS and not is_told:
            is_beginning = notice.told in ("change", "draft") and not (channel.after or ends)
            if not is_beginning:
                return None
    begins_at = _begins(channel.hours, due_at or notice.at)
    if begins_at is None or channel.hours is None:
        return Place(due_at, "after" if waits else None, drops=drops)
    if ends and is_told and channel.pairs:
        return Place(drops=drops)  # to end an alert wakes nobody
    if channel.hours.outside == "drop" and not (ends and is_told):
        return Place(dropped="it came outside of the channel's hours", drops=drops)
    return Place(begins_at, "after" if waits else "hours", drops=drops)


def _begins(hours: Hours | None, at: float) -> float | None:
    """When these hours begin next; None within them."""
    if hours is None:
        return None
    zone = ZoneInfo(hours.timezone)
    today = datetime.fromtimestamp(at, UTC).astimezone(zone).date()
    begin, end = time.fromisoformat(hours.from_), time.fromisoformat(hours.to)
    for days in range(-1, 8):
        day = today + timedelta(days)
        if DAYS[day.weekday()] not in hours.days:
            continue
        begins = datetime.combine(day, begin, zone).timestamp()
        ends = datetime.combine(day + timedelta(end <= begin), end, zone).timestamp()
        if at < ends:
            return begins if at < begins else None
    raise AssertionError("hours: has a day at least")
