"""What was really so, and what Upbeat acknowledged: drivers that make outages, pings, reports, webhooks and API writes, and write all down."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.rig.installation import Installation
from tests.rig.process import NotInTimeError, until
from tests.rig.targets import Receiver, StreamTarget

PATIENCE_S = 90.0
"""An outage that is not seen, or not over, after so long counts as missed."""

PINGED, REPORTED = "pinged", "reported"
"""The beats that are pushed to."""
HOOKED, FLOODED = "hooked", "flooded"
"""The beats that webhooks tell of: one trouble after the other, and very many at once."""
SENDERS = 20


@dataclass(slots=True)
class Outage:
    """One time a target was down. Seconds since the epoch; `seen_s` after how many seconds its episode was open."""

    beat: str
    down_at: float
    up_at: float = 0.0
    seen_s: float = 0.0
    over_s: float = 0.0


@dataclass
class Ledger:
    """The truth, and what was acknowledged."""

    outages: list[Outage] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)  # action ids
    written: dict[str, str | None] = field(default_factory=dict)  # component slug -> name; None: deleted
    doubtful: dict[str, set[str | None]] = field(default_factory=dict)  # asked for, and no answer came
    acknowledged: int = 0
    pinged: dict[str, bool] = field(default_factory=dict)  # run id -> whether the ping was acknowledged
    reported: int = 0  # troubles, each with its end
    delivered: list[str] = field(default_factory=list)  # ids of events that were acknowledged
    hooked: int = 0  # troubles told by webhooks, each with its end
    flooded: list[str] = field(default_factory=list)  # fingerprints that fired and recovered
    has_wrong_clock: bool = False  # Upbeat's clock was tampered with: times cannot be compared


Stopped = Callable[[], bool]


async def flip(
    installation: Installation,
    ledger: Ledger,
    beat: str,
    target: StreamTarget,
    chance: random.Random,
    stopped: Stopped,
    approve: bool,
) -> None:
    """Take `target` down and bring it back, again and again; each time wait until Upbeat has seen it."""
    count = 0
    while not stopped():
        await asyncio.sleep(chance.uniform(0.0, 3.0))
        outage = Outage(beat, time.time())
        ledger.outages.append(outage)
        count += 1
        try:
            await target.becomes(chance.choice(["refuses", "fails", "hangs", "resets"]))
            await _seen(f"outage {count} of {beat}", lambda n=count: _opened(installation, beat, n))  # type: ignore[misc]
            outage.seen_s = time.time() - outage.down_at
            if approve:
                await _approve(installation, ledger, beat)
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            outage.up_at = time.time()
            await target.becomes("answers")
            await _seen(f"end of outage {count} of {beat}", lambda n=count: _closed(installation, beat, n))  # type: ignore[misc]
            outage.over_s = time.time() - outage.up_at
        except NotInTimeError as late:
            ledger.missed.append(str(late))
            await target.becomes("answers")
            return


async def _seen(what: str, claim: Callable[[], Awaitable[bool]]) -> None:
    await until(claim, what, PATIENCE_S)


async def _opened(installation: Installation, beat: str, count: int) -> bool:
    mine = await _episodes(installation, beat)
    return len(mine) >= count


async def _closed(installation: Installation, beat: str, count: int) -> bool:
    mine = await _episodes(installation, beat)
    return len(mine) >= count and all(row["closed_at"] for row in mine)


async def _episodes(installation: Installation, beat: str) -> list[dict[str, Any]]:
    return await installation.front.items(f"/episodes?beat={beat}&limit=200")


async def _approve(installation: Installation, ledger: Ledger, beat: str) -> None:
    """Say yes until somebody is heard to have said it; a yes that was lost on the way is said again."""

    async def approved() -> bool:
        pending = await installation.front.items(f"/actions?status=pending&beat={beat}")
        for action in pending:
            if action["step"] == "open":
                status, answer = await installation.front.call(
                    "POST", f"/actions/{action['id']}/approve", {"revision": action["revision"]}
                )
                if status == 200:
                    ledger.approved.append(answer["id"])
                    return True
        done = await installation.front.items(f"/actions?status=done&beat={beat}&limit=200")
        mine = [a["id"] for a in done if a["step"] == "open"]
        return len(mine) > sum(1 for a in ledger.approved if a in mine)

    await until(approved, f"approval of {beat}", PATIENCE_S)


async def write(installation: Installation, ledger: Ledger, chance: random.Random, stopped: Stopped) -> None:
    """Create, rename and delete components by API, about 20 a second; what was answered with 2xx is written down."""
    number = 0
    while not stopped():
        await asyncio.sleep(0.05)
        living = [slug for slug, name in ledger.written.items() if name is not None]
        kind = chance.choice(["create", "create", "rename", "delete"]) if living else "create"
        if kind == "create":
            number += 1
            slug, name = f"c{number}", f"name {number}"
            wanted: str | None = name
            request: tuple[str, str, Any] = ("POST", "/components", {"slug": slug, "name": name})
        else:
            slug = chance.choice(living)
            wanted = None if kind == "delete" else f"renamed {time.time():.3f}"
            body = None if wanted is None else {"name": wanted}
            request = ("DELETE" if wanted is None else "PATCH", f"/components/{slug}", body)
        try:
            status, _ = await installation.front.call(*request, timeout_s=40)
        except aiohttp.ClientConnectorError:
            if kind != "delete":
                continue  # it never got there
            status = 0  # the client tries deletions twice: the first may have got there
        except (aiohttp.ClientError, OSError, TimeoutError):
            status = 0
        if 200 <= status < 300:
            ledger.written[slug] = wanted
            ledger.doubtful.pop(slug, None)
            ledger.acknowledged += 1
        elif status not in (404, 409, 412, 429) or (kind, status) == ("delete", 404):
            # It may have been done or not; it is not touched again, and either will do.
            before = {ledger.written.pop(slug, None)}
            ledger.doubtful.setdefault(slug, before).add(wanted)


async def ping(installation: Installation, ledger: Ledger, beat: str, stopped: Stopped) -> None:
    """Ping a heartbeat twice a second, each time with another run id, and never the same again."""
    url = (await installation.front.get(f"/beats/{beat}"))["ping"]["url"]
    path = f"//ping/{url.rpartition('/')[2]}"
    while not stopped():
        await asyncio.sleep(0.5)
        run = f"r{len(ledger.pinged)}"
        ledger.pinged[run] = False
        with contextlib.suppress(aiohttp.ClientError, OSError):
            ledger.pinged[run] = (await installation.front.call("POST", f"{path}?rid={run}"))[0] == 200


async def report(
    installation: Installation, ledger: Ledger, beat: str, chance: random.Random, stopped: Stopped
) -> None:
    """Report trouble and its end in turn, each again and again until it is acknowledged."""
    while not stopped():
        for verdict in ("warning", "ok"):
            await asyncio.sleep(chance.uniform(0.0, 1.0))

            async def taken(verdict: str = verdict) -> bool:
                body = {"verdict": verdict}
                status, _ = await installation.front.call("POST", f"/beats/{beat}/report", body)
                return status in (200, 202)

            try:
                await until(taken, f"the acknowledgement of a report on {beat}", PATIENCE_S)
            except NotInTimeError as late:
                ledger.missed.append(str(late))
                return
        ledger.reported += 1


@dataclass
class Sender:
    """Another system that posts what it knows, each again and again until it is acknowledged."""

    installation: Installation
    ledger: Ledger
    session: aiohttp.ClientSession
    token: str
    count: int = 0

    async def post(self, inbox: str, fingerprint: str, state: str) -> None:
        """Once for whoever listens, however often it is sent: the name of the delivery says so."""
        self.count += 1
        front = self.installation.front
        url = f"http://{front.host}:{front.port}/api/v1/external-events/ingest"
        headers = {"X-External-Event-Token": self.token, "X-GitHub-Delivery": f"{inbox}-{self.count}"}
        body = {"of": inbox, "fingerprint": fingerprint, "state": state}

        async def taken() -> bool:
            async with self.session.post(url, json=body, headers=headers) as answer:
                if answer.status != 202:
                    return False
                self.ledger.delivered.append((await answer.json())["id"])
                return True

        try:
            await until(taken, f"the acknowledgement of {fingerprint} {state}", PATIENCE_S)
        except NotInTimeError as late:
            self.ledger.missed.append(str(late))

    async def one_by_one(self, chance: random.Random, stopped: Stopped) -> None:
        """Trouble and its end in turn."""
        while not stopped():
            for state in ("firing", "resolved"):
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                await self.post(HOOKED, f"trouble {self.ledger.hooked}", state)
            self.ledger.hooked += 1

    async def many(self, number: int, per_s: float, stopped: Stopped) -> None:
        """Trouble of another fingerprint each time, as one of SENDERS that together send so many a second."""
        for n in itertools.count():
            if stopped():
                return
            fingerprint = f"{number}-{n}"
            for state in ("firing", "resolved"):
                begun_s = time.monotonic()
                await self.post(FLOODED, fingerprint, state)
                await asyncio.sleep(max(SENDERS / per_s - (time.monotonic() - begun_s), 0.0))
            self.ledger.flooded.append(fingerprint)


@dataclass
class Load:
    """All drivers on one installation, until stopped."""

    installation: Installation
    ledger: Ledger
    targets: dict[str, StreamTarget]
    receiver: Receiver
    webhooks_per_s: float = 200.0
    is_stopped: bool = False

    async def run(self, seed: int) -> None:
        """Drive. Each driver has a chance of its own, so that they do not depend on each other's pace."""

        def stopped() -> bool:
            return self.is_stopped

        _, given = await self.installation.front.call("POST", "/inboxes/hooks/token", {})
        # Nobody who waits for an answer forever sends again.
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        sender = Sender(self.installation, self.ledger, session, given["token"])
        async with session, asyncio.TaskGroup() as group:
            for slug, target in self.targets.items():
                chance = random.Random(f"{seed} {slug}")
                approve = slug.startswith("drafted")
                if not slug.startswith("steady"):
                    group.create_task(
                        flip(self.installation, self.ledger, slug, target, chance, stopped, approve)
                    )
            group.create_task(write(self.installation, self.ledger, random.Random(f"{seed} writes"), stopped))
            group.create_task(ping(self.installation, self.ledger, PINGED, stopped))
            chance = random.Random(f"{seed} reports")
            group.create_task(report(self.installation, self.ledger, REPORTED, chance, stopped))
            group.create_task(sender.one_by_one(random.Random(f"{seed} webhooks"), stopped))
            for number in range(SENDERS):
                group.create_task(sender.many(number, self.webhooks_per_s, stopped))
