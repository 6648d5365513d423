"""Stored secrets by REST: written and never read, each page's its own; and what of the machine may be referred to."""

from typing import TYPE_CHECKING, Any

import pytest

from rules.settings import Lending

if TYPE_CHECKING:
    from tests.api.conftest import Server

PATH = "/api/v1/secrets/TOKEN"
BEAT: dict[str, Any] = {"type": "http", "url": "https://shop.example/", "page": "shop"}
_FILES = {"files": {"${env:HOME}": {"filename": "a", "content": "x"}}}


@pytest.fixture(autouse=True)
async def _none_stored(server: "Server") -> None:
    await server.services.pool.execute("DELETE FROM secrets")


async def test_a_value_goes_in_and_never_comes_out(server: "Server") -> None:
    first = await server.call("PUT", PATH, {"value": "canary7731"}, who="editor")
    assert (first.status, first.body["page"], first.body["revision"]) == (200, "shop", 1)
    again = await server.call("PUT", PATH, {"value": "canary7732"}, who="editor")
    assert again.body["revision"] == 2
    (listed,) = (await server.call("GET", "/api/v1/secrets", who="editor")).body["items"]
    assert listed == again.body
    assert listed.keys() == {"name", "page", "revision", "updated_at", "updated_by", "used_by"}
    audited = (await server.call("GET", "/api/v1/audit?limit=1000")).body
    assert [line["verb"] for line in audited["items"][:2]] == ["secret.store"] * 2
    rows = await server.services.pool.fetch("SELECT * FROM secrets")
    assert "canary" not in f"{first.body}{again.body}{audited}{rows}"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (PATH, {"value": "short"}, "/value"),
        (PATH, {"value": "x" * 70_000}, "/value"),
        (PATH, {}, "/value"),
        ("/api/v1/secrets/-x", {"value": "long enough"}, "/name"),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    server: "Server", path: str, body: dict[str, str], pointer: str
) -> None:
    answer = await server.call("PUT", path, body, who="editor")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, pointer)


async def test_each_page_has_its_own_and_the_installations_are_its_admins(server: "Server") -> None:
    assert (await server.call("PUT", PATH, {"value": "of the shop"}, who="editor")).status == 200
    assert (await server.call("PUT", PATH, {"value": "of the blog"}, who="other")).body["page"] == "blog"
    assert (await server.call("PUT", f"{PATH}?page=shop", {"value": "stolen"}, who="other")).status == 404
    assert (await server.call("PUT", PATH, {"value": "whose?"})).status == 409  # of two pages
    assert (
        await server.call("PUT", f"{PATH}?installation=true", {"value": "of all"}, who="admin")
    ).status == 403
    assert (await server.call("PUT", f"{PATH}?installation=true", {"value": "of all"})).status == 200
    listed = (await server.call("GET", "/api/v1/secrets")).body["items"]
    assert [kept["page"] for kept in listed] == [None, "shop", "blog"]
    assert len((await server.call("GET", "/api/v1/secrets", who="editor")).body["items"]) == 1
    assert (await server.call("DELETE", f"{PATH}?page=blog", who="editor")).status == 404


async def test_a_secret_is_referred_to_on_its_page_and_not_forgotten_while_it_is(server: "Server") -> None:
    beat = BEAT | {"slug": "sealed", "headers": {"X": "${secret:TOKEN}"}}
    answer = await server.call("POST", "/api/v1/beats", beat, who="editor")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/headers/X")
    assert "upbeat secrets set TOKEN" in answer.body["detail"]
    await server.call("PUT", PATH, {"value": "canary7731"}, who="editor")
    assert (await server.call("POST", "/api/v1/beats", beat, who="editor")).status == 201
    answer = await server.call("DELETE", PATH, who="editor")
    assert (answer.status, "beat shop/sealed" in answer.body["detail"]) == (409, True)
    assert (await server.call("DELETE", f"{PATH}?force=true", who="editor")).status == 204
    assert (await server.call("DELETE", "/api/v1/beats/sealed", who="editor")).status == 204


async def test_a_page_editor_does_not_reach_the_installations_secret(server: "Server") -> None:
    await server.call("PUT", f"{PATH}?installation=true", {"value": "of all of us"})
    beat = BEAT | {"slug": "reach", "headers": {"X": "${secret:/TOKEN}"}}
    answer = await server.call("POST", "/api/v1/beats", beat, who="editor")
    assert (answer.status, "the installation's" in answer.body["detail"]) == (422, True)
    answer = await server.call("POST", "/api/v1/check", beat, who="editor")
    assert answer.status == 422
    assert (await server.call("POST", "/api/v1/beats", beat, who="installation")).status == 201
    await server.call("DELETE", "/api/v1/beats/reach")


@pytest.mark.parametrize("page", ["nowhere", "blog"])
async def test_a_check_of_another_page_does_not_reach_its_secrets_nor_the_installations(
    server: "Server", page: str
) -> None:
    await server.call("PUT", f"{PATH}?installation=true", {"value": "of all of us"})
    await server.call("PUT", PATH, {"value": "of the blog"}, who="other")
    beat = {"url": "https://mine.example/", "headers": {"X": "${secret:TOKEN}"}, "page": page}
    answer = await server.call("POST", "/api/v1/check", beat, who="editor")
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/page")


async def test_the_secrets_of_a_page_go_with_it(server: "Server") -> None:
    await server.call("POST", "/api/v1/pages", {"slug": "gone", "name": "Gone"})
    assert (await server.call("PUT", f"{PATH}?page=gone", {"value": "canary7731"})).status == 200
    assert (await server.call("DELETE", "/api/v1/pages/gone")).status == 204
    assert (await server.call("GET", "/api/v1/secrets")).body["items"] == []


async def test_a_key_holds_no_reference(server: "Server") -> None:
    for carried in ({"json": {"a": {"${env:HOME}": 1}}}, {"form": {"${env:HOME}": "x"}}, _FILES):
        beat = BEAT | {"slug": "keys", "method": "POST"} | carried
        for path in ("/api/v1/beats", "/api/v1/check"):
            answer = await server.call("POST", path, beat, who="editor")
            assert (answer.status, "stand in values" in answer.body["detail"]) == (422, True)


@pytest.mark.parametrize(
    "reference", ["${env:AWS_SECRET_ACCESS_KEY}", "${file:/root/key}", "${env:UPBEAT_ADMIN_TOKEN}"]
)
async def test_nobody_but_the_operator_sends_away_what_is_on_the_machine(
    server: "Server", reference: str
) -> None:
    beat = BEAT | {"slug": "away", "headers": {"X": reference}}
    answers = [
        await server.call("POST", "/api/v1/beats", beat, who=who) for who in ("editor", "installation")
    ]
    assert [(a.status, a.body["errors"][0]["pointer"]) for a in answers] == [(422, "/headers/X")] * 2
    if "UPBEAT_" in reference:
        assert (await server.call("POST", "/api/v1/beats", beat)).status == 422
        return
    assert "list it in upbeat.yaml as `secrets: {" in answers[1].body["detail"]
    assert (await server.call("POST", "/api/v1/beats", beat)).status == 201
    lead = await server.call(
        "PATCH", "/api/v1/beats/away", {"url": "https://mine.example/"}, who="installation"
    )
    assert (lead.status, lead.body["errors"][0]["pointer"]) == (422, "/url")
    await server.call("DELETE", "/api/v1/beats/away")


async def test_what_is_listed_is_lent_to_editors_of_everything(server: "Server") -> None:
    server.services.secrets.lending = Lending(env=["SHOP_*"], files=["/run/secrets"])
    beat = BEAT | {"slug": "lent-out", "headers": {"X": "${env:SHOP_TOKEN}${file:/run/secrets/shop}"}}
    try:
        assert (await server.call("POST", "/api/v1/beats", beat, who="editor")).status == 422
        assert (await server.call("POST", "/api/v1/beats", beat, who="installation")).status == 201
    finally:
        server.services.secrets.lending = Lending()
        await server.call("DELETE", "/api/v1/beats/lent-out")


async def test_a_document_is_validated_without_telling_what_is_on_the_machine(server: "Server") -> None:
    text = "beats: [{slug: x, type: http, url: 'http://h/', headers: {A: '${file:/etc/shadow}${env:NONE}${secret:S}'}}]"
    answer = await server.call(
        "POST", "/api/v1/validate", data=text.encode(), headers={"Content-Type": "text/yaml"}
    )
    assert answer.body == {"valid": True, "problems": [], "objects": 3}
