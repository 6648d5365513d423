"""What leaves a serving Upbeat for machines: OTLP over both protocols, /metrics, health, the watchdog and JSON logs."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ruamel.yaml import YAML

from tests.rig.collector import Collector, grpc_collector, http_collector
from tests.rig.process import Upbeat, fresh_folder, until, upbeat
from tests.rig.targets import StreamTarget

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
CONFIG = """
version: 1
page: {{slug: shop, name: Shop}}
regions: [eu, us]
defaults: {{interval: 1s, timeout: 500ms}}
{more}
beats:
  - {{slug: web, type: http, url: "http://127.0.0.1:{port}/"}}
"""
OWN = "  - {{slug: cart, type: tcp, host: 127.0.0.1, port: {port}{otlp}}}\n"


def runs(collector: Collector, beat: str = "web") -> Counter[tuple[str, str]]:
    """The newest cumulative counts, by region and verdict."""
    found: Counter[tuple[str, str]] = Counter()
    for key, point in collector.decoded(twice=True).points.get("upbeat.runs", {}).items():
        labels = dict(key)
        if labels["upbeat.beat"] == beat:
            found[labels["upbeat.region"], labels["upbeat.run.verdict"]] += point.as_int
    return found


def stage(collector: Collector) -> int | None:
    """The newest one."""
    for key, point in collector.decoded(twice=True).points.get("upbeat.beat.stage", {}).items():
        if dict(key)["upbeat.beat"] == "web":
            return int(point.as_int)
    return None


async def committed(running: Upbeat) -> Counter[tuple[str, str]]:
    rows = await running.items("/beats/web/results?limit=500")
    return Counter((row["region"], row["verdict"]) for row in rows)


async def same(running: Upbeat, collector: Collector, at_least: int) -> bool:
    """Whether everything that was committed before has been exported."""
    before = await committed(running)
    return before.total() >= at_least and all(runs(collector)[key] >= count for key, count in before.items())


def traces(collector: Collector) -> set[str]:
    return {span.trace_id.hex() for span in collector.spans()}


def said(text: str) -> dict[str, set[str]]:
    """The names on /metrics, each with its labels."""
    found = {name: set[str]() for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)}
    for name, labels in re.findall(r"^(\w+)(\{.*\})? \S+$", text, re.MULTILINE):
        found[_family(name, found)] |= set(re.findall(r'(\w+)="', labels))
    return found


def translated(collector: Collector) -> dict[str, set[str]]:
    """Names and labels that OpenTelemetry's rules make of OTLP for Prometheus."""
    found: dict[str, set[str]] = {}
    decoded = collector.decoded(twice=True)
    for name, points in decoded.points.items():
        unit, data = decoded.about[name]
        suffix = {"s": "_seconds", "By": "_bytes", "d": "_days", "1": "_ratio"}.get(unit, "")
        theirs = name.replace(".", "_").removesuffix(suffix) + suffix
        if getattr(data, "is_monotonic", False):
            theirs += "_total"
        found[theirs] = {label.replace(".", "_") for key in points for label, _ in key}
    return found


def asked(text: str, known: Iterable[str]) -> Iterable[tuple[str, set[str]]]:
    """Every metric a file of docs/grafana asks for, with the labels it is asked by."""
    text = text.replace('\\"', '"')
    for name, braces in re.findall(r"\b((?:upbeat|process)_\w+)(\{[^}]*\})?(?=[\[)}\s<>=,\"/]|$)", text):
        labels = {"upbeat_page", "upbeat_beat", "upbeat_region", "upbeat_run_verdict", "upbeat_run_phase"}
        if name not in labels:
            yield _family(name, known), set(re.findall(r"(\w+)\s*(?:=~|!=|=)", braces))


def _family(name: str, known: Iterable[str]) -> str:
    return name if name in known else re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.fixture
async def watchdog() -> AsyncIterator[tuple[list[str], int]]:
    pings: list[str] = []

    async def ping(request: web.Request) -> web.Response:
        pings.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_get("/ping", ping)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield pings, runner.addresses[0][1]
    await runner.cleanup()


async def test_every_result_leaves_as_otlp_over_http_and_the_watchdog_hears_that_all_is_well(
    watchdog: tuple[list[str], int],
) -> None:
    pings, port = watchdog
    async with StreamTarget() as target, http_collector() as collector, http_collector() as other:
        more = (
            f'otlp: {{endpoint: "{collector.url}", interval: 1s, spans: true}}\n'
            f'watchdog: {{url: "http://127.0.0.1:{port}/ping", every: 10s}}'
        )
        base = CONFIG.format(port=target.port, more=more)
        own = f', otlp: {{endpoint: "{other.url}", interval: 1s}}'
        with fresh_folder() as folder:
            async with upbeat(folder, base + OWN.format(port=target.port, otlp=own)) as running:
                await until(lambda: same(running, collector, 6), "committed results are exported")
                await until(lambda: _true(runs(other, "cart")), "a beat's own destination has it")
                await target.becomes("refuses")
                await until(lambda: _true(stage(collector) == 2), "critical is exported")
                await until(lambda: same(running, collector, 10), "bad results are exported too")
                assert runs(collector)["eu", "critical"] > 0
                assert (collector.beats(), other.beats()) == ({"web"}, {"cart"})

                (folder / "upbeat.yaml").write_text(base + OWN.format(port=target.port, otlp=""), "utf-8")
                await until(lambda: _true("cart" in collector.beats()), "a change needs no restart")
                assert (await running.get("/beats/cart"))["stage"] == "critical"  # and costs no votes

                await until(lambda: _true(pings), "the watchdog is told", 30)
                ran = {row["trace_id"] for row in await running.items("/beats/web/results?limit=500")}
                await until(lambda: _true(len(ran) > 10 and ran <= traces(collector)), "every run is a trace")
                await everything_is_drawn(running, collector)
                status, ready = await running.call("GET", "//readyz")
                assert (status, ready["ready"]) == (200, True)
                assert (await running.call("GET", "//healthz"))[0] == 200
            lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert {"timestamp", "severity_text", "body"} <= lines[0].keys()


async def everything_is_drawn(running: Upbeat, collector: Collector) -> None:
    """The same is on /metrics and exported, and docs/grafana asks for nothing else."""
    text = (await running.call("GET", "//metrics"))[1]
    here, there = said(text), translated(collector)
    theirs = {name for name in there if not name.startswith("upbeat_run_phase")}
    assert theirs <= here.keys()
    of_groups = {f"upbeat_group_{what}" for what in ("stage", "flapping", "suppressed")}
    of_targets = {f"upbeat_target_{what}" for what in ("pending", "failures", "dead", "stopped")}
    # Nothing here has one of these.
    assert here.keys() - theirs == {"upbeat_certificate_days", *of_groups, *of_targets}
    documented = (GRAFANA.parent / "reference" / "metrics.md").read_text("utf-8")
    assert [name for name in here if f"`{name}`" not in documented] == []

    here["upbeat_certificate_days"] |= {"page", "beat", "region"}
    there["upbeat_certificate_days"] = {"upbeat_page", "upbeat_beat", "upbeat_region"}
    for file, known in (("upbeat.json", here), ("upbeat-otlp.json", there), ("alerts.yml", here)):
        assert YAML(typ="safe").load(GRAFANA / file)  # and JSON is YAML
        wanted = list(asked((GRAFANA / file).read_text("utf-8"), known))
        assert len(wanted) > 10
        assert [(name, labels) for name, labels in wanted if not labels <= known.get(name, set())] == []
        assert [name for name, _ in wanted if name not in known] == []


async def test_every_result_leaves_as_otlp_over_grpc() -> None:
    async with StreamTarget() as target, grpc_collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }
        with fresh_folder() as folder:
            config = CONFIG.format(port=target.port, more="")
            async with upbeat(folder, config, environment=environment) as running:
                await until(lambda: same(running, collector, 6), "committed results are exported")


async def _true(is_so: Any) -> bool:
    return bool(is_so)
