"""Somebody signed in to the console over HTTP, and a past that the evaluator's own fold wrote."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from playwright.async_api import Browser
from playwright.async_api import Page as BrowserPage

from engine import consequences
from engine.catalog import Declared
from engine.fold import Fold
from engine.store import objects, people, results, states
from engine.store.audit import Actor
from engine.store.database import transaction
from engine.store.ids import new_id
from engine.store.objects import Stored
from engine.store.pushed import Pushed, Relayed
from engine.subject import compile_subject
from evaluators.facts import MemberChanged
from evaluators.model import Failure, Kind, Outcome, Result, Stage, Timings, Verdict
from evaluators.policy import Bound
from tests.rig.browser import chromium

if TYPE_CHECKING:
    from api.context import Services
    from tests.api.conftest import Server

ACTOR = Actor("seed", "api")


@dataclass(slots=True)
class Page:
    """What a browser would show."""

    status: int
    html: str
    headers: Any
    url: str


@dataclass(slots=True)
class Person:
    """A browser without JavaScript: cookies, and the CSRF token of the pages it was shown."""

    session: aiohttp.ClientSession
    base: str
    csrf: str = ""

    async def get(self, path: str, **headers: str) -> Page:
        """Open a page, following redirects."""
        async with self.session.get(self.base + path, headers={"Accept": "text/html"} | headers) as answer:
            return await self._page(answer)

    async def post(self, path: str, fields: Any = None, *, csrf: str | None = None) -> Page:
        """Send a form, and follow where it leads."""
        pairs = list(fields.items()) if isinstance(fields, dict) else list(fields or [])
        sent = [*pairs, ("csrf", self.csrf if csrf is None else csrf)]
        async with self.session.post(self.base + path, data=sent, headers={"Accept": "text/html"}) as answer:
            return await self._page(answer)

    async def _page(self, answer: aiohttp.ClientResponse) -> Page:
        html = await answer.text()
        found = re.search(r'name="csrf" value="(\w+)"', html)
        self.csrf = found[1] if found else self.csrf
        return Page(answer.status, html, answer.headers, str(answer.url))


@dataclass(slots=True)
class Tab:
    """A browser's tab, and what went wrong in it."""

    page: BrowserPage
    trouble: list[str]

    async def attacks(self) -> list[str]:
        """What was executed or refused by policy on this page."""
        found: list[str] = await self.page.evaluate("window.attacks")
        return found


SignIn = Callable[[str], Coroutine[Any, Any, Person]]


@pytest.fixture
async def sign_in(server: "Server") -> AsyncIterator[SignIn]:
    """Somebody new with this role on every page (`admin`) or on some (`viewer@shop admin@blog`), signed in by a link."""
    sessions = []

    async def signed_in(what: str) -> Person:
        grants: Any = {}
        async with transaction(server.services.pool) as db:
            for one in what.split():
                role, _, slug = one.partition("@")
                grants[(await objects.find(db, "page", slug)).id if slug else None] = role
            email = f"{(name := what.partition('@')[0])}-{new_id().hex[-6:]}@shop.example"
            await people.create_user(db, ACTOR, email, name.capitalize(), grants)
            secret = await people.make_login_link(db, ACTOR, email)
        session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        sessions.append(session)
        person = Person(session, server.url)
        server.app.state.logins.forget("127.0.0.1")  # so many sign in from one address only here
        opened = await person.post("/console/login/link", {"secret": secret, "password": ""})
        assert opened.url.endswith("/console"), opened.html
        return person

    yield signed_in
    for session in sessions:
        await session.close()


@pytest.fixture
async def admin(sign_in: SignIn) -> Person:
    """An admin of everything."""
    return await sign_in("admin")


Runs = Sequence[tuple[float, str, str]]
"""(seconds ago, region, verdict)."""
Live = Callable[[str, Runs], Coroutine[Any, Any, None]]


@pytest.fixture
def live(server: "Server") -> Live:
    """Let results of a beat happen, as the evaluator would fold them."""

    async def happen(slug: str, runs: Runs) -> None:
        async with transaction(server.services.pool) as db:
            beat = await objects.find(db, "beat", slug)
        await happened(server.services, beat, runs)

    return happen


async def happened(services: "Services", beat: Stored, runs: Runs, group: str = "") -> None:
    """Fold runs into the beat's state, oldest first, and write what follows."""
    now, boot = services.clock.epoch_s(), str(uuid4())
    for seq, (ago, region, verdict) in enumerate(runs, 1):
        result, at = run_of(beat.id, region, verdict, now - ago, seq), now - ago
        async with transaction(services.pool) as db:
            await results.insert(db, [(boot, at, result)], at)
        await _folded(
            services,
            beat,
            at,
            partial(Fold.result, subject_id=beat.id, result=result, boot_id=boot, measured_at=at, now=at),
            group,
        )


async def _folded(
    services: "Services", stored: Stored, at: float, step: Callable[[Fold], None], group: str = ""
) -> None:
    declared = Declared(
        stored.id, stored.kind, stored.page_id, stored.slug, stored.spec, stored.revision, None
    )
    async with transaction(services.pool) as db:
        regions = [region.slug for region in await objects.listing(db, "region")]
        bound = Bound(regions=tuple(regions), group=group)
        subject = compile_subject(declared, bound)
        (held,) = await states.load(db, beats=[stored.id])
        fold = Fold({stored.id: held}, lambda _: subject, 0.0)
        fold.reconcile(stored.id, at)
        step(fold)
        await consequences.record(db, fold, "http://upbeat.example")
        await states.save(db, list(fold.changed.values()))
        await states.save_bounds(db, {stored.id: bound})


async def grouped(services: "Services", slug: str, members: Mapping[str, Runs]) -> Stored:
    """A group, and beats that are its members, each after its runs."""
    async with transaction(services.pool) as db:
        page = await objects.find(db, "page", "shop")
        spec = {"slug": slug, "name": slug.title(), "components": {"site": {}}}
        group = await objects.create(db, ACTOR, "group", page.id, spec)
        beats = [
            await objects.create(
                db,
                ACTOR,
                "beat",
                page.id,
                {"slug": name, "type": "tcp", "host": "x.example", "port": 1, "group": slug},
            )
            for name in members
        ]
    for beat, runs in zip(beats, members.values(), strict=True):
        await happened(services, beat, runs, str(group.id))
        async with services.pool.acquire() as db:
            stage = (await states.summaries(db, [beat.id]))[beat.id]["stage"]
        at = services.clock.epoch_s()
        said = Pushed(0, group.id, at, Relayed(MemberChanged(at, str(beat.id), Stage(stage))), None)
        await _folded(services, group, at, partial(Fold.pushed, one=said, now=at))
    return group


def run_of(beat_id: UUID, region: str, verdict: str, at: float, seq: int) -> Result:
    """A run with all phases; a bad one says why."""
    total = 0.08 + 0.02 * (seq % 5) + (0.9 if verdict == "warning" else 0.0)
    bad = verdict != "ok"
    return Result(
        str(new_id()),
        str(beat_id),
        region,
        Kind.SCHEDULED,
        Verdict(verdict),
        at - total,
        at,
        seq,
        1,
        Timings(0.004, 0.012, 0.021, total - 0.05, 0.013, total),
        (Outcome("status", not bad, 503 if bad else 200, "status is 503; expected eq 200" if bad else ""),),
        Failure("assertion.status", "status is 503; expected eq 200") if bad else None,
        {"status": 503, "headers": [["server", "nginx"]], "body": "upstream is away"} if bad else None,
        check_version=1,
    )


def outage(regions: Sequence[str] = ("eu", "us", "ap"), ago: float = 60.0) -> list[tuple[float, str, str]]:
    """All regions well, then all of them critical, `ago` seconds ago."""
    runs = [(ago + 60 - n, region, "ok") for n, region in enumerate(regions)]
    return runs + [(ago - 10 * n, region, "critical") for n in range(3) for region in regions]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A real Chromium; each test has a context of its own."""
    async with chromium() as opened:
        yield opened


WATCH = """
window.attacks = [];
window.xss = () => window.attacks.push("executed");
for (const name of ["alert", "confirm", "prompt", "print"]) window[name] = window.xss;
document.addEventListener("securitypolicyviolation", (e) => window.attacks.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture
async def tab(browser: Browser, server: "Server") -> AsyncIterator[Tab]:
    """A tab of an admin, signed in by a login link, that notes every executed attack, refused load and script error."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    await context.add_init_script(WATCH)
    page, trouble = await context.new_page(), list[str]()
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    async with transaction(server.services.pool) as db:
        secret = await people.make_login_link(db, ACTOR)
    await page.goto(f"{server.url}/console/login/link?secret={secret}")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/console")
    yield Tab(page, trouble)
    await context.close()
