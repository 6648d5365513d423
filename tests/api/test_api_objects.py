"""Declared objects through the API: created, read, changed, listed, deleted; and every way of being refused."""

import base64
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from api.auth import Principal
from api.console.forms import whole
from api.showing import shown
from engine.store import objects
from engine.store.audit import Actor
from engine.store.database import transaction

if TYPE_CHECKING:
    from tests.api.conftest import Server

BEAT = {"slug": "checkout", "type": "http", "url": "https://shop.example/health", "page": "shop"}


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NOBODY = "00000000-0000-0000-0000-000000000000"
NUL_CURSOR = _cursor(f'["a\\u0000", "{NOBODY}"]')
NAIVE_CURSOR = _cursor(f'["2026-01-01T00:00:00", "{NOBODY}"]')
FIRST_CURSOR = _cursor(f'["0001-01-01T00:00:00+14:00", "{NOBODY}"]')
LAST_CURSOR = _cursor(f'["9999-12-31T23:59:59-12:00", "{NOBODY}"]')
HUGE_CURSOR = _cursor("[99999999999999999999999]")
DEEP = b'{"a":' * 3000 + b"1" + b"}" * 3000


async def _fresh(server: "Server", slug: str, **more: Any) -> dict[str, Any]:
    answer = await server.call("POST", "/api/v1/beats", BEAT | {"slug": slug} | more)
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.body
    return made


async def test_a_created_beat_is_shown_with_its_defaults_and_where_it_is(server: "Server") -> None:
    answer = await server.call("POST", "/api/v1/beats", BEAT | {"tags": ["pay"]})
    assert answer.status == 201
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/api/v1/beats/{answer.body['id']}"
    assert answer.body["interval"] == "1m"
    assert answer.body["quorum"]["critical"] == {"open": "majority", "close": "auto"}
    again = await server.call("GET", answer.headers["Location"])
    assert again.body == answer.body


async def test_a_beat_without_results_is_unknown_and_lists_every_region(server: "Server") -> None:
    await _fresh(server, "unseen")
    beat = (await server.call("GET", "/api/v1/beats/unseen")).body
    assert (beat["slug"], beat["type"], beat["stage"]) == ("unseen", "http", "unknown")
    assert beat["since"].endswith("Z")
    assert [v["region"] for v in beat["votes"]] == ["ap", "eu", "us"]
    assert all((v["verdict"], v["at"], v["fresh"]) == (None, None, False) for v in beat["votes"])


async def test_what_was_read_can_be_put_back_as_it_is(server: "Server") -> None:
    read = (await server.call("GET", f"/api/v1/beats/{(await _fresh(server, 'trip'))['id']}")).body
    answer = await server.call("PUT", f"/api/v1/beats/{read['id']}", read)
    assert answer.status == 200, answer.body
    assert answer.body["revision"] == read["revision"]


async def test_an_expectation_of_null_survives(server: "Server") -> None:
    expects = [{"of": "json", "path": "$.a", "eq": None}, {"of": "status", "in": [200, 204]}]
    made = await _fresh(server, "expects", assertions=expects)
    assert made["assertions"] == expects
    patched = await server.call("PATCH", f"/api/v1/beats/{made['id']}", {"name": "E"})
    assert patched.body["assertions"] == expects


async def test_a_merge_patch_changes_what_it_names_and_null_brings_the_default_back(server: "Server") -> None:
    made = await _fresh(server, "patched", interval="30s", quorum={"min_voters": 2})
    answer = await server.call(
        "PATCH", f"/api/v1/beats/{made['id']}", {"interval": None, "quorum": {"critical": "all"}}
    )
    assert answer.body["interval"] == "1m"
    assert answer.body["quorum"]["min_voters"] == 2
    assert answer.body["quorum"]["critical"]["open"] == "all"


async def test_a_stale_etag_is_412_and_says_the_current_revision(server: "Server") -> None:
    path = f"/api/v1/beats/{(await _fresh(server, 'stale'))['id']}"
    assert (await server.call("PATCH", path, {"name": "A"}, headers={"If-Match": '"1"'})).status == 200
    answer = await server.call("PATCH", path, {"name": "B"}, headers={"If-Match": '"1"'})
    assert (answer.status, answer.body["revision"]) == (412, 2)
    assert (await server.call("DELETE", path, headers={"If-Match": '"1"'})).status == 412
    assert (await server.call("DELETE", path, headers={"If-Match": '"2"'})).status == 204
    assert (await server.call("GET", path)).status == 404


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        pytest.param({"urll": "x"}, "/urll", "did you mean url?", id="an unknown key"),
        pytest.param({"url": None}, "/url", "url is missing", id="a missing value"),
        pytest.param({"type": "htp"}, "/type", "did you mean http?", id="an unknown type"),
        pytest.param({"interval": "soon"}, "/interval", "is not a duration", id="no duration"),
        pytest.param({"timeout": "2m"}, "/timeout", "longer than the interval", id="a too long timeout"),
        pytest.param({"assertions": [{"of": "json"}]}, "/assertions/0", "exactly one of", id="no operator"),
        pytest.param({"regions": ["eu", "mars"]}, "/regions/1", "there is no region 'mars'", id="no region"),
        pytest.param({"channels": ["opps"]}, "/channels/0", "did you mean ops?", id="no such channel"),
        pytest.param({"components": ["sites"]}, "/components/sites", "did you mean site?", id="no component"),
        pytest.param(
            {"quorum": {"critical": 4}}, "/quorum/critical/open", "3 region", id="too high a quorum"
        ),
        pytest.param({"page": "none"}, "/page", "there is no page 'none'", id="no page"),
        pytest.param({"page": None}, "/page", "there are several pages", id="which page"),
        pytest.param({"headers": {"A": "${env:UPBEAT_X}"}}, "/headers/A", "own secrets", id="our secrets"),
    ],
)
async def test_a_mistake_is_told_at_its_place_in_plain_words(
    server: "Server", change: dict[str, Any], pointer: str, words: str
) -> None:
    answer = await server.call("POST", "/api/v1/beats", BEAT | {"slug": "wrong"} | change)
    assert answer.status == 422, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    said = {error["pointer"]: error["message"] for error in answer.body["errors"]}
    assert words in said.get(pointer, str(said))
    assert pointer in said
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"{", 400, id="cut"),
        pytest.param(b'{"slug": NaN}', 400, id="NaN"),
        pytest.param(b'{"retries": Infinity}', 400, id="infinity"),
        pytest.param(b'{"retries": 1e999}', 400, id="a huge float"),
        pytest.param(b'{"retries": ' + b"9" * 5000 + b"}", 400, id="a huge integer"),
        pytest.param(b'{"retries": 99999999999999999999}', 400, id="an integer beyond 64 bits"),
        pytest.param(DEEP, 400, id="deep nesting"),
        pytest.param(b"[" * 100_000, 400, id="deeper nesting, cut"),
        pytest.param(b'{"name": "a\\u0000b"}', 400, id="NUL in a value"),
        pytest.param(b'{"a\\u0000": 1}', 400, id="NUL in a key"),
        pytest.param(b'{"name": "\\ud800"}', 400, id="half a surrogate"),
        pytest.param(b'{"name": "\xff"}', 400, id="no UTF-8"),
        pytest.param(b"[]", 422, id="a list"),
        pytest.param(b"null", 422, id="null"),
        pytest.param(b'"text"', 422, id="text"),
        pytest.param(b"", 422, id="nothing"),
        pytest.param(b'{"slug": {"a": []}, "type": {}}', 422, id="objects for texts"),
        pytest.param(b'{"slug": "x", "type": "http", "url": []}', 422, id="a list for text"),
        pytest.param(b'{"type":"http","slug":"x","url":"http://[::1"}', 422, id="a broken URL"),
        pytest.param(b'{"' + b"k" * 100_000 + b'": 1, "type": "http"}', 422, id="a long key"),
        pytest.param(b" " * 1_000_001, 413, id="too long"),
    ],
)
async def test_hostile_bodies_are_refused_and_break_nothing(
    server: "Server", data: bytes, status: int
) -> None:
    for method, path in [
        ("POST", "/api/v1/beats"),
        ("PUT", "/api/v1/beats/home?page=shop"),
        ("POST", "/api/v1/check"),
        ("POST", "/api/v1/users"),
    ]:
        answer = await server.call(method, path, data=data)
        assert answer.status == status or (answer.status == 422 and status < 413), (path, answer.body)
        assert answer.body["type"].startswith("https://")


async def test_a_body_without_a_length_is_cut_at_the_cap(server: "Server") -> None:
    async def endless() -> Any:
        for _ in range(200):
            yield b" " * 10_000

    headers = {"Authorization": f"Bearer {server.tokens['installer']}", "Content-Type": "application/json"}
    async with server.session.post(server.url + "/api/v1/beats", data=endless(), headers=headers) as answer:
        assert answer.status == 413


async def test_another_media_type_is_415(server: "Server") -> None:
    answer = await server.call("POST", "/api/v1/beats", data=b"a=b", headers={"Content-Type": "text/plain"})
    assert answer.status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("PUT", "/api/v1/beats", 405),
        ("GET", "/api/v1/beats?limit=0", 422),
        ("GET", "/api/v1/beats?limit=x", 422),
        ("GET", "/api/v1/beats?cursor=zzzz", 400),
        ("GET", "/api/v1/beats?cursor=WzFd", 400),
        ("GET", f"/api/v1/beats?cursor={NUL_CURSOR}", 400),
        ("GET", f"/api/v1/actions?cursor={NAIVE_CURSOR}", 400),
        ("GET", f"/api/v1/audit?cursor={HUGE_CURSOR}", 400),
        ("GET", f"/api/v1/actions?cursor={FIRST_CURSOR}", 400),
        ("GET", f"/api/v1/actions?cursor={LAST_CURSOR}", 400),
        ("GET", "/console/beats/home/runs/run_1?page=shop&at=nan", 422),
        ("GET", "/api/v1/beats?search=%00", 404),
        ("GET", "/api/v1/beats/a%00b", 404),
        ("GET", "/api/v1/beats/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/api/v1/beats/%ff%fe", 404),
        ("GET", "/api/v1/beats/beat_00000000000000000000000000000000", 404),
        ("GET", "/api/v1/beats/home/results?page=shop&kind=odd", 422),
        ("GET", "/api/v1/beats/home/uptime?page=shop&since=100000d", 422),
        ("GET", "/api/v1/incidents?status=odd", 422),
        ("GET", "/api/v1/actions/act_zz", 404),
        ("POST", "/api/v1/deliveries/99999999999999999999999/retry", 422),
    ],
)
async def test_a_wrong_address_is_a_problem(server: "Server", method: str, path: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {server.tokens['installer']}"}
    url = URL(server.url + path, encoded=True)
    async with server.session.request(method, url, headers=headers) as answer:
        body = await answer.json(content_type="application/problem+json")
    assert (answer.status, body["status"]) == (status, status)
    assert body["detail"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/console/login", "email=a%00b&password=x"),
        ("/console/beats/home/pause?page=shop", "for=99999999d"),
        ("/console/beats/home/pause?page=shop", "for=a+while"),
    ],
)
async def test_odd_forms_are_refused_and_are_no_bug(server: "Server", path: str, form: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await server.call("POST", path, data=form.encode(), headers=headers)).status in (400, 422)


async def test_a_pause_ends_in_a_year_there_is(server: "Server") -> None:
    end = {"until": "9999-12-31T23:59:59-12:00"}
    assert (await server.call("POST", "/api/v1/beats/home/pause?page=shop", end)).status == 422


@pytest.mark.parametrize("text", ["00000000019999999999999999999", "1" * 5000, "-1", "1.5", "²"])
def test_a_number_in_a_query_that_is_none_is_the_default(text: str) -> None:
    assert whole(text, 7) == 7


@pytest.mark.parametrize("path", ["//elsewhere.example", "/%5Celsewhere.example", "/%09/elsewhere.example"])
async def test_a_page_that_is_not_there_leads_nowhere_else(server: "Server", path: str) -> None:
    url = URL(server.url + path, encoded=True)
    async with server.session.get(url, headers={"Accept": "text/html"}) as answer:
        assert (answer.status, "elsewhere" in await answer.text()) == (404, False)


async def test_the_form_of_a_new_beat_offers_nothing_of_a_foreign_page(server: "Server") -> None:
    channel = {"slug": "blogs-own", "type": "webhook", "url": "https://hooks.example", "page": "blog"}
    assert (await server.call("POST", "/api/v1/channels", channel)).status == 201
    form, headers = (
        b"target=https%3A%2F%2Fa.example&page=blog&do=save",
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    answer = await server.call("POST", "/console/beats/new", data=form, who="editor", headers=headers)
    assert (answer.status, "blogs-own" in answer.body) == (422, False)


async def test_a_slug_on_several_pages_is_ambiguous_until_the_page_is_said(server: "Server") -> None:
    answer = await server.call("GET", "/api/v1/beats/home")
    assert (answer.status, answer.body["pages"]) == (409, ["blog", "shop"])
    assert (await server.call("GET", "/api/v1/beats/home?page=blog")).body["page"] == "blog"
    # whoever reads only one of the pages never learns of the other
    assert (await server.call("GET", "/api/v1/beats/home", who="viewer")).body["page"] == "shop"


async def test_what_a_file_declares_is_read_only_and_names_its_place(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": "filed", "type": "tcp", "host": "x.example", "port": 1}
        await objects.create(db, Actor("f", "file"), "beat", page.id, spec, source="upbeat.yaml:12")
    for method, body in [("PUT", BEAT | {"slug": "filed"}), ("PATCH", {"name": "x"}), ("DELETE", None)]:
        answer = await server.call(method, "/api/v1/beats/filed", body)
        assert (answer.status, answer.body["source"]) == (409, "upbeat.yaml:12")
        assert "upbeat.yaml:12" in answer.body["detail"]
    assert (await server.call("POST", "/api/v1/beats/filed/pause", {"for": "1h"})).status == 200


async def test_a_taken_slug_and_an_object_in_use_are_409(server: "Server") -> None:
    await _fresh(server, "user", channels=["ops"], components=["site"], regions=["eu"])
    assert (await server.call("POST", "/api/v1/beats", BEAT | {"slug": "user"})).status == 409
    for path in ("/channels/ops?page=shop", "/components/site?page=shop", "/regions/eu", "/pages/shop"):
        answer = await server.call("DELETE", f"/api/v1{path}")
        assert (answer.status, answer.body["type"].rpartition("#")[2]) == (409, "in-use"), path


async def test_a_slug_and_a_page_stay_what_they_are(server: "Server") -> None:
    path = f"/api/v1/beats/{(await _fresh(server, 'stays'))['id']}"
    answers = [await server.call("PATCH", path, change) for change in ({"slug": "moves"}, {"page": "blog"})]
    assert [a.body["errors"][0]["pointer"] for a in answers] == ["/slug", "/page"]


async def test_secrets_are_shown_only_to_who_may_edit_and_kept_when_sent_back(server: "Server") -> None:
    otlp = {"endpoint": "http://c:4318", "headers": {"api-key": "s3cret"}, "tls": {"ca": "pem"}}
    secret = {"headers": {"X-Signature": "Bearer s3cret", "Accept": "text/html"}, "otlp": otlp}
    made = await _fresh(server, "secretive", **secret)
    assert made["headers"] == secret["headers"]
    beat = (await server.call("GET", "/api/v1/beats/secretive", who="viewer")).body
    assert beat["headers"] == {"X-Signature": "***", "Accept": "text/html"}
    assert beat["otlp"] == otlp | {"headers": {"api-key": "***"}, "tls": {"ca": "***"}}
    channel = (await server.call("GET", "/api/v1/channels/ops", who="viewer")).body
    assert channel["url"] == "***"
    assert "secret-path" in (await server.call("GET", "/api/v1/channels/ops", who="editor")).body["url"]
    await server.call(
        "PUT", "/api/v1/beats/secretive", BEAT | {"slug": "secretive"} | {k: beat[k] for k in secret}
    )
    kept = (await server.call("GET", "/api/v1/beats/secretive", who="editor")).body
    assert {k: kept[k] for k in secret} == secret
    audited = (await server.call("GET", "/api/v1/audit?limit=1000")).body["items"]
    assert "s3cret" not in str(audited)


async def test_a_page_editor_cannot_read_the_installations_environment(server: "Server") -> None:
    beat = BEAT | {"slug": "leak", "headers": {"X": "${env:AWS_SECRET}"}}
    answer = await server.call("POST", "/api/v1/beats", beat, who="editor")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/headers/X")
    assert (await server.call("POST", "/api/v1/beats", beat)).status == 201


async def test_a_page_editor_cannot_lead_a_secret_of_the_installation_elsewhere(server: "Server") -> None:
    headers = {"X": "${env:AWS_SECRET}"}
    await _fresh(server, "lent", headers=headers)
    path = "/api/v1/beats/lent"
    for change in ({"url": "https://mine.example/"}, {"headers": {"Host": "mine"}}, {"verify": False}):
        answer = await server.call("PATCH", path, change, who="editor")
        assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, f"/{next(iter(change))}")
    assert (await server.call("PATCH", path, {"interval": "90s"}, who="editor")).status == 200
    assert (await server.call("PATCH", path, {"url": "https://ours.example/"})).status == 200


async def test_pages_of_a_listing_join_without_gap_or_repetition(server: "Server") -> None:
    for number in range(7):
        await _fresh(server, f"many-{number}", tags=["many"])
    path, seen = "/api/v1/beats?tag=many&limit=3", []
    while path:
        answer = await server.call("GET", path)
        seen += [item["slug"] for item in answer.body["items"]]
        link = answer.headers.get("Link", "")
        assert bool(link) == (answer.body["next"] is not None)
        path = link[1 : link.index(">")] if link else ""
    assert seen == [f"many-{n}" for n in range(7)]
    assert all(a < b for a, b in pairwise(seen))


async def test_a_listing_is_searched_by_slug_and_name(server: "Server") -> None:
    await _fresh(server, "needle", name="Kassenhäuschen 100%")
    for text in ("need", "kassenh", "100%25"):
        found = (await server.call("GET", f"/api/v1/beats?search={text}")).body["items"]
        assert [item["slug"] for item in found] == ["needle"], text


async def test_regions_and_pages_belong_to_the_installation(server: "Server") -> None:
    assert (await server.call("POST", "/api/v1/regions", {"slug": "mars"}, who="admin")).status == 403
    assert (await server.call("POST", "/api/v1/pages", {"slug": "p", "name": "P"}, who="admin")).status == 403
    assert (await server.call("PATCH", "/api/v1/pages/shop", {"name": "Shop!"}, who="admin")).status == 200
    assert (await server.call("PATCH", "/api/v1/pages/shop", {"name": "Shop?"}, who="editor")).status == 403
    assert (await server.call("PATCH", "/api/v1/regions/eu", {"name": "EU"}, who="admin")).status == 403


async def test_the_same_idempotency_key_creates_once(server: "Server") -> None:
    body, key = BEAT | {"slug": "once"}, {"Idempotency-Key": "k1"}
    first = await server.call("POST", "/api/v1/beats", body, headers=key)
    again = await server.call("POST", "/api/v1/beats", body, headers=key)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]
    other = await server.call("POST", "/api/v1/beats", BEAT | {"slug": "twice"}, headers=key)
    assert other.status == 422
    theirs = await server.call("POST", "/api/v1/beats", BEAT | {"slug": "mine"}, who="editor", headers=key)
    assert theirs.status == 201


async def test_a_refused_request_does_not_use_up_its_key(server: "Server") -> None:
    key = {"Idempotency-Key": "k2"}
    assert (await server.call("POST", "/api/v1/beats", {"slug": "bad"}, headers=key)).status == 422
    assert (await server.call("POST", "/api/v1/beats", BEAT | {"slug": "good"}, headers=key)).status == 201


async def test_an_answer_with_a_secret_is_not_kept_under_its_key(server: "Server") -> None:
    key = {"Idempotency-Key": "k3"}
    made = await server.call("POST", "/api/v1/tokens", {"name": "t"}, headers=key)
    assert made.status == 201
    assert (await server.call("POST", "/api/v1/tokens", {"name": "t"}, headers=key)).status == 409
    form = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": "k4"}
    shown = await server.call("POST", "/console/tokens", data=b"name=t&scope=read&days=1", headers=form)
    text = re.search(r"upb_\w{36}", shown.body)
    assert text is not None
    kept = await server.services.pool.fetch("SELECT i::text AS row, body FROM idempotency i")
    assert made.body["token"] not in str(kept)
    assert text[0] not in str(kept)


async def test_an_export_is_read_back_as_it_is(server: "Server") -> None:
    await _fresh(server, "exported", assertions=[{"of": "status", "eq": 200}])
    text = (await server.call("GET", "/api/v1/export")).body
    assert "slug: exported" in text
    checked = await server.call("POST", "/api/v1/validate", data=text.encode())
    assert checked.body["valid"] is True or "AWS_SECRET" in str(checked.body["problems"]), checked.body
    assert "blog" not in (await server.call("GET", "/api/v1/export", who="editor")).body


async def test_a_document_with_mistakes_is_told_with_lines(server: "Server") -> None:
    answer = await server.call("POST", "/api/v1/validate", data=b"version: 1\nbeatz: []\n")
    assert answer.body["valid"] is False
    assert answer.body["problems"][0]["line"] == 2


async def test_a_url_is_checked_without_being_saved(server: "Server") -> None:
    answer = await server.call("POST", "/api/v1/check", {"url": "https://shop.example/"}, who="editor")
    assert answer.body == {"verdict": "ok", "beat": "check"}
    slow = await server.call("POST", "/api/v1/check", {"url": "https://x.example/", "timeout": "31s"})
    assert slow.status == 422


async def test_listing_5000_beats_takes_a_constant_number_of_queries_and_300_ms(server: "Server") -> None:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "blog")
        for number in range(5000):
            spec = {"slug": f"bulk-{number:04}", "type": "http", "url": f"https://h{number}.example/"}
            await objects.create(db, Actor("t", "api"), "beat", page.id, spec)
    clock = server.services.clock
    began_s = clock.monotonic_s()
    answer = await server.call("GET", "/api/v1/beats?limit=100&search=bulk")
    took_s = clock.monotonic_s() - began_s
    assert len(answer.body["items"]) == 100
    assert took_s < 0.3
    few, many = [await _queries(server, limit) for limit in (5, 500)]
    assert few == many


async def _queries(server: "Server", limit: int) -> int:
    asked: list[str] = []
    everything = Principal("t", "api", None, {None: "admin"})
    async with server.services.pool.acquire() as db:
        with db.query_logger(lambda query: asked.append(query.query)):
            found = await objects.listing(db, "beat", limit=limit)
            assert len(await shown(server.services, db, everything, "beat", found)) == limit
    return len(asked)
