"""10,000 subscribers of one page told by mail: from an incident by API until a local relay has every mail.

    python -m benchmarks.letters [--count 10000]

A whole `upbeat serve` on disk, and a relay (aiosmtpd) in a process of its own on the same cores, which does nothing but count.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import asyncpg
import uvloop

from benchmarks.bench import by_program, cpu_s, line
from engine.store import subscribers
from engine.store.database import codecs
from engine.store.subscribers import Entry
from tests.rig.mailroom import Mailroom, open_mailroom
from tests.rig.process import fresh_folder, until, upbeat

COUNT, SECONDS = 10_000, 60.0
CONFIG = """
version: 1
page: {{slug: shop, name: Shop}}
mail: {{host: 127.0.0.1, port: {port}, tls: none, sender: status@shop.example}}
"""


async def relay(count: int) -> None:
    """Says its port, then when it has `count` mails, then, asked to end, how often who was told."""
    async with open_mailroom(Mailroom()) as room:
        print(room.port, flush=True)
        while len({*room.told}) < count:
            await asyncio.sleep(0.05)
        print("all", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        told = Counter(room.told)
        print(
            json.dumps([len(told), sum(told.values()), len(room.sessions), len(room.kept[0].content or b"")])
        )


async def measure(folder: Path, count: int) -> bool:
    beside = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.letters", "--relay", "--count", str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert beside.stdin is not None
    assert beside.stdout is not None
    port = int(await beside.stdout.readline())
    async with upbeat(folder, CONFIG.format(port=port)) as running:
        connection = await asyncpg.connect(
            f"postgresql://upbeat@/upbeat?host={running.data / 'run'}&port=5432"
        )
        await codecs(connection)
        page = await connection.fetchval("SELECT id FROM objects WHERE kind = 'page'")
        entries = [Entry("email", f"reader{n}@customer{n % 97}.example") for n in range(count)]
        await subscribers.import_many(connection, page, entries)
        assert running.process is not None
        programs = by_program(running.process.pid) | {"relay": [beside.pid]}
        before = {name: cpu_s(pids) for name, pids in programs.items()}
        began_s = time.perf_counter()
        said = {"page": "shop", "title": "Checkout is slow", "text": "We look into it.", "notify": True}
        status, answer = await running.call("POST", "/incidents", said)
        assert status == 201, answer
        assert await asyncio.wait_for(beside.stdout.readline(), 10 * SECONDS) == b"all\n"
        took_s = time.perf_counter() - began_s
        spent = {name: round(cpu_s(pids) - before[name], 2) for name, pids in programs.items()}
        await until(lambda: _finished(connection), "written down", 30)
        await connection.close()
    beside.stdin.close()
    told, mails, sessions, size = json.loads(await beside.stdout.readline())
    found = line(
        "letters",
        took_s,
        unit=f"s until {count} subscribers of one page are mailed",
        baseline=None,
        target=f"<= {SECONDS:.0f} s, each once",
        is_met=took_s <= SECONDS and told == mails == count,
        ran=f"{count} mails of {size} bytes over {sessions} connections",
        mails=mails,
        cpu_s=spent,
    )
    return bool(found["met"])


async def _finished(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return bool(await connection.fetchval("SELECT bool_and(finished_at IS NOT NULL) FROM broadcasts"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.letters")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--relay", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.relay:
        uvloop.run(relay(given.count))
        return
    with fresh_folder(Path("/var/tmp")) as folder:
        sys.exit(not uvloop.run(measure(folder, given.count)))


if __name__ == "__main__":
    main()
