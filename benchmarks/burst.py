"""A burst of 10,000 deliveries from 64 senders in 10 s: what is acknowledged is stored, all else is told when to come back.

    python -m benchmarks.burst

Twice: with room for all of them, and at the rate limit that an inbox has by default (6,000 a minute).
"""

from pathlib import Path

import uvloop

from benchmarks.bench import line, quantile
from benchmarks.ingest import PATH, Load, sent_by_another, serving, stored
from rules.inbox import Inbox
from tests.rig.process import fresh_folder

COUNT = 10_000
SENDERS = 64
SECONDS = 10.0


async def measure(folder: Path, name: str, rate_limit: int) -> None:
    async with serving(folder, rate_limit) as (upbeat, token, database, _):
        load = Load(upbeat.port, PATH, token, SENDERS, SECONDS + 1, COUNT / SECONDS, COUNT)
        sent = await sent_by_another(load)
        kept = await stored(database)
    p99_ms = quantile(sent.took_s, 0.99) * 1e3
    answered = sum(sent.statuses.values())
    line(
        name,
        p99_ms,
        unit="ms until a delivery is acknowledged, p99",
        baseline=None,
        target="every 2xx stored, others 429 with Retry-After; p99 <= 500 ms",
        is_met=p99_ms <= 500
        and kept == len(sent.took_s)
        and answered == COUNT
        and sent.statuses.keys() <= {202, 429}
        and not sent.mute,
        ran=f"{COUNT} of 3 KB from {SENDERS} senders in {SECONDS:.0f} s, {rate_limit} a minute allowed",
        statuses=sent.statuses,
        stored=kept,
        without_retry_after=sent.mute,
    )


def main() -> None:
    limit: int = Inbox.model_fields["rate_limit"].default
    for name, rate_limit in (("burst", 10 * COUNT), ("burst_limited", limit)):
        with fresh_folder(Path("/var/tmp")) as folder:
            uvloop.run(measure(folder, name, rate_limit))


if __name__ == "__main__":
    main()
