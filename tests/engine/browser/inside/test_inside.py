"""The worker does journeys in a real browser on pages that behave as real ones do, and as bad ones."""

import asyncio
import io
import json
import os
import signal
import socket
import sys
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from PIL import Image, ImageChops

from engine.browser.limits import members
from engine.browser.wire import Go, Kept, Order, Ready, Report, Stepped, hear, packed
from evaluators.model import Failure
from tests.rig.certificates import self_signed

pytestmark = pytest.mark.browser
SECRET = "correct-horse-battery"

PAGES = {
    "/": "<title>Shop</title><h1>Welcome</h1><a href=/second>Second</a><p style=width:300px;height:90px>Text</p>",
    "/second": "<title>Second</title><h1>Second page</h1>",
    "/form": """<h1>Form</h1><label>Mail <input id=mail></label> <label>Password <input type=password id=word></label>
      <label>Size <select id=size><option value=s>Small</option><option value=l>Large</option></select></label>
      <label><input type=checkbox id=agree> Agree</label> <input type=file aria-label=Photo multiple id=file>
      <button onmouseover="this.dataset.seen=1" onclick="said.textContent=[mail.value,size.value,agree.checked,
        file.files[0]?.name, this.dataset.seen].join(' ')">Send</button> <p id=said data-testid=said data-id=7></p>
      <input aria-label=Search onkeydown="if(event.key=='Enter')said.textContent='searched '+this.value">""",
    "/shadow": """<shop-cart></shop-cart><script>customElements.define('shop-cart', class extends HTMLElement {
      connectedCallback() { this.attachShadow({mode: 'open'}).innerHTML = '<button>Pay</button><p>due</p>';
        this.shadowRoot.querySelector('button').onclick = () => this.shadowRoot.querySelector('p').textContent = 'paid' } })</script>""",
    "/frames": "<iframe id=outer src=/middle></iframe>",
    "/middle": "<p>middle</p><iframe id=inner src=http://localhost:{other}/inner></iframe>",
    "/inner": "<button onclick=\"this.textContent='Confirmed'\">Confirm</button>",
    "/unsaved": """<body>Unsaved<script>onbeforeunload = event => event.preventDefault()</script>""",
    "/dialogs": """<button onclick="out.textContent=String(confirm('Sure?'))">Ask</button><p id=out></p>""",
    "/downloads": "<a href=/file download>Get it</a>",
    "/broken": "<h1>There</h1><img src=/cut><script src=/missing.js></script><script>console.error('oh no'); "
    "console.error('known noise'); setTimeout(() => {{ throw new Error('uncaught one') }})</script>",
    "/spa": """<nav><button onclick="history.pushState(0,'','/spa/done');setTimeout(()=>view.textContent='Done',150)">Go
      </button></nav><main id=view>Start</main>""",
    "/popups": "<button onclick=\"window.open('/child')\">Open</button><p id=back>parent</p>",
    "/child": "<title>Child</title><button onclick=window.close()>Close</button>",
    "/many": "<button>Buy</button><button>Buy</button><button>Buy</button><p hidden>ghost</p><input disabled aria-label=Off>"
    "<div style=position:relative><button>Under</button><div style=position:absolute;inset:0>cover</div></div>",
    "/lazy": "<script>setTimeout(() => document.body.append(Object.assign(document.createElement('p'), "
    "{{textContent: 'Late', id: 'late'}})), 300)</script><body>",
    "/worker": "<script>navigator.serviceWorker.register('/sw.js').then(() => navigator.serviceWorker.ready).then(async () => {{"
    "await new Promise(r => navigator.serviceWorker.controller ? r() : navigator.serviceWorker.oncontrollerchange = r);"
    "document.title = await (await fetch('/from-worker')).text() }})</script>",
    "/who": "<p id=who></p><script>who.textContent = [navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, "
    "innerWidth, navigator.userAgent].join(' '); navigator.geolocation.getCurrentPosition("
    "at => who.textContent += ' at ' + at.coords.latitude, no => who.textContent += ' refused')</script>",
    "/other": "<h1>Other</h1><script>fetch('http://localhost:{other}/echo', {{mode: 'no-cors'}})</script>"
    "<iframe src=/echo></iframe>",
    "/busy": "<h1>Busy</h1><button onclick='while (true);'>Hang</button>",
    "/alerts": "<button onclick='while (true) alert(1)'>Alert</button>",
    "/huge": "<script>let a = []; for (let i = 0; i < 20000; i++) a.push('<p>line ' + i + '</p>'); document.write(a.join(''))</script>",
    "/shows": """<style>.secret, .secret * {{ color: rgb(255, 0, 0); font: bold 40px sans-serif }}</style><h1>Yours</h1>
      <p class=secret>correct-horse-battery</p><p class=secret>correct-<b>horse</b>-<i>battery</i></p>
      <p class=secret style=width:10px;white-space:nowrap>Correct horse battery</p>
      <input class=secret id=typed style=width:600px aria-label=Code><svg width=600 height=60><text y=40 fill=red
      font-size=40>correct-horse-battery</text></svg><x-y></x-y><iframe srcdoc="<b style='color:red'>correct-horse-battery</b>">
      </iframe><script>document.querySelector('x-y').attachShadow({{mode: 'open'}}).innerHTML =
      '<b style=color:red>correct-horse-battery</b>'</script>""",
    "/framed": "<h1>Yours</h1><input aria-label=Code><iframe src=http://localhost:{other}/told width=900></iframe>",
    "/told": "<b style='color:red;font-size:40px'>correct-horse-battery</b>",
    "/shown": """<style>body {{ color: red; font: bold 40px sans-serif }} * {{ opacity: 1 !important }}</style><h1 id=h>Yours</h1>
      <select style='color:red'><option>correct-horse-battery</select> <button value=correct-horse-battery>correct-horse-battery
      </button> <input type=submit value=correct-horse-battery style='color:red'> <img alt=correct-horse-battery width=600 height=60>
      <form><input type=hidden name=children><input type=hidden name=style><input type=hidden name=attributes>
      correct-horse-battery</form> <p>cor&shy;rect&#8203;-horse-battery</p> <p style=display:contents>correct-horse-battery</p>
      <p>correct-horse-battery <b>correct-horse-battery</b></p><p data-code=correct-horse-battery></p>
      <style>h1 {{ color: black }} [data-code]::after {{ content: attr(data-code) }}</style>
      <script>document.body.append('correct-horse-battery'); const state = 'correct-horse-battery'</script>""",
    "/fights": """<h1>Yours</h1><p style='color:red;font-size:40px'>correct-horse-battery</p><script>const p = document.querySelector('p');
      new MutationObserver(() => p.style.opacity == 1 || p.style.setProperty('opacity', 1)).observe(p, {{attributes: true}})</script>""",
    "/waits": "<h1>Yours</h1><iframe src=http://localhost:{other}/slow></iframe>",
    "/poisoned": "<h1>Yours</h1><script>Array.prototype[Symbol.iterator] = () => {{ throw 1 }}; devicePixelRatio = 0; Promise = Map = 0;"
    "document.querySelector = JSON.parse = performance.getEntriesByName = () => null</script>",
    "/windows": "<h1>Many</h1><button onclick=\"opened = Array.from({{length: 20}}, () => window.open('/counts'))\">Open</button>",
    "/counts": "<p id=left></p><script>setInterval(() => left.textContent = opener.opened.filter(one => !one.closed).length, 50)"
    "</script>",
    "/late-window": "<button onclick=\"setTimeout(() => window.open('/child'), 400)\">Open</button>",
}  # fmt: skip
MOVING = "<h1>Moving</h1><div id=box></div><p style=font-size:40px>Big</p><script>setTimeout(() => box.style.height='200px', 100)</script>"


@dataclass
class Site:
    """What was asked of it, beside its addresses."""

    url: str = ""
    other: str = ""
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # host, path, header

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path, port = request.path, self.other.rpartition(":")[2]
        self.seen.append((request.host, path, request.headers.get("X-Synthetic", "")))
        if path == "/away":
            raise web.HTTPFound(f"{self.other}/second")
        if path == "/down":
            return web.Response(status=503, text="Down")
        if path == "/file":
            return web.Response(body=b"x" * 100_000, headers={"Content-Disposition": "attachment"})
        if path == "/cut":
            answer = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "image/png"})
            await answer.prepare(request)
            assert request.transport is not None
            request.transport.abort()
            return answer
        if path == "/slow":
            await asyncio.sleep(30)
        if path == "/sw.js":
            script = "addEventListener('activate', e => e.waitUntil(clients.claim())); addEventListener('fetch', e => "
            script += "{ if (e.request.url.endsWith('/from-worker')) e.respondWith(new Response('Served offline')) })"
            return web.Response(text=script, content_type="text/javascript")
        if path == "/private" and request.headers.get("Authorization") != "Basic bWU6cGFzcw==":
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        if path == "/moving":
            return web.Response(text=MOVING, content_type="text/html")
        body = PAGES.get(path, PAGES["/"] if path in ("/private", "/spa/done", "/echo") else "")
        if not body:
            return web.Response(status=404, text="missing")
        body = body.replace("{{", "{").replace("}}", "}").replace("{other}", port)
        return web.Response(text=f"<!doctype html><body>{body}", content_type="text/html")


@pytest.fixture(scope="module")
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    ports = [address[1] for address in runner.addresses]
    site.url, site.other = f"http://127.0.0.1:{ports[0]}", f"http://localhost:{ports[1]}"
    yield site
    await runner.cleanup()


class Worker:
    """One that runs, and what its last journey left."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.writer, self.reader = process, process.stdin, process.stdout
        self.kept: dict[str, bytes] = {}
        self.stepped: list[Stepped] = []

    async def do(self, journey: dict[str, Any], goes: tuple[Go, ...] = (), **order: Any) -> Report:
        asked = {"steps_s": 20.0, "teardown_s": 5.0} | order
        self.kept, self.stepped = {}, []
        self.writer.write(packed(Order(journey, **asked)) + b"".join(map(packed, goes)))
        while not isinstance(said := await hear(self.reader), Report):
            if isinstance(said, Kept):
                assert said.artifact.name not in self.kept
                self.kept[said.artifact.name] = said.artifact.data
            elif isinstance(said, Stepped):
                self.stepped.append(said)
        if not order.get("is_stepped"):
            assert [one.step.name for one in self.stepped] == [
                one.name for one in said.steps if one.state != "skipped"
            ]
        return said


async def started() -> Worker:
    given = json.dumps({"chromium": os.environ["CHROMIUM"], "has_sandbox": os.geteuid() != 0})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "engine.browser.inside",
        given,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    worker = Worker(process)
    ready = await hear(worker.reader)
    assert isinstance(ready, Ready)
    assert ready.browser.startswith("Chromium ")
    return worker


@pytest.fixture(scope="module")
async def worker() -> AsyncIterator[Worker]:
    worker = await started()
    yield worker
    worker.writer.close()
    assert await asyncio.wait_for(worker.process.wait(), 60) == 0


def journey(site: Site, *steps: Any, **more: Any) -> dict[str, Any]:
    return {"url": site.url, "steps": list(steps), **more}


def last(report: Report) -> str:
    """The error of the last step that was done."""
    return next(one.error for one in reversed(report.steps) if one.state != "skipped")


def expects(css: str, text: str) -> dict[str, Any]:
    return {"expect": {"at": {"css": css}, "of": "text", "eq": text}}


async def test_every_action_is_done_and_said(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site,
            {"goto": "/form", "name": "open"},
            {"fill": {"label": "Mail", "value": "a@b.example"}},
            {"select": {"label": "Size", "option": "Large"}},
            {"check": "Agree"},
            {"upload": {"label": "Photo", "files": [{"name": "me.txt", "content": "hi"}]}},
            {"hover": {"role": "button", "name": "Send"}},
            {"click": {"role": "button", "name": "Send"}},
            expects("#said", "a@b.example l true me.txt 1"),
            {"store": {"name": "sent", "at": {"test_id": "said"}, "matches": "^(.*)@"}},
            {"store": {"name": "id", "of": "attribute", "attribute": "data-id", "at": {"test_id": "said"}}},
            {"fill": {"label": "Search", "value": "${capture:sent} ${capture:id}"}},
            {"press": {"key": "Enter", "at": {"label": "Search"}}},
            expects("#said", "searched a 7"),
            {"check": {"label": "Agree", "on": False}},
            {"expect": {"of": "unchecked", "at": {"label": "Agree"}}},
            {"expect": {"of": "value", "at": {"label": "Mail"}, "starts": "a@"}},
            {"expect": {"of": "count", "at": {"css": "label"}, "ge": 3}},
            {"expect": {"of": "url", "ends": "/form"}},
            {"expect": {"of": "response", "url": "**/form"}},
            {"wait": {"url": "**/{form,forms}"}},
            {"wait": {"load": "load"}},
            {"wait": 0.01},
            {"screenshot": "form"},
            teardown=[{"goto": "/second?${capture:id}"}],
        )
    )
    assert report.failure is None, report
    assert {one.state for one in report.steps} == {"ok"}
    assert report.captured == {"sent": "a", "id": "7"}
    assert [one.said for one in report.steps][:4] == [
        "goto /form", 'fill label "Mail"', 'select label "Size": Large', 'check label "Agree"',
    ]  # fmt: skip
    assert report.steps[-1].is_teardown
    assert report.steps[-1].url == f"{site.url}/second?7"
    assert worker.kept.keys() == {"form.jpg"}
    assert [one.step for one in report.documents] == ["open", report.steps[-1].name]


async def test_steps_wait_no_longer_than_the_journey_says_but_where_time_is_to_pass(
    worker: Worker, site: Site
) -> None:
    missing, passes = {"click": "Nothing"}, {"wait": 0.6}
    report = await worker.do(journey(site, {"goto": "/", "timeout": 20}, passes, missing, step_timeout=0.5))
    assert [one.state for one in report.steps] == ["ok", "ok", "failed"]
    assert last(report) == 'text "Nothing" is not there; waited 0.5 s'
    late = {"wait": {"visible": {"css": "#late"}}, "timeout": 20}
    report = await worker.do(journey(site, {"goto": "/lazy", "timeout": 20}, late, step_timeout=0.001))
    assert report.failure is None, report
    report = await worker.do(journey(site, {"goto": "/"}, {"wait": 60}), steps_s=1.5)
    assert report.failure is not None
    assert last(report).startswith("of the time for the steps only ")


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([{"goto": "/shadow"}, {"click": "Pay"}, {"expect": "paid"}], id="in a shadow root"),
        pytest.param(
            [
                {"goto": "/frames"},
                {"click": {"role": "button", "frame": "#inner", "inside": {"css": "body", "frame": "#outer"}}},
                {"expect": {"at": {"text": "Confirmed", "frame": "#inner", "inside": {"css": "html", "frame": "#outer"}}}},
            ],
            id="in a frame of another origin in a frame",
        ),
        pytest.param([{"goto": "/lazy"}, {"expect": "Late"}, {"wait": {"visible": {"css": "#late"}}}], id="that comes late"),
        pytest.param([{"goto": "/many"}, {"click": {"role": "button", "name": "Buy", "nth": -1}}], id="the last of several"),
        pytest.param([{"goto": "/many"}, {"expect": {"of": "hidden", "at": "ghost"}}], id="hidden"),
        pytest.param([{"goto": "/many"}, {"expect": {"of": "disabled", "at": {"label": "Off"}}}], id="disabled"),
        pytest.param(
            [{"goto": "/spa"}, {"click": "Go"}, {"expect": {"of": "url", "ends": "/spa/done"}}, expects("#view", "Done")],
            id="after a route of a single page",
        ),
        pytest.param([{"goto": "/away"}, {"expect": {"of": "title", "eq": "Second"}}], id="after a redirect"),
        pytest.param(
            [{"goto": "/popups"}, {"click": "Open"}, {"expect": {"of": "title", "eq": "Child"}}, {"click": "Close"},
             expects("#back", "parent")],
            id="in a new window and back",
        ),
        pytest.param(
            [{"goto": "/late-window"}, {"click": "Open"}, {"expect": "Close"}], id="in a window that opens late"
        ),
        pytest.param([{"goto": "/downloads"}, {"click": "Get it"}, {"expect": "Get it"}], id="beside a download"),
        pytest.param(
            [{"goto": "/worker"}, {"expect": {"of": "title", "eq": "Served offline"}}], id="of a service worker"
        ),
        pytest.param([{"goto": "/huge"}, {"expect": {"at": {"text": "line 19999", "exact": True}}}], id="of a huge page"),
    ],
)  # fmt: skip
async def test_found_and_done(worker: Worker, site: Site, steps: list[Any]) -> None:
    report = await worker.do(journey(site, *steps))
    assert report.failure is None, report


@pytest.mark.parametrize(
    ("step", "kind", "said"),
    [
        pytest.param({"click": "Nothing"}, "step.failed", 'text "Nothing" is not there; waited 0.5 s', id="missing"),
        pytest.param(
            {"click": {"role": "button", "name": "Buy"}}, "step.failed",
            '3 elements match button "Buy": <button>Buy</button>, <button>Buy</button>, <button>Buy</button>', id="several",
        ),
        pytest.param({"click": "ghost"}, "step.failed", 'text "ghost" is there, but not visible; waited 0.5 s', id="hidden"),
        pytest.param(
            {"fill": {"label": "Off", "value": "x"}}, "step.failed", 'label "Off" is there, but disabled; waited 0.5 s', id="off"
        ),
        pytest.param({"click": "Under"}, "step.failed", 'text "Under" is covered by <div>cover</div>; waited 0.5 s', id="covered"),
        pytest.param({"expect": "Gone"}, "assertion.expect", 'text "Gone" is not there; waited 0.5 s', id="not shown"),
        pytest.param(
            {"expect": {"of": "count", "at": {"role": "button"}, "eq": 9}}, "assertion.expect",
            "count of button is 4; expected eq 9; waited 0.5 s", id="fewer",
        ),
        pytest.param(
            {"expect": {"of": "title", "contains": "x"}}, "assertion.expect", "title is ''; expected contains 'x'; waited 0.5 s",
            id="title",
        ),
        pytest.param(
            {"expect": {"of": "response", "url": "**/none"}}, "assertion.expect",
            "no response of **/none was seen; waited 0.5 s", id="no response",
        ),
        pytest.param({"wait": {"url": "**/never"}}, "step.timeout", "it did not happen within 0.5 s", id="never"),
        pytest.param(
            {"store": {"name": "x", "of": "url", "matches": "id=(.*)"}}, "capture.missing", None, id="nothing to store"
        ),
        pytest.param({"goto": "/down"}, "status", "HTTP 503 Service Unavailable; below 400 is expected", id="503"),
        pytest.param({"goto": "/slow"}, "step.timeout", "the page was not loaded after 0.5 s", id="slow"),
        pytest.param({"goto": "http://127.0.0.1:CLOSED"}, "connect.refused", "connection refused", id="refused"),
        pytest.param({"goto": "/file"}, "http.protocol", "what is there is a download and no page", id="download"),
    ],
)  # fmt: skip
async def test_why_a_step_failed_is_said_in_words(
    worker: Worker, site: Site, step: dict[str, Any], kind: str, said: str | None
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        if "goto" in step:
            step = {"goto": step["goto"].replace("CLOSED", str(closed.getsockname()[1]))}
        report = await worker.do(journey(site, {"goto": "/many"}, step | {"timeout": 0.5}, {"click": "Buy"}))
    assert report.failure is not None
    assert report.failure.type == kind
    assert said is None or last(report) == report.failure.message == said
    assert [one.state for one in report.steps] == ["ok", "failed", "skipped"]
    assert report.steps[1].picture == "failure.jpg"
    assert worker.kept.keys() >= {"failure.jpg", "page.html"}
    assert b"<" in worker.kept["page.html"]


async def test_the_page_around_an_element_is_kept_and_not_what_was_typed(worker: Worker, site: Site) -> None:
    steps = (
        {"goto": "/form"},
        {"fill": {"label": "Mail", "value": "typed"}},
        {"click": {"text": "None", "inside": {"css": "#said"}}},
    )
    await worker.do(journey(site, *steps[:2], steps[2] | {"timeout": 0.3}))
    assert b"data-id=" in worker.kept["page.html"]
    assert b"typed" not in worker.kept["page.html"]


async def test_soft_steps_go_on_and_teardown_is_done_after_a_failure(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site,
            {"goto": "/"},
            {"expect": "Nothing", "soft": True, "timeout": 0.2},
            {"click": "Nothing", "timeout": 0.2},
            {"click": "Second"},
            teardown=[{"click": "Nothing", "timeout": 0.2}, {"goto": "/second"}],
        )
    )
    assert [one.state for one in report.steps] == ["ok", "failed", "failed", "skipped", "failed", "ok"]
    assert [one.is_soft for one in report.steps] == [False, True, False, False, False, False]
    assert [one.picture for one in report.steps] == ["", "step-2.jpg", "failure.jpg", "", "step-5.jpg", ""]
    assert report.failure is not None
    assert report.failure.type == "step.failed"
    assert worker.kept.keys() >= {"step-2.jpg", "failure.jpg", "step-5.jpg"}


@pytest.mark.parametrize(("answer", "said"), [("accept", "true"), ("dismiss", "false")])
async def test_dialogs_are_answered(worker: Worker, site: Site, answer: str, said: str) -> None:
    report = await worker.do(
        journey(site, {"goto": "/dialogs"}, {"click": "Ask"}, expects("#out", said), dialogs=answer)
    )
    assert report.failure is None


async def test_a_page_that_asks_whether_to_leave_is_left(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(site, {"goto": "/unsaved"}, {"click": "Unsaved"}, {"goto": "/second"}, dialogs="dismiss")
    )
    assert report.failure is None


async def test_console_and_requests_are_seen(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site, {"goto": "/broken"}, {"expect": "There"}, {"wait": 0.2}, ignore_console=["known.noise"]
        ),
        keeps=True,
    )
    assert "oh no" in report.console
    assert "uncaught: uncaught one" in report.console
    assert not any("noise" in line for line in report.console)
    assert report.console_errors == len(report.console)
    assert report.failed_requests == 2
    assert [one.removeprefix(f"GET {site.url}") for one in sorted(report.failures)] == [
        "/cut: ERR_EMPTY_RESPONSE"
        if "EMPTY" in min(report.failures)
        else "/cut: ERR_CONTENT_LENGTH_MISMATCH",
        "/missing.js: 404",
    ]
    assert report.requests == 3
    assert b"error: known noise" in worker.kept["console.txt"]
    assert report.steps[-1].picture == "step-3.jpg"


async def test_a_failure_names_what_went_wrong_on_the_site_since_the_step_before(
    worker: Worker, site: Site
) -> None:
    missing = {"click": "Nothing", "timeout": 0.5}
    report = await worker.do(journey(site, {"goto": "/broken"}, {"wait": 0.3}, {"wait": 0.1}, missing))
    assert last(report) == 'text "Nothing" is not there; waited 0.5 s'  # what was before is not of it
    report = await worker.do(journey(site, {"goto": "/broken"}, missing))
    said = last(report).split("; ")
    assert said[:2] == ['text "Nothing" is not there', "waited 0.5 s"]
    assert said[2].startswith(f"GET {site.url}/")
    assert said[3].startswith("console: ")
    assert len(said) == 4


async def test_a_step_that_comes_after_the_time_is_not_begun(worker: Worker, site: Site) -> None:
    report = await worker.do(journey(site, {"goto": "/"}, {"click": "Nothing"}), steps_s=0.01)
    assert report.failure is not None
    assert report.failure.type == "step.timeout"
    assert last(report) == "the attempt's time was over before this step"


async def test_what_is_blocked_is_no_failure(worker: Worker, site: Site) -> None:
    report = await worker.do(journey(site, {"goto": "/broken"}, {"wait": 0.2}, block=["127.*"]))
    assert (report.failed_requests, report.requests) == (0, 3)


async def test_vitals_are_read_of_each_document(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site, {"goto": "/moving", "name": "first"}, {"wait": 0.4}, {"goto": "/second", "name": "then"}
        )
    )
    moving, second = report.documents
    assert (moving.step, moving.url, second.step) == ("first", f"{site.url}/moving", "then")
    assert moving.ttfb is not None
    assert moving.fcp is not None
    assert moving.lcp is not None
    assert 0 < moving.ttfb < moving.fcp <= moving.lcp < 20
    assert moving.cls is not None
    assert 0 < moving.cls < 1
    assert second.cls == 0
    assert second.fcp is not None


async def test_a_device_is_where_and_what_it_is_said_to_be(worker: Worker, site: Site) -> None:
    steps = {"goto": "/who"}, {"expect": {"at": {"css": "#who"}, "of": "text", "matches": "refused$"}}
    desktop = await worker.do(journey(site, *steps, {"store": {"name": "who", "at": {"css": "#who"}}}))
    assert desktop.failure is None
    assert desktop.captured["who"].startswith("en-US UTC 1280 Mozilla/5.0")
    assert "Headless" not in desktop.captured["who"]
    phone = await worker.do(
        journey(
            site,
            {"goto": "/who"},
            {"expect": {"at": {"css": "#who"}, "of": "text", "ends": " at 52.5"}},
            {"store": {"name": "who", "at": {"css": "#who"}}},
            device="phone",
            locale="de-DE",
            timezone="Europe/Berlin",
            geolocation={"latitude": 52.5, "longitude": 13.4},
            user_agent="Upbeat",
            viewport={"width": 400, "height": 700},
        )
    )
    assert phone.captured["who"].startswith("de-DE Europe/Berlin "), phone
    assert " Upbeat" in phone.captured["who"]


async def test_headers_and_credentials_go_to_their_origin_only(worker: Worker, site: Site) -> None:
    site.seen.clear()
    report = await worker.do(
        journey(
            site,
            {"goto": "/private"},
            {"goto": "/other"},
            {"wait": {"load": "networkidle"}},
            {"goto": "/away"},
            headers={"X-Synthetic": "yes"},
            auth={"basic": {"username": "me", "password": "pass"}},
        ),
        traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    )
    assert report.failure is None, report
    asked = {(host, path): header for host, path, header in site.seen}
    own, other = site.url.removeprefix("http://"), site.other.removeprefix("http://")
    assert asked[own, "/private"] == asked[own, "/echo"] == asked[own, "/away"] == "yes"
    assert asked[other, "/echo"] == asked[other, "/second"] == ""
    after = await worker.do(journey(site, {"goto": "/private"}))
    assert after.failure is not None
    assert after.failure.message.startswith("HTTP 401")


async def test_a_hanging_page_is_a_time_out_and_the_teardown_is_done(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site,
            {"goto": "/busy"},
            {"click": "Hang"},
            {"expect": "Busy"},
            teardown=[{"goto": "/second"}, {"expect": "Second page"}],
        ),
        steps_s=2.0,
    )
    assert report.failure is not None
    assert report.failure.type == "step.timeout"
    assert [one.state for one in report.steps][-2:] == ["ok", "ok"]
    assert any("failure.jpg" in note for note in report.notes)
    assert (await worker.do(journey(site, {"goto": "/"}))).failure is None


async def test_there_are_never_many_windows(worker: Worker, site: Site) -> None:
    report = await worker.do(journey(site, {"goto": "/windows"}, {"click": "Open"}, expects("#left", "7")))
    assert report.failure is None


async def test_an_endless_row_of_dialogs_ends(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(site, {"goto": "/alerts"}, {"click": "Alert"}, {"expect": "Alert"}), steps_s=20.0
    )
    assert report.failure is not None
    assert report.failure.message == "the page opens windows or dialogs without end"
    assert (await worker.do(journey(site, {"goto": "/"}))).failure is None


def reds(picture: bytes) -> int:
    """Pixels of the colour in which the page shows its secret."""
    red, green, blue = Image.open(io.BytesIO(picture)).convert("RGB").split()
    dark = ImageChops.lighter(green, blue).point(lambda value: 255 if value < 100 else 0)
    both = ImageChops.darker(red.point(lambda value: 255 if value > 150 else 0), dark)
    return both.histogram()[255]


@pytest.mark.parametrize("path", ["/shows", "/shown", "/framed"])
async def test_no_picture_shows_a_secret(worker: Worker, site: Site, path: str) -> None:
    steps = (
        {"goto": path},
        {"expect": "Yours"},
        {"screenshot": "shop"},
        {"click": "Nothing", "timeout": 0.2},
    )
    await worker.do(journey(site, *steps))
    assert reds(worker.kept["shop.jpg"]) > 1000  # it would be seen
    report = await worker.do(journey(site, *steps), secrets=(SECRET,), records=True)
    assert worker.kept.keys() >= {"shop.jpg", "failure.jpg", "step-1.jpg", "step-2.jpg"}, report.notes
    assert not any(reds(data) for name, data in worker.kept.items() if name.endswith(".jpg"))


async def test_there_is_no_picture_of_a_page_that_shows_again_what_was_hidden(
    worker: Worker, site: Site
) -> None:
    report = await worker.do(journey(site, {"goto": "/fights"}, {"screenshot": "shop"}), secrets=(SECRET,))
    assert report.notes == ("shop.jpg is missing: secrets or frames came up while it was taken",)


@pytest.mark.parametrize("path", ["/waits", "/poisoned"])
async def test_there_is_a_picture_of_a_page(worker: Worker, site: Site, path: str) -> None:
    await worker.do(
        journey(site, {"goto": path, "timeout": 1.5}, {"click": "Nothing", "timeout": 0.1}), secrets=(SECRET,)
    )
    assert "failure.jpg" in worker.kept


async def test_what_was_typed_is_not_to_be_read_in_a_picture(worker: Worker, site: Site) -> None:
    other = SECRET[::-1]
    shown = {}
    for secrets in ((), (SECRET, other)):
        for typed in (SECRET, other):
            fill = {"fill": {"label": "Code", "value": typed}}, {"press": "Tab"}, {"screenshot": "shop"}
            report = await worker.do(journey(site, {"goto": "/shows"}, *fill), secrets=secrets)
            assert report.notes == ()
            assert not secrets or SECRET not in repr(report)
            shown[secrets, typed] = worker.kept["shop.jpg"]
    assert shown[(), SECRET] != shown[(), other]
    assert shown[(SECRET, other), SECRET] == shown[(SECRET, other), other]


async def test_what_is_hidden_for_a_picture_is_shown_again(worker: Worker, site: Site) -> None:
    seen = {"store": {"name": "style", "of": "attribute", "attribute": "style", "at": {"css": "p", "nth": 2}}}
    report = await worker.do(
        journey(site, {"goto": "/shows"}, {"screenshot": "shop"}, seen), secrets=(SECRET,)
    )
    assert report.captured == {"style": "width:10px;white-space:nowrap"}


async def test_a_certificate_is_verified_unless_it_is_not_to_be(
    worker: Worker, site: Site, tmp_path: Path
) -> None:
    app = web.Application()

    async def safe(_: web.Request) -> web.Response:
        return web.Response(text="<h1>Safe</h1>", content_type="text/html")

    app.router.add_get("/", safe)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self_signed("localhost").serving(tmp_path)).start()
    steps = {"goto": f"https://localhost:{runner.addresses[0][1]}/"}, {"expect": "Safe"}
    report = await worker.do(journey(site, *steps))
    assert report.failure == Failure(
        "tls.untrusted", "its certificate is not trusted (cert authority invalid)"
    )
    assert (await worker.do(journey(site, *steps, verify=False))).failure is None
    await runner.cleanup()


async def test_what_is_recorded_can_be_opened(worker: Worker, site: Site) -> None:
    report = await worker.do(journey(site, {"goto": "/"}, {"click": "Second"}), records=True)
    assert report.failure is None
    assert worker.kept.keys() == {"step-1.jpg", "step-2.jpg", "trace.zip", "network.har"}
    assert Image.open(io.BytesIO(worker.kept["step-1.jpg"])).width == 640
    with zipfile.ZipFile(io.BytesIO(worker.kept["trace.zip"])) as trace:
        assert "trace.trace" in trace.namelist()
    entries = json.loads(worker.kept["network.har"])["log"]["entries"]
    assert [one["request"]["url"] for one in entries] == [f"{site.url}/", f"{site.url}/second"]


async def test_nothing_is_kept_where_nothing_is_wanted(worker: Worker, site: Site) -> None:
    await worker.do(journey(site, {"goto": "/down"}), keeps_nothing=True, records=True)
    assert worker.kept == {}


async def test_stored_secrets_are_hidden_from_then_on(worker: Worker, site: Site) -> None:
    report = await worker.do(
        journey(
            site,
            {"goto": "/many"},
            {"store": {"name": "token", "of": "url"}},
            {"expect": {"of": "url", "eq": "elsewhere"}, "timeout": 0.2},
        )
    )
    assert site.url in report.secrets[-1] or f"{site.url}/many" in report.secrets
    assert report.captured == {}
    assert f"{site.url}/many" not in last(report)


async def test_who_steps_says_what_is_done(worker: Worker, site: Site) -> None:
    goes = (
        Go({"goto": "/"}, "open"),
        Go({"click": "Nothing", "timeout": 0.2}, "next"),
        Go({"click": "Second"}, "next"),
        Go(),
    )
    report = await worker.do(journey(site, {"goto": "/"}), goes, is_stepped=True, keeps_nothing=True)
    assert report.failure is None
    assert [one.step.state for one in worker.stepped] == ["ok", "failed", "ok"]
    assert [one.name for one in report.steps] == ["open", "next"]


@pytest.mark.parametrize("sign", [b"--remote-debugging-pipe", b"--type=renderer", b"run-driver"])
async def test_what_crashes_is_no_failure_of_the_site(site: Site, sign: bytes) -> None:
    worker = await started()
    doing = asyncio.ensure_future(worker.do(journey(site, {"goto": "/"}, {"wait": 3})))
    while not worker.stepped:
        await asyncio.sleep(0.02)
    for child in members("/proc", worker.process.pid)[1:]:
        if sign in Path(f"/proc/{child.pid}/cmdline").read_bytes():
            os.kill(child.pid, signal.SIGKILL)
    report = await doing
    assert report.failure is not None
    assert report.failure.type == "probe.browser"
    assert report.is_spent
    await asyncio.wait_for(worker.process.wait(), 60)
