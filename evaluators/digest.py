"""When news for one channel leave together, and what the one message says. Pure; which they are is the engine's to gather."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from evaluators.model import Notice, Severity, Stage

WITHIN_S: Final = 60.0
EVERY_S: Final = 5.0
"""In a storm a digest leaves at most so often: nobody waits longer, and nobody is told more often."""
SHOWN: Final = 20


class Pace:
    """How much one channel was told lately."""

    __slots__ = ("_digest_at", "_told")

    def __init__(self) -> None:
        self._told: deque[tuple[float, int]] = deque()
        self._digest_at = float("-inf")

    def told(self, now: float, count: int = 1, *, together: bool = False) -> None:
        """So many left now."""
        self._told.append((now, count))
        if together:
            self._digest_at = now

    def is_storm(self, waiting: int, over: int, now: float) -> bool:
        """Whether what waits makes it more than `over` within a minute."""
        while self._told and self._told[0][0] <= now - WITHIN_S:
            self._told.popleft()
        return waiting + sum(count for _, count in self._told) > over

    def may_gather(self, now: float) -> bool:
        """Whether the next digest may leave."""
        return now >= self._digest_at + EVERY_S


def digest(
    key: str,
    identity: str,
    counts: Mapping[str, int],
    titles: Sequence[str],
    severity: Severity | None,
    at: float,
    page: str,
    link: str,
) -> Notice:
    """So many news at once, by kind, and the first of them; `key` is what its end is told under."""
    total = sum(counts.values())
    kinds = ", ".join(
        f"{count} {told}" for told, count in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
    )
    shown = tuple(titles[:SHOWN])
    return Notice(
        id=identity,
        told="digest",
        title=f"{total} news at once: {kinds}",
        at=at,
        page=page,
        stage=Stage(severity) if severity else None,
        severity=severity,
        why=shown + ((f"and {total - len(shown)} more",) if total > len(shown) else ()),
        episode=key,
        since=at,
        link=link,
    )
