"""The named faults: each hurts an installation under load, lets it settle, and hands the oracle's findings back."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.embedded.supervisor import start
from rules.trigger import Trigger
from tests.exporters.publishers.cachet_server import Cachet3Server
from tests.exporters.publishers.site_server import KEY
from tests.faults import oracle
from tests.faults.ledger import FLOODED, HOOKED, REPORTED, Ledger, Load
from tests.faults.permutations import permuted
from tests.rig.hostility import Attack, World, attacks, hostile_world
from tests.rig.installation import Installation, connect, send, split, whole
from tests.rig.process import fresh_folder, small_disk, until
from tests.rig.targets import Receiver, StreamTarget
from tests.rig.virtual import opened
from upbeat.patience import SILENT_S

OUTAGE_S = 60.0
SERVING_S = 5.0
"""How soon Upbeat serves again after a kill."""

CONFIG = """\
version: 1
page: {{slug: shop, name: Shop}}
regions: [eu, us, ap]
egress: {{allow: [127.0.0.1/32]}}
defaults:
  interval: 1s
  timeout: 900ms
  retries: 0
  channels: [ops]
  incidents: {{open: auto, update: auto, resolve: auto}}
  episodes: {{flapping: off}}  # every outage is one episode here, however fast they come
  quorum: {{confirm: {{runs: 2, spacing: 300ms, wait: 2s}}}}
channels:
  - {{slug: ops, type: webhook, url: "{url}"}}
publishers:
  - {{slug: elsewhere, type: cachet, url: "{elsewhere}", key: {key}, components: {mapped}}}
components:
{components}
beats:
  - {{slug: pinged, type: heartbeat, every: 30d}}
  - {{slug: reported, type: external, incidents: {{open: off}}}}
  - {{slug: flooded, type: external, incidents: {{open: off}}, channels: []}}
  - {{slug: hooked, type: external, components: [hooked]}}
{beats}
inboxes:
  - {{slug: hooks, rate_limit: 1000000}}
triggers:
{triggers}
"""
TRIGGER = """\
  - slug: {slug}
    inbox: hooks
    enabled: true
    when: {{value: $.of, eq: {slug}}}
    critical: {{value: $.state, eq: firing}}
    recovery: {{value: $.state, eq: resolved}}
    fingerprint: "{{$.fingerprint}}"
    target: {{beat: {slug}}}
    incidents: {{open: auto, update: auto, resolve: auto}}
"""
BEATS = ("auto-1", "auto-2", "auto-3", "drafted-1", "steady-1", "steady-2")


@dataclass
class Report:
    """What came of a scenario. `skipped` says why it was not run."""

    name: str
    seed: int
    findings: oracle.Findings = field(default_factory=oracle.Findings)
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether everything that must be so is so."""
        return self.skipped is not None or (self.findings.total == 0 and not self.problems)

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "clean": self.is_clean}


@dataclass
class Scene:
    """An installation under load."""

    installation: Installation
    load: Load
    report: Report
    chance: random.Random

    def expect(self, is_so: bool, what: str) -> None:
        """Note a problem, and go on."""
        if not is_so:
            self.report.problems.append(what)


Hurt = Callable[[Scene], Awaitable[None]]


async def played(
    name: str,
    seed: int,
    hurt: Hurt,
    *,
    roles: bool = False,
    place: Path | None = None,
    environment: dict[str, str] | None = None,
    calm_s: float = 3.0,
    webhooks_per_s: float = 200.0,
) -> Report:
    """Load an installation, hurt it, stop the load, let it settle, judge."""
    report = Report(name, seed)
    ledger = Ledger()
    async with contextlib.AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        elsewhere = await stack.enter_async_context(Cachet3Server.running())
        elsewhere.components = dict.fromkeys(range(len(BEATS) + 1), 1)
        targets = {slug: await stack.enter_async_context(StreamTarget()) for slug in BEATS}
        folder = stack.enter_context(fresh_folder(place))
        config = CONFIG.format(
            url=receiver.url,
            elsewhere=elsewhere.url,
            key=KEY,
            mapped=json.dumps({slug: str(n) for n, slug in enumerate((*BEATS, HOOKED))}),
            components="\n".join(f"  - {{slug: {slug}, name: {slug}}}" for slug in (*BEATS, HOOKED)),
            triggers="".join(TRIGGER.format(slug=slug) for slug in (HOOKED, FLOODED)),
            beats="\n".join(
                f'  - {{slug: {slug}, type: http, url: "http://127.0.0.1:{target.port}/", components: [{slug}]'
                + (", incidents: {open: draft}" if slug.startswith("drafted") else "")
                + "}"
                for slug, target in targets.items()
            ),
        )
        made = split(folder, config) if roles else whole(folder, config, environment=environment)
        installation = await stack.enter_async_context(made)
        await until(lambda: _all_ok(installation), "all beats are ok", 60)
        await _promote(installation)
        load = Load(installation, ledger, targets, receiver, webhooks_per_s)
        driving = asyncio.create_task(load.run(seed))
        losing = asyncio.create_task(_lose_answers(elsewhere, random.Random(f"{seed} answers")))
        scene = Scene(installation, load, report, random.Random(seed))
        try:
            await asyncio.sleep(calm_s)
            await hurt(scene)
            await installation.well()
        except AssertionError as stuck:
            report.problems.append(str(stuck))
        finally:
            load.is_stopped = True
            await driving
            losing.cancel()
        try:
            await oracle.settled(installation)
        except AssertionError as restless:
            report.problems.append(str(restless))
        report.findings = await oracle.judge(installation, ledger, receiver, elsewhere)
        report.figures |= _figures(ledger) | {"results": await _counted(installation)}
        if not report.is_clean:
            _keep_logs(installation, report)
    return report


async def _lose_answers(elsewhere: Cachet3Server, chance: random.Random) -> None:
    """Every now and then the other page does what it is asked, and its answer is lost."""
    while True:
        await asyncio.sleep(chance.uniform(1.0, 8.0))
        elsewhere.lose = chance.choice(("POST", "PUT"))


async def _all_ok(installation: Installation) -> bool:
    beats = await installation.front.items("/beats")
    return {*BEATS, REPORTED, HOOKED, FLOODED} == {beat["slug"] for beat in beats if beat["stage"] == "ok"}


async def _promote(installation: Installation) -> None:
    """As somebody would who had seen their record."""
    connection = await connect(installation)
    try:
        for row in await connection.fetch("SELECT id, spec FROM objects WHERE kind = 'trigger'"):
            rule = Trigger.model_validate_json(row["spec"])
            promoted = {"rule": rule.digest, "steps": ["open", "update", "resolve"]}
            await connection.execute(
                "UPDATE trigger_states SET promoted = $2, version = version + 1 WHERE trigger_id = $1",
                row["id"],
                json.dumps(promoted),
            )
    finally:
        await connection.close()


async def _counted(installation: Installation) -> int:
    connection = await connect(installation)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM results")
        return count
    finally:
        await connection.close()


def _figures(ledger: Ledger) -> dict[str, Any]:
    seen = sorted(outage.seen_s for outage in ledger.outages if outage.seen_s)
    return {
        "outages": len(ledger.outages),
        "acknowledged_writes": ledger.acknowledged,
        "doubtful_writes": len(ledger.doubtful),
        "approvals": len(ledger.approved),
        "acknowledged_pings": sum(ledger.pinged.values()),
        "reports": ledger.reported,
        "webhooks": len(ledger.delivered),
        "webhook_troubles": [ledger.hooked, len(ledger.flooded)],
        "outage_seen_s": {"p50": round(statistics.median(seen), 2), "max": round(seen[-1], 2)}
        if seen
        else {},
    }


def _keep_logs(installation: Installation, report: Report) -> None:
    """What the processes said, for whoever looks into it."""
    kept = Path("build/faults-logs") / f"{report.name}-{report.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for name, process in installation.processes.items():
        shutil.copy(process.log, kept / f"{name}.log")
    for log in (installation.servers / "log").glob("*.log"):
        shutil.copy(log, kept / log.name)


# ---- kills


async def kills(seed: int, count: int, *, roles: bool = False, webhooks_per_s: float = 200.0) -> Report:
    """`count` times kill -9 of something at a random moment, sometimes twice in a row."""

    async def hurt(scene: Scene) -> None:
        again_s: list[tuple[float, str]] = []
        killed = Counter[str]()
        while sum(killed.values()) < count:
            await asyncio.sleep(scene.chance.uniform(0.2, 3.0))
            victim = scene.chance.choice(scene.installation.victims())
            began_s = time.monotonic()
            if not scene.installation.kill(victim):
                continue
            killed[victim] += 1
            if scene.chance.random() < 0.2:  # once more while it starts
                await asyncio.sleep(scene.chance.uniform(0.0, 1.0))
                victim = scene.chance.choice(scene.installation.victims())
                began_s = time.monotonic()
                killed[victim] += scene.installation.kill(victim)
            try:
                await scene.installation.well()
            except AssertionError as stuck:
                scene.report.problems.append(f"after the kill of {victim}: {stuck}")
                return
            again_s.append((round(time.monotonic() - began_s, 2), victim))
        took = sorted(again_s)
        scene.report.figures |= {
            "kills": sum(killed.values()),
            "killed": dict(killed),
            "serving_again_s": {"p50": took[len(took) // 2][0], "max": took[-1][0], "worst": took[-3:]},
        }
        # A busy machine may take a little longer once; that is said, and twice the promise is a failure.
        scene.expect(took[-1][0] <= 2 * SERVING_S, f"serving again took {took[-1]}")

    name = "split-kills" if roles else "kills"
    return await played(name, seed, hurt, roles=roles, webhooks_per_s=webhooks_per_s)


# ---- what stands still


async def database_gone(seed: int, gone_s: float = OUTAGE_S) -> Report:
    """PostgreSQL stands still, then dies at once; no result of the time is lost."""

    async def hurt(scene: Scene) -> None:
        with scene.installation.frozen("postgres"):
            began_s = time.monotonic()
            answer = await _answer(scene)
            scene.report.figures["api_said"] = answer
            scene.expect(
                answer[0] == 503 and answer[1] < 2 * SILENT_S, f"while it stood still the API said {answer}"
            )
            await asyncio.sleep(gone_s - (time.monotonic() - began_s))
        await _well_again(scene)
        await asyncio.sleep(2)
        pid = scene.installation.server("postgres")
        send([pid], signal.SIGQUIT)  # `pg_ctl stop -m immediate`
        await _well_again(scene)
        await _nothing_lost(scene)

    return await played("database-gone", seed, hurt)


async def bus_gone(seed: int, gone_s: float = OUTAGE_S) -> Report:
    """NATS stands still; the API goes on, results wait with the probes."""

    async def hurt(scene: Scene) -> None:
        with scene.installation.frozen("nats"):
            began_s = time.monotonic()
            scene.report.figures["api_said"] = await _answer(scene)
            scene.expect(scene.report.figures["api_said"][0] == 200, "the API needs no bus")
            await asyncio.sleep(gone_s - (time.monotonic() - began_s))
        await _well_again(scene)
        await _nothing_lost(scene)

    return await played("bus-gone", seed, hurt)


async def bus_wiped(seed: int, times: int = 3) -> Report:
    """NATS dies and its data is gone, with whatever was in it."""

    async def hurt(scene: Scene) -> None:
        for _ in range(times):
            await asyncio.sleep(scene.chance.uniform(0.5, 3.0))
            pid = scene.installation.server("nats")
            send([pid], signal.SIGSTOP)
            shutil.rmtree(scene.installation.servers / "nats" / "jetstream", ignore_errors=True)
            send([pid], signal.SIGKILL)
            await _well_again(scene)
        await asyncio.sleep(5)
        await _nothing_lost(scene)

    return await played("bus-wiped", seed, hurt)


async def _answer(scene: Scene) -> tuple[int, float]:
    """What the API says now, and after how many seconds; 0 when it says nothing."""
    began_s = time.monotonic()
    status = 0
    with contextlib.suppress(OSError, TimeoutError):
        status, _ = await scene.installation.front.call("GET", "/pages", timeout_s=45)
    return status, round(time.monotonic() - began_s, 2)


async def _well_again(scene: Scene) -> None:
    began_s = time.monotonic()
    await scene.installation.well()
    took_s = round(time.monotonic() - began_s, 2)
    scene.report.figures.setdefault("well_again_s", []).append(took_s)


async def _nothing_lost(scene: Scene, within_s: float = 60.0) -> None:
    """Every run the surviving probe process made is stored: their sequence has no hole."""
    connection = await connect(scene.installation)

    async def no_hole() -> bool:
        row = await connection.fetchrow(
            "SELECT count(DISTINCT seq) AS have, max(seq) AS want FROM results WHERE boot_id = "
            "(SELECT boot_id FROM results WHERE region <> 'server' ORDER BY seen_at DESC LIMIT 1)"
        )
        assert row is not None
        scene.report.figures["runs_stored"] = [row["have"], row["want"]]
        return bool(row["have"] == row["want"])

    try:
        await until(no_hole, "every run is stored", within_s)
    except AssertionError as hole:
        scene.report.problems.append(str(hole))
    finally:
        await connection.close()


# ---- disk and clock


async def disk_full(seed: int) -> Report:
    """The disk of the data folder fills up and has room again; Upbeat recovers by itself."""
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(small_disk(600))
        except OSError as refused:
            return Report("disk-full", seed, skipped=str(refused))

        async def hurt(scene: Scene) -> None:
            balloon = place / "balloon"
            with balloon.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            scene.report.figures["left_bytes"] = shutil.disk_usage(place).free
            await asyncio.sleep(15)
            scene.report.figures["api_said"] = await _answer(scene)
            balloon.unlink()
            await _well_again(scene)

        return await played("disk-full", seed, hurt, place=place)


FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


async def clock_jump(seed: int) -> Report:
    """Upbeat's wall clock jumps an hour ahead, and back; PostgreSQL and NATS keep theirs."""
    library = next(
        (path for path in (os.environ.get("LIBFAKETIME", ""), *FAKETIME) if path and Path(path).exists()),
        None,
    )
    if library is None:
        return Report("clock-jump", seed, skipped="libfaketime is not installed (Debian: libfaketime)")
    with fresh_folder() as folder:
        offset = folder / "offset"
        offset.write_text("+0")
        environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

        async def hurt(scene: Scene) -> None:
            scene.load.ledger.has_wrong_clock = True
            for jump in ("+3600", "+0", "-3600", "+0"):
                offset.write_text(jump)
                await asyncio.sleep(12)
            await _nothing_lost(scene)

        return await played("clock-jump", seed, hurt, environment=environment)


async def permutations(seed: int, most: int = 10_000, at_once: int = 500) -> Report:
    """Results of outages in so many orders: late, twice, mixed up. One outage is one episode, and in the end all is ok."""
    report = Report("permutations", seed)
    counted = Counter[str]()
    with fresh_folder() as folder:
        servers = await start(folder, durable=False)
        try:
            async with opened(servers.database_url) as pool:
                while counted["permutations"] < most:
                    wave_seed = seed + counted["waves"]
                    problems, figures = await permuted(pool, wave_seed, at_once)
                    report.problems += (f"wave {wave_seed}: {problem}" for problem in problems)
                    counted.update(figures, waves=1)
        finally:
            await servers.stop()
    report.figures |= counted
    return report


async def hostile(seed: int, runs: int = 500, at_once: int = 2, batch: int = 50) -> Report:
    """Hostile pages and scripts in a random order. Nothing is read, reached or left behind, and what each run is called is so."""
    report, chance = Report("hostile", seed), random.Random(seed)
    if not os.environ.get("CHROMIUM"):
        found = await asyncio.to_thread(
            subprocess.run, ["sh", ".ci/chromium"], capture_output=True, text=True, check=False
        )
        if found.returncode:
            return Report("hostile", seed, skipped="no Chromium; CHROMIUM=/path names one")
        os.environ["CHROMIUM"] = found.stdout.strip()
    corpus, counted, left = attacks("pages") + attacks("scripts"), Counter[str](), runs
    while left > 0:
        chosen = iter([chance.choice(corpus) for _ in range(min(batch, left))])
        with fresh_folder() as folder:
            folder.chmod(0o711)
            async with hostile_world(folder, slots=at_once) as world:

                async def play(world: World = world, chosen: Iterator[Attack] = chosen) -> None:
                    for one in chosen:
                        await world.attack(one)

                await asyncio.gather(*(play() for _ in range(at_once)))
        counted.update(world.ended)
        report.problems += world.problems
        left -= batch
    kinds = {"reads": "was read", "escapes": "reached", "residue": "left behind", "misnamed": "ended with"}
    report.figures = {
        kind: sum(said in problem for problem in report.problems) for kind, said in kinds.items()
    }
    report.figures |= {"runs": runs, "ended": dict(counted)}
    return report


Named = Callable[[int], Awaitable[Report]]
ALL: dict[str, Named] = {
    "kills": lambda seed: kills(seed, 50),
    "split-kills": lambda seed: kills(seed, 30, roles=True),
    "bus-wiped": bus_wiped,
    "bus-gone": bus_gone,
    "database-gone": database_gone,
    "disk-full": disk_full,
    "clock-jump": clock_jump,
    "permutations": permutations,
    "hostile": hostile,
}
