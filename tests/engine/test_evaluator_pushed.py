"""The evaluator and what others push: folded once whatever happens, in the transaction that takes it away."""

import asyncio
from typing import Any

from engine.bus import OTLP, decode
from engine.listening import keep_listening
from engine.store import objects, pings, pushed
from engine.store.database import transaction
from engine.store.ids import partition_of
from engine.store.objects import Stored
from engine.store.pings import Arrived
from engine.store.pushed import Ping, Report
from evaluators.heartbeat import Signal
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


async def tell(lab: Lab, beat: Stored) -> None:
    number = str(partition_of(beat.id))
    await lab.bus.announce(f"{pushed.SUBJECT}.{number}", number.encode())


async def stages(lab: Lab, beat: Stored) -> list[str]:
    rows = await lab.pool.fetch("SELECT stage FROM transitions WHERE beat_id = $1 ORDER BY id", beat.id)
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
    listening = asyncio.create_task(keep_listening(lab.pool))
    beat = await add(lab, slug="job", type="heartbeat", every="1s", grace="0s")
    await ping(lab, beat, "success")
    await eventually(lambda: told(lab, beat), [None, "heartbeat.missed"])
    heard: list[str] = []

    async def has_heard() -> bool:
        for delivery in await lab.bus.fetch(OTLP, 0, 10, 0.2):
            heard.extend(result.verdict for result in decode(delivery.data).results)
        return heard == ["ok", "critical"]

    await eventually(has_heard, True)
    listening.cancel()


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
            for task in other._working.values():
                task.cancel()
    assert await idle.count("pings") == 30
    assert len(await told(idle, beat)) == 30
    episodes = await idle.pool.fetch("SELECT number FROM episodes ORDER BY number")
    assert [row["number"] for row in episodes] == list(range(1, len(episodes) + 1))


async def test_what_cannot_be_folded_is_a_dead_letter_and_the_rest_goes_on(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    await ping(lab, beat, "success")
    await eventually(lambda: stages(lab, beat), ["ok"])
    await lab.pool.execute(
        'INSERT INTO pushed (partition, beat_id, at, fact) VALUES ($1, $2, 0, \'{"type": "nothing"}\')',
        partition_of(beat.id),
        beat.id,
    )
    await ping(lab, beat, "fail")
    await eventually(lambda: stages(lab, beat), ["ok", "critical"])
    assert await lab.count("dead_letters") == 1


async def test_pings_of_a_paused_beat_are_kept_and_do_not_count(lab: Lab) -> None:
    beat = await add(lab, slug="job", type="heartbeat", every="1h")
    lab.subjects[beat.id] = subject(beat, paused_until_s=lab.clock.epoch_s() + 1000)
    assert lab.working is not None
    lab.working.changed(beat.id)
    await ping(lab, beat, "fail")
    await eventually(lambda: lab.count("pings"), 1)
    assert await lab.pool.fetchval("SELECT counted FROM pings") is False
    assert await told(lab, beat) == []


async def test_a_report_is_a_signal_in_the_evidence_of_a_draft(lab: Lab) -> None:
    await lab.send("...")
    await lab.becomes("ok")
    for severity in ("critical", None):
        report = Report("report", "orders", severity, "refused", lab.clock.epoch_s(), "ops")
        async with transaction(lab.pool) as connection:
            await pushed.put(connection, lab.beat.id, lab.clock.epoch_s(), report)
        await tell(lab, lab.beat)
        await lab.becomes("critical" if severity else "ok")
        assert await lab.count("signals") == (1 if severity else 0)
    evidence = await lab.pool.fetchval("SELECT evidence FROM actions")
    assert {"report", "eu", "us", "ap"} == {item["region"] for item in evidence}
    assert next(i["error"]["message"] for i in evidence if i["region"] == "report") == "refused"


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
