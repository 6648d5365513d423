"""The smtp channel: one message per notice through a relay. It keeps no mailbox and reads no bounces."""

import html
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage

import aiosmtplib

from evaluators.model import Notice
from exporters import mail
from exporters.answer import failed
from exporters.channels.words import body, facts, line, link
from exporters.mail import Connector, framed
from exporters.outcome import FIRST, Delivered, Memory, Outcome, Rejected, Retry


@dataclass(frozen=True, slots=True)
class Relay(mail.Relay):
    """An smtp channel's settings."""

    to: tuple[str, ...] = ()


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
            client = await self._relay.client(self._connector, self._timeout_s)
            return await self._send(client, notice.id, message)
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return _refused([one.code for one in refused.recipients])
        except aiosmtplib.SMTPResponseException as answer:
            return _refused([answer.code])
        except (aiosmtplib.SMTPException, OSError) as failure:
            return _failed(failure)

    async def _send(self, client: aiosmtplib.SMTP, notice_id: str, message: EmailMessage) -> Outcome:
        relay, settled = self._relay, self._settled.get(notice_id, set())
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
    thread = notice.episode and f"episode.{notice.episode}"
    message = framed(sender, ", ".join(to), notice.title, notice.at, notice.id, thread)
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
