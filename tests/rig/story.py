"""A time-line language for whole installations: what is done when, and what must be seen by when.

    by 10      web is ok
    then       web refuses
    1..12      web is critical               # not before 1 s after that deed, and by 12 s at the latest
    by 12      actions of web: open pending
    to 14      incidents of web: none        # from now until 14 s after it
    after 20   web answers

Times are seconds since the last deed, so that a tolerance is stated and a slow machine is late rather than wrong.
What follows a `#` is for the reader.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import aiohttp

from tests.rig.process import Upbeat
from tests.rig.targets import DnsTarget, Mood, Receiver, StreamTarget

Target = StreamTarget | DnsTarget
_LINE = re.compile(
    r"(?:(?P<kind>then)|(?P<kind_at>after|by|to) (?P<when>[\d.]+)|(?P<least>[\d.]+)\.\.(?P<most>[\d.]+))\s+(?P<said>.+)"
)
_LOOK_S = 0.1


@dataclass
class World:
    """What a story is about; `deeds` are what else may be done in it, by name."""

    upbeat: Upbeat
    targets: Mapping[str, Target]
    receiver: Receiver
    deeds: Mapping[str, Callable[[], Awaitable[None]]]

    async def play(self, story: str) -> None:
        """Do and look, line by line. An `AssertionError` names the line and what was seen instead."""
        began_s = time.monotonic()
        for line in filter(None, (text.partition("#")[0].strip() for text in story.splitlines())):
            match = _LINE.fullmatch(line)
            assert match, f"no line of a story: {line!r}"
            kind, least, most = (
                match["kind"] or match["kind_at"],
                match["least"] or "0",
                match["most"] or match["when"] or "0",
            )
            if kind in ("then", "after"):
                await asyncio.sleep(began_s + float(most) - time.monotonic())
                await self._do(match["said"])
                began_s = time.monotonic()
            elif kind == "to":
                await self._holds(line, match["said"], began_s + float(most))
            else:
                await self._comes(line, match["said"], began_s + float(least), began_s + float(most))

    async def _do(self, said: str) -> None:
        who, _, what = said.partition(" ")
        if said in self.deeds:
            await self.deeds[said]()
        elif who in self.targets and what in get_args(Mood):
            await self.targets[who].becomes(what)  # type: ignore[arg-type]
        elif who in ("approve", "reject"):
            await self.review(who, what)
        else:
            raise AssertionError(f"nothing that can be done: {said!r}")

    async def review(self, verb: str, beat: str) -> None:
        """Decide the pending action of `beat`."""
        pending = await self.upbeat.items("/actions?status=pending")
        (action,) = (item for item in pending if item["owner"] == beat)
        body = {"revision": action["revision"]} if verb == "approve" else {"reason": "no outage"}
        status, answer = await self.upbeat.call("POST", f"/actions/{action['id']}/{verb}", body)
        assert status == 200, answer

    async def _comes(self, line: str, said: str, least_s: float, most_s: float) -> None:
        while not (seen := await self._glance(said))[0]:
            assert time.monotonic() < most_s, f"{line!r}, but {seen[1]}"
            await asyncio.sleep(_LOOK_S)
        assert time.monotonic() >= least_s, f"{line!r}, but it was so already"

    async def _holds(self, line: str, said: str, most_s: float) -> None:
        while time.monotonic() < most_s:
            is_so, seen = await self._look(said)
            assert is_so, f"{line!r}, but {seen}"
            await asyncio.sleep(_LOOK_S)

    async def _glance(self, said: str) -> tuple[bool, str]:
        """A look at what may not be there yet."""
        try:
            return await self._look(said)
        except (aiohttp.ClientError, OSError, TimeoutError) as absent:
            return False, repr(absent)

    async def _look(self, said: str) -> tuple[bool, str]:
        """Whether it is so, and what is seen."""
        if match := re.fullmatch(r"(\w+) of ([\w-]+): (.+)", said):
            seen = await self._seen(match[1], match[2])
            return seen == match[3], f"{match[1]} of {match[2]}: {seen}"
        who, _, what = said.partition(" is ")
        seen = str((await self.upbeat.get(f"/beats/{who}"))["stage"])
        return seen == what, f"{who} is {seen}"

    async def _seen(self, subject: str, beat: str) -> str:
        """A subject in words, oldest first: `none`, or `open pending, resolve done`."""
        if subject == "told":
            return ", ".join(self.receiver.words(beat)) or "none"
        if subject == "votes":
            votes = (await self.upbeat.get(f"/beats/{beat}"))["votes"]
            return ", ".join(f"{v['region']} {v['verdict'] if v['fresh'] else 'stale'}" for v in votes)
        if subject == "errors":
            return await self._errors(beat)
        rows = list(reversed(await self.upbeat.items(f"/{subject}")))
        return ", ".join(_words(subject, row) for row in rows if _owner(row) == beat) or "none"

    async def _errors(self, beat: str) -> str:
        """The newest run's verdict and error in each region, where they agree."""
        newest: dict[str, str] = {}
        for row in await self.upbeat.items(f"/beats/{beat}/results?limit=20"):
            kind = row["error"]["type"] if row["error"] else "none"
            newest.setdefault(row["region"], f"{row['verdict']} {kind}")
        return ", ".join(sorted(set(newest.values()))) or "none"


def _owner(row: Mapping[str, Any]) -> str:
    owner = row.get("owner")
    return str(owner if owner is not None else row["title"].rpartition(": ")[2])


def _words(subject: str, row: Mapping[str, Any]) -> str:
    if subject == "actions":
        return f"{row['step']} {row['status']}"
    if subject == "episodes":
        return row["cause"] or "open"
    return str(row["status"])
