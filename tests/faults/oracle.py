"""Compares what is stored with the ledger. It looks only after the storm, when everything has had time to settle."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine.store.ids import show
from tests.exporters.publishers.cachet_server import Cachet3Server
from tests.faults.ledger import FLOODED, HOOKED, PINGED, REPORTED, Ledger, Outage
from tests.rig.installation import Installation, connect
from tests.rig.process import until
from tests.rig.targets import Receiver

RESOLVED = 4
"""At Cachet."""
QUIET = """
SELECT (SELECT count(*) FROM outbox WHERE status = 'pending') AS pending,
       (SELECT count(*) FROM episodes WHERE closed_at IS NULL) AS open,
       (SELECT count(*) FROM actions WHERE status = 'approved') AS approved,
       (SELECT count(*) FROM incidents WHERE posted IS NOT NULL) AS unsettled,
       (SELECT count(*) FROM pushed) AS pushed,
       (SELECT count(*) FROM arrivals) AS arrivals
"""


@dataclass
class Findings:
    """Zeros, if all is well."""

    duplicate_incidents: int = 0
    missing_incidents: int = 0
    false_episodes: int = 0
    missing_episodes: int = 0
    unresolved_incidents: int = 0
    acknowledged_writes_lost: int = 0
    acknowledged_approvals_lost: int = 0
    pings_lost_or_doubled: int = 0
    reports_lost_or_doubled: int = 0
    events_lost_or_doubled: int = 0
    signals_lost_or_doubled: int = 0
    notices_not_delivered: int = 0
    notices_that_differ: int = 0
    wrong_elsewhere: int = 0
    duplicate_results: int = 0
    dead_letters: int = 0
    details: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Of everything that must be zero."""
        return sum(value for value in vars(self).values() if isinstance(value, int))


async def settled(installation: Installation, within_s: float = 60.0) -> None:
    """Wait until no notice waits and no episode is open."""
    connection = await connect(installation)

    async def quiet() -> bool:
        row = await connection.fetchrow(QUIET)
        return row is not None and not any(row.values())

    try:
        await until(quiet, "everything settles", within_s)
    finally:
        await connection.close()


async def judge(
    installation: Installation, ledger: Ledger, receiver: Receiver, elsewhere: Cachet3Server
) -> Findings:
    """What is wrong."""
    connection = await connect(installation)
    try:
        found = Findings()
        await _episodes(connection, ledger, found)
        await _writes(connection, ledger, found)
        await _pushed(connection, ledger, found)
        await _webhooks(connection, ledger, found)
        await _notices(connection, receiver, found)
        await _elsewhere(connection, elsewhere, found)
        found.duplicate_results = await connection.fetchval(
            "SELECT count(*) - count(DISTINCT run_id) FROM results"
        )
        found.dead_letters = await connection.fetchval("SELECT count(*) FROM dead_letters")
        found.details += ledger.missed
        return found
    finally:
        await connection.close()


async def _episodes(connection: "asyncpg.Connection[Any]", ledger: Ledger, found: Findings) -> None:
    rows = await connection.fetch(
        "SELECT o.slug, e.id, e.number, extract(epoch FROM e.opened_at)::float8 AS opened, "
        "extract(epoch FROM e.closed_at)::float8 AS closed, "
        "(SELECT count(*) FROM incidents i WHERE i.episode_id = e.id) AS incidents, "
        "(SELECT count(*) FROM incidents i WHERE i.episode_id = e.id AND i.status <> 'resolved') AS unresolved, "
        "(SELECT count(*) FROM updates u JOIN incidents i ON i.id = u.incident_id WHERE i.episode_id = e.id) AS updates "
        "FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE o.slug <> ALL ($1) ORDER BY e.opened_at",
        [REPORTED, HOOKED, FLOODED],
    )
    truth = {beat: [o for o in ledger.outages if o.beat == beat] for beat in {o.beat for o in ledger.outages}}
    matched = Counter[int]()
    if ledger.has_wrong_clock:  # then only their order can be compared
        for beat, outages in truth.items():
            mine = [row for row in rows if row["slug"] == beat]
            for row, one in zip(mine, outages, strict=False):
                one.down_at, one.up_at = row["opened"], row["opened"]
    for row in rows:
        # An episode belongs to the outage that was on when it opened, or had ended last.
        outage = next(
            (
                o
                for o in reversed(truth.get(row["slug"], []))
                if o.down_at - 1 <= row["opened"] <= (o.up_at or row["opened"]) + 5
            ),
            None,
        )
        if outage is None:
            found.false_episodes += 1
            found.details.append(
                f"{row['slug']}: an episode at {row['opened']:.3f} while the target was well"
            )
            continue
        matched[id(outage)] += 1
        found.missing_incidents += row["incidents"] == 0
        found.duplicate_incidents += max(row["incidents"] - 1, 0)
        found.unresolved_incidents += row["unresolved"]
        if row["incidents"] != 1 or row["unresolved"] or row["updates"] != 2:
            found.details.append(
                f"{row['slug']} episode {row['number']}: {row['incidents']} incidents, "
                f"{row['unresolved']} unresolved, {row['updates']} updates"
            )
    for outage in ledger.outages:
        times = matched[id(outage)]
        if times > 1:
            found.duplicate_incidents += times - 1
            found.details.append(f"{outage.beat}: {times} episodes of the outage at {outage.down_at:.3f}")
            found.details += await _history(connection, outage)
        elif times == 0:
            found.missing_episodes += 1
            found.details.append(f"{outage.beat}: no episode of the outage at {outage.down_at:.3f}")


async def _history(connection: "asyncpg.Connection[Any]", outage: Outage) -> list[str]:
    """What was stored of a beat around an outage, in seconds since it began: for whoever looks into it."""
    rows = await connection.fetch(
        "SELECT t.at, 0 AS seq, was || ' -> ' || stage || ' ' || votes::text AS said FROM transitions t "
        "JOIN objects o ON o.id = t.subject_id WHERE o.slug = $1 AND t.at BETWEEN to_timestamp($2::float8 - 3) AND to_timestamp($3::float8 + 15) "
        "UNION ALL SELECT seen_at, position, left(boot_id::text, 8) || ' ' || seq || ' ' || r.region || ' ' || r.kind || ' ' || verdict || "
        "' at ' || round((extract(epoch FROM r.at) - $2::float8)::numeric, 2) FROM results r JOIN objects o ON o.id = r.beat_id "
        "WHERE o.slug = $1 AND seen_at BETWEEN to_timestamp($2::float8 - 3) AND to_timestamp($3::float8 + 15) ORDER BY 1, 2 DESC",
        outage.beat,
        outage.down_at,
        outage.up_at,
    )
    up_s = outage.up_at - outage.down_at
    return [
        f"down 0, up {up_s:.2f}, seen {outage.seen_s:.2f}, over {outage.over_s:.2f}",
        *(f"{row['at'].timestamp() - outage.down_at:.2f} {row['said']}" for row in rows),
    ]


async def _writes(connection: "asyncpg.Connection[Any]", ledger: Ledger, found: Findings) -> None:
    rows = await connection.fetch(
        "SELECT slug, spec->>'name' AS name FROM objects WHERE kind = 'component' AND removed_at IS NULL"
    )
    stored: dict[str, str | None] = {row["slug"]: row["name"] for row in rows}
    expected: dict[str, set[str | None]] = {slug: {name} for slug, name in ledger.written.items()}
    expected |= ledger.doubtful
    for slug, names in expected.items():
        if stored.get(slug) not in names:
            found.acknowledged_writes_lost += 1
            found.details.append(f"component {slug}: {stored.get(slug)!r}, acknowledged {names}")
    done = await connection.fetch(
        "SELECT replace(id::text, '-', '') AS id FROM actions WHERE status = 'done'"
    )
    known = {row["id"] for row in done}
    for action in ledger.approved:
        if action.removeprefix("act_") not in known:
            found.acknowledged_approvals_lost += 1
            found.details.append(f"action {action} was approved and is not done")


async def _pushed(connection: "asyncpg.Connection[Any]", ledger: Ledger, found: Findings) -> None:
    """Each acknowledged ping once in history, and each in history one result; each report of trouble one episode."""
    rows = await connection.fetch("SELECT run, count(*) AS times FROM pings GROUP BY run")
    times = {row["run"]: row["times"] for row in rows}
    wrong = [run for run, is_known in ledger.pinged.items() if times.get(run, 0) not in {1, int(is_known)}]
    found.pings_lost_or_doubled = len(wrong)
    found.details += [f"ping {run}: {times.get(run, 0)} times, {ledger.pinged[run]}" for run in wrong[:5]]
    of_beat = "FROM {} t JOIN objects o ON o.id = t.{} WHERE o.slug = $1"
    made = await connection.fetchval(f"SELECT count(*) {of_beat.format('results', 'beat_id')}", PINGED)
    episodes = await connection.fetchval(
        f"SELECT count(*) {of_beat.format('episodes', 'owner_id')}", REPORTED
    )
    found.pings_lost_or_doubled += abs(made - sum(times.values()))
    found.reports_lost_or_doubled = abs(episodes - ledger.reported)
    if made != sum(times.values()) or episodes != ledger.reported:
        found.details.append(f"{made} results of {sum(times.values())} pings")
        found.details.append(f"{episodes} episodes of {ledger.reported} reports of trouble")


async def _webhooks(connection: "asyncpg.Connection[Any]", ledger: Ledger, found: Findings) -> None:
    """Each acknowledged event is there and judged once; each trouble opened and ended one signal, and where they came one by
    one, one episode with one incident."""
    acknowledged = {event.removeprefix("evt_") for event in ledger.delivered}
    stored = {
        row["id"].hex: row["times"]
        for row in await connection.fetch(
            "SELECT e.id, (SELECT count(*) FROM judged j WHERE j.event_id = e.id) AS times FROM events e"
        )
    }
    lost, wrong = acknowledged - stored.keys(), [event for event, times in stored.items() if times != 1]
    found.events_lost_or_doubled = len(lost) + len(wrong)
    found.details += [f"event {event} was acknowledged and is gone" for event in sorted(lost)[:5]]
    found.details += [f"event {event} was judged {stored[event]} times" for event in wrong[:5]]
    rows = await connection.fetch(
        "SELECT o->>'fingerprint' AS fingerprint, count(*) FILTER (WHERE o->>'kind' = 'opened') AS opened, "
        "count(*) FILTER (WHERE o->>'kind' = 'resolved') AS resolved FROM judged j, "
        "json_each(j.outcomes) AS t (id, made), json_array_elements(t.made->'outcomes') AS o GROUP BY 1"
    )
    made = {row["fingerprint"]: (row["opened"], row["resolved"]) for row in rows}
    expected = [*ledger.flooded, *(f"trouble {n}" for n in range(ledger.hooked))]
    bad = [name for name in expected if made.get(name) != (1, 1)]
    left = await connection.fetchval("SELECT count(*) FROM signals")
    episodes = await connection.fetch(
        "SELECT (SELECT count(*) FROM incidents i WHERE i.episode_id = e.id AND i.status = 'resolved') AS incidents "
        "FROM episodes e JOIN objects o ON o.id = e.owner_id WHERE o.slug = $1",
        HOOKED,
    )
    found.signals_lost_or_doubled = len(bad) + left + abs(len(episodes) - ledger.hooked)
    found.duplicate_incidents += sum(row["incidents"] > 1 for row in episodes)
    found.missing_incidents += sum(row["incidents"] == 0 for row in episodes)
    found.details += [f"{name} opened and ended {made.get(name)} times" for name in bad[:5]]
    if left or len(episodes) != ledger.hooked:
        found.details.append(f"{left} signals are left, {len(episodes)} episodes of {ledger.hooked} troubles")


async def _notices(connection: "asyncpg.Connection[Any]", receiver: Receiver, found: Findings) -> None:
    bodies: dict[str, set[str]] = {}
    for key, payload in receiver.told:
        bodies.setdefault(key, set()).add(str(payload))
    found.notices_that_differ = sum(len(seen) > 1 for seen in bodies.values())
    rows = await connection.fetch("SELECT key, status FROM outbox WHERE incident_id IS NULL")
    missing = [row["key"] for row in rows if row["key"] not in bodies or row["status"] != "done"]
    found.notices_not_delivered = len(missing)
    found.details += [f"notice {key} was not delivered" for key in missing[:5]]
    # One beginning and one end of each episode, however often each was sent.
    said = Counter(
        (payload["data"]["episode"], payload["data"]["told"])
        for payload in dict(receiver.told).values()
        if payload["data"]["told"] in ("open", "recovery") and payload["data"]["episode"]
    )
    twice = [what for what, times in said.items() if times > 1]
    found.notices_that_differ += len(twice)
    found.details += [f"{told} of {episode} was told under two ids" for episode, told in twice]


async def _elsewhere(
    connection: "asyncpg.Connection[Any]", elsewhere: Cachet3Server, found: Findings
) -> None:
    """Each incident is once on the other page, ended, with each of its updates once; all there is well again."""
    there: dict[str, list[tuple[bool, list[str]]]] = {}
    for key, one in elsewhere.kept["incidents"].items():
        texts = [one["message"], *(update["message"] for update in elsewhere.updates["incidents", key])]
        there.setdefault(one["meta"]["upbeat"], []).append((one["status"] == RESOLVED, texts))
    said = {
        show("incident", row["id"]): row["said"]
        for row in await connection.fetch(
            "SELECT i.id, array_agg(u.text ORDER BY u.at, u.position) AS said FROM incidents i JOIN updates u "
            "ON u.incident_id = i.id GROUP BY i.id"
        )
    }
    for incident in said.keys() | there.keys():
        if there.get(incident) != [(True, said.get(incident))]:
            found.wrong_elsewhere += 1
            found.details.append(f"{incident}: {there.get(incident)} elsewhere, here {said.get(incident)}")
    left = {key: status for key, status in elsewhere.components.items() if status != 1}
    found.wrong_elsewhere += len(left)
    if left:
        found.details.append(f"elsewhere still {left}")
