"""What the console shows of a journey, from evidence that somebody else wrote: cut, wrong or hostile, it is a page all the same."""

import json
import re
from base64 import b64encode
from html import unescape
from typing import TYPE_CHECKING, Any

from msgspec import structs

from api.artifacts import of_result
from api.console.journeys import MOST_REQUESTS, MOST_TRIED, courses, failing, laid_out, network, tried
from engine.store import episodes
from engine.store.ids import new_id, show
from tests.api.console.conftest import grouped, happened, outage
from tests.api.console.journey import FILES, SEEN, STEPS, journey_beat, recorded, travelled

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person, SignIn


def text_of(html: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def journeyed(**more: Any) -> dict[str, Any]:
    """Evidence of a journey, with other parts."""
    steps, documents = ([structs.asdict(one) for one in many] for many in (STEPS, SEEN.documents))
    return {"journey": structs.asdict(SEEN) | {"steps": steps, "documents": documents} | more}


async def test_the_failing_step_comes_first_then_the_strip_the_steps_and_the_rest(
    server: "Server", admin: "Person"
) -> None:
    beat = await journey_beat(server)
    _, url = await travelled(server, beat)
    page = await admin.get(url)
    assert page.status == 200, page.html
    text = text_of(page.html)
    after = 0
    for part in (
        "Failed at pay",
        'click button "Pay now"',
        "https://shop.example/cart",
        "Film strip",
        "step-3.jpg is on its way",
        "Skipped.",
        "Add to cart",
        "teardown",
        "needs improvement",
        "Chromium 156.0.8078.79",
        "bubblewrap",
        "npx playwright show-trace",
        "ERR_CONNECTION_REFUSED",
        "log ready",
        "/cart?a=1",
        "<main><h1>Your cart",
    ):
        after = text.index(part, after)
    assert "&lt;main&gt;&lt;h1&gt;Your cart" in page.html


async def test_who_may_not_read_the_beat_is_shown_nothing_of_its_runs(
    server: "Server", sign_in: "SignIn"
) -> None:
    beat = await journey_beat(server)
    _, url = await travelled(server, beat)
    assert (await (await sign_in("viewer@blog")).get(url)).status == 404


async def test_the_episode_of_a_group_shows_how_each_browser_in_it_failed_last_in_each_region(
    server: "Server", admin: "Person"
) -> None:
    slug = f"buying-{new_id().hex[-6:]}"
    group = await grouped(server.services, slug, {f"db-{slug}": outage()})
    beats = [await journey_beat(server, group=slug) for _ in range(2)]
    for beat in beats:
        await happened(server.services, beat, outage(), str(group.id))
    _, older = await travelled(server, beats[0], ago=30.0)
    _, newer = await travelled(server, beats[0])
    _, there = await travelled(server, beats[0], region="us")
    _, other = await travelled(server, beats[1])
    async with server.services.pool.acquire() as db:
        (episode,) = await episodes.listing(db, owner=group.id)
    page = await admin.get(f"/console/episodes/{show('episode', episode['id'])}")
    shown = (
        re.findall(r'class="thumb"', page.html),
        [unescape(page.html).count(f'href="{url}"') for url in (older, newer, there, other)],
    )
    assert (len(shown[0]), shown[1]) == (3, [0, 2, 2, 2])
    assert f"{beats[0].slug} in us, " in text_of(page.html)


def test_a_hard_failure_is_the_failing_step_also_after_a_soft_one() -> None:
    soft = structs.replace(STEPS[0], state="failed", is_soft=True)
    steps = [structs.asdict(one) for one in (soft, *STEPS[1:])]
    assert (failing({"journey": {"steps": steps}}) or {})["name"] == "pay"
    assert (failing({"journey": {"steps": steps[:1]}}) or {})["name"] == "open"
    assert failing({"journey": {"steps": []}}) is None


def test_what_was_cut_or_is_of_another_type_is_left_out() -> None:
    cut = journeyed(
        steps=[*journeyed()["journey"]["steps"][:1], {"name": 4, "state": "<b>", "took_s": "x", "after_s": True}, "[9 more]"],
        documents=[{"url": "https://x.example", "lcp": "2", "cls": float("nan")}, None],
        console="… [4000 characters, cut]",
        failures=[1, "GET x"],
        requests="many",
        weight_bytes=10**400,
        browser=None,
    )  # fmt: skip
    shown = laid_out(cut, [{"name": "failure.jpg", "type": "image/jpeg", "href": None, "state": "gone"}], {})
    assert shown is not None
    assert [step["state"] for step in shown["steps"]] == ["ok", "unknown"]
    assert shown["documents"][0]["vitals"]["lcp"][0] is None
    assert [shown[key] for key in ("errors", "failures", "requests", "weight_bytes")] == [
        [],
        ["GET x"],
        0.0,
        0.0,
    ]
    assert (shown["failure"].name, shown["failure"].url) == ("failure.jpg", None)
    for nothing in (None, {}, {"journey": "… cut"}):
        assert laid_out(nothing, [], {}) is None


def test_files_of_another_shape_are_none() -> None:
    said = {"name": "a.jpg", "type": "image/jpeg", "size_bytes": 1}
    rows = [
        said,
        said | {"name": ["x"]},
        said | {"type": None},
        said | {"size_bytes": {}},
        said | {"size_bytes": 10**400},
        {"name": "b"},
        4,
    ]
    row: Any = {"run_id": new_id(), "beat_id": new_id(), "is_new": True, "evidence": {"artifacts": rows}}
    assert [one["name"] for one in of_result(row)] == ["a.jpg"]


def test_what_says_that_it_is_a_picture_and_has_another_type_is_none() -> None:
    rows = [{"name": "step-1.jpg", "type": "text/html", "href": "/x", "state": "kept"}]
    shown = laid_out(journeyed(), rows, {})
    assert shown is not None
    assert shown["steps"][0]["picture"].url is None


def test_vitals_are_judged_by_their_common_thresholds() -> None:
    given = {"url": "x", "step": "y", "lcp": 2.5, "cls": 0.11, "fcp": 3.1, "ttfb": None}
    (document,) = (laid_out(journeyed(documents=[given]), [], {}) or {})["documents"]
    words = {name: word for name, (value, _, word) in document["vitals"].items() if value is not None}
    assert words == {"lcp": "good", "cls": "needs improvement", "fcp": "poor"}


def test_steps_are_bars_on_one_time_line() -> None:
    steps = (laid_out(journeyed(), [], {}) or {})["steps"]
    (open_bar,), (pay_bar,), (out_bar,) = (steps[n]["parts"] for n in (0, 2, 4))
    assert (open_bar.x, round(pay_bar.x, 1), round(out_bar.x + out_bar.width)) == (0, 17.5, 100)


def test_requests_are_lanes_on_the_scale_of_all_of_them() -> None:
    first, last = network(
        recorded(("https://a.example/x?y=1", 200), ("https://u:p@b.example/" + "z" * 900, 0))
    )["lanes"]
    assert (first["host"], first["path"], first["status"], first["size_bytes"]) == (
        "a.example",
        "/x?y=1",
        200,
        812,
    )
    assert [(part.phase, round(part.seconds, 3)) for part in first["parts"]] == [
        ("dns", 0.005),
        ("connect", 0.03),
        ("tls", 0.02),
        ("ttfb", 0.101),
        ("transfer", 0.044),
    ]
    assert (last["host"], last["status"], len(last["path"])) == ("b.example", None, 161)
    assert last["parts"][0].x > 30
    (plain,) = network(recorded(("http://a.example/", 200)))["lanes"]
    assert [(part.phase, round(part.seconds, 3)) for part in plain["parts"]][1] == ("connect", 0.05)
    assert network(recorded()) == {"lanes": [], "left": 0, "wrong": None}


def test_an_archive_that_is_none_is_said_to_be_none() -> None:
    entry = json.loads(recorded(("https://a.example/", 200)))["log"]["entries"][0]
    strange = [
        entry | {"startedDateTime": when, "time": time, "request": {"method": "G" * 99, "url": url}}
        for when, time, url in (
            ("0001-01-01T00:00:00Z", 1e300, "http://["),
            ("9999-12-31T23:59:59+14:00", -5, "javascript:xss()"),
        )
    ]
    assert len(network(json.dumps({"log": {"entries": strange}}).encode())["lanes"]) == 2
    bad: list[Any] = [
        {"log": {"entries": [entry | {"time": "x"}]}},
        {"log": 4},
        [],
        {"log": {"entries": [[]]}},
    ]
    for har in (*(json.dumps(one).encode() for one in bad), b"", b"\xff\xfe", b'{"x":' + b"[" * 100_000):
        found = network(har)
        assert found["wrong"], har[:60]
        assert len(found["wrong"]) <= 160
    assert "4001 requests; at most 4000" in network(b'"startedDateTime"' * 4001)["wrong"]
    many = network(recorded(*[("https://a.example/", 200)] * 599))
    assert (len(many["lanes"]), many["left"]) == (MOST_REQUESTS, 99)


def test_what_is_only_tried_has_its_pictures_in_the_page_as_far_as_they_are_small() -> None:
    given = [{"name": one.name, "type": one.type, "data": b64encode(one.data).decode()} for one in FILES]
    large = {"name": "step-2.jpg", "type": "image/jpeg", "data": "A" * MOST_TRIED}
    shown = tried({"evidence": journeyed(), "artifacts": [*given[:2], large]})
    assert shown is not None
    assert shown["failure"].url.startswith("data:image/jpeg;base64,")
    assert [step["picture"].url is not None for step in shown["steps"][:2]] == [True, False]
    assert shown["files"] == []
    assert tried({"evidence": {"status": 200}}) is None


def test_the_course_of_a_step_is_what_it_took_when_it_was_done() -> None:
    runs: list[dict[str, Any]] = [
        {"evidence": journeyed()},
        {"evidence": None},
        {"evidence": journeyed(steps=[structs.asdict(STEPS[0]) | {"took_s": 9.0}])},
    ]
    found = {name: rest for name, *rest in courses(runs)}
    assert found["open"] == [[9.0, 0.8], "800 ms", "9.00 s"]  # the oldest first
    assert "pay" not in found
    assert found["LCP"] == [[4.4, 4.4], "4.40 s", "4.40 s"]
    assert found["CLS"] == [[0.31, 0.31], "0.310", "0.310"]
