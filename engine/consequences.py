"""From effects to rows: history, episodes, actions and what operators are told, all in the transaction that decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from engine.fold import Consequence
from engine.store import objects, outbox, results, reviews, states
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from engine.store.objects import Stored
from engine.subject import Subject
from evaluators import quorum, words
from evaluators.model import ConfirmOrder, Notice, Stage
from evaluators.quorum import State
from rules.beat import BEAT
from rules.channel import CHANNEL, Told

_BAD = (Stage.WARNING, Stage.CRITICAL)


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

    @property
    def title(self) -> str:
        return BEAT.validate_python(self.beat.spec).title


async def record(
    connection: Connection, consequences: Sequence[Consequence], public_url: str
) -> tuple[list[Order], list[dict[str, Any]]]:
    """Write what the effects ask for. Returns orders to send and news for live viewers, both after the commit."""
    orders: list[Order] = []
    news: list[dict[str, Any]] = []
    for beat_id, group in _by_beat(consequences).items():
        orders += [_order(beat_id, c.effect) for c in group if isinstance(c.effect, quorum.ConfirmWanted)]
        lasting = [c for c in group if not isinstance(c.effect, quorum.ConfirmWanted)]
        if not lasting:
            continue
        beat = await objects.get(connection, beat_id)
        assert beat is not None
        evidence = await _evidence(connection, lasting[0].subject)
        case = _Case(connection, beat, lasting[0].subject, public_url, evidence)
        for consequence in lasting:
            news += await _one(case, consequence, group)
    return orders, news


def _by_beat(consequences: Sequence[Consequence]) -> dict[UUID, list[Consequence]]:
    groups: dict[UUID, list[Consequence]] = {}
    for consequence in consequences:
        groups.setdefault(consequence.subject.beat_id, []).append(consequence)
    return groups


def _order(beat_id: UUID, wanted: quorum.ConfirmWanted) -> Order:
    return Order(wanted.regions, ConfirmOrder(str(beat_id), wanted.request, wanted.runs, wanted.spacing_s))


async def _evidence(connection: Connection, subject: Subject) -> list[dict[str, Any]]:
    rows = await results.newest_per_region(connection, subject.beat_id, subject.policy.regions)
    return [evidence_of(row) for row in rows]


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


async def _one(case: _Case, consequence: Consequence, group: Sequence[Consequence]) -> list[dict[str, Any]]:
    effect, state = consequence.effect, consequence.state
    connection, beat_id = case.connection, case.subject.beat_id
    if isinstance(effect, quorum.Transitioned):
        votes = quorum.fresh_votes(case.subject.policy, state, effect.at)
        await states.record_transition(connection, beat_id, effect.at, effect.was, effect.stage, votes)
        await _tell_transition(case, effect, group)
        return [_news(case, "stage", stage=effect.stage, was=effect.was, since=effect.at)]
    if isinstance(effect, quorum.EpisodeOpened):
        await reviews.open_episode(connection, case.beat, effect)
        await _tell(
            case, "open", effect.at, words.headline(Stage(effect.severity), case.title), effect.number, state
        )
    elif isinstance(effect, quorum.EpisodeClosed):
        await reviews.close_episode(connection, beat_id, effect)
        if effect.cause == "recovered":
            await _tell(
                case, "recovery", effect.at, words.headline(Stage.OK, case.title), effect.number, state
            )
        else:
            said = f"{case.title} was removed while it was {state.stage}"
            await _tell(case, "change", effect.at, said, effect.number, state)
    elif isinstance(effect, quorum.EpisodeFrozen):
        await reviews.freeze_episode(connection, beat_id, effect.number, effect.at)
        said = f"{case.title} was paused while it was {state.stage}"
        await _tell(case, "change", effect.at, said, effect.number, state)
    elif isinstance(effect, quorum.StepProposed):
        waiting = await reviews.propose(connection, beat_id, state.episodes, effect, case.evidence)
        for action in waiting:
            await _tell_draft(case, action, effect.at, state)
        return [_news(case, "action")]
    return []


async def _tell_transition(case: _Case, effect: quorum.Transitioned, group: Sequence[Consequence]) -> None:
    """Tell what no episode's beginning or end tells: silence, its end, and a change within an episode."""
    same = [c for c in group if getattr(c.effect, "at", None) == effect.at]
    begins = any(isinstance(c.effect, quorum.EpisodeOpened) for c in same)
    ends = any(isinstance(c.effect, quorum.EpisodeClosed) for c in same)
    if effect.first or begins or ends:
        return
    state = next(c.state for c in group if c.effect is effect)
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
    await _queue(case, told, _notice(case, told, at, title, number, state, was=was))


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
    slugs = case.beat.spec.get("channels", [])
    if not slugs:
        return
    rows = await case.connection.fetch(
        "SELECT id, spec FROM objects WHERE kind = 'channel' AND removed_at IS NULL AND page_id = $1 AND slug = ANY ($2)",
        case.beat.page_id,
        slugs,
    )
    targets = []
    for row in rows:
        channel = CHANNEL.validate_python(row["spec"])
        if channel.enabled and told in channel.on:
            targets.append(row["id"])
    await outbox.put(case.connection, targets, str(case.beat.id), notice.id, notice)


def _news(case: _Case, event: str, **more: object) -> dict[str, Any]:
    return {
        "event": event,
        "page": str(case.beat.page_id),
        "beat": case.beat.slug,
        "beat_id": str(case.beat.id),
        **more,
    }
