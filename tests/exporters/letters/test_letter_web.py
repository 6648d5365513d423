"""Letters by HTTP against a real server: JSON whose signature others check, and Slack's blocks."""

import json
from base64 import b64encode

import aiohttp
import pytest
from msgspec.structs import replace
from standardwebhooks import Webhook

from engine.egress import open_session
from evaluators.model import Envelope, Letter
from exporters.letters.web import WebExporter, message, payload
from exporters.outcome import Delivered, Rejected
from rules.address import EgressPolicy
from tests.exporters.conftest import Receiver

BASE = "https://status.shop.example"
KEY = b"k" * 32
ENVELOPE = Envelope(
    letter=Letter(
        kind="update",
        id="upd_01",
        at=1_790_000_000.25,
        title="Checkout is slow",
        text="We look <into> it & more.",
        incident="inc_0a",
        status="investigating",
        impact="minor",
        components={"API": "partial_outage"},
        began_at=1_790_000_000.0,
    ),
    to="",
    kind="webhook",
    key="upd_01.sub_01",
    page="Shop",
    page_url=BASE,
    language="de",
    timezone="UTC",
    link=f"{BASE}/incidents/inc_0a",
    manage_url=f"{BASE}/manage/t",
    unsubscribe_url=f"{BASE}/unsubscribe/t",
    secret=KEY,
)


async def test_a_webhook_gets_every_field_signed_with_its_own_secret(
    receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    envelope = replace(ENVELOPE, to=receiver.url)
    assert await WebExporter(session).export(envelope) == Delivered()
    assert await WebExporter(session).export(envelope) == Delivered()
    (got, again) = receiver.received
    said = Webhook(f"whsec_{b64encode(KEY).decode()}").verify(got.body, dict(got.headers))
    assert said == json.loads(again.body)
    assert got.headers["webhook-id"] == again.headers["webhook-id"] == "upd_01.sub_01"
    assert said == {
        "version": 1,
        "type": "incident.update",
        "timestamp": "2026-09-21T14:13:20.250Z",
        "data": {
            "id": "upd_01",
            "title": "Checkout is slow",
            "text": "We look <into> it & more.",
            "is_markdown": False,
            "incident": "inc_0a",
            "status": "investigating",
            "impact": "minor",
            "components": {"API": "partial_outage"},
            "at": "2026-09-21T14:13:20.250Z",
            "began_at": "2026-09-21T14:13:20.000Z",
            "starts_at": None,
            "ends_at": None,
            "page": {"name": "Shop", "url": BASE},
            "url": f"{BASE}/incidents/inc_0a",
            "manage_url": f"{BASE}/manage/t",
            "unsubscribe_url": f"{BASE}/unsubscribe/t",
        },
    }


async def test_a_strangers_url_reaches_no_private_address_and_no_redirect_is_followed(
    receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    guarded = open_session(EgressPolicy(), "channel", timeout_s=5)
    for url in (receiver.url, "http://169.254.169.254/latest", "http://[::1]:1/", "file:///etc/passwd"):
        assert isinstance(await WebExporter(guarded).export(replace(ENVELOPE, to=url)), Rejected)
    await guarded.close()
    assert not receiver.received
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    assert isinstance(await WebExporter(session).export(replace(ENVELOPE, to=receiver.url)), Rejected)
    assert len(receiver.received) == 1


async def test_slack_gets_blocks_in_the_subscribers_language_in_which_nothing_is_a_mention(
    receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    hostile = "<!channel> <https://e.example|x> &"
    letter = replace(ENVELOPE.letter, title=hostile, text=hostile, components={hostile: "major_outage"})
    envelope = replace(ENVELOPE, letter=letter, kind="slack", to=receiver.url, page=hostile)
    assert await WebExporter(session).export(envelope) == Delivered()
    said = json.loads(receiver.received[0].body)
    assert said == message(envelope)
    texts = [block["text"] for block in said["blocks"] if block["type"] == "section"]
    texts += [one for block in said["blocks"] if block["type"] == "context" for one in block["elements"]]
    for text in texts:
        assert text["verbatim"] is True
        assert "<!" not in text["text"]
        assert "<https://e" not in text["text"]
    assert f"<{BASE}/incidents/inc_0a|Auf der Statusseite ansehen>" in texts[-1]["text"]
    assert said["blocks"][0]["text"]["type"] == "plain_text"
    assert "<!" not in said["text"]


@pytest.mark.parametrize("kind", ["confirm", "message"])
def test_other_kinds_have_a_type_of_their_own(kind: str) -> None:
    letter = Letter(kind=kind, id="x", at=1.0)  # type: ignore[arg-type]
    said = payload(replace(ENVELOPE, letter=letter))
    assert said["type"] == {"confirm": "subscription.confirm", "message": "message"}[kind]
