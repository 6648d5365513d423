"""From effects to rows: history, episodes, actions and what operators are told, all in the transaction that decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from engine.fold import Consequence
from engine.store import objects, outbox, results, reviews, signals, states
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from engine.store.objects import Stored
from engine.store.pushed import Relayed
from engine.subject import Subject
from evaluators import facts, quorum, words
from evaluators.model import ConfirmOrder, Notice, Stage
from evaluators.policy import Policy
from evaluators.state import State
from rules.channel import CHANNEL, Told

_BAD = (Stage.WARNING, Stage.CRITICAL)
_SHOWN_SIGNALS = 20
_SAID = facts.ConfirmWanted | facts.MemberSaid | facts.ParentsAsked | facts.ParentSaid | facts.Answered
"""Effects for other beats and groups, and for probes: nobody is told of them."""


@dataclass(frozen=True, slots=True)
class Order:
    """A confirmation round to be asked for once the transaction is committed."""

    regions: tuple[str, ...]
    order: ConfirmOrder


@dataclass(slots=True)
class _Case:
    """One beat's consequences in one transaction, with what they all need."""

    connection: Connection
    beat: Stored
    subject: Subject
    public_url: str
    evidence: list[dict[str, Any]]
    channels: list[Stored]
    title: str
    told: int = 0  # notices so far: what happens again and again in one transaction is told each time


async def record(
    connection: Connection, consequences: Sequence[Consequence], public_url: str
) -> tuple[list[Order], list[dict[str, Any]]]:
    """Write what the effects ask for. Returns orders to send and news for live viewers, both after the commit.

    When ten thousand beats change at once, most of them only leave a line of history: that is written in one go.
    """
    groups = _by_beat(consequences)
    orders = [
        _order(subject_id, c.effect)
        for subject_id, group in groups.items()
        for c in group
        if isinstance(c.effect, facts.ConfirmWanted)
    ]
    await states.record_transitions(connection, [_transition(c) for c in consequences if _is_transition(c)])
    news = [_stage_news(c) for c in consequences if _is_transition(c)]
    telling = {subject_id: group for subject_id, group in groups.items() if any(map(_is_told, group))}
    for case in await _cases(connection, telling, public_url):
        for consequence in telling[case.beat.id]:
            news += await _one(case, consequence, telling[case.beat.id])
    return orders, news


def said(
    consequences: Sequence[Consequence], children_of: Callable[[UUID], Sequence[UUID]]
) -> list[tuple[UUID, Relayed]]:
    """What subjects say to each other: members to groups, parents to children, children to parents."""
    found: list[tuple[UUID, Relayed]] = []
    for consequence in consequences:
        effect, me = consequence.effect, consequence.subject.subject_id
        if isinstance(effect, facts.MemberSaid):
            fact = facts.MemberChanged(
                effect.at, str(me), effect.stage, effect.is_suppressed, effect.counts, effect.is_gone
            )
            found.append((UUID(effect.group), Relayed(fact)))
        elif isinstance(effect, facts.Transitioned | facts.ParentSaid):
            stands = Relayed(facts.ParentChanged(effect.at, str(me), effect.stage))
            found += ((child, stands) for child in children_of(me))
        elif isinstance(effect, facts.ParentsAsked):
            asks = Relayed(facts.Asked(effect.at, str(me), effect.looks))
            found += ((UUID(parent), asks) for parent in effect.parents)
        elif isinstance(effect, facts.Answered):
            answer = Relayed(facts.ParentChanged(effect.at, str(me), effect.stage, is_answer=True))
            found += ((UUID(child), answer) for child in effect.children)
    return found


def _by_beat(consequences: Sequence[Consequence]) -> dict[UUID, list[Consequence]]:
    groups: dict[UUID, list[Consequence]] = {}
    for consequence in consequences:
        groups.setdefault(consequence.subject.subject_id, []).append(consequence)
    return groups


def _is_transition(consequence: Consequence) -> bool:
    return isinstance(consequence.effect, facts.Transitioned)


def _is_told(consequence: Consequence) -> bool:
    """Whether anybody hears of it, or more than a line of history is written."""
    effect = consequence.effect
    if isinstance(effect, facts.Transitioned):
        return not effect.first
    return not isinstance(effect, _SAID)


def _order(subject_id: UUID, wanted: facts.ConfirmWanted) -> Order:
    return Order(wanted.regions, ConfirmOrder(str(subject_id), wanted.request, wanted.runs, wanted.spacing_s))


def _transition(consequence: Consequence) -> states.Transition:
    effect, subject = consequence.effect, consequence.subject
    assert isinstance(effect, facts.Transitioned)
    votes = quorum.fresh_votes(subject.policy, consequence.state, effect.at)
    return states.Transition(subject.subject_id, effect.at, effect.was, effect.stage, votes)


async def _cases(
    connection: Connection, groups: Mapping[UUID, Sequence[Consequence]], public_url: str
) -> list[_Case]:
    """What is needed to speak of these beats, read in three queries however many they are."""
    if not groups:
        return []
    subjects = {subject_id: group[0].subject for subject_id, group in groups.items()}
    beats = await objects.several(connection, list(groups))
    seen: dict[UUID, list[dict[str, Any]]] = {subject_id: [] for subject_id in groups}
    wanted = [(subject_id, region) for subject_id, s in subjects.items() for region in s.policy.regions]
    # What may still be fresh, and an hour at least: of ten thousand beats a region may be silent for weeks.
    reach_s = max(3600.0, *(_reach_s(s.policy) for s in subjects.values()))
    since = states.moment(min(group[0].state.at for group in groups.values()) - reach_s)
    for row in await results.newest_per_region(connection, wanted, since):
        seen[row["beat_id"]].append(evidence_of(row))
    for subject_id, rows in (await signals.of_beats(connection, list(groups))).items():
        seen[subject_id] += map(signal_evidence, rows[:_SHOWN_SIGNALS])
    pages = {subject.page_id for subject in subjects.values()}
    channels = await objects.listing(connection, "channel", pages=list(pages))
    return [
        _Case(
            connection,
            beat,
            subjects[beat.id],
            public_url,
            seen[beat.id],
            [c for c in channels if c.page_id == beat.page_id and c.slug in beat.spec.get("channels", ())],
            beat.spec.get("name") or beat.slug,
        )
        for beat in beats
    ]


def _reach_s(policy: Policy) -> float:
    """How long ago the run was due that a vote rests on: a ping is missed when its grace is over."""
    return 2 * policy.hold_s if policy.heartbeat is None else 3600.0 + policy.heartbeat.grace_s


def evidence_of(row: Row) -> dict[str, Any]:
    """What a draft shows of one region's newest run."""
    failed = row["failure_type"] is not None
    return {
        "region": row["region"],
        "verdict": row["verdict"],
        "at": row["at"].isoformat(),
        "run": show("run", row["run_id"]),
        "error": {"type": row["failure_type"], "message": row["failure_message"]} if failed else None,
    }


def signal_evidence(row: Row) -> dict[str, Any]:
    """What a draft shows of an open signal."""
    return {
        "region": row["source"],
        "verdict": row["severity"],
        "at": row["at"].isoformat(),
        "error": {"type": row["fingerprint"], "message": row["message"]},
    }


async def _one(case: _Case, consequence: Consequence, group: Sequence[Consequence]) -> list[dict[str, Any]]:
    effect, state = consequence.effect, consequence.state
    connection, subject_id = case.connection, case.subject.subject_id
    if isinstance(effect, facts.Transitioned):
        await _tell_transition(case, effect, state, group)
    elif isinstance(effect, facts.NeverAnswered):
        await _tell(case, "unknown", effect.at, f"{case.title} has never sent data", None, state)
    elif isinstance(effect, facts.EpisodeOpened):
        await reviews.open_episode(connection, case.beat, effect)
        headline = words.headline(Stage(effect.severity), case.title) + (" again" if effect.reopened else "")
        await _tell(case, "open", effect.at, headline, effect.number, state)
    elif isinstance(effect, facts.SeverityChanged):
        headline = words.headline(Stage(effect.severity), case.title)
        await _tell(case, "change", effect.at, headline, effect.number, state, was=Stage(effect.was))
    elif isinstance(effect, facts.FlappingStarted):
        await reviews.mark_flapping(connection, subject_id, effect.number, is_flapping=True)
        said = f"{case.title} is flapping: {effect.changes} changes in a short time; nothing more is said until it is quiet"
        await _tell(case, "flapping", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.FlappingEnded):
        await reviews.mark_flapping(connection, subject_id, effect.number, is_flapping=False)
        said = f"{case.title} no longer flaps: it is {effect.stage}"
        await _tell(case, "flapping", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.AdvisoryRaised):
        said = f"{case.title} is bad in {', '.join(effect.voters)}, and not elsewhere"
        await _tell(case, "advisory", effect.at, said, None, state)
    elif isinstance(effect, facts.AdvisoryCleared):
        await _tell(case, "advisory", effect.at, f"{case.title} is ok everywhere again", None, state)
    elif isinstance(effect, facts.EpisodeClosed):
        await reviews.close_episode(connection, subject_id, effect)
        if effect.cause == "recovered":
            await _tell(
                case, "recovery", effect.at, words.headline(Stage.OK, case.title), effect.number, state
            )
        else:
            said = words.ended(effect.cause, case.title)
            await _tell(case, "change", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.EpisodeFrozen):
        await reviews.freeze_episode(connection, subject_id, effect.number, effect.at)
        said = f"{case.title} was paused while it was {state.stage}"
        await _tell(case, "change", effect.at, said, effect.number, state)
    elif isinstance(effect, facts.StepProposed):
        waiting = await reviews.propose(connection, subject_id, state.episodes, effect, case.evidence)
        for action in waiting:
            await _tell_draft(case, action, effect.at, state)
        return [_news(case.subject, "action")]
    return []


async def _tell_transition(
    case: _Case, effect: facts.Transitioned, state: State, group: Sequence[Consequence]
) -> None:
    """Tell what no episode tells: silence, and its end. What a member says its group tells."""
    same = [c for c in group if c.state is state]  # of one decision: a transaction may hold several of a beat
    begins = any(isinstance(c.effect, facts.EpisodeOpened) for c in same)
    ends = any(isinstance(c.effect, facts.EpisodeClosed) for c in same)
    is_news = Stage.UNKNOWN in (effect.was, effect.stage)
    if effect.first or begins or ends or not is_news or state.group or state.suppressed_by or state.flapping:
        return
    told: Told = (
        "unknown" if effect.stage is Stage.UNKNOWN else "change" if effect.stage in _BAD else "recovery"
    )
    title = words.headline(effect.stage, case.title)
    if told == "recovery":
        title = f"{case.title} sends data again"
    number = state.episodes if state.severity is not None else None
    await _tell(case, told, effect.at, title, number, state, was=effect.was)


async def _tell_draft(case: _Case, action: UUID, at: float, state: State) -> None:
    row = await reviews.one(case.connection, action)
    notice = _notice(
        case,
        "draft",
        at,
        f"A draft waits: {row['title']}",
        state.episodes,
        state,
        key=f"{action}:{row['revision']}",
    )
    link = f"{case.public_url}/console/actions/{show('action', action)}"
    notice = replace(notice, why=(row["text"],), action=show("action", action), link=link)
    await _queue(case, "draft", notice)


async def _tell(
    case: _Case, told: Told, at: float, title: str, number: int | None, state: State, was: Stage | None = None
) -> None:
    case.told += 1
    await _queue(case, told, _notice(case, told, at, title, number, state, was=was, key=str(case.told)))


def _notice(
    case: _Case,
    told: Told,
    at: float,
    title: str,
    number: int | None,
    state: State,
    *,
    was: Stage | None = None,
    key: str = "",
) -> Notice:
    episode = show("episode", reviews.episode_id(case.beat.id, number)) if number else None
    return Notice(
        id=str(derived_id("notice", told, case.beat.id, f"{at:.6f}", key)),
        told=told,
        title=title,
        at=at,
        beat=case.beat.slug,
        beat_title=case.title,
        stage=state.stage,
        was=was,
        why=tuple(_line(item) for item in case.evidence),
        episode=episode,
        link=f"{case.public_url}/console/beats/{show('beat', case.beat.id)}",
    )


def _line(item: Mapping[str, Any]) -> str:
    error = item["error"]
    return f"{item['region']}: {item['verdict']}" + (f" ({error['message']})" if error else "")


async def _queue(case: _Case, told: Told, notice: Notice) -> None:
    targets = []
    for stored in case.channels:
        channel = CHANNEL.validate_python(stored.spec)
        if channel.enabled and told in channel.on:
            targets.append(stored.id)
    if targets:
        await outbox.put(case.connection, targets, str(case.beat.id), notice.id, notice)


def _stage_news(consequence: Consequence) -> dict[str, Any]:
    effect = consequence.effect
    assert isinstance(effect, facts.Transitioned)
    return _news(consequence.subject, "stage", stage=effect.stage, was=effect.was, since=effect.at)


def _news(subject: Subject, event: str, **more: object) -> dict[str, Any]:
    return {
        "event": event,
        "page": str(subject.page_id),
        "beat": subject.slug,
        "subject_id": str(subject.subject_id),
        **more,
    }
