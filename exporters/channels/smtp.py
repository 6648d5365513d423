"""The smtp channel: one message per notice through a relay. It keeps no mailbox and reads no bounces."""

import hashlib
import html
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP as CRLF_LINES
from email.utils import formatdate
from typing import Literal

import aiosmtplib

from evaluators.model import Notice
from exporters.answer import failed
from exporters.channels.words import body, facts, line, link
from exporters.outcome import FIRST, Delivered, Memory, Outcome, Rejected, Retry

Connector = Callable[[str, int, float], Awaitable[socket.socket]]
"""(host, port, timeout_s) -> connected socket: the guarded connector."""


@dataclass(frozen=True, slots=True)
class Relay:
    """An smtp channel's settings, secrets already in place. `tls_context` is for a private CA."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)


class SmtpExporter:
    """Tells the mailboxes of one relay; `timeout_s` bounds connecting and each command."""

    def __init__(self, connector: Connector, relay: Relay, *, timeout_s: float = 15.0) -> None:
        self._connector, self._relay, self._timeout_s = connector, relay, timeout_s
        # notice id -> who needs no second try, kept while a notice reached some mailboxes and not yet others
        self._settled: OrderedDict[str, set[str]] = OrderedDict()

    async def export(self, notice: Notice, _: Memory = FIRST) -> Outcome:
        """Send `notice` once. Every try has the same Message-ID, so that mail programs can drop a second copy."""
        message = compose(notice, self._relay.sender, self._relay.to)
        try:
            sock = await self._connector(self._relay.host, self._relay.port, self._timeout_s)
            return await self._send(sock, notice.id, message)
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return _refused([one.code for one in refused.recipients])
        except aiosmtplib.SMTPResponseException as answer:
            return _refused([answer.code])
        except (aiosmtplib.SMTPException, OSError) as failure:
            return _failed(failure)

    async def _send(self, sock: socket.socket, notice_id: str, message: EmailMessage) -> Outcome:
        relay, settled = self._relay, self._settled.get(notice_id, set())
        client = aiosmtplib.SMTP(
            hostname=relay.host,
            sock=sock,
            use_tls=relay.tls == "tls",
            start_tls=relay.tls == "starttls",
            username=relay.username,
            password=relay.password,
            local_hostname=socket.gethostname() or "localhost",  # the default asks the DNS
            tls_context=relay.tls_context,
            timeout=self._timeout_s,
        )
        async with client:
            left = [mailbox for mailbox in relay.to if mailbox not in settled]
            refused, _ = await client.send_message(message, sender=relay.sender, recipients=left)
        return self._settle(notice_id, left, {mailbox: answer.code for mailbox, answer in refused.items()})

    def _settle(self, notice_id: str, tried: Sequence[str], refused: dict[str, int]) -> Outcome:
        again = {mailbox for mailbox, code in refused.items() if code < 500}
        if not again:
            self._settled.pop(notice_id, None)
            return Delivered(reason=_said(refused.values()) if refused else None)
        self._settled.setdefault(notice_id, set()).update(set(tried) - again)
        while len(self._settled) > 1000:
            self._settled.popitem(last=False)
        return Retry(_said(refused[mailbox] for mailbox in again))


def _said(codes: Iterable[int]) -> str:
    return f"SMTP {min(found := [*codes])} for {len(found)} of the recipients"


def compose(notice: Notice, sender: str, to: Collection[str]) -> EmailMessage:
    """The message of a notice: plain text and minimal HTML, threaded by episode. No data can add a header or a tag."""
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=CRLF_LINES)
    message["From"] = sender
    message["To"] = ", ".join(to)
    # EmailMessage decodes encoded words it is given, line breaks in them included, and writes those out as they are.
    message["Subject"] = line(notice.title).replace("=?", "= ?")[:200]
    message["Date"] = formatdate(notice.at)
    message["Message-ID"] = _message_id(notice.id, domain)
    if notice.episode:
        # Every notice answers the same never-sent root: threads hold whichever of them arrived (RFC 5322 3.6.4).
        root = _message_id(f"episode.{notice.episode}", domain)
        message["In-Reply-To"] = root
        message["References"] = root
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers
    message["X-Upbeat-Told"] = notice.told
    message.set_content(_text(notice))
    message.add_alternative(_html(notice), subtype="html")
    return message


def _refused(codes: Sequence[int]) -> Outcome:
    """4xx is worth another try, 5xx is final; with several recipients one 4xx is enough to try again."""
    again = [code for code in codes if code < 500]
    return Retry(f"SMTP {again[0]}") if again else Rejected(f"SMTP {codes[0]}")


def _failed(failure: Exception) -> Outcome:
    if isinstance(failure, TimeoutError):
        return Retry("no answer in time")
    # aiosmtplib says "no STARTTLS" and "no AUTH" with its bare base class.
    if type(failure) in (aiosmtplib.SMTPException, aiosmtplib.SMTPNotSupported):
        return Rejected("the relay does not offer what this channel needs: STARTTLS, AUTH or SMTPUTF8")
    return Retry(type(failure).__name__) if isinstance(failure, aiosmtplib.SMTPException) else failed(failure)


def _text(notice: Notice) -> str:
    about = [f"{name}: {value}" for name, value in facts(notice)]
    return "\n".join([line(notice.title), "", *body(notice), "", *about, link(notice) or ""]).rstrip() + "\n"


def _html(notice: Notice) -> str:
    parts = [f"<h2>{html.escape(line(notice.title))}</h2>"]
    parts += [f"<p>{'<br>'.join(map(html.escape, body(notice)))}</p>"] if notice.why else []
    parts += [f"<div>{name}: {html.escape(value)}</div>" for name, value in facts(notice)]
    parts += [f'<p><a href="{html.escape(where)}">Open in Upbeat</a></p>' if (where := link(notice)) else ""]
    head = '<!doctype html>\n<html><head><meta charset="utf-8"></head><body>\n'
    return head + "\n".join(parts) + "\n</body></html>\n"


def _message_id(name: str, domain: str) -> str:
    safe = re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)
    return f"<{name if safe else hashlib.sha256(name.encode()).hexdigest()}@{domain}>"
