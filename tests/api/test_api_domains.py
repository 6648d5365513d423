"""Host names of pages: proved by a record that a real name server answers with, and what can be reached there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from engine.store import hosts, objects
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from exporters.outcome import Retry
from tests.rig.targets import DnsTarget
from upbeat.names import txt

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

ACTOR = Actor("seed", "api")


@pytest.fixture
async def dns(server: "Server") -> AsyncIterator[DnsTarget]:
    before, settings = server.services.txt, server.services.settings
    async with DnsTarget() as target:
        server.services.txt = partial(txt, servers=["127.0.0.1"], port=target.port)
        server.services.settings = replace(settings, public_url="https://up.example")
        yield target
    server.services.txt, server.services.settings = before, settings


async def _page(server: "Server", domain: str | None) -> str:
    slug = f"d{new_id().hex[-8:]}"
    spec = {"slug": slug, "name": slug} | ({"domain": domain} if domain else {})
    async with transaction(server.services.pool) as db:
        await objects.create(db, ACTOR, "page", None, spec)
    return slug


async def _check(server: "Server", slug: str) -> dict[str, Any]:
    answer = await server.call("POST", f"/api/v1/pages/{slug}/domain/check")
    assert answer.status == 200, answer.body
    checked: dict[str, Any] = answer.body
    return checked


async def _prove(server: "Server", dns: DnsTarget, slug: str) -> dict[str, Any]:
    shown = (await server.call("GET", f"/api/v1/pages/{slug}/domain")).body
    proof = shown["records"][0]
    dns.texts[proof["name"]] = [*dns.texts.get(proof["name"], ()), proof["value"]]
    return await _check(server, slug)


async def _at(server: "Server", host: str, path: str = "/status.json", **headers: str) -> "Answer":
    return await server.call("GET", path, who=None, headers={"Host": host, **headers})


async def test_a_page_is_shown_on_its_host_once_a_record_proves_whose_it_is(
    server: "Server", dns: DnsTarget
) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    shown = (await server.call("GET", f"/api/v1/pages/{slug}/domain")).body
    kinds = [(record["type"], record["name"]) for record in shown["records"]]
    assert kinds == [("TXT", f"_upbeat.{host}"), ("CNAME", host)]
    assert shown["records"][1]["value"] == "up.example"
    assert shown["records"][0]["value"].startswith("upbeat-verify=")
    dns.texts[f"_upbeat.{host}"] = ["upbeat-verify=something else"]
    early = await _check(server, slug)
    assert (early["is_verified"], early["found"]) == (False, ["upbeat-verify=something else"])
    assert (await _at(server, host)).status == 404
    assert (await server.call("GET", f"/api/v1/hosts?domain={host}", who=None)).status == 404
    assert (await _prove(server, dns, slug))["is_verified"] is True
    assert (await _at(server, host)).body["page"]["slug"] == slug
    assert (await _at(server, f"{host.upper()}.:8443")).body["page"]["slug"] == slug
    assert (await server.call("GET", f"/api/v1/hosts?domain={host}", who=None)).status == 200


async def test_another_domain_in_the_page_ends_the_first_at_once(server: "Server", dns: DnsTarget) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    await _prove(server, dns, slug)
    await server.call("PATCH", f"/api/v1/pages/{slug}", {"domain": f"new.{host}"})
    again = (await server.call("GET", f"/api/v1/pages/{slug}/domain")).body
    assert (again["domain"], again["is_verified"]) == (f"new.{host}", False)
    server.app.state.addresses.read_s = float("-inf")
    assert (await _at(server, host)).status == 404


async def test_a_host_goes_to_who_proves_it_now(server: "Server", dns: DnsTarget) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    first, second = await _page(server, host), await _page(server, host)
    await _prove(server, dns, first)
    assert (await _check(server, second))["is_verified"] is False  # the record of one page is not another's
    assert (await _at(server, host)).body["page"]["slug"] == first
    await _prove(server, dns, second)
    assert (await _at(server, host)).body["page"]["slug"] == second
    assert (await server.call("GET", f"/api/v1/pages/{first}/domain")).body["is_verified"] is False


async def test_name_servers_in_trouble_are_named_and_take_nothing_away(
    server: "Server", dns: DnsTarget
) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    await _prove(server, dns, slug)
    await dns.becomes("fails")
    troubled = await _check(server, slug)
    assert f"_upbeat.{host} cannot be looked up" in troubled["problem"]
    assert troubled["is_verified"] is True
    assert isinstance(await txt("x.example", ["127.0.0.1"], dns.port), Retry)


@pytest.mark.parametrize("domain", [None, "up.example"], ids=["no domain", "the installation's own"])
async def test_what_cannot_be_a_pages_host_is_refused(
    server: "Server", dns: DnsTarget, domain: str | None
) -> None:
    refused = await server.call("POST", f"/api/v1/pages/{await _page(server, domain)}/domain/check")
    assert (refused.status, refused.body["type"].rpartition("#")[2]) == (409, "no-domain")


async def test_the_host_of_the_installation_never_becomes_a_pages(server: "Server", dns: DnsTarget) -> None:
    slug = await _page(server, "up.example")
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", slug)
        await hosts.verify(db, "up.example", page.id, server.services.clock.epoch_s())
    server.app.state.addresses.read_s = float("-inf")
    assert (await _at(server, "up.example", "/healthz")).status == 200


async def test_who_may_not_edit_the_page_sees_no_records(server: "Server") -> None:
    for method, path in (("GET", "domain"), ("POST", "domain/check")):
        for who, status in (("reviewer", 403), ("other", 404)):
            assert (await server.call(method, f"/api/v1/pages/shop/{path}", who=who)).status == status


async def test_on_a_pages_own_host_there_is_nothing_but_the_page(server: "Server", dns: DnsTarget) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    await _prove(server, dns, slug)
    inside = (
        "/healthz",
        "/readyz",
        "/metrics",
        "/console",
        "/console/login",
        "/api/v1/pages",
        "/api/v1/external-events/ingest/token",
        "/ping/some-token",
        "/p/shop",
        f"/p/{slug}",
        "/openapi.json",
        "//evil.example/",
        "/../healthz",
    )
    for path in inside:
        answer = await _at(server, host, path, Authorization=f"Bearer {server.tokens['installer']}")
        assert answer.status == 404, path
        assert answer.headers["Content-Security-Policy"], path
    posted = await server.call("POST", "/api/v1/external-events/ingest", {}, who=None, headers={"Host": host})
    assert posted.status == 405


async def test_a_pages_own_host_outlives_the_database(server: "Server", dns: DnsTarget) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    await _prove(server, dns, slug)
    assert (await _at(server, host)).status == 200

    class Away:
        def acquire(self) -> Any:
            raise ConnectionRefusedError("nobody listens there")

    pool = server.services.pool
    server.services.pool = Away()  # type: ignore[assignment]
    try:
        for _ in range(2):
            server.app.state.addresses.read_s = float("-inf")
            assert (await _at(server, host)).body["page"]["slug"] == slug
            assert (await _at(server, host, "/healthz")).status == 404
            assert (await server.call("GET", f"/api/v1/hosts?domain={host}", who=None)).status == 200
    finally:
        server.services.pool = pool


async def test_until_somebody_can_say_whose_a_name_is_nothing_is_shown_there(server: "Server") -> None:
    class Away:
        def acquire(self) -> Any:
            raise ConnectionRefusedError("nobody listens there")

    pool, addresses = server.services.pool, server.app.state.addresses
    before = addresses.hosts, addresses.slugs
    server.services.pool, addresses.hosts, addresses.slugs = Away(), None, ()  # type: ignore[assignment]
    try:
        for path in ("/", "/console", "/healthz", "/api/v1/openapi.json", "/p/shop"):
            answer = await _at(server, "status.shop.example", path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), path
        assert (await server.call("GET", "/api/v1/hosts?domain=a.shop.example", who=None)).status == 503
        for name in ("127.0.0.1:8000", "[::1]", "localhost", "upbeat:8000"):
            assert (await _at(server, name, "/healthz")).status == 200, name
    finally:
        server.services.pool = pool
        addresses.hosts, addresses.slugs = before
    assert (await _at(server, "status.shop.example", "/healthz")).status == 200


async def test_only_the_host_header_says_which_host_is_asked(server: "Server", dns: DnsTarget) -> None:
    host = f"{new_id().hex[-8:]}.shop.example"
    slug = await _page(server, host)
    await _prove(server, dns, slug)
    for name in ("X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host"):
        answer = await _at(server, "up.example", "/status.json", **{name: host})
        assert answer.status == 404, name
    async with asyncio.timeout(30.0):  # addresses that were being read meanwhile are those of before
        while (
            other := await _at(server, host, "/status.json", **{"X-Forwarded-Host": "up.example"})
        ).status != 200:
            await asyncio.sleep(0.1)
    assert other.body["page"]["slug"] == slug
