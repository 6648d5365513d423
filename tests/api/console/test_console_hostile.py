"""Hostile text in everything that can hold text is inert in a real browser: nothing runs, and no policy had to stop it."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest

from engine.store import objects, outbox, people, results, reviews, states
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id, show
from evaluators.facts import EpisodeOpened, StepProposed
from evaluators.model import PHASES, Failure, Kind, Notice, Outcome, Result, Stage, Timings, Verdict
from evaluators.policy import Bound, Window
from evaluators.quorum import signal_key
from evaluators.state import Member, Parent, State

if TYPE_CHECKING:
    from tests.api.conftest import Server
    from tests.api.console.conftest import Tab

pytestmark = pytest.mark.browser

PAYLOADS = (
    "<script>xss()</script>",
    "</script><script>xss()</script>",
    "<img src=x onerror=xss()>",
    '"><img src=x onerror=xss()>',
    "'><svg onload=xss()>",
    '" autofocus onfocus=xss() x="',
    "' onmouseover=xss() '",
    "<svg><script>xss()</script></svg>",
    "<svg><animate onbegin=xss() attributeName=x dur=1s>",
    "</title><script>xss()</script>",
    "</textarea><script>xss()</script>",
    "</style><script>xss()</script>",
    "<iframe src=javascript:xss()></iframe>",
    "<iframe srcdoc='<script>parent.xss()</script>'></iframe>",
    "<object data=javascript:xss()></object>",
    "<embed src=javascript:xss()>",
    "<a href=javascript:xss()>x</a>",
    "<form action=javascript:xss()><button>x</button></form>",
    "<details open ontoggle=xss()>",
    "<video><source onerror=xss()></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror=xss()>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=javascript:xss()'>",
    "<style>*{background:url(//evil.example/x)}</style>",
    "{{ 7 * 7 }}{% raw %}<script>xss()</script>",
    "{{ cycler.__init__.__globals__.os.popen('id') }}",
    "&lt;script&gt;xss()&lt;/script&gt;",
    "&#x3c;script&#x3e;xss()",
    "\\u003cscript\\u003exss()",
    "<ScRiPt >xss()</sCrIpT >",
    "<script\n>xss()</script\n>",
    "<<script>script>xss()<</script>/script>",
    "<!--><script>xss()</script-->",
    "<![CDATA[<script>xss()</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=xss()>'>",
    "<template><img src=x onerror=xss()></template>",
    "<x contenteditable onblur=xss()>",
    "javascript:xss()",
    "data:text/html,<script>xss()</script>",
    "\u202egnp.exe<script>xss()</script>",
    "＜script＞xss()＜/script＞",
)
ALL = " ".join(PAYLOADS)
EVIL = dict.fromkeys(("subject", "issuer", "serial", "sha256", "key", "signature"), ALL) | {
    "names": [ALL],
    "not_before": 1.7e9,
    "not_after": 1.9e9,
}
ACTOR = Actor(PAYLOADS[2], "api", PAYLOADS[3][:20])


async def _poisoned(server: "Server") -> tuple[Any, Any]:
    """A page on which everything that can hold text holds an attack."""
    now = server.services.clock.epoch_s()
    async with transaction(server.services.pool) as db:
        spec = {"slug": f"evil-{new_id().hex[-6:]}", "name": PAYLOADS[9], "description": ALL}
        page = await objects.create(db, ACTOR, "page", None, spec)
        beats = []
        for n, payload in enumerate(PAYLOADS):
            await objects.create(
                db,
                ACTOR,
                "component",
                page.id,
                {"slug": f"c{n}", "name": payload, "group": payload, "description": ALL},
            )
            beats.append(
                await objects.create(
                    db,
                    ACTOR,
                    "beat",
                    page.id,
                    {"slug": f"evil-{n}", "name": payload, "description": ALL, "type": "http"}
                    | {"url": "http://x.example/<script>xss()</script>", "components": {f"c{n}": {}}},
                )
            )
        hook = {"slug": "hook", "name": PAYLOADS[0], "type": "webhook", "url": "http://x.example/<img>"}
        channel = await objects.create(db, ACTOR, "channel", page.id, hook)
        notice = Notice(str(new_id()), "open", PAYLOADS[2], now)
        await outbox.put(db, [channel.id], "l", str(uuid4()), notice)
        (row,) = await outbox.listing(db, limit=1)
        await outbox.failed(db, row["id"], ALL, None)
        await people.create_user(db, ACTOR, f"{new_id().hex}@x.example", PAYLOADS[4], {None: "viewer"})
        await people.issue_token(db, ACTOR, PAYLOADS[5], "read", "viewer", None)
        await results.insert(db, [(str(uuid4()), now, _run(beats[0].id, now))], now)
        for beat in beats:
            await reviews.open_episodes(db, [(beat, EpisodeOpened(now, 1, "critical"))])
            evidence = [{"region": ALL, "verdict": "critical", "error": {"type": ALL, "message": ALL}}]
            await reviews.propose(
                db, [reviews.Proposal(beat.id, 1, StepProposed(now, "open", "critical"), evidence)]
            )
            (action,) = await reviews.actions(db, owner=beat.id)
            await reviews.edit(db, ACTOR, action["id"], 1, now, title=beat.spec["name"], text=ALL)
            if beat is not beats[0]:
                await reviews.approve(db, ACTOR, action["id"], 2, now)
        (pending,) = await reviews.actions(db, owner=beats[0].id)
        await _related(db, page, beats[0], beats[1], now)
    return page, pending


async def _related(db: Any, page: Any, one: Any, parent: Any, now: float) -> None:
    """A group, a window and a signal with attacks for names, so that why a beat is what it is speaks of all of them."""
    group = await objects.create(
        db, ACTOR, "group", page.id, {"slug": "evil", "name": PAYLOADS[2], "description": ALL}
    )
    spec = {"slug": "evil", "name": PAYLOADS[3], "start": "2020-01-01T00:00:00Z", "duration": "1h"}
    window = await objects.create(db, ACTOR, "maintenance", page.id, spec)
    windows = (Window(now - 9, now + 9000, str(window.id)),)
    parents = (str(parent.id),)
    await states.save_bounds(
        db, {one.id: Bound(regions=("eu",), group=str(group.id), parents=parents, windows=windows)}
    )
    (held,) = await states.load(db, beats=[one.id])
    state = State(
        stage=Stage.CRITICAL,
        signals={signal_key("report", ALL): "critical"},
        group=str(group.id),
        parents={str(parent.id): Parent(Stage.CRITICAL)},
        suppressed_by=(f"maintenance:{window.id}",),
    )
    await states.save(db, [msgspec.structs.replace(held, state=state)])
    (held,) = await states.load(db, beats=[group.id])
    state = State(stage=Stage.CRITICAL, members={str(one.id): Member(Stage.CRITICAL, now)})
    await states.save(db, [msgspec.structs.replace(held, state=state)])


def _run(beat_id: Any, now: float) -> Result:
    return Result(
        str(new_id()),
        str(beat_id),
        "eu",
        Kind.SCHEDULED,
        Verdict.CRITICAL,
        now,
        now,
        1,
        1,
        Timings(total=0.1),
        (Outcome("status", False, PAYLOADS[0], ALL), Outcome("json", False, {PAYLOADS[2]: PAYLOADS[3]}, ALL)),
        Failure(PAYLOADS[1], ALL),
        {"status": 200, PAYLOADS[0]: ALL, "headers": [[PAYLOADS[2], PAYLOADS[3]]], "body": ALL}
        | {"hops": [{"url": ALL, "status": 301, "address": ALL, "timings": dict.fromkeys(PHASES, 0.1)}]}
        | {
            "tls": dict.fromkeys(("version", "cipher", "ocsp"), ALL)
            | {"faults": [ALL], "certificates": [EVIL]}
        }
        | {
            "answers": [
                {
                    "server": ALL,
                    "rcode": ALL,
                    "records": [{"type": ALL, "text": ALL, "ttl_s": 1}],
                    "error": ALL,
                }
            ]
        },
    )


async def test_hostile_text_is_inert_everywhere(server: "Server", tab: "Tab") -> None:
    page, pending = await _poisoned(server)
    where = f"?page={page.slug}"
    paths = [
        "/console",
        "/console?q=" + PAYLOADS[3] + "&tag=" + PAYLOADS[5] + "&stage=" + PAYLOADS[6],
        "/console?said=" + PAYLOADS[0],
        f"/console/beats/evil-0{where}",
        f"/console/groups/evil{where}",
        f"/console/beats/evil-10/edit{where}",
        f"/console/actions/{show('action', pending['id'])}",
        f"/console/components/c10/edit{where}",
        "/console/beats/new?target=" + PAYLOADS[3],
        "/console/beats/new?target=http://x/" + PAYLOADS[3],
        *(f"/console/{name}" for name in ("actions", "incidents", "episodes", "components", "channels")),
        *(f"/console/{name}" for name in ("groups", "maintenances")),
        *(f"/console/{name}" for name in ("pages", "regions", "tokens", "users", "audit")),
        "/console/" + PAYLOADS[0],
        f"/console/pages/{page.slug}",
        f"/p/{page.slug}",
        *(f"/p/{page.slug}/{path}" for path in ("embed", "widget", "embed?compact=1&components=c1,c2")),
        "/p/" + PAYLOADS[2],
        "/api/v1/docs",
    ]
    await tab.page.goto(server.url + f"/console/beats/evil-0{where}")
    assert "which is critical: nothing opens here" in await tab.page.locator("main").inner_text()
    run = await tab.page.locator("#runs a").first.get_attribute("href")
    for path in [*paths, run or ""]:
        await tab.page.goto(server.url + path)
        await tab.page.wait_for_load_state("load")
        assert await tab.attacks() == [], path
    assert [said for said in tab.trouble if "status of 4" not in said] == []


async def test_hostile_text_is_shown_as_it_was_written(server: "Server", tab: "Tab") -> None:
    page, _ = await _poisoned(server)
    await tab.page.goto(f"{server.url}/p/{page.slug}")
    assert await tab.page.locator("h1").inner_text() == PAYLOADS[9]
    names = await tab.page.locator(".component > .head > :first-child").all_text_contents()
    assert {" ".join(name.split()) for name in names} == {" ".join(p.split()) for p in PAYLOADS}
