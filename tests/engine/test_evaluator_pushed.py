"""The evaluator and what others push: folded once whatever happens, in the transaction that takes it away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.bus import OTLP, Bus, decode
from engine.clock import SystemClock
from engine.listening import keep_listening
from engine.store import objects, pings, pushed
from engine.store.database import transaction
from engine.store.ids import partition_of
from engine.store.objects import Stored
from engine.store.pings import Arrived
from engine.store.pushed import Ping, Report
from evaluators.heartbeat import Signal
from evaluators.model import Severity
from tests.engine.test_evaluator import ACTOR, Lab, eventually, idle, lab, running, subject

__all__ = ["idle", "lab"]  # fixtures


async def add(lab: Lab, **spec: Any) -> Stored:
    async with transaction(lab.pool) as connection:
        await pings.listen(connection)
        page = await objects.find(connection, "page", "p")
        beat = await objects.create(connection, ACTOR, "beat", page.id, spec)
    lab.subjects[beat.id] = subject(beat)
    if lab.working is not None:
        lab.working.changed(beat.id)
    return beat


async def ping(lab: Lab, beat: Stored, *signals: Signal, said: bytes = b"", at: float | None = None) -> None:
    async with transaction(lab.pool) as connection:
        key = (await pings.keys(connection, [beat.id]))[beat.id]
        at = lab.clock.epoch_s() if at is None else at
        sent = [Arrived(key, at, Ping(signal, "POST", "192.0.2.1"), said) for signal in signals]
        assert len(await pings.put(connection, sent)) == len(signals)
    await tell(lab, beat)


async def report(lab: Lab, beat: Stored, severity: Severity | None) -> None:
    now = lab.clock.epoch_s()
    async with transaction(lab.pool) as connection:
        await pushed.put(
            connection, beat.id, now, Report("report", "orders", severity, "refused", now, "ops")
        )
    await tell(lab, beat)


async def change(lab: Lab, beat: Stored, **spec: Any) -> Stored:
    async with transaction(lab.pool) as connection:
        beat = await objects.replace(connection, ACTOR, beat, {"slug": beat.slug, **spec})
    declare(lab, beat)
    return beat


def declare(lab: Lab, beat: Stored, *, paused_until_s: float | None = None) -> None:
    """The catalog says that the beat changed."""
    assert lab.working is not None
    lab.subjects[beat.id] = subject(beat, paused_until_s=paused_until_s)
    lab.working.changed(beat.id)


@contextlib.asynccontextmanager
async def listened(lab: Lab) -> AsyncIterator[None]:
    """Pings can be taken, and it is said so."""
    task = asyncio.create_task(keep_listening(lab.pool))
    try:
        yield
    finally:
        task.cancel()


async def tell(lab: Lab, beat: Stored) -> None:
    number = str(partition_of(beat.id))
    await lab.bus.announce(f"{pushed.SUBJECT}.{number}", number.encode())


async def stages(lab: Lab, beat: Stored) -> list[str]:
    rows = await lab.pool.fetch("SELECT stage FROM transitions WHERE subject_id = $1 ORDER BY id", beat.id)
    return [row["stage"] for row in rows]


async def told(lab: Lab, beat: Stored) -> list[str | None]:
    rows = await lab.pool.fetch(
        "SELECT failure_type FROM results WHERE beat_id = $1 ORDER BY at, seq", beat.id
    )
    return [row["failure_type"] for row in rows]


async def test_pings_become_results_a_stage_and_an_episode(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    await ping(lab, beat, "success")
    await eventually(lambda: stages(lab, beat), ["ok"])
    await ping(lab, beat, "start", "fail", said=b"disk full\npassword=hunter2")
    await eventually(lambda: stages(lab, beat), ["ok", "critical"])
    row = await lab.pool.fetchrow(
        "SELECT * FROM results WHERE beat_id = $1 AND verdict = 'critical'", beat.id
    )
    assert row is not None
    assert (row["region"], row["failure_type"], row["failure_message"], row["total"]) == (
        "server",
        "heartbeat.failed",
        "the job says that it failed: disk full",
        0.0,
    )
    assert await lab.count("episodes") == 1
    assert await lab.count("pings") == 3
    assert await lab.count("pushed") == 0


async def test_silence_is_missed_and_its_results_are_told_to_who_measures(lab: Lab) -> None:
    await lab.bus.fetch(OTLP, 0, 1, 0.1)  # from now on
    async with listened(lab):
        beat = await add(lab, slug="job", type="heartbeat", every="1s", grace="0s")
        await ping(lab, beat, "success")
        await eventually(lambda: told(lab, beat), [None, "heartbeat.missed"])
    heard: list[str] = []

    async def has_heard() -> bool:
        for delivery in await lab.bus.fetch(OTLP, 0, 10, 0.2):
            heard.extend(result.verdict for result in decode(delivery.data).results)
        return heard == ["ok", "critical"]

    await eventually(has_heard, True)


async def test_two_evaluators_that_both_believe_in_a_partition_fold_each_ping_once(idle: Lab) -> None:
    beat = await add(idle, slug="job", type="heartbeat", every="1h")
    async with running(idle.evaluator("one")) as one:
        await eventually(lambda: asyncio.sleep(0, len(one.leases.held)), 8)
        other = idle.evaluator("two")
        async with asyncio.TaskGroup() as group:
            other._group = group
            other._share({str(n): None for n in range(8)}, frozenset())
            for _ in range(10):
                await ping(idle, beat, "success", "fail", "success")
                await asyncio.sleep(0.1)
            await eventually(lambda: idle.count("pushed"), 0)
            for partition in other._partitions.values():
                partition.task.cancel()
    assert await idle.count("pings") == 30
    assert len(await told(idle, beat)) == 30
    episodes = await idle.pool.fetch("SELECT number FROM episodes ORDER BY number")
    assert [row["number"] for row in episodes] == list(range(1, len(episodes) + 1))


async def test_what_cannot_be_folded_is_a_dead_letter_and_the_rest_goes_on(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    await ping(lab, beat, "success")
    await eventually(lambda: stages(lab, beat), ["ok"])
    await lab.pool.execute(
        'INSERT INTO pushed (partition, subject_id, at, fact) VALUES ($1, $2, 0, \'{"type": "nothing"}\')',
        partition_of(beat.id),
        beat.id,
    )
    await ping(lab, beat, "fail")
    await eventually(lambda: stages(lab, beat), ["ok", "critical"])
    assert await lab.count("dead_letters") == 1


async def test_pings_of_a_paused_beat_are_kept_and_do_not_count(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    declare(lab, beat, paused_until_s=lab.clock.epoch_s() + 1000)
    await ping(lab, beat, "fail")
    await eventually(lambda: lab.count("pings"), 1)
    assert await lab.pool.fetchval("SELECT counted FROM pings") is False
    assert await told(lab, beat) == []


async def test_a_report_is_a_signal_in_the_evidence_of_a_draft(lab: Lab) -> None:
    await lab.send("...")
    await lab.becomes("ok")
    said: tuple[Severity | None, ...] = ("critical", None)
    for severity in said:
        await report(lab, lab.beat, severity)
        await lab.becomes("critical" if severity else "ok")
        assert await lab.count("signals") == (1 if severity else 0)
    evidence = await lab.pool.fetchval("SELECT evidence FROM actions")
    assert {"report", "eu", "us", "ap"} == {item["region"] for item in evidence}
    assert next(i["error"]["message"] for i in evidence if i["region"] == "report") == "refused"


async def test_what_happens_again_and_again_in_one_commit_is_told_each_time(lab: Lab) -> None:
    beat = await add(
        lab, slug="job", type="heartbeat", every="1h", channels=["ops"], incidents={"open": "off"}
    )
    await ping(lab, beat, "success")
    await eventually(lambda: stages(lab, beat), ["ok"])
    await ping(lab, beat, "fail", "success", "fail")
    await eventually(lambda: stages(lab, beat), ["ok", "critical", "ok", "critical"])
    assert await lab.told() == ["open", "recovery", "open"]


async def test_a_change_in_the_commit_of_its_episode_is_told(lab: Lab) -> None:
    warning = {"failed": "warning", "overlong": "critical"}
    more = {"channels": ["ops"], "incidents": {"open": "off"}, "grace": "0s", "severity": warning}
    beat = await add(lab, slug="job", type="heartbeat", every="1h", **more)
    await ping(lab, beat, "success")
    await eventually(lambda: stages(lab, beat), ["ok"])
    await ping(lab, beat, "fail", "start", at=lab.clock.epoch_s() - 1)
    await ping(lab, beat, "start")  # the one before has not ended
    await eventually(lambda: stages(lab, beat), ["ok", "warning", "critical"])
    assert await lab.told() == ["open", "change"]


async def test_a_draft_shows_the_miss_it_rests_on_whatever_the_grace(lab: Lab) -> None:
    async with listened(lab):
        more = {"every": "1h", "grace": "3h", "channels": ["ops"]}
        beat = await add(lab, slug="job", type="heartbeat", **more)
        await ping(lab, beat, "success", at=lab.clock.epoch_s() - 4 * 3600 + 1)
        await eventually(lambda: stages(lab, beat), ["ok", "critical"])
    (seen,) = await lab.pool.fetchval("SELECT evidence FROM actions")
    assert seen["error"]["type"] == "heartbeat.missed"


async def test_a_draft_that_rests_on_a_signal_is_owed_again_after_a_pause(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    await ping(lab, beat, "success")
    await report(lab, beat, "critical")
    await eventually(lambda: stages(lab, beat), ["ok", "critical"])
    declare(lab, beat, paused_until_s=lab.clock.epoch_s() + 1000)
    await eventually(lambda: drafts(lab), ["withdrawn"])
    declare(lab, beat)
    await eventually(lambda: drafts(lab), ["withdrawn", "pending"])


async def drafts(lab: Lab) -> list[str]:
    return [row["status"] for row in await lab.pool.fetch("SELECT status FROM actions ORDER BY created_at")]


async def test_what_was_an_outage_is_none_once_nobody_probes_it(lab: Lab) -> None:
    await lab.bring_down()
    await change(lab, lab.beat, type="external")
    await lab.becomes("ok")


async def test_a_heartbeat_that_was_something_else_meanwhile_begins_anew(lab: Lab) -> None:
    schedule = {"type": "heartbeat", "every": "1h", "grace": "0s"}
    beat = await add(lab, slug="job", **schedule)
    await ping(lab, beat, "success", at=lab.clock.epoch_s() - 1800)
    await eventually(lambda: stages(lab, beat), ["ok"])
    beat = await change(lab, beat, type="external")
    await eventually(lambda: applied(lab, beat), beat.revision)
    beat = await change(lab, beat, **schedule)
    await eventually(lambda: applied(lab, beat), beat.revision)
    state = await lab.pool.fetchval("SELECT state FROM states WHERE subject_id = $1", beat.id)
    assert state["heartbeat"]["due_at"] > lab.clock.epoch_s() + 3000


async def applied(lab: Lab, beat: Stored) -> int:
    revision: int = await lab.pool.fetchval("SELECT revision FROM states WHERE subject_id = $1", beat.id)
    return revision


async def test_without_a_bus_pings_count_silence_is_missed_and_a_pause_is_heeded(
    idle: Lab, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.evaluator.LOOK_S", 0.5)
    bus = Bus()
    await bus.connect(nats_url, name="cut off")
    evaluator = idle.evaluator()
    evaluator._bus = bus
    async with running(evaluator), listened(idle):
        await eventually(lambda: asyncio.sleep(0, len(evaluator.leases.held)), 8)
        idle.working = evaluator
        beat = await add(idle, slug="job", type="heartbeat", every="1s", grace="0s", channels=["ops"])
        paused = await add(idle, slug="paused", type="external")
        await eventually(lambda: applied(idle, paused), paused.revision)
        await bus.close()
        await ping(idle, beat, "success")
        await eventually(lambda: stages(idle, beat), ["ok", "critical"], 30)
        declare(idle, paused, paused_until_s=idle.clock.epoch_s() + 1000)
        await ping(idle, beat, "success")
        await eventually(lambda: stages(idle, beat), ["ok", "critical", "ok", "critical"], 30)
        assert [said for said in await idle.told() if said != "draft"] == ["open", "recovery", "open"]
        is_paused = "SELECT state->>'suspended' FROM states WHERE subject_id = $1"
        await eventually(lambda: idle.pool.fetchval(is_paused, paused.id), "true")


class SetClock(SystemClock):
    """A clock that somebody sets."""

    ahead_s = 0.0

    def epoch_s(self) -> float:
        return super().epoch_s() + self.ahead_s


@pytest.mark.parametrize("other", ["1h", "3h"])
async def test_what_was_due_in_the_hours_that_a_clock_left_out_is_not_missed(idle: Lab, other: str) -> None:
    idle.clock = clock = SetClock()
    async with running(idle.evaluator()) as idle.working, listened(idle):
        beat = await add(idle, slug="job", type="heartbeat", every=other, grace="0s")
        await ping(idle, beat, "success")
        await eventually(lambda: stages(idle, beat), ["ok"])
        clock.ahead_s += 2 * 3600
        clock.jumps += 1
        await ping(idle, beat, "success")
        await eventually(lambda: idle.count("pings"), 2)
    assert "heartbeat.missed" not in await told(idle, beat)
    assert await stages(idle, beat) == ["ok"]


@pytest.mark.parametrize(("up_s", "begins_s"), [(20, 130), (90, 30)])
async def test_two_times_nobody_listened_are_one_if_it_was_short_between(
    idle: Lab, up_s: int, begins_s: int
) -> None:
    """First for 80 s, then for 30 s until now."""

    async def span() -> list[float]:
        now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        return [round(now - at) for at in await pings.deafness(connection)]

    async with transaction(idle.pool) as connection:
        await connection.execute(
            "UPDATE listening SET at = now() - interval '30 s', deaf_until = now() - $1 * interval '1 s', "
            "deaf_from = now() - $2 * interval '1 s'",
            30 + up_s,
            110 + up_s,
        )
        assert await span() == [begins_s, 0]
        await pings.listen(connection)
        assert await span() == [begins_s, 0]


async def test_who_pings_without_end_does_not_keep_results_waiting(
    idle: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.evaluator.PUSHED_AT_ONCE", 2)
    monkeypatch.setattr("engine.evaluator.ROUNDS", 2)
    beat = await add(idle, slug="job", type="heartbeat", every="1h")
    while partition_of(idle.beat.id) != partition_of(beat.id):
        beat = await add(idle, slug=f"job-{beat.id}", type="heartbeat", every="1h")
    many: list[Signal] = ["success"] * 200
    await ping(idle, beat, *many)
    await idle.send("...")
    async with running(idle.evaluator()):
        await idle.becomes("ok")
        assert await idle.count("pushed") > 0
        await eventually(lambda: idle.count("pushed"), 0, 30)
    assert len(await told(idle, beat)) == 200


async def test_old_pings_are_swept(idle: Lab) -> None:
    beat = await add(idle, slug="job", type="heartbeat", every="1h")
    now = idle.clock.epoch_s()
    async with transaction(idle.pool) as connection:
        kept = [
            (pushed.Pushed(n, beat.id, now - n, Ping("success", "GET", ""), None), True)
            for n in range(1, 1006)
        ]
        old = pushed.Pushed(5000, beat.id, now - 40 * 86400, Ping("success", "GET", ""), None)
        await pings.keep(connection, [*kept, (old, True)])
        await pings.sweep(connection, 30)
    assert await idle.count("pings") == pings.KEPT_PER_BEAT
    assert await idle.pool.fetchval("SELECT min(id) FROM pings") == 1
