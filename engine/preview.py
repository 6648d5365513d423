"""Previews of triggers over stored events and pasted samples, in the order in which they were judged. What is made of them is `evaluators.preview`'s.

Run as a program it is a worker (`engine.worker`). It reads in one read-only transaction, and says nothing to anybody else.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.store import events, jobs, previews
from engine.store.database import Connection, Row
from engine.store.ids import show
from engine.store.previews import SAMPLE, Plan, Side
from engine.worker import Order, Tell, run
from evaluators.event import Event, read
from evaluators.preview import Comparison, Difference, Draft, Findings, Preview
from rules.redaction import MASK, hidden_text, is_hidden, masked_message
from rules.reference import Reference, parse_template
from rules.subject import rule_of
from rules.trigger import Trigger

AT_ONCE: Final = 32
"""Events in memory, each of at most a megabyte."""
_REPEATED_S: Final = 2 * 86400.0
"""So long after an event a repeat of it may come."""
# The queue of what is judged is walked in its order, and each event looked up: nothing is sorted, and nothing is large.
_JUDGED: Final = (
    "SELECT e.id, j.at, j.is_repeat, e.headers::text AS headers, e.query, e.body "
    "FROM (SELECT event_id, received_at, at, is_repeat FROM judged WHERE inbox_id = $1 AND at >= $2 AND at < $3 "
    " AND received_at >= to_timestamp($2 - $4) AND received_at < to_timestamp($3) ORDER BY position) j CROSS JOIN LATERAL "
    "(SELECT * FROM events e WHERE e.id = j.event_id AND e.received_at = j.received_at OFFSET 0) e"
)
_WAITING: Final = (
    "SELECT e.id, date_part('epoch', a.at) AS at, a.is_repeat, e.headers::text AS headers, e.query, e.body FROM (SELECT * FROM arrivals WHERE inbox_id = $1 AND at >= to_timestamp($2) "
    " AND at < to_timestamp($3) AND received_at >= to_timestamp($2 - $4) ORDER BY id) a CROSS JOIN LATERAL "
    "(SELECT * FROM events e WHERE e.id = a.event_id AND e.received_at = a.received_at OFFSET 0) e"
)
_HEADERS: Final = lru_cache(1 << 10)(msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode)
_SAID: Final = frozenset({"fingerprint", "fingerprints", "beat", "reason", "title", "text", "value", "why"})
"""Keys under which findings have what a payload may have said."""
_NAMING: Final = _SAID - {"reason", "text", "why"}
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"")


async def work(connection: Connection, plan: Plan, tell: Tell) -> tuple[int, dict[str, Any]]:
    """Fold all of it; how many events there were, and what was found."""
    tried = [_preview(side, plan) for side in plan.sides]
    folded = Comparison(tried[0], tried[1]) if len(tried) == 2 else tried[0]
    hides = any(_hides_fingerprint(side, plan) for side in plan.sides)
    count, until, first = 0, plan.until, 0.0

    def found() -> dict[str, Any]:
        return shown(folded.found(), hides=hides)

    if plan.inbox is not None:
        async with connection.transaction(readonly=True, isolation="repeatable_read"):
            await connection.execute("SET LOCAL statement_timeout = 0")
            deaf = (await events.deafness(connection, plan.since))[::-1]
            async for batch in _batches(connection, plan):
                first = first or batch[0]["at"]
                for event_id, at, is_repeat, headers, query, body in batch:
                    while deaf and deaf[-1].ended_at <= at:
                        folded.hear(*deaf.pop())
                    event = Event(show("event", event_id), at, _HEADERS(headers), query, body)
                    folded.see(at, event.id, read(event), is_repeat=is_repeat)
                    count += 1
                    tell((at - first) / (until - first), count, found)
        for one in reversed(deaf):
            folded.hear(*one)
    for number, sample in enumerate(plan.samples, 1):
        event = Event(f"{SAMPLE} {number}", sample.at, tuple(sample.headers), sample.query, sample.body)
        folded.see(sample.at, event.id, read(event))
        count, until = count + 1, max(until, sample.at)
        tell(1.0, count, found)
    return count, shown(folded.finish(until), hides=hides)


def _preview(side: Side, plan: Plan) -> Preview:
    rule = Trigger.model_validate(side.rule)
    rule = rule.model_copy(update={"message": masked_message(rule, plan.hidden)})
    target = rule_of(side.kind, side.target) if side.target is not None else None
    return Preview(
        rule,
        target,
        start=plan.since,
        components=side.components,
        members=side.members,
        hidden=plan.hidden,
    )


async def _batches(connection: Connection, plan: Plan) -> AsyncIterator[list[Row]]:
    """What was judged, in its order, then what waits to be."""
    for query in (_JUDGED, _WAITING):
        cursor = await connection.cursor(query, plan.inbox, plan.since, plan.until, _REPEATED_S)
        coming = asyncio.ensure_future(cursor.fetch(AT_ONCE))
        try:
            while batch := await coming:
                coming = asyncio.ensure_future(cursor.fetch(AT_ONCE))
                await asyncio.sleep(0)  # it is asked for: PostgreSQL is at it while this batch is folded
                yield batch
        finally:
            coming.cancel()


# ---- without what people are not shown


def _hides_fingerprint(side: Side, plan: Plan) -> bool:
    rule = Trigger.model_validate(side.rule)
    parts = parse_template(rule.fingerprint)
    return any(isinstance(part, Reference) and is_hidden(rule, part, plan.hidden) for part in parts)


def shown(found: Findings | Difference, *, hides: bool) -> dict[str, Any]:
    """What was found as people may see it, of one rule or of two; `hides`: no fingerprint."""
    plain = _plain(found, "", hides)
    if isinstance(found, Findings):
        return {"findings": plain}
    for name in ("merged", "split"):
        plain["episodes"][name] = [{"old": old, "new": new} for old, new in plain["episodes"][name]]
    return {"difference": plain}


def _plain(value: Any, key: str, hides: bool) -> Any:
    if isinstance(value, Struct):
        # The words of a draft name the beat, which may be called by a fingerprint.
        called = {"text": "title"} if isinstance(value, Draft) else {}
        return {
            name: _plain(getattr(value, name), called.get(name, name), hides)
            for name in value.__struct_fields__
        }
    if isinstance(value, list | tuple):
        return [_plain(inner, key, hides) for inner in value]
    if key not in _SAID or not isinstance(value, str) or not value:
        return value
    if hides:
        return MASK if key in _NAMING else _QUOTED.sub(f"'{MASK}'", _hidden(value))
    return _hidden(value)


_hidden = lru_cache(1 << 14)(hidden_text)


async def _work(connection: Connection, order: Order, tell: Tell) -> tuple[int, Any]:
    return await work(connection, previews.decode_plan(await jobs.plan_of(connection, order.job)), tell)


if __name__ == "__main__":
    run(_work)
