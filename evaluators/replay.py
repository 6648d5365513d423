"""The fold behind replays: facts into states as the live engine does it. Pure; where the facts come from is `engine.replay`'s."""

from collections.abc import Sequence

from evaluators.facts import Effect, Fact, Returned, Tick
from evaluators.policy import Policy
from evaluators.quorum import decide, next_deadline
from evaluators.state import State


def fold(
    policy: Policy, state: State, fact: Fact
) -> tuple[State, Sequence[tuple[State, tuple[Effect, ...]]]]:
    """`state` after every deadline up to `fact` and `fact` itself; and each step that had effects, with the state it reached.

    A `Tick` is no more than the deadlines before it. `Returned` is folded without them: that time did not pass.
    """
    steps: list[tuple[State, tuple[Effect, ...]]] = []
    if not isinstance(fact, Returned):
        while (deadline := next_deadline(policy, state)) is not None and deadline <= fact.at:
            state, effects = decide(policy, state, Tick(deadline))
            if effects:
                steps.append((state, effects))
    if not isinstance(fact, Tick):
        state, effects = decide(policy, state, fact)
        if effects:
            steps.append((state, effects))
    return state, steps
