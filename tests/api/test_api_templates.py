"""Templates through the API: what they may name, presets, and what customers would read of what was last seen."""

from typing import TYPE_CHECKING, Any

import pytest

from engine.store import objects, reviews
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.objects import Stored
from evaluators.facts import EpisodeOpened, StepProposed
from rules.template import FILTERS, VARIABLES
from rules.wording import VARIANTS, presets

if TYPE_CHECKING:
    from tests.api.conftest import Server

ACTOR = Actor("t", "api")


async def made(server: "Server", kind: Any, **spec: Any) -> Stored:
    async with transaction(server.services.pool) as db:
        page = await objects.find(db, "page", "shop")
        return await objects.create(db, ACTOR, kind, page.id, {"slug": f"x-{new_id().hex[-8:]}", **spec})


@pytest.fixture
async def beat(server: "Server") -> Stored:
    return await made(
        server, "beat", type="tcp", host="x.example", port=1, components={"site": {}}, name="Tills"
    )


async def rendered(server: "Server", body: dict[str, Any], who: str = "viewer") -> dict[str, Any]:
    answer = await server.call("POST", "/api/v1/templates/preview", body, who=who)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.body
    return found


async def test_variables_filters_and_presets_are_told(server: "Server") -> None:
    told = (await server.call("GET", "/api/v1/templates/variables", who="viewer")).body
    assert (set(told["variables"]), set(told["filters"])) == (set(VARIABLES), set(FILTERS))
    known = (await server.call("GET", "/api/v1/templates/presets", who="viewer")).body["items"]
    assert [one["slug"] for one in known] == list(presets())


async def test_where_nothing_was_seen_a_sample_is_marked_as_one(server: "Server", beat: Stored) -> None:
    told = await rendered(server, {"beat": beat.slug, "page": "shop", "templates": {"open": "outage"}})
    assert (told["is_sample"], told["episode"], told["owner"]) == (True, None, beat.slug)
    assert [step["step"] for step in told["steps"]] == list(VARIANTS)
    first = told["steps"][0]
    assert (first["title"], first["title_of"], first["text_of"]) == ("Outage: Site", "beat", "beat")
    assert told["steps"][-1]["text_of"] == "default"


async def test_real_evidence_is_what_it_was_and_publishers_show_what_they_cut(
    server: "Server", beat: Stored
) -> None:
    at = server.services.clock.epoch_s()
    small = {"type": "statusapi", "url": "http://127.0.0.1:9/", "key": "k", "components": {"site": "1"}}
    publisher = await made(server, "publisher", **small)
    async with transaction(server.services.pool) as db:
        await reviews.open_episodes(db, [(beat, EpisodeOpened(at, 1, "warning"))])
        error = {"type": "tls.expired", "message": "secret words of the target"}
        evidence = [{"region": "eu", "verdict": "warning", "run": "run_1", "error": error}]
        await reviews.propose(
            db, [reviews.Proposal(beat.id, 1, StepProposed(at, "open", "warning"), evidence)]
        )
    text = "**{{ what }}** in {{ regions|join }}: {{ evidence }}. <script>alert(1)</script>"
    asked = {
        "beat": str(beat.slug),
        "templates": {"open": {"title": "t" * 150, "text": text, "format": "markdown"}},
        "step": "open",
    }
    told = await rendered(server, asked)
    (step,) = told["steps"]
    assert (told["is_sample"], told["severity"]) == (False, "warning")
    assert step["text"].startswith("**Site** in eu: no secure connection.")
    assert "<strong>Site</strong>" in step["html"]
    assert "<script" not in step["html"]
    (there,) = [one for one in step["targets"] if one["target"] == publisher.slug]
    assert there["text"].startswith("Site in eu: no secure")
    assert (there["title"], there["is_cut"]) == ("t" * 119 + "…", True)
    assert there["notes"][:2] == [
        "the title is cut to 120 characters",
        "it shows no Markdown: the text is sent plain",
    ]
    assert (await rendered(server, asked | {"episode": told["episode"]}))["steps"] == told["steps"]
    await server.call("DELETE", f"/api/v1/publishers/{publisher.slug}")


async def test_a_page_and_a_trigger_speak_by_their_own_templates(server: "Server", beat: Stored) -> None:
    templates = {"resolve": {"text": "{{ page.name }}: {{ what }} is well"}}
    told = await rendered(server, {"page": "shop", "templates": templates, "step": "resolve"})
    assert (told["steps"][0]["text_of"], told["steps"][0]["text"][:5]) == ("page", "Shop:")
    inbox = await made(server, "inbox")
    trigger = await made(
        server,
        "trigger",
        inbox=inbox.slug,
        fingerprint="single",
        critical=True,
        recovery=False,
        values={"city": "$.city"},
        publish=["city"],
        target={"beat": beat.slug},
        templates={"open": {"text": "In {{ captures.city }}"}},
    )
    (step,) = (await rendered(server, {"trigger": trigger.slug, "step": "open"}))["steps"]
    assert (step["text"], step["text_of"]) == ("In [city]", "trigger")


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        ({}, "", "name one of"),
        ({"beat": "home", "group": "x"}, "", "name one of"),
        (
            {"beat": "home", "templates": {"open": {"text": "{{ 7*7 }}"}}},
            "/templates/open/text",
            "arithmetic",
        ),
        ({"beat": "home", "templates": {"open": "outge"}}, "/templates/open", "did you mean outage"),
    ],
)
async def test_what_is_not_allowed_is_told_with_its_place(
    server: "Server", body: dict[str, Any], pointer: str, message: str
) -> None:
    answer = await server.call("POST", "/api/v1/templates/preview", body)
    assert answer.status == 422, answer.body
    (error,) = answer.body["errors"]
    assert error["pointer"] == pointer
    assert message in error["message"]


async def test_an_episode_of_another_is_not_there(server: "Server", beat: Stored) -> None:
    body = {"beat": beat.slug, "episode": "eps_01890a5d-ac96-774b-bcce-b302099a8057"}
    assert (await server.call("POST", "/api/v1/templates/preview", body)).status == 404


async def test_a_bad_template_is_not_saved(server: "Server", beat: Stored) -> None:
    body = {"templates": {"open": {"text": "{{ what|center(9) }}"}}}
    answer = await server.call("PATCH", f"/api/v1/beats/{beat.slug}", body)
    assert (answer.status, answer.body["errors"][0]["pointer"]) == (422, "/templates/open/text")
