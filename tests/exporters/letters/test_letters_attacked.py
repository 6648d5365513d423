"""Attacks in every text of a letter: in a browser nothing of the mail runs or loads, no header is added, and Slack is told nobody's name."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html import escape

import pytest

from evaluators.model import Envelope, Letter
from exporters.letters.mail import composed, preview
from exporters.letters.web import message
from tests.api.console.conftest import WATCH
from tests.api.status.test_status_hostile import ATTACKS
from tests.rig.browser import chromium

FOUND = "[window.attacks, document.querySelectorAll('script, iframe, img, form, link, object, base').length]"
INJECTED = (
    "x\r\nBcc: evil@evil.example",
    "x\nContent-Type: text/html\n\n<script>xss()</script>",
    "=?utf-8?q?x=0D=0ABcc:_evil@evil.example?=",
    "x\u2028Bcc: evil@evil.example",
    "x\x00y\x0bz\x85Bcc: evil@evil.example",
    "<!channel> <@U1> <!here|here> & <https://evil.example|bank>",
)


def envelope(attack: str, *, is_markdown: bool) -> Envelope:
    """A letter of nothing but the attack."""
    letter = Letter(
        "update",
        "upd_1",
        1_790_000_000.0,
        attack,
        attack,
        is_markdown,
        "inc_1",
        "incident",
        "investigating",
        "major",
        {attack: "major_outage"},
        1_790_000_000.0,
    )
    return Envelope(
        letter,
        "who@example.com",
        "email",
        "let_1",
        attack,
        "https://status.example/",
        "en",
        "UTC",
        "https://status.example/incidents/inc_1",
        "https://status.example/manage/t",
        "https://status.example/unsubscribe/t",
    )


@pytest.mark.browser
async def test_attacks_run_in_no_mail() -> None:
    mails = [preview(envelope(attack, is_markdown=True))["html"] for attack in (*ATTACKS, *INJECTED)]
    plain = [preview(envelope(attack, is_markdown=False))["html"] for attack in (*ATTACKS, *INJECTED)]
    asked: list[str] = []
    async with chromium() as browser:
        context = await browser.new_context()
        await context.add_init_script(WATCH)
        tab = await context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        for some in (mails[::2], mails[1::2], plain[::2], plain[1::2]):
            await tab.set_content("".join(f'<iframe srcdoc="{escape(mail)}"></iframe>' for mail in some))
            frames = tab.main_frame.child_frames
            assert len(frames) == len(some)
            for frame in frames:
                assert await frame.evaluate(FOUND) == [[], 0], await frame.content()
    assert set(asked) <= {"about:srcdoc"}  # nothing is loaded


def test_attacks_add_no_header() -> None:
    names: set[tuple[str, ...]] = set()
    for attack in (*ATTACKS, *INJECTED):
        sent = composed(envelope(attack, is_markdown=False), "status@example.com")
        read = message_from_bytes(sent, EmailMessage, policy=default)
        names.add(tuple(read.keys()))
        assert read.defects == []
        assert read["Bcc"] is None
        assert str(read["To"]) == "who@example.com"
        assert read.get_content_type() == "multipart/alternative"
        assert len(list(read.walk())) == 3
    assert len(names) == 1


def test_attacks_mention_nobody_in_slack() -> None:
    for attack in (*ATTACKS, *INJECTED):
        said = message(envelope(attack, is_markdown=False))
        parsed = [said["text"], *(block for block in said["blocks"] if block["type"] != "header")]
        assert set(re.findall(r"<([^<>|]*)", str(parsed))) <= {
            "https://status.example/incidents/inc_1",
            "https://status.example/manage/t",
        }, attack
