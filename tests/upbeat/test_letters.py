"""Which relay and which policy letters leave by: those of now, with real sockets."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from engine.secrets import Secrets
from evaluators.model import Envelope, Letter
from exporters.outcome import Delivered, Rejected, Retry
from rules.address import EgressPolicy
from rules.mail import Mail
from tests.rig.mailroom import Mailroom, open_mailroom
from upbeat.letters import Letters

ENVELOPE = Envelope(
    letter=Letter(kind="message", id="one", at=1.0, title="Hello"),
    to="ada@a.example",
    kind="email",
    key="one.1",
    page="Shop",
    page_url="https://status.shop.example",
    language="en",
    timezone="UTC",
)


@pytest.fixture
async def relay() -> AsyncIterator[Mailroom]:
    async with open_mailroom(Mailroom()) as room:
        yield room


async def test_mail_leaves_by_the_relay_that_is_set_now(relay: Mailroom) -> None:
    mail: Mail | None = None
    letters = Letters(lambda: mail, EgressPolicy, Secrets({}))
    assert isinstance(await letters.send(ENVELOPE), Retry)
    mail = Mail(host="127.0.0.1", port=relay.port, tls="none", sender="a@shop.example")
    assert await letters.send(ENVELOPE) == Delivered()
    mail = mail.model_copy(update={"sender": "b@shop.example"})
    assert await letters.send(ENVELOPE) == Delivered()
    assert [one.mail_from for one in relay.kept] == ["a@shop.example", "b@shop.example"]
    mail = mail.model_copy(update={"username": "u", "password": "${env:UNSET}"})
    unset = await letters.send(ENVELOPE)
    assert isinstance(unset, Retry)
    assert "UNSET" in unset.reason
    await letters.close()


async def test_a_subscribers_url_reaches_private_addresses_only_where_egress_says_so(relay: Mailroom) -> None:
    policy = EgressPolicy()
    letters = Letters(lambda: None, lambda: policy, Secrets({}))
    hook = replace(ENVELOPE, kind="webhook", to=f"http://127.0.0.1:{relay.port}/")
    refused = await letters.send(hook)
    assert isinstance(refused, Rejected)
    policy = EgressPolicy(["127.0.0.0/8"])
    assert isinstance(await letters.send(hook), Retry)  # it is reached, and is no web server
    await letters.close()
