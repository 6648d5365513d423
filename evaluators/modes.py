"""How bold a step may be: `off`, `draft` or `auto`. What rests on several is as bold as the most careful of those it cannot do without."""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from rules.incident import Mode, Step

_BOLDNESS: Final[dict[Mode, int]] = {"off": 0, "draft": 1, "auto": 2}
BY_BOLDNESS: Final[tuple[Mode, ...]] = ("auto", "draft", "off")


class Modes(Struct, frozen=True, array_like=True):
    """What whoever says that something is bad allows of each step."""

    open: Mode = "auto"
    update: Mode = "auto"
    resolve: Mode = "auto"

    def at_most(self, mode: Mode) -> "Modes":
        """Each step no bolder than that."""
        return Modes(least(self.open, mode), least(self.update, mode), least(self.resolve, mode))


ALL: Final = Modes()
"""Of votes and of reports: they leave it to the owner's policy."""


def least(*modes: Mode) -> Mode:
    """The most careful of these."""
    return min(modes, key=_BOLDNESS.__getitem__)


def is_bolder(mode: Mode, than: Mode) -> bool:
    """Whether `mode` allows more."""
    return _BOLDNESS[mode] > _BOLDNESS[than]


def carried_by(voters: Iterable[tuple[str, Modes]], suffice: Callable[[list[str]], bool]) -> Modes:
    """What may be said of what these voters say together, where `suffice` says whether some of them would be enough.

    The boldest that are enough by themselves count; where only all of them together hold it up, the most careful.
    """
    given = list(voters)

    def mode(step: Step) -> Mode:
        of: dict[str, Mode] = {voter: getattr(modes, step) for voter, modes in given}
        for bold in BY_BOLDNESS:
            if suffice([voter for voter, mine in of.items() if not is_bolder(bold, mine)]):
                return bold
        return least("auto", *of.values())

    return Modes(mode("open"), mode("update"), mode("resolve"))
