"""What an alerting system does with each kind of news: an episode, or an incident by hand, is one alert there, opened, taken and ended under its key."""

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import aiohttp

from evaluators.model import Notice, Stage
from exporters.answer import send
from exporters.outcome import FIRST, Delivered, Memory, Outcome

Request = tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], str]
Does = Literal["trigger", "acknowledge", "resolve", "note"]

DOES: Final[Mapping[str, Does]] = {
    "open": "trigger",
    "change": "trigger",
    "reminder": "trigger",
    "escalation": "trigger",
    "digest": "trigger",
    "test": "trigger",  # and ended at once
    "recovery": "resolve",
    "acknowledged": "acknowledge",
    "comment": "note",
    "assigned": "note",
    "snoozed": "note",
    "flapping": "note",
    "unknown": "note",
    "draft": "note",
    "incident": "note",
    "silence": "note",
}
"""News that is not here, or of no episode, opens nothing that anything would end: it is told by other channels."""


class AlertingExporter:
    """Sends what `requests` makes of a notice, in order: URLs, documents and methods other than POST; none to say nothing.

    Keys are the same in every try: a repeated one changes nothing.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        requests: Callable[[Notice], Iterable[Request]],
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._requests, self._headers, self._now_s = session, requests, headers, now_s

    async def export(self, notice: Notice, _: Memory = FIRST) -> Outcome:
        """Send all requests of `notice`, until one is not taken."""
        for url, document, *method in self._requests(notice):
            how = method[0] if method else "POST"
            outcome = await send(self._session, url, document, self._headers, now_s=self._now_s(), method=how)
            if not isinstance(outcome, Delivered):
                return outcome
        return Delivered()


def alert_of(notice: Notice) -> tuple[Does, str] | None:
    """What is done there, and the key of the alert, the same from open to recovery; None for nothing."""
    if notice.told == "incident" and notice.incident and not notice.episode:  # by hand: an alert of its own
        return "resolve" if notice.stage is Stage.OK else "trigger", notice.incident
    key, does = f"test:{notice.id}" if notice.told == "test" else notice.episode, DOES.get(notice.told)
    return (does, key) if does and key else None
