"""From effects to rows: history, episodes, actions and what operators are told, all in the transaction that decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import UUID

from engine.fold import Consequence, Fold
from engine.store import drafts, episodes, objects, results, reviews, signals, states
from engine.store.database import Connection
from engine.store.ids import derived_id, show
from engine.store.objects import Stored
from engine.store.pushed import Relayed
from engine.store.telling import Telling, tell_all
from engine.subject import Subject
from evaluators import facts, quorum, words
from evaluators.model import ConfirmOrder, Notice, Stage
from evaluators.policy import Policy
from evaluators.relay import heard
from evaluators.state import State
from rules.channels.channel import Told

_BAD = (Stage.WARNING, Stage.CRITICAL)
_ORDER = (Stage.CRITICAL, Stage.WARNING, Stage.UNKNOWN, Stage.OK)
_SHOWN_SIGNALS = 20
_SHOWN_MEMBERS = 50
_SAID = facts.ConfirmWanted | facts.MemberSaid | facts.ParentsAsked | facts.ParentSaid | facts.Answered
"""Effects for other beats and groups, and for probes: nobody is told of them."""


@dataclass(frozen=True, slots=True)
class Order:
    """A confirmation round to be asked for once the transaction is committed."""

    regions: tuple[str, ...]
    order: ConfirmOrder


@dataclass(slots=True)
class _Case:
    """One beat's or group's consequences in one transaction, with what they all need."""

    connection: Connection
    stored: Stored
    subject: Subject
    group: Stored | None  # that speaks: itself, or the one that it is a member of
    page: str
    public_url: str
    evidence: list[dict[str, Any]]
    tellings: list[Telling]  # of all cases: what is said is queued in one go
    began_at: float | None  # of the newest episode that was there
    told: int = 0  # notices so far: what happens again and again in one transaction is told each time

    @property
    def title(self) -> str:
        """What people call it."""
        return _title(self.stored)


async def record(
    connection: Connection, fold: Fold, public_url: str
) -> tuple[list[Order], list[dict[str, Any]]]:
    """Write what was decided. Returns orders to send and news for live viewers, both after the commit.

    When ten thousand beats change at once, most of them only leave a line of history: that is written in one go.
    """
    consequences, by_subject = fold.consequences, _by_subject(fold.consequences)
    orders = [
        _order(c.subject.subject_id, c.effect)
        for c in consequences
        if isinstance(c.effect, facts.ConfirmWanted)
    ]
    turns = [(c.subject, c.state, c.effect) for c in consequences if isinstance(c.effect, facts.Transitioned)]
    names = await _members(connection, [state for _, state, _ in turns])
    await states.record_transitions(connection, [_transition(*turn, names) for turn in turns])
    news = [_standing_news(subject, state, turned.was) for subject, state, turned in turns]
    marked = {subject_id: fold.changed[subject_id].state for subject_id in fold.marked}
    reasons = {subject_id: state.suppressed_by for subject_id, state in marked.items() if state.suppressed_by}
    await states.note_suppression(connection, reasons)
    news += [_standing_news(fold.subject(one), state, state.stage) for one, state in marked.items()]
    telling = {subject_id: group for subject_id, group in by_subject.items() if any(map(_is_told, group))}
    tellings: list[Telling] = []
    cases = await _cases(connection, telling, public_url, tellings)
    # Turn by turn, each one's own in their order: what opens and is proposed is written for all of a turn at once.
    for turn in zip_longest(*(telling[case.stored.id] for case in cases)):
        turned = [(case, consequence) for case, consequence in zip(cases, turn, strict=True) if consequence]
        news += await _turn(connection, turned, telling)
    tellings += await _renew(connection, fold, public_url)
    await tell_all(connection, tellings)
    return orders, news


async def _renew(connection: Connection, fold: Fold, public_url: str) -> list[Telling]:
    """What waits for a person shows what is seen now, and says what templates make of it. A beat's without one stays as it is."""
    templated = await reviews.templated(connection, list(fold.stirred)) if fold.stirred else set()
    stirred = {
        one: (fold.subject(one), fold.changed[one].state)
        for one in fold.stirred
        if one in templated or fold.subject(one).policy.members is not None
    }
    tellings: list[Telling] = []
    for subject_id, evidence in (await _seen(connection, stirred)).items():
        state = stirred[subject_id][1]
        subjects = [subject_id, *map(UUID, state.members)]
        waiting = await reviews.renew_evidence(
            connection, subject_id, state.episodes, evidence, subjects, is_templated=subject_id in templated
        )
        tellings += [
            drafts.waiting(action, state.at, public_url)
            for action in await reviews.several(connection, waiting)
        ]
    return tellings


def said(
    consequences: Sequence[Consequence], children_of: Callable[[UUID], Sequence[UUID]]
) -> list[tuple[UUID, Relayed]]:
    """What subjects say to each other: members to groups, parents to children, children to parents."""
    found: list[tuple[UUID, Relayed]] = []
    for consequence in consequences:
        me = consequence.subject.subject_id
        hears = heard(consequence.effect, str(me), [str(child) for child in children_of(me)])
        found += ((UUID(other), Relayed(fact)) for other, fact in hears)
    return found


def _by_subject(consequences: Sequence[Consequence]) -> dict[UUID, list[Consequence]]:
    found: dict[UUID, list[Consequence]] = {}
    for consequence in consequences:
        found.setdefault(consequence.subject.subject_id, []).append(consequence)
    return found


def _is_told(consequence: Consequence) -> bool:
    """Whether anybody hears of it, or more than a line of history is written."""
    effect = consequence.effect
    if isinstance(effect, facts.Transitioned):
        return not effect.first
    return not isinstance(effect, _SAID)


def _order(subject_id: UUID, wanted: facts.ConfirmWanted) -> Order:
    return Order(wanted.regions, ConfirmOrder(str(subject_id), wanted.request, wanted.runs, wanted.spacing_s))


def _transition(
    subject: Subject, state: State, effect: facts.Transitioned, names: Mapping[str, str]
) -> states.Transition:
    fresh = quorum.fresh_votes(subject.policy, state, effect.at)
    votes = {names.get(voter, voter): verdict for voter, verdict in fresh.items()}
    return states.Transition(
        subject.subject_id, effect.at, effect.was, effect.stage, votes, state.suppressed_by
    )


async def _cases(
    connection: Connection,
    telling: Mapping[UUID, Sequence[Consequence]],
    public_url: str,
    tellings: list[Telling],
) -> list[_Case]:
    """What is needed to speak of these beats and groups, read in a few queries however many they are."""
    if not telling:
        return []
    subjects = {subject_id: group[0].subject for subject_id, group in telling.items()}
    speakers = {subject_id: _speaker(group) for subject_id, group in telling.items()}
    pages = {subject.page_id for subject in subjects.values()}
    wanted_ids = {*telling, *pages, *(one for one in speakers.values() if one)}
    stored = {one.id: one for one in await objects.several(connection, list(wanted_ids))}
    seen = await _seen(connection, {one: (subjects[one], group[-1].state) for one, group in telling.items()})
    began_at = await episodes.newest_began_at(connection, list(telling))
    cases = []
    for subject_id, subject in subjects.items():
        if (me := stored.get(subject_id)) is None:
            continue
        speaker = speakers[subject_id]
        group = stored.get(speaker) if speaker else None
        page, began = stored[subject.page_id].slug, began_at.get(subject_id)
        case = _Case(connection, me, subject, group, page, public_url, seen[subject_id], tellings, began)
        cases.append(case)
    return cases


async def _seen(
    connection: Connection, of: Mapping[UUID, tuple[Subject, State]]
) -> dict[UUID, list[dict[str, Any]]]:
    """What a draft shows of each of these beats and groups."""
    if not of:
        return {}
    seen: dict[UUID, list[dict[str, Any]]] = {subject_id: [] for subject_id in of}
    wanted = [(subject_id, region) for subject_id, (s, _) in of.items() for region in s.policy.regions]
    # What may still be fresh, and an hour at least: of ten thousand beats a region may be silent for weeks.
    reach_s = max(3600.0, *(_reach_s(s.policy) for s, _ in of.values()))
    since = states.moment(min(state.at for _, state in of.values()) - reach_s)
    runs = await results.newest_per_region(connection, wanted, since)
    for beat, shown in await reviews.shown_runs(connection, runs):
        seen[beat].append(shown)
    grouped = {one: state for one, (s, state) in of.items() if s.policy.members is not None}
    seen |= await _of_members(connection, grouped)
    beats = [subject_id for subject_id in of if subject_id not in grouped]
    for subject_id, rows in (await signals.of_beats(connection, beats, _SHOWN_SIGNALS)).items():
        seen[subject_id] += map(reviews.signal_evidence, rows)
    return seen


def _speaker(group: Sequence[Consequence]) -> UUID | None:
    """The group that speaks: the subject itself, or the one that it is a member of."""
    last = group[-1]
    if last.subject.policy.members is not None:
        return last.subject.subject_id
    return UUID(last.state.group) if last.state.group else None


async def _members(connection: Connection, states_: Sequence[State]) -> dict[str, str]:
    """The slugs of all members of these, by id as text."""
    ids = {UUID(member) for state in states_ for member in state.members}
    return {str(one.id): one.slug for one in await objects.several(connection, list(ids))} if ids else {}


async def _voters(case: _Case, voters: Sequence[str]) -> str:
    """What these regions are called, or members and what was one."""
    if case.subject.policy.members is None:
        return ", ".join(voters)
    ids = [UUID(voter) for voter in voters if voter != quorum.SIGNALS]
    names = {str(one.id): one.slug for one in await objects.several(case.connection, ids)}
    return ", ".join(names.get(voter, voter) for voter in voters)


async def _of_members(
    connection: Connection, grouped: Mapping[UUID, State]
) -> dict[UUID, list[dict[str, Any]]]:
    """What a draft shows of a group: its members, the worst first, each with its newest run or signal that is as bad; its own signals."""
    if not grouped:
        return {}
    names = await _members(connection, list(grouped.values()))
    worst = {
        group: sorted(
            state.members.items(), key=lambda item: (_ORDER.index(item[1].stage), names.get(item[0], ""))
        )
        for group, state in grouped.items()
    }
    bad = {
        UUID(member): said
        for members in worst.values()
        for member, said in members[:_SHOWN_MEMBERS]
        if said.stage in _BAD
    }
    since = states.moment(min((said.since for said in bad.values()), default=0.0) - 3600.0)
    runs = await results.newest_bad(connection, [(member, said.stage) for member, said in bad.items()], since)
    why = dict(await reviews.shown_runs(connection, runs))
    reported = await signals.of_beats(connection, [*bad, *grouped], _SHOWN_SIGNALS)
    for member in bad:
        for row in reported[member][:1]:
            why.setdefault(member, reviews.signal_evidence(row))
    return {
        group: [
            {"region": "", "at": _iso(said.since), "error": None}
            | why.get(UUID(member), {})
            | {"beat": names.get(member, ""), "verdict": said.stage, "since": _iso(said.since)}
            for member, said in members[:_SHOWN_MEMBERS]
        ]
        + [reviews.signal_evidence(row) for row in reported[group]]
        for group, members in worst.items()
    }


def _iso(epoch_s: float) -> str:
    return states.moment(epoch_s).isoformat()


def _reach_s(policy: Policy) -> float:
    """How long ago the run was due that a vote rests on: a ping is missed when its grace is over."""
    return 2 * policy.hold_s if policy.heartbeat is None else 3600.0 + policy.heartbeat.grace_s


async def _turn(
    connection: Connection,
    turned: Sequence[tuple[_Case, Consequence]],
    telling: Mapping[UUID, Sequence[Consequence]],
) -> list[dict[str, Any]]:
    """One consequence of each of these cases; returns news."""
    opened = [(case.stored, c.effect) for case, c in turned if isinstance(c.effect, facts.EpisodeOpened)]
    if opened:
        await reviews.open_episodes(connection, opened)
    asked: dict[UUID, tuple[_Case, reviews.Proposal]] = {}
    for case, consequence in turned:
        effect, state = consequence.effect, consequence.state
        if isinstance(effect, facts.StepProposed):
            members = [*map(UUID, state.members)]
            proposal = reviews.Proposal(case.stored.id, state.episodes, effect, case.evidence, members)
            asked[proposal.episode] = (case, proposal)
        else:
            await _one(case, consequence, telling[case.stored.id])
    waiting = await reviews.propose(connection, [proposal for _, proposal in asked.values()])
    for action in await reviews.several(connection, waiting):
        case, proposal = asked[action["episode_id"]]
        case.tellings.append(drafts.waiting(action, proposal.effect.at, case.public_url))
    return [_news(case.subject, "action") for case, _ in asked.values()]


async def _one(case: _Case, consequence: Consequence, group: Sequence[Consequence]) -> None:
    effect, state = consequence.effect, consequence.state
    connection, subject_id = case.connection, case.subject.subject_id
    same = [c.effect for c in group if c.state is state]  # of one decision: a transaction may hold several
    calms = any(isinstance(one, facts.FlappingEnded) for one in same)
    if isinstance(effect, facts.Transitioned):
        _tell_transition(case, effect, state, same)
    elif isinstance(effect, facts.NeverAnswered):
        _tell(case, "unknown", effect.at, f"{case.title} has never sent data", None, state)
    elif isinstance(effect, facts.EpisodeOpened):
        if not effect.reopened:
            case.began_at = effect.at
        headline = words.headline(Stage(effect.severity), case.title) + (" again" if effect.reopened else "")
        _tell(case, "open", effect.at, headline, effect.number, state)
    elif isinstance(effect, facts.SeverityChanged):
        headline = words.headline(Stage(effect.severity), case.title)
        if effect.severity == "critical":
            await episodes.wake(connection, reviews.episode_id(subject_id, effect.number))
        if not calms:  # else it was just said where it ended
            _tell(case, "change", effect.at, headline, effect.number, state, was=Stage(effect.was))
    elif isinstance(effect, facts.FlappingStarted):
        await reviews.mark_flapping(connection, subject_id, effect.number, is_flapping=True)
        said = f"{case.title} is flapping: {effect.changes} changes in a short time; nothing more is said until it is quiet"
        _tell(case, "flapping", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.FlappingEnded):
        await reviews.mark_flapping(connection, subject_id, effect.number, is_flapping=False)
        said = f"{case.title} no longer flaps: it is {effect.stage}"
        if not any(isinstance(one, facts.EpisodeClosed) for one in same):
            _tell(case, "flapping", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.AdvisoryRaised):
        said = f"{case.title} is bad in {await _voters(case, effect.voters)}, and not elsewhere"
        _tell(case, "advisory", effect.at, said, None, state)
    elif isinstance(effect, facts.AdvisoryCleared):
        said = f"{case.title} is ok everywhere again"
        if effect.silent:  # suspended, silent, paused, gone or under maintenance: that is no good news
            said = f"{case.title} is ok, but {await _voters(case, effect.silent)} does not vote any more"
        _tell(case, "advisory", effect.at, said, None, state)
    elif isinstance(effect, facts.EpisodeClosed):
        waiting = await reviews.close_episode(connection, subject_id, effect)
        title = f"{case.title} no longer flaps: it" if calms else case.title
        said = words.ended(effect.cause, title)
        told: Told = "recovery" if effect.cause == "recovered" else "change"
        # The one notice in which flapping ends is for who wants to know of either.
        also: Told | None = "flapping" if calms else None
        _tell(case, told, effect.at, said, effect.number, state, also=also, ends=True)
        await _tell_drafts(case, waiting, effect.at)
    elif isinstance(effect, facts.EpisodeFrozen):
        waiting = await reviews.freeze_episode(connection, subject_id, effect.number, effect.at)
        said = f"{case.title} was paused while it was {state.stage}"
        _tell(case, "change", effect.at, said, effect.number, state, ends=True)
        await _tell_drafts(case, waiting, effect.at)


def _tell_transition(
    case: _Case, effect: facts.Transitioned, state: State, same: Sequence[facts.Effect]
) -> None:
    """Tell what no episode tells: silence, and its end. That a member is bad is its group's to tell."""
    is_told = any(isinstance(one, facts.EpisodeOpened | facts.EpisodeClosed) for one in same)
    is_news = Stage.UNKNOWN in (effect.was, effect.stage)
    is_quiet = state.suppressed_by or state.flapping or (state.group and effect.stage in _BAD)
    if effect.first or is_told or not is_news or is_quiet:
        return
    told: Told = (
        "unknown" if effect.stage is Stage.UNKNOWN else "change" if effect.stage in _BAD else "recovery"
    )
    title = words.headline(effect.stage, case.title)
    if told == "recovery":
        title = f"{case.title} sends data again"
    number = state.episodes if state.severity is not None else None
    _tell(case, told, effect.at, title, number, state, was=effect.was)


async def _tell_drafts(case: _Case, actions: Sequence[UUID], at: float) -> None:
    for action in await reviews.several(case.connection, actions):
        case.tellings.append(drafts.waiting(action, at, case.public_url))


def _tell(
    case: _Case,
    told: Told,
    at: float,
    title: str,
    number: int | None,
    state: State,
    was: Stage | None = None,
    also: Told | None = None,
    *,
    ends: bool = False,
) -> None:
    case.told += 1
    me, group = case.stored, case.group
    if number and me is not group:  # an episode of its own, from before it was a member
        group = None
    is_beat = me is not group
    notice = Notice(
        id=str(derived_id("notice", told, me.id, f"{at:.6f}", str(case.told))),
        told=told,
        title=title,
        at=at,
        beat=me.slug if is_beat else None,
        beat_title=case.title if is_beat else None,
        group=group.slug if group else None,
        group_title=_title(group) if group else None,
        page=case.page,
        stage=state.stage,
        was=was,
        severity=state.severity if number else None,
        since=case.began_at if number else None,
        tags=tuple(me.spec.get("tags", ())),
        why=tuple(_line(item) for item in case.evidence),
        episode=show("episode", reviews.episode_id(me.id, number)) if number else None,
        link=f"{case.public_url}/console/{me.kind}s/{show(me.kind, me.id)}",
    )
    listed, line = (group or me).spec.get("channels", ()), notice.episode or str(me.id)
    case.tellings.append(Telling(case.subject.page_id, listed, line, notice, also, ends))


def _title(stored: Stored) -> str:
    title: str = stored.spec.get("name") or stored.slug
    return title


def _line(item: Mapping[str, Any]) -> str:
    error, where = item["error"], item["region"]
    who = item.get("beat") or where
    said = ", ".join(
        text for text in (where if who != where else "", error["message"] if error else "") if text
    )
    return f"{who}: {item['verdict']}" + (f" ({said})" if said else "")


def _standing_news(subject: Subject, state: State, was: Stage) -> dict[str, Any]:
    beside = {"flapping": state.flapping, "suppressed": bool(state.suppressed_by)}
    return _news(subject, "stage", stage=state.stage, was=was, since=state.since, **beside)


def _news(subject: Subject, event: str, **more: object) -> dict[str, Any]:
    return {
        "event": event,
        "page": str(subject.page_id),
        "kind": "beat" if subject.policy.members is None else "group",
        "beat": subject.slug,
        "subject_id": str(subject.subject_id),
        **more,
    }
