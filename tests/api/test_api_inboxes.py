"""Inboxes, received events and triggers under /api/v1, over real ingest and real judging."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from api import received
from api import shown_triggers as shapes
from engine.store import inboxes, objects, records, triggers
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.triggering import Triggering
from rules.trigger import Trigger
from tests.api.conftest import INSTALLER

if TYPE_CHECKING:
    from tests.api.conftest import Answer, Server

CANARY = "cnry" + "0a1b2c3d4e5f"
INGEST = "/api/v1/external-events/ingest"
RULE: dict[str, Any] = {
    "slug": "shop-down",
    "inbox": "alerts",
    "page": "shop",
    "enabled": True,
    "critical": {"value": "$.status", "eq": "firing"},
    "recovery": {"value": "$.status", "eq": "resolved"},
    "fingerprint": "{$.host}",
    "message": "{$.summary} {$.password}",
    "target": {"external": "outside"},
}


class Inbox:
    """An inbox with its token, over which what is posted is judged."""

    def __init__(self, server: "Server", token: str) -> None:
        self.server, self.token = server, token

    async def post(self, body: Any, headers: dict[str, str] | None = None) -> str:
        """Deliver `body` as a sender does. The event's id."""
        sent = {"X-External-Event-Token": self.token} | (headers or {})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.server.call("POST", INGEST, data=data, headers=sent, who=None)
        assert answer.status == 202, answer.body
        event: str = answer.body["id"]
        return event

    async def judged(self, event: str) -> dict[str, Any]:
        """The event once it was judged."""
        shown: dict[str, Any] = {}
        for _ in range(600):
            shown = (await self.server.call("GET", f"/api/v1/events/{event}")).body
            if shown["verdict"] != "waiting":
                break
            await asyncio.sleep(0.05)
        assert shown["verdict"] != "waiting"
        return shown


@pytest.fixture(scope="module")
async def inbox(server: "Server") -> AsyncIterator[Inbox]:
    made = await server.call(
        "POST", "/api/v1/inboxes", {"slug": "alerts", "page": "shop", "redact": ["$.customer"]}
    )
    assert made.status == 201, made.body
    made_rule = await server.call("POST", "/api/v1/triggers", RULE)
    assert made_rule.status == 201, made_rule.body
    triggering = Triggering(server.services.pool, server.services.bus, holder="test")
    working = asyncio.create_task(triggering.run())
    yield Inbox(server, made.body["token"])
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def _call(server: "Server", status: int, method: str, path: str, body: Any = None, **more: Any) -> Any:
    answer: Answer = await server.call(method, f"/api/v1{path}", body, **more)
    assert answer.status == status, answer.body
    return answer.body


# ---- tokens


async def test_a_new_inbox_tells_its_token_once(server: "Server") -> None:
    made = await _call(
        server, 201, "POST", "/inboxes", {"slug": "once", "page": "shop"}, headers={"Idempotency-Key": "k1"}
    )
    assert made["token"].startswith("upi_")
    assert made["tokens"][0]["hint"] == made["token"][-4:]
    assert made["events_24h"] == 0
    again = await server.call(
        "POST", "/api/v1/inboxes", {"slug": "once", "page": "shop"}, headers={"Idempotency-Key": "k1"}
    )
    assert again.status == 409
    shown = await _call(server, 200, "GET", "/inboxes/once")
    assert "token" not in shown
    kept = await server.services.pool.fetch("SELECT body FROM idempotency WHERE key = 'k1'")
    assert all(row["body"] is None for row in kept)


async def _fails(*_: object) -> None:
    raise OSError("the database is away")


async def test_an_inbox_is_made_with_its_token_or_not_at_all(
    server: "Server", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inboxes, "issue_token", _fails)
    await _call(server, 503, "POST", "/inboxes", {"slug": "halfway", "page": "shop"})
    await _call(server, 404, "GET", "/inboxes/halfway")


async def test_two_tokens_open_an_inbox_while_it_is_rotated(server: "Server") -> None:
    old = (await _call(server, 201, "POST", "/inboxes", {"slug": "turned", "page": "shop"}))["token"]
    new = await _call(server, 201, "POST", "/inboxes/turned/token", {"overlap": "1h"}, who="editor")
    assert new["expires_at"]
    assert new["ingest_url"].endswith("/" + new["token"])
    for token in (old, new["token"]):
        await Inbox(server, token).post({"a": 1})
    tokens = (await _call(server, 200, "GET", "/inboxes/turned"))["tokens"]
    assert [token["hint"] for token in tokens] == [new["token"][-4:], old[-4:]]
    await _call(server, 204, "DELETE", f"/inboxes/turned/tokens/{tokens[1]['id']}", who="editor")
    await _call(server, 404, "DELETE", f"/inboxes/turned/tokens/{tokens[1]['id']}", who="editor")
    status = 0
    while status != 401:  # who takes events in remembers it for a second
        await asyncio.sleep(0.05)
        sent = {"X-External-Event-Token": old}
        status = (await server.call("POST", INGEST, {}, headers=sent, who=None)).status
    audit = await _call(server, 200, "GET", "/audit?limit=20")
    verbs = [line["verb"] for line in audit["items"] if line["object"] == "turned"]
    assert verbs == ["inbox.revoke_token", "inbox.issue_token", "inbox.issue_token", "inbox.create"]
    assert old not in json.dumps(audit)
    assert new["token"] not in json.dumps(audit)


async def test_what_is_shown_can_be_sent_back(server: "Server", inbox: Inbox) -> None:
    for path in ("/inboxes/alerts", "/triggers/shop-down"):
        shown = await _call(server, 200, "GET", path)
        again = await _call(server, 200, "PUT", path, shown)
        assert again["revision"] == shown["revision"]


# ---- events


SECRETS: dict[str, Any] = {
    "status": "firing",
    "host": "web-1",
    "summary": "<script>alert(1)</script>",
    "password": CANARY,
    "customer": {"mail": "a@b.example", "pin": CANARY[::-1]},
    "nested": json.dumps({"token": CANARY}),
    "link": f"https://bob:{CANARY}@shop.example/?api_key={CANARY}",
}


async def test_no_secret_is_in_any_answer_but_raw(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post(SECRETS, {"X-Api-Key": CANARY, "X-Kind": "alert"})
    shown = await inbox.judged(event)
    assert shown["document"]["host"] == "web-1"
    assert shown["document"]["customer"] == {"mail": "***", "pin": "***"}
    assert {"$.password", "$.customer.mail", "$.nested", "$.link"} <= set(shown["hidden"])
    assert shown["unwrappable"] == ["$.nested"]
    assert shown["outcomes"][0]["kind"] == "opened"
    answers = [json.dumps(shown)]
    for who in ("viewer", "installer"):
        for path in (
            f"/events/{event}",
            f"/events/{event}/trace?trigger=shop-down",
            "/inboxes/alerts/events",
            f"/inboxes/alerts/events?search={CANARY}",
            "/inboxes/alerts",
            "/triggers/shop-down/signals",
            "/triggers/shop-down/record",
            "/audit",
        ):
            answer = await server.call("GET", f"/api/v1{path}", who=who)
            assert answer.status == 200 or path == "/audit", answer.body
            answers.append(json.dumps(answer.body))
    answers.append(json.dumps(await _call(server, 200, "POST", f"/events/{event}/detect", who="viewer")))
    for text in answers:
        assert CANARY not in text
        assert CANARY[::-1] not in text
    assert (await _call(server, 200, "GET", f"/inboxes/alerts/events?search={CANARY}"))["items"] == []


async def test_the_raw_bytes_are_for_admins_and_in_the_audit_log(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post(SECRETS)
    for who, status in (("viewer", 403), ("editor", 403), ("other", 403), ("writer", 403), ("admin", 200)):
        assert (await server.call("GET", f"/api/v1/events/{event}/raw", who=who)).status == status, who
    answer = await server.call("GET", f"/api/v1/events/{event}/raw", who="admin")
    assert json.loads(answer.body) == SECRETS
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "attachment" in answer.headers["Content-Disposition"]
    line = (await _call(server, 200, "GET", "/audit?limit=1"))["items"][0]
    assert (line["verb"], line["object"]) == ("event.read_raw", event)


async def test_an_event_of_a_foreign_page_is_not_there(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post({"a": 1})
    for method, path in (
        ("GET", f"/events/{event}"),
        ("GET", f"/events/{event}/trace?trigger=shop-down"),
        ("POST", f"/events/{event}/detect"),
        ("GET", "/inboxes/alerts/events"),
        ("POST", "/inboxes/alerts/fire"),
        ("POST", "/inboxes/alerts/token"),
        ("GET", "/triggers/shop-down/versions"),
        ("GET", "/triggers/shop-down/signals"),
        ("GET", "/triggers/shop-down/record"),
    ):
        await _call(server, 404, method, path, None if method == "GET" else {}, who="other")


async def test_a_viewer_changes_nothing(server: "Server", inbox: Inbox) -> None:
    for path, body in (
        ("/inboxes/alerts/fire", {"body": {}}),
        ("/inboxes/alerts/token", {}),
        ("/triggers/shop-down/signals/end", {"fingerprint": "x"}),
        ("/triggers/shop-down/promote", {"steps": ["open"], "record": "x"}),
    ):
        await _call(server, 403, "POST", path, body, who="viewer")


async def test_a_trace_says_which_condition_saw_what(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post({"status": "strange", "host": "web-2"})
    assert (await inbox.judged(event))["verdict"] == "ignored"
    trace = await _call(server, 200, "GET", f"/events/{event}/trace?trigger=shop-down", who="viewer")
    (item,) = trace["items"]
    assert (item["says"], item["ignored"]) == (None, "unmapped")
    step = next(step for step in item["trace"] if step["part"] == "critical")
    assert (step["of"], step["wanted"], step["holds"]) == ("$.status", "is firing", False)
    await _call(server, 404, "GET", f"/events/{event}/trace?trigger=none-such")
    await _call(server, 422, "GET", f"/events/{event}/trace")


async def test_a_trace_says_that_the_value_before_is_not_kept(server: "Server", inbox: Inbox) -> None:
    rule = RULE | {"slug": "moved", "critical": {"value": "$.status", "changed": True}, "recovery": False}
    await _call(server, 201, "POST", "/triggers", rule)
    event = await inbox.post({"status": "strange", "host": "web-3"})
    await inbox.judged(event)
    trace = await _call(server, 200, "GET", f"/events/{event}/trace?trigger=moved")
    notes = [step["note"] for step in trace["items"][0]["trace"] if step["wanted"] == "has changed"]
    assert notes == ["the value before is not kept"]


async def test_events_are_found_by_what_came_with_them(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post(
        {"note": 'Ünusual needle "quoted"', "host": "web-9", "status": "firing"},
        {"X-Github-Delivery": "delivery-77"},
    )
    await inbox.judged(event)
    for search in (
        "%C3%9Cnusual",
        "needle %22quoted%22",
        "usual NEEDLE",
        "delivery-77",
        "x-github",
        event,
        "web-9",
    ):
        found = await _call(server, 200, "GET", f"/inboxes/alerts/events?search={search}", who="viewer")
        assert [item["id"] for item in found["items"]] == [event], search
    for filters, count in (
        ("verdict=matched&trigger=shop-down&search=web-9", 1),
        ("verdict=error&search=web-9", 0),
        ("until=1h&search=web-9", 0),
        ("since=1h&search=web-9", 1),
    ):
        found = await _call(server, 200, "GET", f"/inboxes/alerts/events?{filters}")
        assert len(found["items"]) == count, filters
    await _call(server, 422, "GET", "/inboxes/alerts/events?since=yesterday")
    await _call(server, 422, "GET", "/inboxes/alerts/events?verdict=odd")


async def test_events_come_in_pages_filtered_or_not(server: "Server", inbox: Inbox) -> None:
    events = [await inbox.post({"page": "of-pages", "n": n}) for n in range(5)]
    for query in ("search=of-pages", "since=1h"):
        found: list[str] = []
        path = f"/inboxes/alerts/events?{query}&limit=2"
        cursor = ""
        while len(found) < 5:
            part = await _call(server, 200, "GET", path + (f"&cursor={cursor}" if cursor else ""))
            assert len(part["items"]) <= 2
            found += [item["id"] for item in part["items"]]
            cursor = part["next"]
        assert found[:5] == events[::-1]
    await _call(server, 400, "GET", "/inboxes/alerts/events?cursor=bm9uZQ")


async def test_a_search_looks_so_far_and_no_further_at_a_time(
    server: "Server", inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await inbox.post({"rare": "needle-in-hay"})
    for n in range(4):
        await inbox.post({"hay": n})
    monkeypatch.setattr("engine.store.received.LOOKED_AT", 2)
    monkeypatch.setattr("api.received.LOOKED_FOR_S", -1.0)
    path, cursor, asked = "/inboxes/alerts/events?search=needle-in-hay", "", 0
    found: list[dict[str, Any]] = []
    while not found:
        part = await _call(server, 200, "GET", path + (f"&cursor={cursor}" if cursor else ""))
        found, cursor, asked = part["items"], part["next"], asked + 1
        assert cursor or found
    assert [item["id"] for item in found] == [event]
    assert asked > 1


async def test_how_far_a_search_gets_tells_nothing_of_what_is_hidden(
    server: "Server", inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        await inbox.post({"apiToken": CANARY, "n": n})
    monkeypatch.setattr("api.received.LOOKED_FOR_S", -1.0)
    paths = [f"/inboxes/alerts/events?search={text}" for text in (CANARY[:6], "cnrx")]
    seen = [await _call(server, 200, "GET", path, who="editor") for path in paths]
    assert seen[0] == seen[1]
    found = await _call(server, 200, "GET", paths[0], who="admin")
    assert found["items"] == []


async def test_what_is_hidden_of_a_large_event_is_not_in_its_outcomes_either(server: "Server") -> None:
    row: Any = {
        "id": new_id(),
        "received_at": None,
        "received": 0.0,
        "size_bytes": 400_000,
        "address": "",
        "is_signed": False,
        "tested_by": None,
        "repeats": 0,
        "delivery": None,
        "verdict": "matched",
        "headers": [],
        "query": "",
        "body": json.dumps({"who": CANARY, "long": "x" * 400_000}).encode(),
        "outcomes": {str(new_id()): {"revision": 1, "outcomes": [{"kind": "opened", "fingerprint": CANARY}]}},
    }
    listed = received._listed(row, ["$.who"], {}, None)
    assert CANARY not in str(listed)


@pytest.mark.parametrize(
    "body",
    [
        b"plain words",
        b"",
        b"\xff\xfe\x00nul",
        b'{"a": 1e400, "b": ' + b"9" * 40 + b"}",
        b'{"half": "\\ud800"}',
        b"[" * 900,
        b'{"a":1,"a":2}',
    ],
    ids=["text", "empty", "bytes", "numbers", "surrogate", "deep", "twice"],
)
async def test_whatever_came_can_be_read(server: "Server", inbox: Inbox, body: bytes) -> None:
    event = await inbox.post(body)
    shown = await inbox.judged(event)
    assert (shown["text"] is None) is (shown["trouble"] is None)
    await _call(server, 200, "GET", f"/events/{event}/trace?trigger=shop-down")
    await _call(server, 200, "GET", "/inboxes/alerts/events?search=zzz")
    raw = await server.session.get(
        f"{server.url}/api/v1/events/{event}/raw",
        headers={"Authorization": f"Bearer {server.tokens['admin']}"},
    )
    assert await raw.read() == body


# ---- fired by hand


async def test_what_is_fired_by_hand_goes_the_way_of_all_others(server: "Server", inbox: Inbox) -> None:
    sent = {
        "body": {"status": "firing", "host": "by-hand"},
        "headers": {"X-Kind": "test", "Authorization": "Bearer mine"},
        "query": "env=x",
    }
    fired = await _call(server, 202, "POST", "/inboxes/alerts/fire", sent, who="editor")
    shown = await inbox.judged(fired["id"])
    assert shown["tested_by"] == "installer" or shown["tested_by"]
    assert shown["outcomes"][0]["fingerprint"] == "by-hand"
    assert ["Authorization", "***"] not in shown["headers"]
    assert "mine" not in json.dumps(shown)
    text = await _call(server, 202, "POST", "/inboxes/alerts/fire", {"body": "just words"})
    assert (await inbox.judged(text["id"]))["text"] == "just words"
    await _call(server, 422, "POST", "/inboxes/alerts/fire", {"body": "x" * 300_000})
    await _call(server, 422, "POST", "/inboxes/alerts/fire", {"body": "x", "headers": {"bad name": "x"}})
    await _call(server, 422, "POST", "/inboxes/alerts/fire", {"body": "x", "headers": {"X-A": "a\r\nb"}})


async def test_known_senders_are_listed_and_detected(server: "Server", inbox: Inbox) -> None:
    listed = await _call(server, 200, "GET", "/senders", who="viewer")
    assert {"sender", "title", "docs", "trigger"} <= listed["items"][0].keys()
    body = {
        "version": "4",
        "groupKey": "{}:{}",
        "receiver": "up",
        "status": "firing",
        "alerts": [{"status": "firing", "labels": {}}],
    }
    event = await inbox.post(body)
    found = await _call(server, 200, "POST", f"/events/{event}/detect", who="viewer")
    assert found["items"][0]["sender"] == "alertmanager"
    assert (await _call(server, 200, "GET", f"/events/{event}"))["sender"] == "alertmanager"


# ---- rules


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"critical": {"value": "$.x", "matches": "(" * 500}}, "/critical"),
        ({"critical": {"value": "$" + "..a" * 300, "eq": 1}}, "/critical"),
        ({"fingerprint": "{$.a" * 200}, "/fingerprint"),
        ({"message": "x" * 100_000}, "/message"),
        ({"target": {"external": "home"}}, "/target/external"),
        ({"inbox": "none-such"}, "/inbox"),
        ({"values": {f"v{n}": "$.a" for n in range(500)}}, "/values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_rule_that_cannot_be_is_refused_at_its_place(
    server: "Server", inbox: Inbox, change: dict[str, Any], pointer: str
) -> None:
    refused = await _call(server, 422, "POST", "/triggers", RULE | {"slug": "wrong"} | change)
    assert any(error["pointer"].startswith(pointer) for error in refused["errors"]), refused


async def test_a_rule_nested_without_end_is_refused(server: "Server", inbox: Inbox) -> None:
    condition: dict[str, Any] = {"value": "$.a", "eq": 1}
    for _ in range(20):
        condition = {"all": [condition]}
    await _call(server, 422, "POST", "/triggers", RULE | {"slug": "deep", "critical": condition})
    for _ in range(100):
        condition = {"all": [condition]}
    await _call(server, 400, "POST", "/triggers", RULE | {"slug": "deep", "critical": condition})
    bomb = b'{"slug":"deep","critical":' + b'{"all":[' * 100_000
    answer = await server.call("POST", "/api/v1/triggers", data=bomb)
    assert answer.status == 400


# ---- signals, versions, record, promotion


async def _signals(server: "Server", slug: str = "shop-down") -> list[str]:
    return [
        one["fingerprint"] for one in (await _call(server, 200, "GET", f"/triggers/{slug}/signals"))["items"]
    ]


async def test_a_signal_is_ended_by_hand(server: "Server", inbox: Inbox) -> None:
    await inbox.judged(await inbox.post({"status": "firing", "host": "stuck"}))
    signals = (await _call(server, 200, "GET", "/triggers/shop-down/signals", who="viewer"))["items"]
    stuck = next(one for one in signals if one["fingerprint"] == "stuck")
    assert (stuck["severity"], stuck["target"]) == ("critical", "outside")
    assert (await _call(server, 200, "GET", "/triggers/shop-down"))["open_signals"] == len(signals)
    await _call(
        server, 204, "POST", "/triggers/shop-down/signals/end", {"fingerprint": "stuck"}, who="editor"
    )
    assert "stuck" not in await _signals(server)
    await _call(
        server, 404, "POST", "/triggers/shop-down/signals/end", {"fingerprint": "stuck"}, who="editor"
    )
    line = (await _call(server, 200, "GET", "/audit?limit=1"))["items"][0]
    assert line["verb"] == "trigger.end_signal"
    pushed = await server.services.pool.fetchval("SELECT fact FROM pushed ORDER BY id DESC LIMIT 1")
    assert pushed is not None


async def _recorded(server: "Server", slug: str, **wanted: int) -> dict[str, Any]:
    """The record, once it has these counts."""
    found: dict[str, Any] = {}
    for _ in range(600):
        found = await _call(server, 200, "GET", f"/triggers/{slug}/record")
        if wanted.items() <= found.items():
            break
        await asyncio.sleep(0.05)
    assert wanted.items() <= found.items()
    return found


async def test_a_trigger_speaks_by_itself_only_once_it_was_promoted(
    server: "Server", inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = RULE | {
        "slug": "bold",
        "fingerprint": "bold/{$.host}",
        "incidents": {"open": "auto"},
        "target": {"external": "bolder"},
    }
    made = await _call(server, 201, "POST", "/triggers", rule, who="editor")
    assert made["effective"] == {"open": "draft", "update": "draft", "resolve": "draft"}
    assert made["promoted"] is None
    assert made["sentence"].startswith(
        "For each event of alerts, beat bolder is critical if $.status is firing."
    )
    record = await _call(server, 200, "GET", "/triggers/bold/record", who="viewer")
    assert record["may_promote"] is False
    assert record["why_not"].startswith("no firing and no recovery")
    asked = {"steps": ["open"], "record": record["record"]}
    await _call(server, 409, "POST", "/triggers/bold/promote", asked, who="editor")

    fired = {"body": {"status": "firing", "host": "h"}}
    await inbox.judged((await _call(server, 202, "POST", "/inboxes/alerts/fire", fired))["id"])
    fired["body"]["status"] = "resolved"
    await inbox.judged((await _call(server, 202, "POST", "/inboxes/alerts/fire", fired))["id"])
    assert (await _recorded(server, "bold", opened=1, resolved=1))["may_promote"] is False

    await inbox.judged(await inbox.post({"status": "firing", "host": "h"}))
    await inbox.judged(await inbox.post({"status": "resolved", "host": "h"}))
    record = await _recorded(server, "bold", real_firings=1, real_recoveries=1)
    assert record["may_promote"] is True
    await _call(server, 409, "POST", "/triggers/bold/promote", asked, who="editor")  # on the record of before
    asked["record"] = record["record"]
    monkeypatch.setattr(triggers, "promote", _fails)
    await _call(server, 503, "POST", "/triggers/bold/promote", asked | {"steps": ["update"]}, who="editor")
    monkeypatch.undo()
    kept = await _call(server, 200, "GET", "/triggers/bold")
    assert (kept["revision"], kept["incidents"]["update"]) == (1, "draft")  # all of it, or nothing
    promoted = await _call(server, 200, "POST", "/triggers/bold/promote", asked, who="editor")
    msgspec.convert(await _call(server, 200, "GET", "/triggers/bold"), shapes.ShownTrigger)
    assert promoted["effective"] == {"open": "auto", "update": "draft", "resolve": "draft"}
    assert promoted["promoted"]["holds"] is True
    assert promoted["promoted"]["record"]["real_firings"] == 1
    assert promoted["promoted"]["record"]["since"] == record["since"]
    verbs = [line["verb"] for line in (await _call(server, 200, "GET", "/audit?limit=3"))["items"]]
    assert "trigger.promote" in verbs

    named = await _call(server, 200, "PATCH", "/triggers/bold", {"name": "Bold"})
    assert named["effective"]["open"] == "auto"
    changed = await _call(server, 200, "PATCH", "/triggers/bold", {"for": "1m"})
    assert changed["effective"]["open"] == "draft"
    assert changed["promoted"]["holds"] is False
    back = await _call(server, 200, "PATCH", "/triggers/bold", {"for": None})
    assert back["effective"]["open"] == "draft"
    assert (await _recorded(server, "bold", real_firings=0))["may_promote"] is False


async def test_a_promotion_writes_auto_into_what_the_api_manages(server: "Server", inbox: Inbox) -> None:
    await _call(server, 201, "POST", "/triggers", RULE | {"slug": "meek", "fingerprint": "meek/{$.host}"})
    await inbox.judged(await inbox.post({"status": "firing", "host": "m"}))
    await inbox.judged(await inbox.post({"status": "resolved", "host": "m"}))
    record = await _recorded(server, "meek", real_firings=1, real_recoveries=1)
    asked = {"steps": ["open", "resolve"], "record": record["record"]}
    promoted = await _call(server, 200, "POST", "/triggers/meek/promote", asked)
    assert (
        promoted["incidents"]
        == promoted["effective"]
        == {"open": "auto", "update": "draft", "resolve": "auto"}
    )
    versions = (await _call(server, 200, "GET", "/triggers/meek/versions", who="viewer"))["items"]
    assert [one["revision"] for one in versions] == [2, 1]
    assert versions[0]["spec"]["incidents"] == {"open": "auto", "resolve": "auto"}
    assert (await _call(server, 200, "GET", "/triggers/meek/versions/1"))["sentence"] == promoted["sentence"]
    first = await _call(server, 200, "GET", "/triggers/meek/versions?limit=1")
    assert first["next"]
    for wrong in ("3", "x", "9" * 30):
        await _call(server, 404, "GET", f"/triggers/meek/versions/{wrong}")


async def test_a_promotion_of_what_a_file_manages_is_only_recorded(server: "Server", inbox: Inbox) -> None:
    spec = {key: value for key, value in RULE.items() if key != "page"}
    spec |= {"slug": "filed", "fingerprint": "filed/{$.host}", "incidents": {"open": "auto"}}
    async with transaction(server.services.pool) as db:
        page = (await objects.find(db, "page", "shop")).id
        await objects.create(db, INSTALLER, "trigger", page, spec, source="upbeat.yaml:7")
    await inbox.judged(await inbox.post({"status": "firing", "host": "f"}))
    await inbox.judged(await inbox.post({"status": "resolved", "host": "f"}))
    record = await _recorded(server, "filed", real_firings=1, real_recoveries=1)
    asked = {"steps": ["open"], "record": record["record"]}
    promoted = await _call(server, 200, "POST", "/triggers/filed/promote", asked)
    assert (promoted["revision"], promoted["effective"]["open"]) == (1, "auto")


async def test_a_record_counts_what_people_made_of_its_drafts(server: "Server", inbox: Inbox) -> None:
    made = await _call(
        server, 201, "POST", "/triggers", RULE | {"slug": "judged", "fingerprint": "j/{$.host}"}
    )
    before = await _recorded(server, "judged")
    trigger, owner = UUID(made["id"].removeprefix("trg_")), new_id()
    async with transaction(server.services.pool) as db:
        page = (await objects.find(db, "page", "shop")).id
        await db.execute(
            "INSERT INTO objects (id, kind, page_id, slug, spec, managed_by) VALUES ($1, 'beat', $2, 'owner', '{}', 'api')",
            owner,
            page,
        )
        for number, (status, edited, by) in enumerate(
            [
                ("done", False, "ann"),
                ("done", True, "ann"),
                ("rejected", False, "ann"),
                ("expired", False, "policy"),
                ("done", False, "policy"),
                ("pending", True, None),
            ],
            1,
        ):
            episode = new_id()
            await db.execute(
                "INSERT INTO episodes (id, owner_id, number, severity, peak, opened_at, spec) "
                "VALUES ($1, $2, $3, 'critical', 'critical', now(), '{}')",
                episode,
                owner,
                number,
            )
            await db.execute(
                "INSERT INTO actions (id, episode_id, owner_id, page_id, step, status, severity, title, text, created_at, "
                "decided_by, triggers, edited) VALUES ($1, $2, $3, $4, 'open', $5, 'critical', '', '', now(), $6, $7, $8)",
                new_id(),
                episode,
                owner,
                page,
                status,
                by,
                [trigger],
                edited,
            )
    counted = {"approved_unedited": 1, "approved_edited": 1, "rejected": 1, "expired": 1}
    after = await _recorded(server, "judged", **counted)
    assert after["record"] != before["record"]
    async with server.services.pool.acquire() as db:
        rule = Trigger.model_validate((await objects.find(db, "trigger", "judged")).spec)
        unknown = await records.record(db, trigger, rule, triggers.Tally(rule="the one before"))
    assert unknown == records.Record(*[0] * 11)


async def test_a_reader_is_not_shown_the_keys_of_a_signature(server: "Server") -> None:
    signed = {
        "slug": "signed",
        "page": "shop",
        "signature": {"preset": "github", "secrets": ["a key of some length"]},
    }
    await _call(server, 201, "POST", "/inboxes", signed)
    masked = (await _call(server, 200, "GET", "/inboxes/signed", who="viewer"))["signature"]
    assert masked["secrets"] == ["***"]
    again = await _call(server, 200, "PATCH", "/inboxes/signed", {"signature": masked}, who="editor")
    assert again["signature"] == signed["signature"]
    assert "a key of some length" not in json.dumps(await _call(server, 200, "GET", "/audit?limit=3"))


async def test_answers_have_the_shape_that_is_described(server: "Server", inbox: Inbox) -> None:
    event = await inbox.post({"status": "firing", "host": "shaped"})
    await inbox.judged(event)
    for path, shape in (
        ("/inboxes/alerts", shapes.ShownInbox),
        ("/triggers/shop-down", shapes.ShownTrigger),
        ("/triggers/shop-down/record", shapes.ShownRecord),
        ("/triggers/shop-down/versions/1", shapes.ShownVersion),
        (f"/events/{event}", shapes.ShownReceived),
        (f"/events/{event}/trace?trigger=shop-down", shapes.ShownTrace),
        ("/inboxes/alerts/events", list[shapes.ShownEvent]),
        ("/triggers/shop-down/signals", list[shapes.ShownOpen]),
        ("/senders", list[shapes.ShownSender]),
    ):
        found = await _call(server, 200, "GET", path)
        msgspec.convert(found["items"] if "items" in found and "next" in found else found, shape)
    detected = await _call(server, 200, "POST", f"/events/{event}/detect")
    msgspec.convert(detected["items"], list[shapes.ShownDetected])
    issued = await _call(server, 201, "POST", "/inboxes/alerts/token", {"overlap": "1h"})
    msgspec.convert(issued, shapes.ShownIssued)
