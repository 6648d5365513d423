"""A stage in words and votes: who says what, how many it takes, what stands beside it, what would change it. It judges nothing."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from msgspec import Struct

from evaluators import episode, quorum
from evaluators.levels import BAD, Threshold, Zones
from evaluators.model import Stage, Verdict
from evaluators.policy import Policy
from evaluators.state import State
from evaluators.vote import Region
from rules.duration import format_duration

SOON_S: Final = 86400.0
"""Maintenance that begins so soon is told."""
_LISTED: Final = 6

About = Literal[
    "paused",
    "round",
    "held",
    "maintenance",
    "planned",
    "dependency",
    "asking",
    "sick",
    "flapping",
    "episode",
    "dissent",
    "advisory",
    "careful",
    "group",
]


class Vote(Struct, frozen=True):
    """What one region or member says, and the last runs it rests on (oldest first). `note`: why it may not count."""

    voter: str  # a region's slug, a member's id
    name: str
    verdict: str | None
    at: datetime | None
    fresh: bool
    stale_at: datetime | None
    recent: tuple[str, ...]
    streak: str
    note: str


class Note(Struct, frozen=True):
    """What stands beside a stage. `about` names it in a word."""

    about: About
    text: str


class Why(Struct, frozen=True):
    """The votes, and sentences: what they amount to, what stands beside it, what would change it, by which rules."""

    votes: tuple[Vote, ...]
    because: tuple[str, ...]
    beside: tuple[Note, ...]
    change: tuple[str, ...]
    rules: tuple[str, ...]


def named(policy: Policy, state: State) -> set[str]:
    """Ids of all that `explain` speaks of."""
    windows = {window.id for window in policy.windows}
    groups = {group for group in (policy.group, state.group) if group}
    return windows | groups | {*policy.parents, *state.members}


def explain(
    policy: Policy, state: State, now: float, names: Mapping[str, str], *, together: bool = False
) -> Why:
    """Why a beat or group is what it is at `now`, seconds since the epoch. `names` has what ids are called.

    `together`: all its regions run in one process.
    """
    told = _Told(policy, state, now, names)
    rules = [*told.rules()]
    if together:
        rules.append(
            "These regions run in one process: they share its network, and see its failures together."
        )
    return Why(told.votes(), tuple(told.because()), tuple(told.beside()), tuple(told.change()), tuple(rules))


class _Told:
    """The sentences about one state at one time."""

    def __init__(self, policy: Policy, state: State, now: float, names: Mapping[str, str]) -> None:
        self._policy, self._state, self._now, self._names = policy, state, now, names
        self._need = quorum.need_of(policy, state)
        self._fresh = {} if state.suspended else quorum.fresh_votes(policy, state, now)
        self._bad = [voter for voter, verdict in self._fresh.items() if verdict in BAD]
        self._critical = [voter for voter in self._bad if self._fresh[voter] is Verdict.CRITICAL]
        self._voters: Sequence[str] = policy.regions
        self._what = "region" if policy.members is None else "member"
        self._own = [quorum.SIGNALS] if policy.members is not None and state.heard else []
        if policy.members is not None:
            self._voters = [*(member for member, said in state.members.items() if said.counts), *self._own]

    # ---- votes

    def votes(self) -> tuple[Vote, ...]:
        if self._policy.members is not None:
            return tuple(self._member(voter) for voter in (*self._state.members, *self._own))
        return tuple(self._region(slug) for slug in (*self._policy.regions, *self._policy.sick))

    def _region(self, slug: str) -> Vote:
        region, note = self._state.regions.get(slug, Region()), ""
        vote, until = region.vote, region.vote.at + self._policy.max_age_s
        if slug in self._policy.sick:
            note = "suspended as sick"
        elif slug in self._bad and slug not in quorum.not_over(self._policy, self._state, [slug], [])[0]:
            note = "seen before it became ok: it opens nothing"
        streak = f"{vote.bad} bad in a row" if vote.bad else f"{vote.good} ok in a row" if vote.good else ""
        return Vote(
            slug,
            slug,
            vote.verdict,
            _moment(vote.at) if vote.at else None,
            slug in self._fresh,
            _moment(until) if vote.verdict and until < math.inf else None,
            tuple(seen.verdict for seen in region.recent),
            streak,
            note,
        )

    def _member(self, voter: str) -> Vote:
        said, verdict = self._state.members.get(voter), self._fresh.get(voter)
        note = ""
        if said and not said.counts:
            note = "paused: it does not count"
        elif said and episode.is_excused(said):
            note = "suppressed: it opens nothing"
        since = _moment(said.since) if said else None
        return Vote(voter, self._called(voter), verdict, since, voter in self._fresh, None, (), "", note)

    # ---- what they amount to

    def because(self) -> Iterator[str]:
        policy, state, fresh = self._policy, self._state, self._fresh
        count = len(self._voters)
        if state.signals:
            yield f"{len(state.signals)} open {_many(len(state.signals), 'signal')} from others."
        if state.suspended or policy.heartbeat is not None:
            return
        if not count:
            if policy.members is not None:
                yield "It has no member that counts: nobody can say what it is."
            elif not state.signals:
                yield "No probe runs it: it is ok until somebody reports otherwise."
            return
        if not self._is_enough:
            kept = "the stage is held" if self._need.holds else "the stage is unknown"
            have = f"{len(fresh)} of {count} {self._what}s have a fresh vote, and {self._must} must"
            yield f"{have}: {kept} until they do."
            return
        need, bad, critical = self._need, len(self._bad), len(self._critical)
        yield self._level("critical", state.critical, critical, len(fresh) - critical, need.critical)
        if not state.critical:
            yield self._level("warning or worse", state.warning, bad, len(fresh) - bad, need.warning)

    @property
    def _must(self) -> str:
        zones = self._need.zones
        return self._zones(zones) if zones else str(max(self._need.min_voters, 1))

    @property
    def _is_enough(self) -> bool:
        return self._are_enough(self._fresh)

    def _are_enough(self, voters: Collection[str]) -> bool:
        return bool(voters) and self._need.is_met_by(voters)

    def _level(self, said: str, is_open: bool, bad: int, better: int, needed: Threshold) -> str:
        count = len(self._voters)
        says = f"{bad} of {count} {self._what}s say {said}"
        if is_open:
            ends = [self._zones(zones) for zones in needed.ends]
            if needed.close > 1 or not ends:
                ends = [f"{needed.close} of {count} say better ({better} do)", *ends]
            else:
                ends[-1] += " say better"
            return f"{says}; it ends when {', with '.join(ends)}."
        return f"{says}; {self._zones(needed.opens) if needed.opens else f'{needed.open} of {count}'} must."

    def _zones(self, zones: Zones) -> str:
        """So many zones, and of each what it takes: its only region, some of them, or all."""
        parts = list[str]()
        for voters, votes in zones.needs:
            names = sorted(voters)
            some = self._or(names, votes) if votes in (1, len(names)) else f"{votes} of {self._listed(names)}"
            parts.append(some)
        every = zones.of == len(parts)
        return parts[0] if len(parts) == 1 else f"{'each' if every else zones.of} of ({'; '.join(parts)})"

    def rules(self) -> Iterator[str]:
        policy = self._policy
        if policy.heartbeat is not None:
            yield "No probe runs it: the server casts the one vote, on pings and on their absence."
        elif policy.members is not None:
            yield "Its members vote with their stages; one that is unknown or paused has no vote."
        elif policy.regions:
            fresh = f"{len(self._fresh)} of {len(policy.regions)} regions have a fresh vote"
            yield f"{fresh}; at least {self._must} must."
            runs = f"{policy.open_runs} bad or {policy.close_runs} good runs in a row"
            yield f"A region's vote changes after {runs}, and is fresh for {_lasting(policy.max_age_s)}."

    # ---- what stands beside the stage

    def beside(self) -> Iterator[Note]:
        policy, state = self._policy, self._state
        if state.suspended:
            now = (
                "nothing is measured" if policy.members is None else "its members go on, and it says nothing"
            )
            frozen = " Its episode is frozen until it runs again." if state.frozen else ""
            yield Note("paused", f"It is paused: {now}.{frozen}")
            return
        if state.round is not None:
            answers = f"{len(state.round.answers)} of {state.round.wanted} answers are in"
            until = f"it is judged at {self._clock(state.round.until)} at the latest"
            yield Note("round", f"A confirmation round is out: {answers}; {until}, and nothing opens before.")
        if self._voters and not self._is_enough and self._now < state.held_until:
            until = self._clock(state.held_until)
            yield Note("held", f"Fresh votes are awaited until {until}: the stage is held.")
        suppression = [*self._suppression()]
        yield from suppression
        if policy.sick:
            yield Note("sick", f"Suspended as sick, without a vote until others agree: {_and(policy.sick)}.")
        yield from self._flapping()
        yield from self._hold()
        if state.dissent_since:
            at, told = state.dissent_since + policy.advisory_s, "nobody is told of it"
            if state.advised:
                told = "operators were told"
            elif any(note.about in ("maintenance", "dependency") for note in suppression):
                told = "nobody is told of it meanwhile"
            elif at < math.inf:
                told = f"operators are told at {self._clock(at)}"
            since = self._clock(state.dissent_since)
            about: About = "advisory" if state.advised else "dissent"
            yield Note(about, f"Worse than the stage since {since}: {self._listed(state.dissent)}; {told}.")
        if state.careful and state.severity is not None:
            made = "A change of policy or of members made it what it is"
            yield Note("careful", f"{made}: what customers would be told is a draft.")
        elif state.severity is not None and state.open_rests != "auto":
            said = {"draft": "waits for a person", "off": "is not proposed"}[state.open_rests]
            yield Note("careful", f"It rests on triggers: what customers would be told {said}.")
        yield from self._ownership()

    def _suppression(self) -> Iterator[Note]:
        policy, state, now = self._policy, self._state, self._now
        for window in policy.windows:
            name = f"Maintenance {self._called(window.id)}"
            if window.start <= now < window.end:
                until = f"{name} until {self._clock(window.end)}"
                ends = "nothing opens meanwhile" if state.severity is None else "it ends nothing that is open"
                yield Note("maintenance", f"{until}: measuring goes on, {ends}.")
            elif now < window.start < now + SOON_S:
                yield Note("planned", f"{name} begins at {self._clock(window.start)}.")
        for parent in policy.parents:
            known = state.parents.get(parent)
            if known and known.stage is Stage.CRITICAL:
                down = f"It depends on {self._called(parent)}, which is critical"
                yield Note("dependency", f"{down}: nothing opens here meanwhile.")
        if excused := [one for one in state.members if f"{episode.MEMBER}{one}" in state.suppressed_by]:
            bad = f"Only members that are suppressed themselves make it bad: {self._listed(excused)}"
            yield Note("dependency", f"{bad}; nothing opens for them.")
        if episode.ASKING in state.suppressed_by:
            if state.clear_after:
                back = f"What it depends on came back at {self._clock(state.clear_after)}"
                yield Note("asking", f"{back}: it opens when enough regions have been bad since.")
            else:
                asked = "What it depends on was asked to look: nothing opens until it has"
                yield Note("asking", f"{asked}, or {self._clock(state.asks_until)}.")

    def _flapping(self) -> Iterator[Note]:
        state, flap = self._state, self._policy.episodes.flapping
        if state.flapping and flap and state.changes:
            changes = f"{len(state.changes)} changes since {self._clock(state.changes[0])}"
            quiet = f"at {self._clock(state.changes[-1] + flap.quiet)} if nothing changes"
            yield Note("flapping", f"Flapping, {changes}: nothing more is said until it is quiet, {quiet}.")

    def _hold(self) -> Iterator[Note]:
        """The open episode, where it lags behind the stage, and the one that may go on."""
        state = self._state
        if state.severity is None:
            until = state.recovered_at + self._policy.episodes.reopen_window
            if state.recovered_at and self._now < until:
                yield Note("episode", f"Bad again before {self._clock(until)}, the last episode goes on.")
            return
        if state.stage == state.severity or state.flapping:
            return
        at = episode.follows_at(self._policy, state)
        if state.stage is Stage.CRITICAL and any(map(episode.is_excused, state.members.values())):
            yield Note("episode", "Members that are suppressed make the episode no worse.")
        elif state.stage is Stage.OK:
            yield Note("episode", f"The episode ends at {self._clock(at)} if it stays ok.")
        elif state.stage is not Stage.UNKNOWN:
            becomes = f"it becomes {state.stage} at {self._clock(at)} if that lasts"
            yield Note("episode", f"The episode is still {state.severity}; {becomes}.")
        elif at < math.inf:
            yield Note("episode", f"The episode ends as inactive at {self._clock(at)} if it stays unknown.")
        else:
            yield Note("episode", f"The episode stays {state.severity}: unknown neither opens nor ends one.")

    def _ownership(self) -> Iterator[Note]:
        wanted, state = self._policy.group, self._state
        if state.group and state.group == wanted:
            yield Note("group", f"Its group {self._called(wanted)} owns its episodes.")
        elif state.between:
            then = f", then {self._called(wanted)} does" if wanted else ""
            left = "It left its group while it was bad"
            yield Note("group", f"{left}: no episode is opened for it until it is ok{then}.")
        elif wanted:
            joins = f"It joins the group {self._called(wanted)} when it is ok"
            yield Note("group", f"{joins}; until then its episode is its own.")

    # ---- what would change it

    def change(self) -> Iterator[str]:
        state = self._state
        if state.suspended:
            yield "Resuming it: fresh votes are then awaited."
            return
        if self._policy.heartbeat is not None:
            yield from self._pings()
        elif self._voters:
            yield from self._thresholds() if self._is_enough else self._lacking()
        if self._policy.heartbeat is None and self._policy.members is None:
            yield from self._runs()
            yield from self._silence()
        if state.signals:
            marks = [signal.rpartition("\x1f")[2] for signal in state.signals]
            more = [f"{len(marks) - _LISTED} more"] if len(marks) > _LISTED else []
            yield f"A recovery of each of these would end what others report: {_and(marks[:_LISTED] + more)}."
        yield from self._openings()

    def _lacking(self) -> Iterator[str]:
        zones = (self._need.zones,) if self._need.zones else ()
        parts = self._missing("fresh", max(self._need.min_voters, 1), zones, self._fresh)
        yield from self._would("say what it is", parts)

    def _thresholds(self) -> Iterator[str]:
        """How many more votes open or end each level."""
        need, state, fresh = self._need, self._state, self._fresh
        opening, worst = quorum.not_over(self._policy, state, self._bad, self._critical)
        same = len(self._critical) == len(self._bad) and need.warning == need.critical
        if not state.critical:
            yield from self._would("make it critical", self._opening("critical", need.critical, worst))
        elif not same:  # else the same votes end both
            better = [voter for voter in fresh if voter not in self._critical]
            parts = self._missing("better", need.critical.close, need.critical.ends, better)
            yield from self._would("end critical", parts)
        if not state.warning:
            parts = self._opening("warning or critical", need.warning, opening)
            yield from self._would("make it a warning", parts)
            return
        good = [voter for voter in fresh if voter not in self._bad]
        parts = self._missing("ok", need.warning.close, need.warning.ends, good)
        yield from self._would("then make it ok" if state.critical and not same else "make it ok", parts)

    def _opening(self, said: str, needed: Threshold, have: Collection[str]) -> list[str]:
        if needed.opens is not None:
            return self._missing(said, 0, (needed.opens,), have)
        return self._missing(said, needed.open, (), have)

    def _missing(self, said: str, wanted: int, zones: Iterable[Zones], have: Collection[str]) -> list[str]:
        """The votes that are still missing, in words."""
        parts, told = list[str](), 0
        for one in zones:
            lacks = [(zone, votes) for zone, votes in one.needs if len(zone.intersection(have)) < votes]
            left = one.of - (len(one.needs) - len(lacks))
            if left > 0:
                asked = [self._votes(votes, said, zone, zone.intersection(have)) for zone, votes in lacks]
                every = left == len(asked)
                parts.append(" and ".join(asked) if every else f"{left} of ({'; '.join(asked)})")
                fewest = sorted(votes - len(zone.intersection(have)) for zone, votes in lacks)[:left]
                told = max(told, sum(fewest))
        if wanted - len(have) > told:
            parts.append(self._votes(wanted, said, self._voters, have) + (" in all" if parts else ""))
        return parts

    def _votes(self, wanted: int, said: str, of: Collection[str], have: Collection[str]) -> str:
        left = wanted - len(have)
        others = [voter for voter in self._voters if voter in of and voter not in have]
        return f"{left} {'more ' if have else ''}{said} {_many(left, 'vote')} of {self._or(others, left)}"

    def _would(self, what: str, parts: Sequence[str]) -> Iterator[str]:
        if parts:
            yield f"{' and '.join(parts)} would {what}."

    def _runs(self) -> Iterator[str]:
        """Which runs would change a region's vote."""
        policy, found = self._policy, defaultdict[str, list[str]](list)
        for slug in policy.regions:
            vote = self._state.regions.get(slug, Region()).vote
            if slug not in self._fresh:
                found[f"1 ok run, or {policy.open_runs} bad ones in a row, in {{}} would be a vote."].append(
                    slug
                )
            elif vote.verdict in BAD and vote.good < policy.close_runs:
                left = policy.close_runs - vote.good
                more = f"{left} {'more ' if vote.good else ''}ok {_many(left, 'run')}"
                found[f"{more} in {{}} would make its vote ok."].append(slug)
            elif vote.verdict is Verdict.OK and vote.bad:
                left = policy.open_runs - vote.bad
                found[f"{left} more bad {_many(left, 'run')} in {{}} would make its vote bad."].append(slug)
        for text, slugs in found.items():
            each = f"each of {_and(slugs)}" if len(slugs) > 1 else slugs[0]
            yield text.format(each)

    def _silence(self) -> Iterator[str]:
        """When it would be unknown if nothing came any more."""
        if self._need.holds or not self._is_enough or not self._policy.regions:
            return
        first = sorted(self._fresh, key=lambda slug: self._state.regions[slug].vote.at)
        last = next(slug for n, slug in enumerate(first, 1) if not self._are_enough(first[n:]))
        at = self._state.regions[last].vote.at + self._policy.max_age_s
        yield f"Without any run from now on it is unknown at {self._clock(at)}."

    def _pings(self) -> Iterator[str]:
        heartbeat, plan = self._state.heartbeat, self._policy.heartbeat
        assert plan is not None
        if not heartbeat.due_at:
            yield "It waits for its first ping; until then nothing is missed."
        elif heartbeat.missed:
            yield "A ping that ends a run well would make it ok."
        else:
            grace = f", and missed {_lasting(plan.grace_s)} later" if plan.grace_s else ""
            yield f"The next ping is due at {self._clock(heartbeat.due_at)}{grace}."

    def _openings(self) -> Iterator[str]:
        """What would open the episode that is suppressed."""
        state = self._state
        if not state.suppressed_by:
            return
        for window in self._policy.windows:
            if window.start <= self._now < window.end:
                ends = f"When maintenance {self._called(window.id)} ends at {self._clock(window.end)}"
                yield f"{ends}, it opens if it is still bad."
        for parent in self._policy.parents:
            if f"{episode.DEPENDENCY}{parent}" in state.suppressed_by:
                back = f"When {self._called(parent)} is no longer critical"
                yield f"{back}, every region looks again, and it opens if it is still bad."
        if episode.ASKING in state.suppressed_by and not state.clear_after:
            until = f"or at {self._clock(state.asks_until)}"
            yield f"It opens once what it depends on has answered and is not critical, {until}."

    # ---- words

    def _called(self, one: str) -> str:
        return "reports about itself" if one == quorum.SIGNALS else self._names.get(one, one)

    def _clock(self, at: float) -> str:
        then, now = _moment(at), _moment(self._now)
        day = "" if then.date() == now.date() else f"{then:%d %b} "
        return f"{day}{then:%H:%M:%S} UTC"

    def _listed(self, voters: Sequence[str]) -> str:
        return _and([self._called(voter) for voter in voters])

    def _or(self, voters: Sequence[str], wanted: int) -> str:
        if len(voters) > _LISTED:
            return f"the {len(voters)} {'other ' if len(voters) < len(self._voters) else ''}{self._what}s"
        return _and([self._called(voter) for voter in voters], "or" if wanted < len(voters) else "and")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _many(count: int, one: str) -> str:
    return one if count == 1 else f"{one}s"


def _and(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _lasting(seconds: float) -> str:
    return format_duration(round(seconds))
