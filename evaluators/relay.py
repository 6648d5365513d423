"""What beats and groups say to each other: effects of one as facts of others. Who carries them is not known here."""

from collections.abc import Sequence

from evaluators.facts import (
    Answered,
    Asked,
    Effect,
    MemberChanged,
    MemberSaid,
    ParentChanged,
    ParentSaid,
    ParentsAsked,
    Transitioned,
)

Heard = MemberChanged | ParentChanged | Asked


def heard(effect: Effect, me: str, children: Sequence[str]) -> list[tuple[str, Heard]]:
    """Who hears of what `me` (an id) says, and as what: its group, its parents, the `children` that depend on it."""
    if isinstance(effect, MemberSaid):
        said = MemberChanged(
            effect.at, me, effect.stage, effect.is_suppressed, effect.counts, effect.is_gone, effect.modes
        )
        return [(effect.group, said)]
    if isinstance(effect, Transitioned | ParentSaid):
        stands = ParentChanged(effect.at, me, effect.stage)
        return [(child, stands) for child in children]
    if isinstance(effect, ParentsAsked):
        asks = Asked(effect.at, me, effect.looks)
        return [(parent, asks) for parent in effect.parents]
    if isinstance(effect, Answered):
        answer = ParentChanged(effect.at, me, effect.stage, is_answer=effect.looked)
        return [(child, answer) for child in effect.children]
    return []
