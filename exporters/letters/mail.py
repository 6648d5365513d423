"""Letters by mail, through the installation's relay: many over one connection. It reads no bounces that come back as mail."""

import asyncio
import html
import re
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Final
from urllib.parse import urlsplit

import aiosmtplib

from evaluators.model import Envelope
from exporters.answer import failed
from exporters.channels.words import line
from exporters.letters.words import facts, heading, leads, moment, speech, status, text
from exporters.mail import Connector, Relay, framed
from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules import markdown

TIMEOUT_S: Final = 10.0
RELAY_AWAY_S: Final = 15.0
"""How long nothing is sent once the relay itself does not take mail."""
MOST_OVER_ONE: Final = 500
"""Mails over one connection: relays have limits of their own."""
_NOBODY: Final = re.compile(r"5\.1\.(1|2|3|6|10)\b")
_MAILBOX: Final = re.compile(r"5\.2\.\d")
_POLICY: Final = re.compile(r"relay|auth|sender|polic|spam|block|denied|reject", re.IGNORECASE)
_CODE: Final = re.compile(r"5\.\d{1,3}\.\d{1,3}\b")
_URL: Final = re.compile(r"https?://[!-;=?-~]{1,1000}")


class MailExporter:
    """Hands letters to one relay over up to `connections` connections, which it keeps."""

    def __init__(
        self, connector: Connector, relay: Relay, *, connections: int = 8, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._connector, self._relay, self._timeout_s = connector, relay, timeout_s
        self._free = asyncio.Semaphore(connections)
        self._writer = ThreadPoolExecutor(1, "letters")  # one: who does other work waits for no more than one
        self._idle: list[tuple[aiosmtplib.SMTP, int]] = []  # with how many mails went over it

    async def export(self, envelope: Envelope) -> Outcome:
        """Send it once. `Retry` with `after_s`: the relay takes nothing, whoever it is for."""
        sender = envelope.sender or self._relay.sender
        async with self._free:
            body = await asyncio.get_running_loop().run_in_executor(self._writer, composed, envelope, sender)
            try:
                client, sent = await self._connected()
            except aiosmtplib.SMTPResponseException as answer:
                return Retry(f"the relay says SMTP {answer.code}", RELAY_AWAY_S)
            except (aiosmtplib.SMTPException, OSError) as failure:
                return Retry(f"the relay: {failed_as(failure)}", RELAY_AWAY_S)
            try:
                outcome = await self._send(client, sender, envelope.to, body)
            except (aiosmtplib.SMTPException, OSError) as failure:  # broken off: it may have it
                client.close()
                return Retry(f"the relay: {failed_as(failure)}")
            except BaseException:
                client.close()
                raise
            # some relays refuse all that follows over one connection, and some after so many mails
            if sent + 1 < MOST_OVER_ONE and client.is_connected and not isinstance(outcome, Retry):
                self._idle.append((client, sent + 1))
            else:
                client.close()
            return outcome

    async def _connected(self) -> tuple[aiosmtplib.SMTP, int]:
        """One that answers: a relay hangs up on who was silent."""
        while self._idle:
            client, sent = self._idle.pop()
            try:
                if client.is_connected and (await client.rset()).code == 250:
                    return client, sent
            except (aiosmtplib.SMTPException, OSError):
                pass
            client.close()
        client = await self._relay.client(self._connector, self._timeout_s)
        await client.connect()
        return client, 0

    async def _send(self, client: aiosmtplib.SMTP, sender: str, to: str, body: bytes) -> Outcome:
        # `rules.subscriber` lets in no mailbox that is not written in ASCII; a sender may be anything
        options = {} if sender.isascii() else {"options": ["SMTPUTF8"], "encoding": "utf-8"}
        try:
            await client.mail(sender, **options)  # type: ignore[arg-type]
        except aiosmtplib.SMTPResponseException as answer:
            away_s = RELAY_AWAY_S if answer.code == 421 else None
            return Retry(f"SMTP {answer.code} for the sender {sender}", away_s)
        try:
            await client.rcpt(to)
        except aiosmtplib.SMTPResponseException as answer:
            return judged(answer.code, answer.message)
        try:
            await client.data(body)
        except aiosmtplib.SMTPResponseException as answer:
            return judged(answer.code, answer.message, of_mailbox=False)
        return Delivered()

    def close(self) -> None:
        """Hang up."""
        self._writer.shutdown(wait=False)
        for client, _ in self._idle:
            client.close()
        self._idle.clear()


def failed_as(failure: Exception) -> str:
    """In a few words, none of them the relay's."""
    if isinstance(failure, TimeoutError):
        return "no answer in time"
    if isinstance(failure, aiosmtplib.SMTPNotSupported) or type(failure) is aiosmtplib.SMTPException:
        return "it does not offer what `mail` needs: STARTTLS, AUTH or SMTPUTF8"
    return type(failure).__name__ if isinstance(failure, aiosmtplib.SMTPException) else failed(failure).reason


def judged(code: int, said: str, *, of_mailbox: bool = True) -> Outcome:
    """What a refusal of this recipient means. Only of one whose mailbox it blames is counted that it was refused.

    A relay may refuse everybody, because of its policy or ours: then a mailbox is not to blame. Where it says no enhanced code,
    it blames one that it refused (`of_mailbox`) as such, not what was to be said there.
    """
    found = _CODE.search(said)
    reason = f"SMTP {code}" + (f" {found[0]}" if found else "")
    if code == 421:
        return Retry(reason, RELAY_AWAY_S)
    if found:
        is_blamed = bool(_NOBODY.match(found[0]) or _MAILBOX.match(found[0]))
    else:
        is_blamed = of_mailbox and code in (550, 551, 552, 553) and not _POLICY.search(said)
    if code < 500 or not is_blamed:
        return Retry(reason)
    return Rejected(reason, for_good=bool(found and _NOBODY.match(found[0])))


def composed(envelope: Envelope, sender: str) -> bytes:
    """The message: plain text and HTML, threaded by incident. No data can add a header or a tag."""
    letter = envelope.letter
    said = status(envelope)
    subject = f"[{envelope.page}] {heading(envelope)}" if envelope.manage_url else heading(envelope)
    message = framed(
        sender,
        envelope.to,
        f"{subject}: {said}" if said else subject,
        letter.at,
        envelope.key,
        letter.incident and f"incident.{letter.incident}",
        envelope.page,
    )
    if envelope.reply_to:
        message["Reply-To"] = envelope.reply_to
    if envelope.manage_url:
        message["Precedence"] = "bulk"
        message["List-Id"] = f"<{_list_id(envelope.page_url)}>"
    message.set_content(_text(envelope))
    message.add_alternative(_html(envelope), subtype="html")
    return _unsubscribing(envelope.unsubscribe_url) + message.as_bytes()


def preview(envelope: Envelope) -> dict[str, str]:
    """Its `subject`, `text` and `html` as it would be mailed, read from the very message. Nothing is sent."""
    message = message_from_bytes(
        composed(envelope, envelope.sender or "status@localhost"), EmailMessage, policy=default
    )
    plain, rich = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert rich is not None
    return {"subject": str(message["Subject"]), "text": plain.get_content(), "html": rich.get_content()}


def _unsubscribing(url: str) -> bytes:
    """RFC 8058, which is for https, ahead of the rest: EmailMessage makes encoded words of what is longer than a line, and nobody
    reads those.
    """
    if not _URL.fullmatch(url):
        return b""
    once = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if url.startswith("https:") else ""
    return f"List-Unsubscribe: <{url}>\r\n{once}".encode()


def _list_id(page_url: str) -> str:
    """RFC 2919: the page, the smallest part first."""
    parts = urlsplit(page_url)
    return ".".join([*reversed(parts.path.strip("/").split("/")), parts.hostname or "localhost"]).lstrip(".")


def _text(envelope: Envelope) -> str:
    say = speech(envelope).say
    parts = [heading(envelope), " · ".join(_about(envelope)), text(envelope), "\n".join(facts(envelope))]
    if envelope.link:
        parts.append(f"{leads(envelope)}:\n{envelope.link}")
    if envelope.manage_url:
        ends = [f"{say(key)}: {url}" for key, url in _ends(envelope)]
        parts.append("\n".join(["-- ", _why(envelope), *ends]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _why(envelope: Envelope) -> str:
    return speech(envelope).say("letter_why", page=line(envelope.page), address=line(envelope.to))


def _ends(envelope: Envelope) -> list[tuple[str, str]]:
    return [("letter_manage", envelope.manage_url), ("letter_end", envelope.unsubscribe_url)]


def _about(envelope: Envelope) -> list[str]:
    said = status(envelope)
    return [said, moment(envelope, envelope.letter.at)] if said else []


def _html(envelope: Envelope) -> str:
    say, letter, accent = speech(envelope).say, envelope.letter, envelope.accent or "#2563eb"
    parts = [
        f"<p><strong>{html.escape(line(envelope.page))}</strong></p>",
        f"<h2>{html.escape(heading(envelope))}</h2>",
    ]
    if about := _about(envelope):
        parts.append(f"<p>{html.escape(' · '.join(about))}</p>")
    if letter.is_markdown and letter.kind in ("update", "message"):
        # of a preview: halves of pairs are nowhere else
        parts.append(markdown.html(letter.text.encode(errors="replace").decode()))
    else:
        parts.append(f"<p>{'<br>'.join(map(html.escape, text(envelope).split(chr(10))))}</p>")
    if found := [f"<li>{html.escape(fact)}</li>" for fact in facts(envelope)]:
        parts.append(f"<ul>{''.join(found)}</ul>")
    if envelope.link:
        parts.append(f"<p>{_anchor(envelope.link, leads(envelope), f'color:{accent};font-weight:bold')}</p>")
    if envelope.manage_url:
        links = " · ".join(_anchor(url, say(key), "color:inherit") for key, url in _ends(envelope))
        parts.append(
            f'<hr><p style="color:#6b7280;font-size:13px">{html.escape(_why(envelope))}<br>{links}</p>'
        )
    style = f"font-family:sans-serif;max-width:40em;margin:auto;padding:1em;border-top:4px solid {accent}"
    head = f'<!doctype html>\n<html lang="{html.escape(envelope.language)}"><head><meta charset="utf-8"></head>\n'
    return f'{head}<body style="{html.escape(style)}">\n' + "\n".join(parts) + "\n</body></html>\n"


def _anchor(url: str, said: str, style: str) -> str:
    return f'<a href="{html.escape(url)}" style="{html.escape(style)}">{html.escape(said)}</a>'
