"""The exporter of every kind that is told in JSON requests and remembers nothing. What they are is its kind's to say."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import aiohttp

from evaluators.model import Notice
from exporters.answer import send
from exporters.outcome import FIRST, Delivered, Memory, Outcome

Request = tuple[str, dict[str, Any]] | tuple[str, dict[str, Any], str]
"""A URL, a document, and a method other than POST."""


class SendingExporter:
    """Sends what `requests` makes of a notice, in order, until one is not taken; where it is none, nothing is said there.

    What is tried again is the same: a repeated key changes nothing, and where there is none a lost answer is a second message.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        requests: Callable[[Notice], Iterable[Request]],
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        codes: re.Pattern[str] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._session, self._requests, self._headers = session, requests, headers
        self._codes, self._now_s = codes, now_s

    async def export(self, notice: Notice, _: Memory = FIRST) -> Outcome:
        """Send all requests of `notice`."""
        outcome: Outcome = Delivered()
        for url, document, *method in self._requests(notice):
            how, now_s = method[0] if method else "POST", self._now_s()
            outcome = await send(
                self._session, url, document, self._headers, now_s=now_s, codes=self._codes, method=how
            )
            if not isinstance(outcome, Delivered):
                break
        return outcome
