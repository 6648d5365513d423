"""What is said over a connection and what must come back: the services that are known, and how they are asked for TLS.

Data only; saying it is `engine.probes.dialogue`. Patterns are searched in what came since the last was satisfied, as
text; bytes that are no UTF-8 are U+FFFD. They run on RE2, as ours are held against strangers' words no less than an
operator's are.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from rules.capture import Taking
from rules.pattern import compile_pattern

Preset = Literal["postgres", "redis", "memcached", "smtp", "imap", "pop3", "ftp", "ssh", "nats"]
StartTls = Literal["smtp", "imap", "pop3", "ftp", "xmpp", "ldap", "postgres", "nats"]
PORTS: Final[dict[StartTls, int]] = {
    "smtp": 25,
    "imap": 143,
    "pop3": 110,
    "ftp": 21,
    "xmpp": 5222,
    "ldap": 389,
    "postgres": 5432,
    "nats": 4222,
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something that is said, or nothing, and what must come back; nothing need where there is no `answers`."""

    send: bytes = b""
    answers: Any = None  # a compiled pattern: what is waited for
    ends: Any = None  # an answer that is whole: where it is not what is waited for, nothing else will be
    busy: Any = None  # the service itself, saying that it cannot serve now
    draft: str | None = None  # sent instead, once its captures are filled in
    takings: tuple[Taking, ...] = ()
    wanted: str = ""  # `answers` for people


def _exchange(send: bytes, answers: str, ends: str = r"\n", busy: str | None = None) -> Exchange:
    return Exchange(
        send, compile_pattern(answers), compile_pattern(ends), compile_pattern(busy) if busy else None
    )


_EHLO: Final = b"EHLO upbeat.invalid\r\n"
_REPLY: Final = r"(?m)^\d{3} .*\n|^\D.*\n"  # the last line of SMTP's and FTP's answers, or none of theirs
_QUIT: Final = Exchange(b"QUIT\r\n")
_SMTP: Final = (
    _exchange(b"", r"(?m)^220[ ].*\n", _REPLY, r"^[45]\d\d[ -]"),
    _exchange(_EHLO, r"(?m)^250[ ].*\n", _REPLY, r"^421[ -]"),
)
# protocol 3.0, user and database "upbeat": enough to be asked for a password, or told why not
_STARTUP: Final = b"\x00\x00\x00\x25\x00\x03\x00\x00user\x00upbeat\x00database\x00upbeat\x00\x00"
_NATS_CONNECT: Final = b'CONNECT {"verbose":false,"pedantic":false,"lang":"upbeat","version":"1"}\r\nPING\r\n'
_NATS_INFO: Final = _exchange(b"", r"^INFO \{.*\}\s*\n")

PRESETS: Final[dict[Preset, tuple[Exchange, ...]]] = {
    "postgres": (
        _exchange(
            _STARTUP,
            r"^([RvN]\x00\x00|E\x00[\s\S]+\x00C[0-9A-Z]{5}\x00)",  # asks for a password, or refuses in its own words
            r"^[^RvNE]|^.[^\x00]",
            r"^E\x00[\s\S]+\x00C(57P0[1-5]|53300)\x00",  # starting, stopping, recovering; too many clients
        ),
        Exchange(b"X\x00\x00\x00\x04"),
    ),
    "redis": (
        _exchange(
            b"PING\r\n",
            r"^(\+PONG|-NOAUTH|-NOPERM|-WRONGPASS).*\n",
            busy=r"^-(LOADING|BUSY|MASTERDOWN|DENIED|ERR max)",
        ),
        _QUIT,
    ),
    "memcached": (_exchange(b"version\r\n", r"^VERSION .*\n"), Exchange(b"quit\r\n")),
    "smtp": (*_SMTP, _QUIT),
    "imap": (_exchange(b"", r"^\* (OK|PREAUTH)\b.*\n", busy=r"^\* BYE"), Exchange(b"a LOGOUT\r\n")),
    "pop3": (_exchange(b"", r"^\+OK.*\n", busy=r"^-ERR"), _QUIT),
    "ftp": (_exchange(b"", r"(?m)^220 .*\n", _REPLY, r"^421[ -]"), _QUIT),
    "ssh": (
        # Lines before the version are allowed (RFC 4253, 4.2).
        _exchange(
            b"", r"(?m)^SSH-(2\.0|1\.99)-.*\n", r"([\s\S]*\n){20}|^(220|HTTP/|\+OK|\* )", r"MaxStartups"
        ),
        Exchange(b"SSH-2.0-Upbeat\r\n"),
    ),
    "nats": (
        _NATS_INFO,
        _exchange(_NATS_CONNECT, r"(?m)^(PONG|-ERR 'Auth.*)\s*\n", busy=r"^-ERR '(maximum|server)"),
    ),
}
"""Each service says that it is itself, whether or not it lets us in, and is left politely. None is logged in to."""

STARTTLS: Final[dict[StartTls, tuple[Exchange, ...]]] = {
    "smtp": (*_SMTP, _exchange(b"STARTTLS\r\n", r"^220[ ].*\n", _REPLY)),
    "imap": (
        _exchange(b"", r"^\* OK\b.*\n", busy=r"^\* BYE"),
        _exchange(b"a STARTTLS\r\n", r"(?m)^a OK\b.*\n", r"(?m)^a .*\n"),
    ),
    "pop3": (_exchange(b"", r"^\+OK.*\n", busy=r"^-ERR"), _exchange(b"STLS\r\n", r"^\+OK.*\n")),
    "ftp": (
        _exchange(b"", r"(?m)^220 .*\n", _REPLY, r"^421[ -]"),
        _exchange(b"AUTH TLS\r\n", r"(?m)^234 .*\n", _REPLY),
    ),
    "xmpp": (
        Exchange(
            answers=compile_pattern(r"<starttls\b[\s\S]*</stream:features>"),
            ends=compile_pattern(r"</stream:|^[^<]"),
            draft="<?xml version='1.0'?><stream:stream to='${capture:host}' version='1.0' "
            "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        ),
        _exchange(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", r"<proceed[^>]*>", r">"),
    ),
    "ldap": (
        # ExtendedRequest 1.3.6.1.4.1.1466.20037; its answer carries the result code success
        _exchange(
            b"0\x1d\x02\x01\x01w\x18\x80\x161.3.6.1.4.1.1466.20037",
            r"^0[\s\S]+x[\s\S]+\x0a\x01\x00[\s\S]*",
            r"\x0a\x01[\s\S]",
        ),
    ),
    "postgres": (_exchange(b"\x00\x00\x00\x08\x04\xd2\x16/", r"^S", r"^[\s\S]"),),
    "nats": (_NATS_INFO,),
}
"""How each protocol is asked to go on in TLS."""


def after_starttls(preset: Preset, starttls: StartTls | None) -> tuple[Exchange, ...]:
    """The exchanges of `preset`; without the greeting, where it came before TLS."""
    exchanges = PRESETS[preset]
    return exchanges[1:] if starttls == preset and not exchanges[0].send else exchanges
