"""Three canary secrets, one by each way, and a target that says them all again: they are found nowhere that is kept."""

import base64
from collections.abc import AsyncIterator
from urllib.parse import quote

import asyncpg
import pytest
from aiohttp import web

from tests.rig.process import Upbeat, fresh_folder, until, upbeat

ENV, FILE, STORED, NEWER = "canary-env-7731", "canary+file/7732", 'canary "stored" 7733', "canary=newer=7734"
CONFIG = """
version: 1
page: {{slug: shop, name: Shop}}
egress: {{allow: [127.0.0.1/32]}}
otlp: {{endpoint: "{url}", headers: {{X-Token: "${{env:CANARY}}"}}, interval: 1s, spans: true}}
channels:
  - {{slug: ops, type: webhook, url: "{url}/hook?token=${{env:CANARY}}"}}
  - {{slug: many, type: apprise, urls: ["{json}/many?+X-Token=${{env:CANARY}}"]}}
publishers:
  - {{slug: page, type: statuspage, url: "{url}/refused", key: "${{env:CANARY}}", page_id: x}}
  - {{slug: hook, type: webhook, url: "{url}/posted?token=${{env:CANARY}}"}}
components: [{{slug: site, name: Site}}]
beats:
  - slug: echo
    type: http
    url: "{url}/echo?q=${{env:CANARY}}"
    method: POST
    headers: {{Authorization: "Bearer ${{file:{file}}}", X-Plain: "${{secret:CANARY}}"}}
    body: "${{env:CANARY}} ${{file:{file}}} ${{secret:CANARY}}"
    interval: 1s
    timeout: 900ms
    retries: 0
    channels: [ops, many]
    components: [site]
    incidents: {{open: auto}}
    assertions:
      - {{of: body, contains: "what it never says"}}
      - {{of: header, name: x-echo, eq: "nor this"}}
"""
PAGES = (
    *(
        "/export",
        "/beats",
        "/beats/echo",
        "/beats/echo/results?limit=500",
        "/episodes",
        "/actions",
        "/incidents",
    ),
    *(
        "/audit?limit=1000",
        "/secrets",
        "/channels",
        "/publishers",
        "/channels/many/health",
        "/publishers/page/health",
        "/deliveries",
        "//metrics",
        "//p/shop",
        "//p/shop/status.json",
    ),
    *(
        "//console",
        "//console/beats/shop/echo",
        "//console/secrets",
        "//console/channels",
        "//console/publishers",
        "//console/publishers/page",
        "//console/audit",
    ),
)


TOLD = {"/hook", "/many", "/refused", "/posted", "/v1/metrics", "/v1/traces"}


class Echo:
    """Answers 500 with all it was sent; keeps what else is posted to it."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[str] = []  # of runs
        self.posted: dict[str, list[bytes]] = {}

    async def echo(self, request: web.Request) -> web.Response:
        sent = f"{request.rel_url.query.get('q')} {dict(request.headers)} {await request.text()}"
        self.heard.append(sent)
        said = request.headers["X-Plain"]
        return web.Response(
            status=500, reason=said, headers={"X-Echo": said, "Set-Cookie": f"a={ENV}"}, text=sent
        )

    async def refuse(self, request: web.Request) -> web.Response:
        """As pages do that quote what was wrong."""
        self.posted.setdefault("/refused", []).append(await request.read())
        return web.json_response({"error": f"not with {dict(request.headers)}"}, status=422)

    async def take(self, request: web.Request) -> web.Response:
        self.posted.setdefault(request.path, []).append(await request.read())
        return web.Response(body=b"")


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    target, app = Echo(), web.Application()
    app.router.add_post("/echo", target.echo)
    app.router.add_post("/refused/{any:.*}", target.refuse)
    app.router.add_post("/{any:.*}", target.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    target.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield target
    await runner.cleanup()


async def dumped(running: Upbeat) -> str:
    """Every row of every table."""
    url = f"postgresql://upbeat@/upbeat?host={quote(str(running.data / 'run'))}&port=5432"
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [await connection.fetch(f"SELECT t::text FROM {row[0]} t") for row in tables]
    finally:
        await connection.close()
    return "\n".join(str(row[0]) for table in rows for row in table)


def forms(value: str) -> set[str]:
    """How a value might be written down."""
    return {
        value,
        quote(value, safe=""),
        quote(value),
        base64.b64encode(value.encode()).decode(),
        value.encode().hex(),
    }


async def test_secrets_are_found_nowhere_although_a_target_says_them_again(echo: Echo) -> None:
    with fresh_folder() as folder:
        file = folder / "token"
        file.write_text(FILE + "\n")
        config = CONFIG.format(url=echo.url, json=echo.url.replace("http:", "json:"), file=file)
        async with upbeat(folder, config, environment={"CANARY": ENV, "UPBEAT_LOG": "json"}) as running:
            await until(
                lambda: _verdicts(running, {"error"}), "a secret that is not stored is the probe's trouble"
            )
            status, _ = await running.call("PUT", "/secrets/CANARY", {"value": STORED})
            assert status == 200
            await until(lambda: _true(echo.posted.keys() >= TOLD), "all is told", 40)
            assert all(value in echo.heard[-1] for value in (ENV, FILE)), echo.heard[-1]
            assert "stored" in echo.heard[-1]
            stage = (await running.get("/beats/echo"))["stage"]
            file.write_text(NEWER)
            await until(lambda: _true(NEWER in echo.heard[-1]), "a changed file is used without a restart")
            assert (await running.get("/beats/echo"))["stage"] == stage == "critical"
            seen = {path: str((await running.call("GET", path))[1]) for path in PAGES}
            dead = await running.items("/deliveries?status=dead")
            assert [row["last_error"][:8] for row in dead] == ["HTTP 422"]
            seen["database"] = await dumped(running)
        seen["log"] = running.log.read_text()
        seen["otlp and webhooks"] = str(echo.posted)
        assert "[redacted]" in seen["database"]
        assert "error" not in {path for path in PAGES if seen[path].startswith("{'type': ")}
        found = {
            (where, value)
            for where, text in seen.items()
            for value in (ENV, FILE, STORED, NEWER)
            for form in forms(value)
            if form in text
        }
    assert found == set()


async def _verdicts(running: Upbeat, wanted: set[str]) -> bool:
    return {row["verdict"] for row in await running.items("/beats/echo/results?limit=500")} >= wanted


async def _true(is_so: bool) -> bool:
    return is_so
