"""A mail relay, and the frame of every message handed to one. What messages say is the smtp channel's and `exporters.letters`'."""

import hashlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as CRLF_LINES
from email.utils import formatdate
from typing import Final, Literal

import aiosmtplib

from exporters.channels.words import line

Connector = Callable[[str, int, float], Awaitable[socket.socket]]
"""(host, port, timeout_s) -> connected socket: the guarded connector."""
_POLICY: Final = CRLF_LINES.clone(cte_type="7bit")  # relays without 8BITMIME are left


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail is handed over, secrets already in place. `tls_context` is for a private CA."""

    host: str
    sender: str
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)

    async def client(self, connector: Connector, timeout_s: float) -> aiosmtplib.SMTP:
        """Somebody to talk to there, not greeted yet; `timeout_s` bounds connecting and each command."""
        sock = await connector(self.host, self.port, timeout_s)
        return aiosmtplib.SMTP(
            hostname=self.host,
            sock=sock,
            use_tls=self.tls == "tls",
            start_tls=self.tls == "starttls",
            username=self.username,
            password=self.password,
            local_hostname=socket.gethostname() or "localhost",  # the default asks the DNS
            tls_context=self.tls_context,
            timeout=timeout_s,
        )


def framed(
    sender: str, to: str, subject: str, at: float, key: str, thread: str | None, name: str = ""
) -> EmailMessage:
    """A message without a body. No data can add a header. The same `key` is the same Message-ID.

    Messages of one `thread` answer the same never-sent root: threads hold whichever of them arrived (RFC 5322 3.6.4).
    """
    mailbox, _, domain = sender.rpartition("@")
    message = EmailMessage(policy=_POLICY if (sender + to).isascii() else _POLICY.clone(utf8=True))
    message["From"] = Address(_one_line(name)[:100], mailbox, domain) if name else sender
    message["To"] = to
    message["Subject"] = _one_line(subject)[:200]
    message["Date"] = formatdate(at)
    message["Message-ID"] = _message_id(key, domain)
    if thread:
        root = _message_id(thread, domain)
        message["In-Reply-To"] = root
        message["References"] = root
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers
    return message


def _one_line(text: str) -> str:
    # EmailMessage decodes encoded words it is given, line breaks in them included, and writes those out as they are.
    return line(text).replace("=?", "= ?")


def _message_id(name: str, domain: str) -> str:
    safe = re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)
    return f"<{name if safe else hashlib.sha256(name.encode()).hexdigest()}@{domain}>"
