"""The bus on a real nats-server, which is killed, wiped and told to forget."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.bus import EVALUATOR, LIVE, OTLP, STREAM, Bus, BusError, Delivery, Sealed, decode, encode
from engine.embedded.nats import Program
from evaluators.model import Batch, ConfirmOrder, Kind, Result, Timings, Verdict

Until = Callable[..., Awaitable[None]]
BOOT = "0193d5a0-0000-7000-8000-000000000001"


def batch(seq: int, partition: int = 0, count: int = 1) -> Batch:
    results = tuple(
        Result(f"run-{seq}-{n}", "beat", "eu", Kind.SCHEDULED, Verdict.OK, 1.0, 2.0, n, 1, Timings(0.1))
        for n in range(count)
    )
    return Batch(BOOT, seq, partition, 3.0, results)


async def some(bus: Bus, partition: int, group: str = EVALUATOR, within_s: float = 10.0) -> list[Delivery]:
    async with asyncio.timeout(within_s):
        while not (deliveries := await bus.fetch(group, partition, 100, 0.5)):
            pass
    return deliveries


class Server:
    """A nats-server on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self.move()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def move(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder)]
        command = [str(Program.find().path), *where]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server() -> Iterator[Server]:
    own = Server(Path(tempfile.mkdtemp(prefix="upbeat-nats-")))
    own.start()
    yield own
    own.kill()
    shutil.rmtree(own.folder, ignore_errors=True)


async def publish_when_back(bus: Bus, one: Batch) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BusError):
                await bus.publish(one)
                return
            await asyncio.sleep(0.02)


async def test_what_is_published_is_fetched_whole(bus: Bus) -> None:
    sent = batch(1, 3, count=50)
    assert await bus.publish(sent)
    (delivery,) = await some(bus, 3)
    assert decode(delivery.data) == sent
    assert (delivery.partition, delivery.deliveries) == (3, 1)
    assert abs(delivery.stored_at - time.time()) < 5.0
    await delivery.ack()
    assert await bus.fetch(EVALUATOR, 3, 100, 0.2) == []


async def test_the_same_batch_twice_is_stored_once_and_said_to_be(bus: Bus) -> None:
    assert await bus.publish(batch(1))
    assert not await bus.publish(batch(1))
    assert await bus.publish(batch(1), repeat=1)
    assert len(await some(bus, 0)) == 2


async def test_what_is_given_back_comes_again_and_counts(bus: Bus) -> None:
    await bus.publish(batch(1))
    (first,) = await some(bus, 0)
    await first.nak(0.05)
    (second,) = await some(bus, 0)
    assert second.deliveries == 2


async def test_a_fetch_waits_for_the_first_and_takes_no_longer(bus: Bus) -> None:
    async def later() -> None:
        await asyncio.sleep(0.1)
        await bus.publish(batch(1))

    began_s, sending = time.monotonic(), asyncio.create_task(later())
    assert len(await bus.fetch(EVALUATOR, 0, 100, 5.0)) == 1
    assert time.monotonic() - began_s < 2.0
    await sending


async def test_nothing_is_lost_by_a_fetch_that_is_cancelled(bus: Bus) -> None:
    fetching = asyncio.create_task(bus.fetch(EVALUATOR, 0, 100, 5.0))
    await asyncio.sleep(0.1)
    await bus.publish(batch(1))
    fetching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        if await fetching:
            return  # it was quicker
    assert len(await some(bus, 0)) == 1


async def test_partitions_are_apart_and_otlp_reads_them_all(bus: Bus) -> None:
    assert await bus.fetch(OTLP, 0, 10, 0.1) == []  # from here on
    for partition in range(3):
        await bus.publish(batch(1, partition))
    assert len(await some(bus, 1)) == 1
    told = await some(bus, 0, OTLP)
    while len(told) < 3:
        told += await some(bus, 0, OTLP)
    assert {delivery.partition for delivery in told} == {0, 1, 2}
    await told[-1].ack()
    assert await bus.fetch(OTLP, 0, 10, 0.2) == []


async def test_sealed_and_plain_batches_are_the_same_on_the_wire() -> None:
    plain = batch(1, 2, count=3)
    sealed = Sealed(BOOT, 1, 2, 3.0, msgspec.Raw(msgspec.json.encode(plain.results)))
    assert encode(sealed) == encode(plain)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\x00", id="no JSON"),
        pytest.param(b"[]", id="another shape"),
        pytest.param(encode(batch(1)).replace(b'"ok"', b'"fine"'), id="an unknown verdict"),
        pytest.param(encode(batch(1)).replace(b'"seq":1', b'"seq":"1"', 1), id="a number as text"),
    ],
)
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(data)


async def test_a_consumer_that_is_gone_is_made_again(bus: Bus) -> None:
    assert await bus.fetch(EVALUATOR, 5, 10, 0.1) == []
    await bus._client.jetstream().delete_consumer(STREAM, "evaluator-5")
    await bus.publish(batch(1, 5))
    assert len(await some(bus, 5)) == 1


async def test_a_stream_that_is_gone_is_made_again_by_whoever_misses_it(bus: Bus) -> None:
    await bus._client.jetstream().delete_stream(STREAM)
    assert await bus.publish(batch(1))
    assert len(await some(bus, 0)) == 1


async def test_a_stream_of_another_shape_is_brought_into_shape(bus: Bus) -> None:
    js = bus._client.jetstream()
    await js.update_stream(name=STREAM, subjects=["upbeat.results.*"], max_age=7200)
    await bus.ensure()
    assert (await js.stream_info(STREAM)).config.max_age == 3600


async def test_orders_reach_the_partition_of_the_region_only(bus: Bus, until: Until) -> None:
    heard: list[ConfirmOrder] = []

    async def take(order: ConfirmOrder) -> None:
        heard.append(order)

    listening = await bus.orders("eu-1", 4, take)
    order = ConfirmOrder("beat", "round", 2, 1.0, at=5.0)
    for region, partition in (("eu-1", 3), ("us", 4), ("eu-1", 4)):
        assert await bus.order(region, partition, order)
    await bus.announce("upbeat.orders.eu-1.4", b"{}")  # no order: logged, not raised
    assert await bus.order("eu-1", 4, order)
    await until(lambda: len(heard) == 2)
    await listening.stop()
    await bus.order("eu-1", 4, order)
    await bus._client.flush()
    assert heard == [order, order]


async def test_an_order_says_when_it_was_sent(bus: Bus, until: Until) -> None:
    heard: list[ConfirmOrder] = []

    async def take(order: ConfirmOrder) -> None:
        heard.append(order)

    await bus.orders("eu", 0, take)
    await bus.order("eu", 0, ConfirmOrder("beat", "round", 1, 0.0))
    await until(lambda: heard)
    assert abs(heard[0].at - time.time()) < 5.0


async def test_a_handler_that_fails_hears_the_next_one(bus: Bus, until: Until) -> None:
    heard: list[bytes] = []

    async def hear(data: bytes) -> None:
        heard.append(data)
        if data == b"1":
            raise RuntimeError("a bug")

    await bus.listen(LIVE, hear)
    for data in (b"1", b"2"):
        await bus.announce(LIVE, data)
    await until(lambda: heard == [b"1", b"2"])


async def test_no_server_is_said_in_time() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(BusError, match=r"Connect call failed|refused"):
            await Bus().connect(url, name="tests", within_s=0.5)


async def test_a_server_killed_and_started_again_has_everything(server: Server, until: Until) -> None:
    bus, told = Bus(), list[str]()
    bus.on_connect.append(lambda: told.append("there"))
    bus.on_disconnect.append(lambda: told.append("away"))
    await bus.connect(server.url, name="tests")
    await bus.publish(batch(1))
    waiting = asyncio.create_task(bus.fetch(EVALUATOR, 6, 10, 30.0))
    await asyncio.sleep(0.1)
    server.kill()
    assert await asyncio.wait_for(waiting, 5.0) == []
    await until(lambda: not bus.connected)
    with pytest.raises(BusError):
        await bus.publish(batch(2))
    assert not await bus.order("eu", 0, ConfirmOrder("beat", "round", 1, 0.0))
    server.start()
    began_s = time.monotonic()
    await publish_when_back(bus, batch(2))
    assert time.monotonic() - began_s < 5.0
    seqs: set[int] = set()
    while seqs != {1, 2}:
        seqs |= {decode(delivery.data).seq for delivery in await some(bus, 0)}
    await until(lambda: told == ["there", "away", "there"])
    await bus.close()


async def test_a_wiped_server_gets_its_stream_and_consumers_back(server: Server) -> None:
    bus = Bus()
    await bus.connect(server.url, name="tests")
    await bus.publish(batch(1))
    server.kill()
    shutil.rmtree(server.folder)
    server.start()
    await publish_when_back(bus, batch(2))
    (delivery,) = await some(bus, 0)
    assert decode(delivery.data).seq == 2
    await bus.close()


async def test_a_connection_the_server_ends_for_good_is_opened_anew(server: Server, until: Until) -> None:
    bus, heard = Bus(), list[bytes]()

    async def hear(data: bytes) -> None:
        heard.append(data)

    await bus.connect(server.url, name="tests")
    await bus.listen(LIVE, hear)
    assert await bus.fetch(EVALUATOR, 0, 10, 0.1) == []
    was = bus._client
    await was._process_err("'Authorization Expired'")  # nats-py closes for good on this
    await until(lambda: bus._client is not was and bus.connected)
    await publish_when_back(bus, batch(1))
    assert len(await some(bus, 0)) == 1
    await until(lambda: bus._listening[0]._subscription is not None)
    await bus.announce(LIVE, b"again")
    await until(lambda: heard == [b"again"])
    await bus.close()


async def test_a_server_that_comes_back_elsewhere_is_found_there(server: Server, until: Until) -> None:
    bus, heard = Bus(), list[bytes]()

    async def hear(data: bytes) -> None:
        heard.append(data)

    await bus.connect(lambda: server.url, name="tests")
    await bus.listen(LIVE, hear)
    waiting = asyncio.create_task(bus.fetch(EVALUATOR, 0, 10, 30.0))
    await asyncio.sleep(0.1)
    server.kill()
    squatter = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", server.port)
    assert await asyncio.wait_for(waiting, 5.0) == []
    server.move()
    server.start()
    await publish_when_back(bus, batch(1))
    assert decode((await some(bus, 0))[0].data).seq == 1
    await until(lambda: bus._listening[0]._subscription is not None)
    await bus.announce(LIVE, b"again")
    await until(lambda: heard == [b"again"])
    await bus.close()
    squatter.close()
    await squatter.wait_closed()


async def test_a_cancellation_that_comes_with_the_answer_holds(server: Server) -> None:
    bus = Bus()
    await bus.connect(server.url, name="tests")

    async def work() -> None:
        while True:
            await bus.publish(batch(1))

    task = asyncio.create_task(work())
    while not (answers := bus._client._resp_map):
        await asyncio.sleep(0)
    (answer,) = answers.values()
    answer.add_done_callback(lambda _: task.cancel())  # after who waits for it was told, before it goes on
    done, _ = await asyncio.wait([task], timeout=10.0)
    assert done
    assert task.cancelled()
    await bus.close()
