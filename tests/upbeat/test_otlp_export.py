"""Whose measurements go where: an installation's, a page's and a beat's receiver, each with only what is its own."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest

from engine.secrets import Secrets
from exporters.measurement import Named, Totals
from exporters.otlp import resource
from exporters.prometheus import Family, Sample
from rules.address import EgressPolicy
from rules.otlp import Otlp
from tests.exporters.otlp_rig import result
from tests.rig.collector import Collector, Decoded, grpc_collector, http_collector
from upbeat.otlp import OtlpExport

SHOP, BANK = uuid4(), uuid4()
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Installation:
    """Two pages; `beats` says the page and the own destination of each."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.beats: dict[str, tuple[UUID, Otlp | None]] = {}
        self.totals = Totals(self._named)
        secrets = Secrets(environment)
        policy = EgressPolicy()
        self.export = OtlpExport(
            self.totals, policy, environment, secrets, resource("node", "1"), self._families
        )

    def _named(self, beat_id: str) -> Named | None:
        page_id, own = self.beats[beat_id]
        to = self.export.destination(page_id, own)
        return Named(beat_id, "shop" if page_id == SHOP else "bank", "http", "http://x/", "GET", to)

    async def _families(self) -> Iterable[Family]:
        return [Family("upbeat_build_info", "gauge", "Always 1.", [Sample(1.0)]), *self.export.families()]

    def run(self, *beats: str) -> None:
        """Each beat runs once."""
        self.export.observe([result(beat, trace_id=TRACE) for beat in beats])

    async def flush(self) -> None:
        """What the destinations' own tasks do in their time, now."""
        exports = self.export.exports
        for key in self.export._wanted() - exports._tasks.keys():
            exports._start(key)
        await exports._close([key for key in exports._tasks if key not in self.export._wanted()])
        await asyncio.gather(*(destination.flush() for destination in exports.destinations))


@pytest.fixture
async def three() -> AsyncIterator[tuple[Collector, Collector, Collector]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(http_collector()),
            await stack.enter_async_context(grpc_collector()),
            await stack.enter_async_context(http_collector()),
        )


async def test_each_destination_has_only_its_beats_and_a_change_holds_at_once(
    three: tuple[Collector, Collector, Collector],
) -> None:
    of_all, of_page, of_beat = three
    environment = {"TOKEN": "hunter22", "OTHER": "correct horse"}
    here = Installation(environment)
    own = Otlp(endpoint=of_beat.url, headers={"x-key": "${env:TOKEN}"}, spans=True, interval="1h")
    page = Otlp(endpoint=of_page.url, protocol="grpc", headers={"x-key": "${env:OTHER}"}, interval="1h")
    installation = Otlp(endpoint=of_all.url, headers={"x-key": "plain"}, interval="1h", names="openstatus")
    here.beats = {"web": (SHOP, own), "cart": (SHOP, None), "atm": (BANK, None)}
    here.export.declare(installation, {SHOP: page})

    here.run("web", "cart", "atm", "web")
    await here.flush()
    assert (of_all.beats(), of_page.beats(), of_beat.beats()) == ({"atm"}, {"cart"}, {"web"})
    assert [one.seen[0].get("x-key") for one in three] == ["plain", "correct horse", "hunter22"]
    assert of_beat.decoded().total("upbeat.runs") == 2
    assert [len(one.spans()) for one in three] == [0, 0, 12]
    assert "upbeat.build_info" in of_all.decoded().points  # of Upbeat itself, and there alone
    assert not {"upbeat.build_info"} & {*of_page.decoded().points, *of_beat.decoded().points}

    for one in three:
        one.forget()
    here.beats |= {"web": (SHOP, None), "atm": (BANK, own)}
    for beat in ("web", "atm"):
        here.totals.renamed(beat)
    here.run("web", "cart", "atm")
    await here.flush()
    assert (of_all.beats(), of_page.beats(), of_beat.beats()) == (set(), {"web", "cart"}, {"atm"})

    for one in three:
        one.forget()
    here.export.declare(installation, {})  # the page says nothing any more
    here.run("web", "cart", "atm")
    await here.flush()
    assert (of_all.beats(), of_page.beats(), of_beat.beats()) == ({"web", "cart"}, set(), {"atm"})
    await here.export.exports._close(list(here.export.exports._tasks))


async def test_a_secret_that_changes_is_sent_and_one_that_is_not_set_sends_nothing_anywhere(
    three: tuple[Collector, Collector, Collector], caplog: pytest.LogCaptureFixture
) -> None:
    of_all, _, of_beat = three
    environment = {"TOKEN": "hunter22"}
    here = Installation(environment)
    mine = Otlp(endpoint=of_beat.url, headers={"x-key": "${env:TOKEN}"})
    here.beats = {
        "web": (SHOP, mine),
        "cart": (SHOP, Otlp(endpoint=of_beat.url, headers={"x-key": "${env:NOT_THERE}"})),
    }
    here.export.declare(Otlp(endpoint=of_all.url), {})
    here.run("web", "cart")
    await here.flush()
    assert (of_all.beats(), of_beat.beats()) == (set(), {"web"})
    assert "exported nowhere: ${env:NOT_THERE} is not set" in caplog.text

    of_beat.forget()
    environment["TOKEN"] = "correct horse"
    here.export.refresh()
    await here.flush()
    assert [headers["x-key"] for headers in of_beat.seen] == ["correct horse"]
    assert "hunter22" not in caplog.text
    await here.export.exports._close(list(here.export.exports._tasks))


async def test_the_standard_variables_win_over_the_installation_and_nobody_else(
    three: tuple[Collector, Collector, Collector],
) -> None:
    of_all, _, of_beat = three
    here = Installation({"OTEL_EXPORTER_OTLP_ENDPOINT": of_all.url})
    here.beats = {"web": (SHOP, Otlp(endpoint=of_beat.url)), "atm": (BANK, None)}
    here.export.declare(Otlp(endpoint="http://127.0.0.1:1"), {})
    here.run("web", "atm")
    await here.flush()
    assert (of_all.beats(), of_beat.beats()) == ({"atm"}, {"web"})
    await here.export.exports._close(list(here.export.exports._tasks))


async def test_an_address_that_is_denied_from_now_on_is_not_told_what_is_left(
    three: tuple[Collector, Collector, Collector],
) -> None:
    class Nothing(EgressPolicy):
        def refusal(self, address: str, purpose: object) -> str | None:
            return f"{address} is not allowed"

    of_all, *_ = three
    here = Installation({})
    here.beats = {"atm": (BANK, None)}
    here.export.declare(Otlp(endpoint=of_all.url), {})
    here.run("atm")
    await here.flush()
    asked = of_all.asked
    here.export.judge_by(Nothing())
    here.run("atm")
    await here.flush()
    assert of_all.asked == asked
    failing = {family.name: list(family.samples)[-1].value for family in here.export.families()}
    assert failing["upbeat_otlp_destinations_failing"] == 1
    await here.export.exports._close(list(here.export.exports._tasks))


async def test_differences_of_upbeats_own_counters_survive_a_change_and_an_absence() -> None:
    environment = {"TOKEN": "hunter22"}
    here = Installation(environment)
    async with http_collector() as collector:
        here.export.declare(
            Otlp(endpoint=collector.url, headers={"x": "${env:TOKEN}"}, temporality="delta", interval="1h"),
            {},
        )
        here.export.tally.refused_spans = 5
        await here.flush()
        environment["TOKEN"] = "correct horse"  # from here on it is another destination
        here.export.refresh()
        await here.flush()
        collector.status, here.export.tally.refused_spans = 503, 12
        await here.flush()
        collector.status = 200
        await here.flush()
        await here.export.exports._close(list(here.export.exports._tasks))
    told = [Decoded([one]).points.get("upbeat.otlp_refused", {}) for one in collector.metrics]
    counted = [point.as_int for points in told for key, point in points.items() if ("what", "spans") in key]
    assert [count for count in counted if count] == [5, 7]
