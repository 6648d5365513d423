"""How a step of an incident gets to any publisher: looked up before a create is repeated, never told twice, never re-made once removed.

What is special to a system is its `Site`, one module in `exporters.publishers`. Retrying, order and memory are the engine's.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp
from msgspec.structs import replace

from evaluators.model import Post
from exporters.answer import failed, judge
from exporters.outcome import Delivered, Memory, Outcome, Rejected, Removed, Retry

MOST_READ: Final = 1 << 20
"""Bytes of an answer that are read; nobody's list of incidents needs more."""


class TroubleError(Exception):
    """A call failed; `outcome` is what that means for the delivery."""

    def __init__(self, outcome: Retry | Rejected) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class GoneError(Exception):
    """What was asked for is not there (404)."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that would have been sent. `path` may hold a query, never a key."""

    method: str
    path: str
    body: Any


@dataclass(slots=True)
class Api:
    """The HTTP API of one system. Dry, what would change something is kept in `calls` and not sent; what reads is sent."""

    session: aiohttp.ClientSession
    base: str
    headers: Mapping[str, str]
    is_dry: bool = False
    now_s: Callable[[], float] = time.time
    calls: list[Call] = field(default_factory=list)

    async def get(self, path: str, **query: str) -> Any:
        """The JSON there. Raises `TroubleError`, `GoneError`."""
        return await self._call("GET", path, None, query)

    async def send(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The JSON that is answered; dry an empty mapping. Raises `TroubleError`, `GoneError`."""
        if self.is_dry:
            self.calls.append(Call(method, path, body))
            return {}
        return await self._call(method, path, body, query)

    async def _call(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Any:
        headers = dict(self.headers) | ({"Content-Type": "application/json"} if body is not None else {})
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else None
        url = self.base.rstrip("/") + path
        try:
            async with self.session.request(
                method, url, params=query, data=data, headers=headers, allow_redirects=False
            ) as answer:
                outcome = judge(answer.status, answer.headers.get("Retry-After"), now_s=self.now_s())
                if answer.status == 404:
                    raise GoneError(path)
                if not isinstance(outcome, Delivered):
                    raise TroubleError(outcome)  # type: ignore[arg-type]  # a judgement is never Removed
                read = await answer.content.read(MOST_READ + 1)
                while len(read) <= MOST_READ and (
                    more := await answer.content.read(MOST_READ + 1 - len(read))
                ):
                    read += more
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise TroubleError(Rejected("the URL is not a usable http or https address")) from None
        except TimeoutError:
            raise TroubleError(Retry("no answer in time")) from None
        except (aiohttp.ClientError, OSError) as failure:
            raise TroubleError(failed(failure)) from None  # type: ignore[arg-type]
        if len(read) > MOST_READ:
            raise TroubleError(Retry("the answer is larger than 1 MiB"))
        try:
            return json.loads(read) if read.strip() else {}
        except ValueError:
            raise TroubleError(Retry("the answer is no JSON")) from None


@dataclass(frozen=True, slots=True)
class Limits:
    """Characters that a system takes; more are cut, with an ellipsis."""

    title: int = 200
    text: int = 25_000


class Site(Protocol):
    """One system that shows incidents. Methods raise `TroubleError` and `GoneError`; ids are the other side's."""

    limits: Limits

    async def find(self, post: Post) -> str | None:
        """The incident that an earlier try of this post may have made, by what only ours has."""
        ...

    async def create(self, post: Post) -> str:
        """Make it, with its first update; its id."""
        ...

    async def has(self, remote: str, post: Post) -> bool:
        """Whether this very update (edit, removal) is there already."""
        ...

    async def update(self, remote: str, post: Post) -> None:
        """Say the next thing of it; of a step `edit`, only change what it is called and affects."""
        ...

    async def delete(self, remote: str) -> None:
        """Take it away."""
        ...

    async def check(self) -> str:
        """What the system says of the page that it would be shown on, such as its name: the key is good."""
        ...

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """What there is otherwise than this newest step says, each as a line for operators."""
        ...


async def publish(site: Site, post: Post, memory: Memory) -> Outcome:
    """Take this step there, once however often it is tried."""
    remote = memory.remote.get("id")
    fitted = fit(post, site.limits)
    try:
        if remote is None:
            if post.step == "delete":
                return Delivered()  # it never got there
            if memory.is_repeat:
                remote = await site.find(fitted)
            return Delivered({"id": remote or await site.create(fitted)})
        if post.step == "delete":
            await site.delete(remote)
        elif not (memory.is_repeat and await site.has(remote, fitted)):
            await site.update(remote, fitted)
    except GoneError:
        return Delivered() if post.step == "delete" else Removed()
    except TroubleError as trouble:
        return trouble.outcome
    return Delivered()


def fit(post: Post, limits: Limits) -> Post:
    """`post` in words that the system takes."""
    return replace(post, title=cut(post.title, limits.title), text=cut(post.text, limits.text))


def cut(text: str, most: int) -> str:
    """At most so many characters of `text`."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
