"""Every page of the console is served to who may read it, says what is so, and asks a constant number of queries."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects
from engine.store.database import transaction
from engine.store.ids import new_id, show

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Live, Person, SignIn

from tests.api.console.conftest import ACTOR, grouped, outage

PAGES = (
    "/console",
    "/console?stage=critical&q=ho&tag=x&part=2",
    "/console/beats/new",
    "/console/beats/new?target=tcp://db.example:5432",
    "/console/beats/home?page=shop",
    "/console/beats/home?page=shop&range=30d",
    "/console/beats/home/edit?page=shop",
    "/console/actions",
    "/console/incidents",
    "/console/episodes",
    "/console/maintenances",
    "/console/components",
    "/console/components/site/edit?page=shop",
    "/console/channels",
    "/console/channels?status=dead",
    "/console/channels/ops/edit?page=shop",
    "/console/publishers",
    "/console/publishers?add=cachet",
    "/console/publishers/elsewhere?page=shop",
    "/console/publishers/elsewhere/edit?page=shop",
    "/console/pages",
    "/console/pages/shop/edit",
    "/console/regions",
    "/console/account",
    "/console/tokens",
    "/console/users",
    "/console/audit",
)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_served_with_a_strict_policy(admin: "Person", path: str) -> None:
    page = await admin.get(path)
    assert page.status == 200, page.html
    assert page.html.startswith("<!doctype html>")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert " style=" not in page.html
    assert "<script>" not in page.html


@pytest.mark.parametrize("path", [path for path in PAGES if "users" not in path and "audit" not in path])
async def test_a_viewer_of_one_page_reads_it_and_nothing_of_another(sign_in: "SignIn", path: str) -> None:
    viewer = await sign_in("viewer@blog")
    page = await viewer.get(path)
    assert page.status == (
        403 if "new" in path else 404 if "page=shop" in path or "pages/shop" in path else 200
    )
    assert "secret-path" not in page.html
    assert 'href="/console/audit"' not in page.html  # what one may not see is not offered


@pytest.mark.parametrize(
    "carried",
    [
        {"auth": {"bearer": "canary7731"}},
        {"proxy": "http://u:canary7731@h:1"},
        {"method": "POST", "form": {"a": "canary7731"}},
        {"method": "POST", "body_base64": "Y2FuYXJ5NzczMQ=="},
    ],
)
async def test_a_viewer_reads_the_page_of_a_beat_without_what_it_carries(
    server: "Server", sign_in: "SignIn", carried: dict[str, Any]
) -> None:
    spec = {"slug": f"b-{new_id().hex[-8:]}", "type": "http", "url": "https://h.example/"} | carried
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        await objects.create(db, ACTOR, "beat", shop.id, spec)
    viewer = await sign_in("viewer@shop")
    for path in ("", "/edit"):
        page = await viewer.get(f"/console/beats/{spec['slug']}{path}?page=shop")
        assert page.status in (200, 403)
        assert "canary7731" not in page.html
        assert "Y2FuYXJ5" not in page.html
        assert path or page.status == 200


async def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(server: "Server") -> None:
    answer = await server.session.get(
        server.url + "/console/beats/home?page=shop", headers={"Accept": "text/html"}, allow_redirects=False
    )
    assert answer.status == 303
    assert answer.headers["Location"] == "/console/login?next=%2Fconsole%2Fbeats%2Fhome%3Fpage%3Dshop"
    form = await server.session.get(server.url + answer.headers["Location"])
    assert 'name="next" value="/console/beats/home?page=shop"' in await form.text()


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/console\\@evil.example", "/p/x"]
)
async def test_signing_in_leads_nowhere_else(server: "Server", back: str) -> None:
    form = await server.session.get(server.url + "/console/login", params={"next": back})
    assert 'name="next" value="/console"' in await form.text()


async def test_an_outage_is_on_top_with_what_each_region_saw(
    server: "Server", admin: "Person", live: "Live"
) -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": "pay", "name": "Pay", "type": "http", "url": "https://x.example", "tags": ["core"]}
        beat = await objects.create(db, ACTOR, "beat", page.id, spec | {"components": {"site": {}}})
    await live("pay", outage())
    overview = (await admin.get("/console?tag=core")).html
    assert "Happening now" in overview
    assert "status is 503; expected eq 200" in overview
    assert "Review the draft" in overview
    shown = (await admin.get(f"/console/beats/{show('beat', beat.id)}")).html
    assert "3 of 3 regions say critical; it ends when 2 of 3 say better (0 do)." in shown
    assert 'aria-label="Latency: ap: newest p50' in shown
    assert "scheduled runs since" in shown
    assert (
        shown.split('aria-label="Table of sums"')[1].count('<th scope="row">') >= 4
    )  # three regions, all of them
    run = shown.split("/runs/")[1].split('"')[0].replace("&amp;", "&")
    detail = (await admin.get(f"/console/beats/pay/runs/{run}")).html
    assert "upstream is away" in detail
    assert "assertion.status" in detail


async def test_the_overview_asks_as_many_queries_for_many_beats_as_for_few(
    server: "Server", admin: "Person"
) -> None:
    await grouped(server.services, f"few-{new_id().hex[-6:]}", {f"m-{new_id().hex[-8:]}": outage()})
    few = await _queries(server, admin)
    for _ in range(2):
        wide = {f"m-{new_id().hex[-8:]}": outage(("eu",)) for _ in range(3)}
        await grouped(server.services, f"many-{new_id().hex[-6:]}", wide)
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        for n in range(150):
            spec = {"slug": f"many-{n}-{new_id().hex[-6:]}", "type": "tcp", "host": "x.example", "port": 1}
            await objects.create(db, ACTOR, "beat", page.id, spec)
    assert await _queries(server, admin) == few
    assert "of 2, 1" in (await admin.get("/console?q=many")).html  # two parts of the list


async def _queries(server: "Server", admin: "Person") -> int:
    seen: list[Any] = []
    pool: Any = server.services.pool
    server.services.pool = _Counted(pool, seen)  # type: ignore[assignment]
    try:
        assert (await admin.get("/console")).status == 200
    finally:
        server.services.pool = pool
    return len(seen)


class _Counted:
    """A pool that notes the queries of its connections."""

    def __init__(self, pool: Any, seen: list[Any]) -> None:
        self._pool, self._seen = pool, seen

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection:
            with connection.query_logger(self._seen.append):
                yield connection


async def test_regions_of_one_process_are_said_to_share_its_failures(
    server: "Server", admin: "Person"
) -> None:
    said = "see its failures together"
    async with server.services.pool.acquire() as db:
        regions = [stored.slug for stored in await objects.listing(db, "region")]
        assert said not in (await admin.get("/console/regions")).html
        await db.execute(
            "INSERT INTO leases (kind, unit, holder, until) SELECT 'probe:' || r, '0', 'one', now() + interval '1 minute' "
            "FROM unnest($1::text[]) AS r",
            regions,
        )
        try:
            assert said in (await admin.get("/console/regions")).html
            assert said in (await admin.get("/console")).html
            await db.execute("UPDATE leases SET holder = 'two' WHERE kind = $1", f"probe:{regions[0]}")
            assert said not in (await admin.get("/console/regions")).html
        finally:
            await db.execute("DELETE FROM leases")
