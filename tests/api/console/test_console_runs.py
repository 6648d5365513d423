"""The page of a run: the failing assertion first, a waterfall, other regions, and the evidence of its kind."""

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from api.console.runs import chain, failing_first, run_url, waterfall
from engine.store import objects, results
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.states import moment
from evaluators.model import Failure, Kind, Outcome, Result, Timings, Tried, Verdict
from tests.api.console.conftest import ACTOR

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Person

PHASES = {"dns": 0.01, "connect": 0.02, "tls": None, "ttfb": 0.03, "transfer": 0.04, "total": 0.1}
CERTIFICATE = {
    "subject": "CN=shop.example", "issuer": "CN=Test Authority", "names": ["shop.example"], "not_before": 1.7e9,
    "not_after": 1.9e9, "serial": "0a", "sha256": "ab" * 32, "key": "EC P-256", "signature": "ecdsa-with-SHA256",
}  # fmt: skip


async def shown(server: "Server", admin: "Person", evidence: dict[str, Any], **more: Any) -> str:
    """The page of a run with this evidence, of the beat `home`, one of three regions."""
    now = server.services.clock.epoch_s()
    timings = Timings(0.01, 0.02, None, 0.03, 0.04, 0.1)
    failure = Failure("assertion.json", "json is 'down'; expected eq 'ok'")
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        beat = await objects.find(db, "beat", "home", pages=[shop.id])
        run_id = str(new_id())
        runs = [
            Result(
                run_id if region == "eu" else str(new_id()), str(beat.id), region, Kind.SCHEDULED, Verdict.CRITICAL,
                now, now, n, 1 + len(more.get("tried", ())), timings, more.get("outcomes", ()), failure, evidence,
                trace_id="4bf92f3577b34da6a3ce929d0e0e4736", tried=more.get("tried", ()),
            )
            for n, region in enumerate(("eu", "us", "ap"))
        ]  # fmt: skip
        await results.insert(db, [(str(uuid4()), now, run) for run in runs], now)
    page = await admin.get(run_url("home", "shop", show("run", run_id), moment(now)))
    assert page.status == 200, page.html
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.html))


async def test_a_run_shows_its_attempts_its_regions_and_the_failing_assertion_first(
    server: "Server", admin: "Person"
) -> None:
    outcomes = (
        Outcome("status", True, 200),
        Outcome("json", False, "down", "json is 'down'; expected eq 'ok'"),
    )
    tried = (Tried(0.0, Timings(total=0.2), Failure("connect.refused", "Connection refused")),)
    hop = {"url": "http://shop.example/old", "status": 301, "address": "192.0.2.1", "timings": PHASES}
    text = await shown(server, admin, {"address": "192.0.2.1", "hops": [hop]}, outcomes=outcomes, tried=tried)
    for part in (
        "attempt 1",
        "Connection refused",
        "attempt 2",
        "301 http://shop.example/old",
        "eu (this one)",
        "4bf92f3577b34da6a3ce929d0e0e4736",
    ):
        assert part in text, part
    judged = text[text.index("Why not") :]
    assert judged.index("json") < judged.index("status")


async def test_a_run_shows_certificates_with_the_days_they_had_left(
    server: "Server", admin: "Person"
) -> None:
    root = CERTIFICATE | {"subject": "CN=Test Authority", "not_after": 2.2e9}
    tls = {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "ocsp": "good",
        "faults": ["tls.pin: other"],
    }
    text = await shown(server, admin, {"tls": tls | {"certificates": [CERTIFICATE, root]}})
    for part in ("CN=shop.example", "leaf", "root", "EC P-256", "stapled status good", "tls.pin: other"):
        assert part in text, part


async def test_a_run_shows_what_each_name_server_said(server: "Server", admin: "Person") -> None:
    record = {"type": "A", "text": "192.0.2.7", "ttl_s": 300}
    answers = [
        {"server": "192.0.2.53", "rcode": "NOERROR", "flags": ["ra"], "records": [record], "error": None},
        {"server": "192.0.2.54", "rcode": None, "flags": [], "records": [], "error": "no answer within 2 s"},
    ]
    text = await shown(server, admin, {"answers": answers})
    for part in ("192.0.2.53", "192.0.2.7", "300 s", "192.0.2.54", "no answer within 2 s"):
        assert part in text, part
    alone = await shown(server, admin, {"rcode": "NXDOMAIN", "address": "192.0.2.53", "records": [record]})
    assert "NXDOMAIN" in alone


async def test_a_run_shows_lost_packets_headers_and_body(server: "Server", admin: "Person") -> None:
    evidence = {
        "packets": [0.001, None],
        "headers": [["server", "nginx"]],
        "body": "away",
        "unverified": True,
    }
    text = await shown(server, admin, evidence)
    for part in ("lost", "nginx", "away", "verify: false"):
        assert part in text, part


def test_redirects_and_steps_begin_where_the_one_before_ended() -> None:
    steps = [
        {"name": name, "status": 200, "timings": PHASES | {"total": 0.1}, "error": None}
        for name in ("login", "cart")
    ]
    run: dict[str, Any] = {
        "tried": [],
        "timings": PHASES | {"total": 0.2},
        "error": None,
        "evidence": {"steps": steps},
    }
    first, second = waterfall(run)[1:]
    assert (first.label, first.parts[0].x, second.label, second.parts[0].x) == ("login", 0.0, "cart", 50.0)


def test_the_worst_assertion_is_on_top() -> None:
    given = [
        {"of": of, "ok": ok, "severity": severity}
        for of, ok, severity in (("a", True, "critical"), ("b", False, "warning"), ("c", False, "critical"))
    ]
    assert [one["of"] for one in failing_first(given)] == ["c", "b", "a"]


def test_without_certificates_there_is_no_chain() -> None:
    assert chain({"evidence": None}) == []


async def test_evidence_that_was_cut_to_size_is_shown_as_far_as_it_goes(
    server: "Server", admin: "Person"
) -> None:
    cut = {
        "headers": [["server", "nginx"], "[40 more]"],
        "records": ["[3 more]", {"type": "A"}],
        "answers": [{"server": "192.0.2.1"}, "[1 more]"],
        "tls": {"version": "TLSv1.3", "certificates": [{"subject": "CN=x"}, CERTIFICATE | {"names": "… cut"}, "[1 more]"]},
        "hops": [{"url": "http://x.example"}, "[2 more]"],
        "cut": "3 more",
    }  # fmt: skip
    assert "nginx" in await shown(server, admin, cut)


async def test_a_tls_beats_page_shows_the_chain_it_was_shown_last(server: "Server", admin: "Person") -> None:
    now = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        slug = f"cert-{new_id().hex[-6:]}"
        spec = {"slug": slug, "type": "tls", "host": "shop.example"}
        beat = await objects.create(db, ACTOR, "beat", shop.id, spec)
        tls = {"version": "TLSv1.3", "cipher": "x", "ocsp": None, "faults": [], "certificates": [CERTIFICATE]}
        run = Result(
            str(new_id()), str(beat.id), "eu", Kind.SCHEDULED, Verdict.OK, now, now, 1, 1, Timings(total=0.1),
            evidence={"tls": tls},
        )  # fmt: skip
        await results.insert(db, [(str(uuid4()), now, run)], now)
    page = await admin.get(f"/console/beats/{slug}?page=shop")
    assert page.status == 200, page.html
    assert "CN=shop.example" in page.html
