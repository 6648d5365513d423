"""CPU of one name looked up without a cache, beside dnspython's asynchronous query on the same server.

    python benchmarks/dns_lookup.py [--lookups N]

The server is a separate process, whose CPU is not counted. One lookup at a time, on uvloop; the best of five rounds.
"""

import argparse
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import dns.asyncquery
import dns.message
import uvloop

from benchmarks.bench import line
from engine.probes.context import Context
from engine.probes.nameservice import NameService
from rules.address import EgressPolicy

NAME = "www.shop.example"
TARGET = 1 / 2  # of dnspython's
ROUNDS = 5


def serve(sock: socket.socket) -> None:
    """Give every name one address, with a TTL of 0 so that nobody keeps it."""
    while True:
        asked, who = sock.recvfrom(2048)
        question = asked[12 : asked.index(b"\0", 12) + 5]
        head = asked[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        sock.sendto(head + question + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\1", who)


async def best_us(lookups: int, look: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of CPU a lookup, in the best round."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(lookups):
            await look()
        found.append((time.process_time() - began) / lookups * 1e6)
    return min(found)


async def measured(port: int, lookups: int) -> tuple[float, float]:
    """Ours, and dnspython's."""
    with tempfile.TemporaryDirectory() as folder:
        conf, hosts = Path(folder, "resolv.conf"), Path(folder, "hosts")
        conf.write_text("nameserver 127.0.0.1\n")
        hosts.write_text("")
        context = Context(EgressPolicy(), names=NameService(str(conf), str(hosts), port))

        async def theirs() -> object:
            return await dns.asyncquery.udp(
                dns.message.make_query(NAME, "A"), "127.0.0.1", port=port, timeout=5
            )

        try:
            ours_us = await best_us(lookups, lambda: context.resolver.addresses(NAME, socket.AF_INET))
            return ours_us, await best_us(lookups, theirs)
        finally:
            context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lookups", type=int, default=3000)
    lookups = parser.parse_args().lookups
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    server = multiprocessing.get_context("fork").Process(target=serve, args=(sock,), daemon=True)
    server.start()
    try:
        ours_us, theirs_us = uvloop.run(measured(sock.getsockname()[1], lookups))
    finally:
        server.terminate()
    line(
        "dns_lookup",
        ours_us,
        unit="us CPU per lookup",
        baseline=theirs_us,
        target="<= 1/2 of dnspython's query",
        is_met=ours_us <= theirs_us * TARGET,
        ran=f"{lookups} lookups, {ROUNDS} rounds, one at a time",
    )


if __name__ == "__main__":
    main()
