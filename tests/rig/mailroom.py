"""A mail relay on a real socket (aiosmtpd): answers as the test says, keeps what it accepted."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial

from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Mailroom:
    """`answers`: to a RCPT of this mailbox, or to "DATA"."""

    port: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    kept: list[Envelope] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    sessions: set[object] = field(default_factory=set)  # where mail came from

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.answers.get("DATA", "250 OK")
        if answer.startswith("250"):
            self.kept.append(envelope)
            self.secured.append(session.ssl is not None)
            self.sessions.add(session.peer)
        return answer

    def read(self, place: int = 0) -> EmailMessage:
        content = self.kept[place].content
        assert isinstance(content, bytes)
        return email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)

    @property
    def told(self) -> list[str]:
        """Who was sent something, in order."""
        return [mailbox for one in self.kept for mailbox in one.rcpt_tos]


@asynccontextmanager
async def open_mailroom(
    room: Mailroom, tls: ssl.SSLContext | None = None, make: partial[SMTP] | None = None, port: int = 0
) -> AsyncIterator[Mailroom]:
    """`room` behind a port of its own."""
    loop = asyncio.get_running_loop()
    factory = make or partial(SMTP, room)
    server = await loop.create_server(lambda: factory(hostname="relay.test"), "127.0.0.1", port, ssl=tls)
    room.port = server.sockets[0].getsockname()[1]
    try:
        yield room
    finally:
        server.close()
