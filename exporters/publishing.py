"""How a step of an incident gets to any publisher: looked up before a create is repeated, never told twice, never re-made once removed.

What is special to a system is its `Site`, one module in `exporters.publishers`. Retrying, order and memory are the engine's.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlencode

import aiohttp
from msgspec.structs import replace as copy

from evaluators.fitting import fitted, lost
from evaluators.lifecycle import ENDED
from evaluators.model import Post
from exporters.answer import JSON, Answer, encoded, exchange, judge
from exporters.outcome import FIRST, Call, Delivered, Memory, Outcome, Rejected, Removed, Report, Retry
from rules.publishers.publisher import PublisherRule
from rules.secret import cut, hidden_forms, hide

MOST_READ: Final = 4 << 20
"""Bytes of an answer that are read; nobody's list of incidents needs more."""
MOST_SAID: Final = 4096
"""Bytes of what is said of a wrong request."""
LONG_READ: Final = 1 << 17
"""Bytes from which an answer is decoded beside the loop."""
LONGEST_HOLD_S: Final = 10.0
"""Of what the other side asks to wait so much is waited out; how many wait for a turn is the engine's bound."""
SKEW_S: Final = 120.0
"""Seconds that the other side's clock may be behind ours."""
SAME_S: Final = 1.0
SHORTEST_S: Final = 60.0
NOWHERE: Final = Rejected("there is no such page, or the key is not for it")
R = TypeVar("R", bound=PublisherRule)
_log = logging.getLogger(__name__)


class TroubleError(Exception):
    """A call failed; `outcome` is what that means for the delivery. `status`: of an answer, where a site has to know."""

    def __init__(self, outcome: Retry | Rejected, status: int | None = None) -> None:
        super().__init__(outcome.reason)
        self.outcome, self.status = outcome, status


class GoneError(Exception):
    """What was asked for is not there (404)."""


@dataclass(slots=True, weakref_slot=True)
class Pace:
    """The turns of all who share a key: one every `every_s` seconds, none while the other side asked to wait."""

    every_s: float = 0.0
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    next_s: float = 0.0
    held_s: float = 0.0  # until then

    async def turn(self) -> None:
        """Wait for it. Raises `TroubleError` while nobody may ask for long: a delivery is tried again after that."""
        now_s = self.now_s()
        if (asked_s := self.held_s - now_s) > LONGEST_HOLD_S:
            raise TroubleError(Retry("it takes no more requests for now", asked_s))
        wait_s = max(self.next_s - now_s, asked_s, 0.0)
        self.next_s = now_s + wait_s + self.every_s
        if wait_s:
            await self.sleep(wait_s)

    def hold(self, wait_s: float) -> None:
        """Nobody asks for so many seconds."""
        self.held_s = max(self.held_s, self.now_s() + wait_s)


@dataclass(slots=True)
class Api:
    """The HTTP API of one system. Dry, what would change something is kept in `calls` and not sent; what reads is sent."""

    session: aiohttp.ClientSession
    base: str
    headers: Mapping[str, str]
    pace: Pace = field(default_factory=Pace)
    is_dry: bool = False
    now_s: Callable[[], float] = time.time
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What operators are to know of what was done: one list for each delivery."""

    async def get(self, path: str, **query: str) -> Any:
        """The JSON there. Raises `TroubleError`, `GoneError`."""
        return await self._call("GET", path, None, query)

    async def send(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The JSON that is answered; dry an empty mapping. Raises `TroubleError`, `GoneError`."""
        if self.is_dry:
            asked = "?" + urlencode(query) if query else ""
            self.calls.append(Call(method, path + asked, body))
            return {}
        return await self._call(method, path, body, query)

    async def set(self, method: str, path: str, body: Any, what: str, **query: str) -> None:
        """`send`, where 404 is no incident removed by hand but a mistake of ours: `what` is not there."""
        try:
            await self.send(method, path, body, **query)
        except GoneError:
            raise TroubleError(Rejected(f"there is no {what}")) from None

    def named(self, found: object) -> str:
        """The id that an answer gives what was made; dry none. Raises `TroubleError`: it may be there, and is looked up."""
        if not found and not self.is_dry:
            raise TroubleError(Retry("the answer does not say what it made"))
        return str(found or "")

    async def _call(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        headers = {**(JSON if body is not None else {}), **self.headers}
        data = encoded(body) if body is not None else None
        url = self.base.rstrip("/") + path + ("?" + urlencode(query) if query else "")
        await self.pace.turn()
        answer = await exchange(self.session, method, url, data, headers, most_bytes=MOST_READ + 1)
        if not isinstance(answer, Answer):
            raise TroubleError(answer)
        outcome, read = judge(answer.status, answer.retry_after, now_s=self.now_s()), answer.body
        if answer.status in (404, 410):
            raise GoneError(path)
        if isinstance(outcome, Rejected) and answer.status in (400, 422):
            raise TroubleError(Rejected(f"{outcome.reason}{self._why(read[:MOST_SAID])}"), answer.status)
        if isinstance(outcome, Retry) and outcome.after_s:
            self.pace.hold(outcome.after_s)
        if not isinstance(outcome, Delivered):
            raise TroubleError(outcome)  # type: ignore[arg-type]  # a judgement is never Removed
        if not answer.is_whole:
            raise TroubleError(Retry("the answer broke off"))
        if len(read) > MOST_READ:
            raise TroubleError(Retry("the answer is larger than 4 MiB"))
        try:
            if len(read) > LONG_READ:
                return await asyncio.to_thread(json.loads, read)
            return json.loads(read) if read.strip() else {}
        except (ValueError, RecursionError):
            raise TroubleError(Retry("the answer is no JSON")) from None

    def _why(self, read: bytes) -> str:
        """What the other side says is wrong with a request, without the key that it may repeat."""
        try:
            said = "".join(c if c.isprintable() else " " for c in "; ".join(_texts(json.loads(read))))
        except (ValueError, RecursionError):
            return ""
        keys = hidden_forms(part for value in self.headers.values() for part in value.split())
        return f": {cut(hide(said, keys), 200)}" if said else ""


class Site(Protocol):
    """One system that shows incidents. Methods raise `TroubleError` and `GoneError`; ids are the other side's.

    A post that it is handed is `fitted` to it: components by the ids it gave them, words that it takes, `notify` as it is to do.
    What is the same in every try is sent first, what adds something last: a try that was cut short is begun anew.
    """

    async def find(self, post: Post) -> str | None:
        """The incident that an earlier try of this post may have made, by what only ours has."""
        ...

    async def create(self, post: Post) -> str:
        """Make it, with its first update; its id."""
        ...

    async def has(self, remote: str, post: Post) -> bool:
        """Whether this very update is there already; an edit is the same in every try."""
        ...

    async def update(self, remote: str, post: Post) -> None:
        """Say the next thing of it; of a step `edit`, only change what it is called and affects."""
        ...

    async def delete(self, remote: str) -> None:
        """Take it away, of which the components were just shown as they are without it."""
        ...

    async def check(self) -> tuple[str, Collection[str] | None]:
        """What the page that it would be shown on is called there, and the ids of its components; None: nobody can tell."""
        ...

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """What there is otherwise than this newest step says, each as a line for operators: `differing` writes them."""
        ...


@dataclass(frozen=True, slots=True)
class SitePublisher(Generic[R]):
    """Posts to one system: `site` is its class, `rule` what operators wrote of it."""

    site: Callable[[Api, R], Site]
    api: Api
    rule: R

    async def export(self, post: Post, memory: Memory = FIRST) -> Outcome:
        """Take this step there, once however often it is tried."""
        if post.is_backfilled and self.rule.is_always_told:
            return Delivered()  # history is nobody's news
        api = with_(self.api, notes=[])
        ours = await asyncio.to_thread(fitted, post, self.rule)  # Markdown may take a while
        outcome = await publish(self.site(api, self.rule), ours, memory)
        if isinstance(outcome, Delivered) and api.notes:
            return with_(outcome, reason="; ".join(api.notes))
        return outcome

    async def rehearse(self, post: Post, memory: Memory = FIRST) -> Report:
        """Everything but what would change something."""
        api = with_(self.api, is_dry=True, calls=[])
        ours = fitted(post, self.rule)
        outcome = await SitePublisher(self.site, api, self.rule).export(post, memory)
        lines = tuple(lost(post, ours, self.rule))
        return Report(outcome, lines, ours.title, ours.text, tuple(api.calls))

    async def check(self) -> Report:
        """Its key is good for the page it names."""
        try:
            with understood():
                called, components = await self.site(self.api, self.rule).check()
            lines = [
                f"{path}: there is no component {one}"
                for path, ids in self.rule.components.items()
                for one in ids
                if components is not None and one not in components
            ]
            return Report(Rejected(lines[0]) if lines else Delivered(), (called, *lines))
        except GoneError:
            return Report(NOWHERE)
        except TroubleError as trouble:
            return Report(trouble.outcome)

    async def differences(self, post: Post, memory: Memory) -> Report:
        """Line by line, as far as the system tells."""
        site = self.site(self.api, self.rule)
        if (remote := memory.remote.get("id")) is None:
            return Report(Delivered(), ("it is not there",))
        try:
            with understood():
                lines = await site.differences(remote, fitted(post, self.rule))
            return Report(Delivered(), tuple(lines))
        except GoneError:
            return Report(Delivered(), (Removed().reason,))
        except TroubleError as trouble:
            return Report(trouble.outcome)


async def publish(site: Site, post: Post, memory: Memory) -> Outcome:
    """Take this step there, once however often it is tried. `post` is fitted to the site."""
    remote = memory.remote.get("id")
    try:
        with understood():
            if remote is None:
                return await _begin(site, post, memory)
            if post.step == "delete":
                await site.update(remote, copy(post, step="edit"))  # components stay as they were last shown
                await site.delete(remote)
            elif not (memory.is_repeat and post.step != "edit" and await site.has(remote, post)):
                await site.update(remote, post)
    except GoneError:
        return Delivered() if post.step == "delete" else Removed()
    except TroubleError as trouble:
        return trouble.outcome
    return Delivered()


async def _begin(site: Site, post: Post, memory: Memory) -> Outcome:
    if post.step != "open" and (post.step != "update" or post.status in ENDED):
        return Delivered()  # it never got there: nobody is to read of its end
    try:
        remote = await site.find(post) if memory.is_repeat else None
        return Delivered({"id": remote or await site.create(post)})
    except GoneError:
        return NOWHERE


def _texts(value: object) -> Iterator[str]:
    """Texts anywhere inside JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """What is answered may be JSON and all the same not what was asked for: that is trouble of theirs."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as odd:
        _log.warning("an answer is not understood", exc_info=True)
        raise TroubleError(Retry(f"its answer is not understood: {type(odd).__name__}")) from None


def is_since(made_s: float, post: Post) -> bool:
    """Whether something was made there after this step was taken here, by clocks that may differ."""
    return made_s >= post.at - SKEW_S


def differing(*asked: tuple[str, object, object]) -> list[str]:
    """Lines for operators of whatever (name, there, wanted) is not the same."""
    return [f"{name}: {there} there, not {wanted}" for name, there, wanted in asked if there != wanted]


def rfc3339(at: float) -> str:
    """A moment in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def epoch_s(said: str) -> float:
    """When that was: the opposite."""
    return datetime.fromisoformat(said).timestamp()


def is_then(said: str, at: float) -> bool:
    """Whether a moment that is said there is the one that was said by us: some keep whole seconds."""
    return abs(epoch_s(said) - at) < SAME_S


def window(post: Post) -> tuple[float, float]:
    """When maintenance begins and ends, for who knows no status of it: what is over ended by then, a minute long at least."""
    starts_at, ends_at = post.starts_at or post.at, post.ends_at or post.at
    if post.status not in ENDED:
        return starts_at, ends_at
    ends_at = min(ends_at, post.at)
    return min(starts_at, ends_at - SHORTEST_S), ends_at


def began_at(post: Post) -> float:
    """When it begins: what is said of it there, and told from others of its name by."""
    return post.began_at if post.kind == "incident" else window(post)[0]
