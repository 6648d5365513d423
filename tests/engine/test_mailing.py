"""Letters to subscribers on real PostgreSQL and through a real relay: each once, in order, nobody left out, nobody delayed by another."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from engine import mailing
from engine.egress import connect
from engine.mailing import Mailing
from engine.store import broadcasts, by_hand, hosts, incidents, letters, objects, retention, subscribers
from engine.store.audit import Actor
from engine.store.database import Pool, Row, transaction
from engine.store.ids import new_id
from engine.store.incidents import Moment, Said
from engine.store.subscribers import Entry
from evaluators.model import Envelope, Letter
from exporters.letters.mail import MailExporter
from exporters.mail import Relay
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressPolicy
from rules.mail import Mail
from tests.rig.mailroom import Mailroom, open_mailroom

ACTOR = Actor("ada", "api")
BASE = "https://up.example"
SCRIPT = """
import asyncio, sys
from functools import partial
from engine.egress import connect
from engine.mailing import Mailing
from engine.store.database import open_pool
from exporters.letters.mail import MailExporter
from exporters.mail import Relay
from rules.address import EgressPolicy
from rules.mail import Mail

async def main(url, port):
    pool = await open_pool(url)
    relay = Relay(host="127.0.0.1", port=int(port), tls="none", sender="status@shop.example")
    exporter = MailExporter(partial(connect, EgressPolicy(), "relay"), relay)
    mail = Mail(host="127.0.0.1", sender="status@shop.example")
    await Mailing(pool, exporter.export, holder="one", base_url=lambda: "https://up.example", mail=lambda: mail).run()

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass
class Post:
    """A page `shop` with components `api` and `web`, and what was handed to its subscribers."""

    pool: Pool
    page: UUID
    components: dict[str, UUID]
    mail: Mail | None = field(default_factory=lambda: Mail(host="127.0.0.1", sender="status@shop.example"))
    sent: list[Envelope] = field(default_factory=list)
    answer: Callable[[Envelope], Awaitable[Outcome]] | None = None

    async def send(self, envelope: Envelope) -> Outcome:
        outcome = await self.answer(envelope) if self.answer else Delivered()
        self.sent.append(envelope)
        return outcome

    @property
    def told(self) -> list[str]:
        return [envelope.to for envelope in self.sent]

    async def subscribed(self, *addresses: str, page: UUID | None = None, **changed: object) -> list[Row]:
        entries = []
        for address in addresses:
            kind = "webhook" if address.startswith("http") else "email"
            entries.append(replace(Entry(kind, address), **changed))  # type: ignore[arg-type]
        async with transaction(self.pool) as db:
            return [*(await subscribers.import_many(db, page or self.page, entries)).values()]

    async def begun(self, page: UUID | None = None, *, text: str = "We look.", **components: str) -> UUID:
        incident, named = new_id(), {str(self.components[slug]): how for slug, how in components.items()}
        async with transaction(self.pool) as db:
            said = Said("open", "investigating", "Checkout is slow", text, named, 100.0, "ada")
            await incidents.begin(db, incident, page or self.page, said)
        return incident

    async def said(self, incident: UUID, text: str, at: float = 200.0) -> None:
        async with transaction(self.pool) as db:
            await incidents.say(db, incident, Said("update", None, "Checkout is slow", text, {}, at, "ada"))

    async def counts(self) -> Counter[str]:
        rows = await self.pool.fetch("SELECT status, count(*) AS n FROM letters GROUP BY 1")
        return Counter({row["status"]: row["n"] for row in rows})

    async def settled(self, **wanted: int) -> None:
        """Until there are so many letters of each status."""
        async with asyncio.timeout(60):
            while await self.counts() != Counter(wanted):
                await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def mailing(self, send: mailing.Send | None = None, holder: str = "one") -> AsyncIterator[Mailing]:
        working = Mailing(
            self.pool, send or self.send, holder=holder, base_url=lambda: BASE, mail=lambda: self.mail
        )
        task = asyncio.create_task(working.run())
        try:
            yield working
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def post(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Post:
    monkeypatch.setattr(mailing, "SCHEDULE_S", (0.01, 0.01))
    monkeypatch.setattr(mailing, "IDLE_S", 0.05)
    async with transaction(pool) as db:
        page = await objects.create(
            db, ACTOR, "page", None, {"slug": "shop", "name": "Shop", "languages": ["en", "de"]}
        )
        made = {}
        for slug in ("api", "web"):
            spec = {"slug": slug, "name": slug.upper(), "page": "shop"}
            made[slug] = (await objects.create(db, ACTOR, "component", page.id, spec)).id
    return Post(pool, page.id, made)


@pytest.fixture
async def relay() -> AsyncIterator[Mailroom]:
    async with open_mailroom(Mailroom()) as room:
        yield room


def exporter(room: Mailroom) -> MailExporter:
    relay = Relay(host="127.0.0.1", port=room.port, tls="none", sender="status@shop.example")
    return MailExporter(partial(connect, EgressPolicy(), "relay"), relay, connections=4)


def many(count: int, domain: str = "a.example") -> Sequence[str]:
    return [f"{n}@{domain}" for n in range(count)]


async def test_everybody_is_mailed_once_for_an_update_over_a_few_connections(
    post: Post, relay: Mailroom
) -> None:
    await post.subscribed(*many(120))
    incident = await post.begun(api="partial_outage")
    update = await post.pool.fetchval("SELECT id FROM updates")
    async with transaction(post.pool) as db:
        await broadcasts.queue(db, incident, update, "ada")  # said again: told once
    mailer = exporter(relay)
    async with post.mailing(mailer.export):
        await post.settled(done=120)
    mailer.close()
    assert Counter(relay.told) == Counter(many(120))
    assert len(relay.sessions) <= 4
    (row,) = await broadcasts.listing(post.pool)  # type: ignore[arg-type]
    assert await broadcasts.progress(post.pool, row) == {  # type: ignore[arg-type]
        "waiting": 0, "sent": 120, "failed": 0, "dropped": 0,
    }  # fmt: skip


async def test_a_process_that_is_killed_leaves_nobody_out_and_what_comes_twice_is_the_same_message(
    post: Post,
    relay: Mailroom,
    database_url: str,
    until: Callable[..., Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await post.subscribed(*many(300))
    await post.begun()
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, database_url, str(relay.port), cwd=root
    )
    await until(lambda: len(relay.kept) >= 100, 60)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert len(relay.kept) < 300
    monkeypatch.setattr(letters, "HOLD_S", 0.5)
    mailer = exporter(relay)
    async with post.mailing(mailer.export):
        await post.settled(done=300)
    mailer.close()
    seen: dict[str, set[str]] = {}
    for place, mailbox in enumerate(relay.told):
        seen.setdefault(mailbox, set()).add(relay.read(place)["Message-ID"])
    assert set(seen) == set(many(300))
    assert {len(ids) for ids in seen.values()} == {1}
    assert len(relay.told) - 300 <= 100  # no more than was on its way, or not written down


async def test_of_two_processes_each_letter_leaves_through_one(post: Post) -> None:
    await post.subscribed(*many(100))
    async with post.mailing(holder="one"), post.mailing(holder="two"):
        await post.begun()
        await post.settled(done=100)
    assert Counter(post.told) == Counter(many(100))


async def test_a_subscriber_reads_of_an_incident_in_the_order_it_was_said(post: Post) -> None:
    failed: set[str] = set()

    async def once_busy(envelope: Envelope) -> Outcome:
        if envelope.key in failed:
            return Delivered()
        failed.add(envelope.key)
        return Retry("busy")

    post.answer = once_busy
    await post.subscribed(*many(10))
    incident = await post.begun(text="first")
    await post.said(incident, "second")
    await post.said(incident, "third", 300.0)
    async with post.mailing():
        await post.settled(done=30)
    for one in many(10):
        texts = [envelope.letter.text for envelope in post.sent if envelope.to == one]
        assert texts == ["first", "first", "second", "second", "third", "third"]


async def test_a_page_with_many_subscribers_delays_no_other(post: Post) -> None:
    async with transaction(post.pool) as db:
        other = (await objects.create(db, ACTOR, "page", None, {"slug": "bank", "name": "Bank"})).id
    await post.subscribed(*many(200))
    await post.subscribed("b@b.example", page=other)
    await post.begun()
    await post.begun(other)
    async with post.mailing():
        await post.settled(done=201)
    assert post.told.index("b@b.example") < 50


async def test_what_one_mailbox_asked_for_leaves_before_what_many_are_told(post: Post) -> None:
    await post.subscribed(*many(150))
    await post.begun()
    async with post.pool.acquire() as db:
        letter = Letter(kind="confirm", id="one", at=100.0)
        await letters.put_single(
            db, post.page, "email", "new@a.example", letter, link=f"{BASE}/p/shop/confirm/x", language="de"
        )
    async with post.mailing():
        await post.settled(done=151)
    place = post.told.index("new@a.example")
    assert place < 50
    assert (post.sent[place].link, post.sent[place].language) == (f"{BASE}/p/shop/confirm/x", "de")
    assert not post.sent[place].manage_url


async def test_a_host_that_does_not_answer_has_a_few_places_and_delays_nobody(
    post: Post, until: Callable[..., Awaitable[None]]
) -> None:
    hanging, answers = asyncio.Event(), 0

    async def slow(envelope: Envelope) -> Outcome:
        nonlocal answers
        if "slow" in envelope.to:
            answers += 1
            await hanging.wait()
        return Delivered()

    post.answer = slow
    await post.subscribed(*(f"https://slow.example/{n}" for n in range(40)))
    await post.subscribed(*(f"https://quick{n}.example/" for n in range(40)))
    await post.begun()
    async with post.mailing():
        await until(lambda: len(post.sent) == 40, 60)
        assert answers == mailing.PER_HOST
        hanging.set()
        await post.settled(done=80)
    assert len(set(post.told)) == len(post.told) == 80


async def test_a_mailbox_that_is_not_there_is_left_alone_and_said_why(post: Post, relay: Mailroom) -> None:
    relay.answers = {
        "gone@a.example": "550 5.1.1 no such user",
        "full@a.example": "552 5.2.2 mailbox full",
        "policy@a.example": "550 5.7.1 relaying denied",
    }
    await post.subscribed("gone@a.example", "full@a.example", "policy@a.example", "well@a.example")
    mailer = exporter(relay)
    async with post.mailing(mailer.export):
        for n in range(3):
            await post.begun()
            await post.settled(**[{"done": 1, "dead": 3}, {"done": 2, "dead": 5}, {"done": 3, "dead": 7}][n])
        await post.begun()
        await post.settled(done=4, dead=8)
    mailer.close()
    rows = await post.pool.fetch("SELECT address, status, error, failures FROM subscribers")
    found = {row["address"]: (row["status"], row["error"], row["failures"]) for row in rows}
    assert found == {
        "gone@a.example": ("bounced", "SMTP 550 5.1.1", 1),
        "full@a.example": ("bounced", "SMTP 552 5.2.2", 3),
        "policy@a.example": ("active", None, 0),
        "well@a.example": ("active", None, 0),
    }


async def test_something_that_arrives_ends_a_row_of_refusals(post: Post) -> None:
    answers: list[Outcome] = [Rejected("SMTP 550"), Rejected("SMTP 550"), Delivered(), Rejected("SMTP 550")]

    async def answer(_: Envelope) -> Outcome:
        return answers.pop(0)

    post.answer = answer
    (row,) = await post.subscribed("a@a.example")
    async with post.mailing():
        for wanted in ({"dead": 1}, {"dead": 2}, {"dead": 2, "done": 1}, {"dead": 3, "done": 1}):
            await post.begun()
            await post.settled(**wanted)
    async with post.pool.acquire() as db:
        after = await subscribers.get(db, row["id"])
    assert after is not None
    assert (after["status"], after["failures"]) == ("active", 1)


async def test_a_relay_that_is_away_costs_no_letter_a_try(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(envelope: Envelope) -> Outcome:
        nonlocal asked
        asked += 1
        return Retry("the relay is away", 0.05) if asked <= 12 else Delivered()

    post.answer = away
    await post.subscribed("a@a.example")
    await post.begun()
    async with post.mailing():
        await post.settled(done=1)
    assert await post.pool.fetchval("SELECT attempts FROM letters") == 1


async def test_mails_wait_until_there_is_a_relay_and_the_unsubscribed_are_not_told(
    post: Post, until: Callable[..., Awaitable[None]]
) -> None:
    post.mail = None
    await post.subscribed("stays@a.example")
    (leaves,) = await post.subscribed("leaves@a.example")
    (url,) = await post.subscribed("https://a.example/hook")
    await post.begun()
    async with post.mailing():
        await post.settled(pending=2, done=1)
        async with post.pool.acquire() as db:
            assert await subscribers.edit(db, leaves["id"], {"status": "unsubscribed"})
        post.mail = Mail(host="127.0.0.1", sender="status@shop.example")
        await post.settled(done=2, dropped=1)
    assert post.told == [url["address"], "stays@a.example"]


async def test_what_has_not_left_says_what_holds_now_and_names_no_component_that_is_not_public(
    post: Post,
) -> None:
    post.mail = None
    await post.subscribed("a@a.example")
    incident = await post.begun(api="partial_outage", web="major_outage")
    removed = await post.begun()
    async with post.mailing():
        await post.settled(pending=2)
    async with transaction(post.pool) as db:
        update = await db.fetchval("SELECT id FROM updates WHERE incident_id = $1", incident)
        await by_hand.reword(db, ACTOR, incident, Moment(200.0, ""), update, "We know why.")
        await by_hand.remove(db, ACTOR, removed, Moment(200.0, ""))
        web = await objects.get(db, post.components["web"])
        assert web is not None
        await objects.replace(db, ACTOR, web, {**web.spec, "listed": False})
    post.mail = Mail(host="127.0.0.1", sender="status@shop.example")
    async with post.mailing():
        await post.settled(done=1, dropped=1)
    (envelope,) = post.sent
    assert envelope.letter.text == "We know why."
    assert envelope.letter.components == {"API": "partial_outage"}


async def test_who_hears_of_what_is_who_asked_for_it_before_it_was_said(post: Post) -> None:
    api, web = post.components["api"], post.components["web"]
    await post.subscribed("all@a.example")
    await post.subscribed("api@a.example", components=[api])
    await post.subscribed("web@a.example", components=[web])
    async with transaction(post.pool) as db:
        asked = await subscribers.ask(db, post.page, Entry("email", "unsure@a.example"), "page")
    await post.begun(api="partial_outage")
    await post.subscribed("late@a.example")
    async with post.pool.acquire() as db:
        await subscribers.edit(db, asked.row["id"], {"status": "active"})
    async with post.mailing():
        await post.settled(done=2)
    assert sorted(post.told) == ["all@a.example", "api@a.example"]


async def test_a_message_by_hand_goes_to_whom_it_concerns_and_its_progress_is_told(post: Post) -> None:
    await post.subscribed("all@a.example")
    await post.subscribed("web@a.example", components=[post.components["web"]])
    async with transaction(post.pool) as db:
        row = await broadcasts.message(
            db,
            post.page,
            "New address",
            "**Soon**",
            100.0,
            "ada",
            is_markdown=True,
            components=[post.components["api"]],
        )
        assert await broadcasts.progress(db, row) == {"waiting": 1, "sent": 0, "failed": 0, "dropped": 0}
    async with post.mailing():
        await post.settled(done=1)
        async with asyncio.timeout(20):
            while not (found := (await broadcasts.listing(post.pool, broadcast=row["id"]))[0])["finished_at"]:  # type: ignore[arg-type]
                await asyncio.sleep(0.02)
        await post.pool.execute("DELETE FROM letters")
        assert (await broadcasts.progress(post.pool, found))["sent"] == 1  # type: ignore[arg-type]
    (envelope,) = post.sent
    assert (envelope.letter.title, envelope.letter.text, envelope.letter.kind) == (
        "New address",
        "**Soon**",
        "message",
    )


async def test_links_lead_to_the_pages_own_host_once_that_is_proved_and_to_its_language(post: Post) -> None:
    await post.subscribed("a@a.example", language="de")
    first = await post.begun()
    async with post.mailing():
        await post.settled(done=1)
        async with transaction(post.pool) as db:
            page = await objects.get(db, post.page)
            assert page is not None
            await objects.replace(db, ACTOR, page, {**page.spec, "domain": "status.shop.example"})
            await hosts.verify(db, "status.shop.example", post.page, 100.0)
        await post.begun()
        await post.settled(done=2)
    one, two = post.sent
    token = await post.pool.fetchval("SELECT token FROM subscribers")
    assert one.link == f"{BASE}/p/shop/de/incidents/inc_{first.hex}"
    assert one.unsubscribe_url == f"{BASE}/p/shop/de/unsubscribe/{token}"
    assert two.manage_url == f"https://status.shop.example/de/manage/{token}"


async def test_no_more_mails_leave_than_the_relay_takes_in_a_minute(post: Post) -> None:
    post.mail = Mail(host="127.0.0.1", sender="status@shop.example", per_minute=60)
    await post.subscribed(*many(30))
    await post.begun()
    async with post.mailing():
        await post.settled(done=2, pending=28)
        assert len(post.sent) < 10


async def test_old_news_are_given_up_and_old_letters_and_the_unconfirmed_are_forgotten(post: Post) -> None:
    post.mail = None
    await post.subscribed("a@a.example")
    await post.begun()
    async with post.mailing():
        await post.settled(pending=1)
    async with transaction(post.pool) as db:
        await subscribers.ask(db, post.page, Entry("email", "unsure@a.example"), "page")
        await db.execute("UPDATE letters SET created_at = now() - interval '4 days'")
        assert await letters.expire(db) == 1
        await retention.sweep(db, days=30)
        assert len(await subscribers.listing(db)) == 2
        await db.execute("UPDATE letters SET finished_at = now() - interval '91 days'")
        await db.execute("UPDATE subscribers SET created_at = now() - interval '8 days', asked_at = NULL")
        await retention.sweep(db, days=30)
        assert [row["address"] for row in await subscribers.listing(db)] == ["a@a.example"]
    assert await post.counts() == {}


async def test_plans_kept_since_there_were_few_letters_do_not_hold_up_many(post: Post) -> None:
    async with post.pool.acquire() as db:
        for _ in range(8):  # the driver's sixth use of a statement keeps its plan
            assert await letters.claim(db, "email", 16, 1e10) == []
    await post.subscribed(*many(2000))
    await post.begun()
    async with letters.working(post.pool) as db:
        while await broadcasts.spread(db):
            pass
    async with letters.working(post.pool) as db:
        assert len(await letters.claim(db, "email", 16, 1e10)) == 16
        kept = await db.fetchval("SHOW plan_cache_mode")
    assert kept == "force_custom_plan"


async def test_a_letter_that_cannot_be_read_stops_no_other(post: Post) -> None:
    async with post.pool.acquire() as db:
        letter = Letter(kind="confirm", id="one", at=100.0)
        await letters.put_single(db, post.page, "email", "bad@a.example", letter, link=BASE)
        await db.execute(
            """UPDATE letters SET item = '{"letter": {"kind": "of tomorrow"}, "language": null}'"""
        )
    await post.subscribed("a@a.example")
    await post.begun()
    async with post.mailing():
        await post.settled(done=1, dead=1)
    assert post.told == ["a@a.example"]


async def test_what_is_sent_while_the_database_is_away_is_not_sent_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "HOLD_S", 0)
    settle, failures = letters.settle, 5

    async def away(*given: object) -> None:
        nonlocal failures
        failures -= 1
        if failures > 0:
            raise OSError("away")
        await settle(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(mailing, "AWAY_S", 0.05)
    monkeypatch.setattr(letters, "settle", away)
    await post.subscribed(*many(3))
    await post.begun()
    async with post.mailing():
        await post.settled(done=3)
    assert sorted(post.told) == list(many(3))


async def test_a_limit_that_is_set_later_holds_nothing_up_for_what_left_before(post: Post) -> None:
    limited = Mail(host="127.0.0.1", sender="status@shop.example", per_minute=600)
    post.mail = limited
    await post.subscribed(*many(300))
    await post.begun()
    async with post.mailing() as working:
        async with asyncio.timeout(60):
            while not post.sent:
                await asyncio.sleep(0.02)
        post.mail = limited.model_copy(update={"per_minute": None})
        await post.settled(done=300)
        post.mail = limited
        assert working._room(working._ways[0]) > 0


async def test_as_many_are_said_to_hear_of_it_as_do(post: Post) -> None:
    await post.subscribed(*many(3))
    api, web = (post.components[slug] for slug in ("api", "web"))
    async with transaction(post.pool) as db:
        hidden = await objects.get(db, api)
        assert hidden is not None
        await objects.replace(db, ACTOR, hidden, {**hidden.spec, "listed": False})
    for named, wanted in (("api", 0), ("web", 3), (None, 3)):
        await post.begun(post.page, text="x", **({named: "partial_outage"} if named else {}))
        async with transaction(post.pool) as db:
            ids = [{"api": api, "web": web}[named]] if named else []
            assert await broadcasts.reach(db, post.page, ids) == wanted
            assert await broadcasts.spread(db) == wanted
