"""The tcp beat: what is said and heard, services that answer as themselves or do not, and TLS that is asked for."""

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from engine.embedded.supervisor import Embedded
from engine.probes.run import RunOutcome
from evaluators.model import Verdict
from tests.rig.certificates import root

Play = Callable[..., RunOutcome]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HERE = "127.0.0.1"
ROOT = root()
LEAF = ROOT.issue(HERE)


def talk(play: Play, serve: Serve, **beat: Any) -> RunOutcome:
    return play(serve, **{"type": "tcp", "host": HERE, "port": "{port}", **beat})


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def message(outcome: RunOutcome) -> str:
    return outcome.failure.message if outcome.failure else ""


def saying(*answers: bytes, greeting: bytes = b"", lingers: bool = True) -> Serve:
    """A server that greets, and then gives one answer to whatever is said."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if greeting:
            writer.write(greeting)
        for answer in answers:
            if not await reader.read(4096):
                return
            writer.write(answer)
        await writer.drain()
        if lingers:
            await reader.read()

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.read(4096):
        writer.write(line)


def test_what_is_expected_comes(play: Play) -> None:
    outcome = talk(play, echo, steps=[{"send": "hello wörld\r\n", "expect": "hello wörld"}])
    assert outcome.verdict is Verdict.OK
    assert outcome.timings.ttfb is not None


def test_a_value_of_one_answer_is_said_in_the_next_step(play: Play) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"challenge <1896.697170952>\r\n")
        writer.write(b"right" if await reader.readline() == b"again <1896.697170952>\n" else b"wrong")

    steps = [
        {"matches": r"challenge .*\n", "capture": {"nonce": {"matches": "(<.*>)"}}},
        {"send": "again ${capture:nonce}\n", "expect": "right"},
    ]
    assert talk(play, serve, steps=steps).failure is None


def test_what_came_behind_one_answer_may_be_the_next(play: Play) -> None:
    steps = [{"expect": "first"}, {"matches": "^ \ufffd?second"}, {"send": "more\n"}, {"expect": "third"}]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first \xffsecond third")
        await reader.readline()
        await asyncio.sleep(0)

    outcome = talk(play, serve, steps=steps)  # what was said before it was asked is no answer
    assert kind(outcome) == "tcp.closed"
    assert talk(play, saying(greeting=b"first \xffsecond"), steps=steps[:2]).failure is None


def test_bytes_are_sent_as_base64(play: Play) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.write(b"\x00ok")

    sent = base64.b64encode(b"\x00\xff\x01").decode()
    assert talk(play, serve, steps=[{"send_base64": sent, "matches": "ok$"}]).failure is None
    assert heard == [b"\x00\xff\x01"]


def test_what_was_received_is_the_body(play: Play) -> None:
    greeting = saying(greeting=b'{"status": "ready"}')
    asserted = [
        {"of": "body", "contains": "ready"},
        {"of": "json", "path": "$.status", "eq": "ready"},
        {"of": "size", "eq": 19},
    ]
    assert talk(play, greeting, assertions=asserted).failure is None
    outcome = talk(play, greeting, assertions=[{"of": "body", "contains": "broken"}])
    assert (kind(outcome), (outcome.evidence or {})["body"]) == ("assertion.body", '{"status": "ready"}')


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(saying(greeting=b"x" * 100_000), "tcp.unexpected", id="far too much"),
        pytest.param(saying(greeting=b"bye", lingers=False), "tcp.closed", id="hangs up"),
        pytest.param(saying(greeting=b"hello"), "tcp.timeout", id="something else and then nothing"),
        pytest.param(saying(), "tcp.timeout", id="nothing"),
    ],
)
def test_what_does_not_come_has_its_error_type(play: Play, serve: Serve, expected: str) -> None:
    outcome = talk(play, serve, steps=[{"expect": "ready"}], timeout_s=0.3 if "timeout" in expected else 5.0)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)


def test_a_drip_of_single_bytes_is_cut_short(play: Play) -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):
            while True:
                writer.write(b"x")
                await asyncio.sleep(0)

    assert kind(talk(play, dripping, steps=[{"expect": "ready"}])) == "tcp.unexpected"


@pytest.mark.parametrize(
    ("beat", "greeting"),
    [
        ({"preset": "ssh"}, (b"x" * 3000 + b"\n") * 19),
        ({"starttls": "ldap"}, b"0" + b"x" * 60_000),
    ],
    ids=["almost too many lines", "almost an answer of LDAP"],
)
def test_what_nearly_fits_takes_no_longer_than_what_does(
    play: Play, beat: dict[str, Any], greeting: bytes
) -> None:
    """Backtracking, either took minutes of everybody's time."""
    assert kind(talk(play, saying(greeting=greeting, lingers=False), **beat)) in ("tcp.closed", "tcp.reset")


def test_a_captured_secret_is_hidden(play: Play) -> None:
    steps = [
        {"expect": "token=", "capture": {"token": {"matches": "token=([a-z0-9]+)"}}},
        {"send": "use ${capture:token}", "expect": "welcome"},
    ]
    serve = saying(b"no such s3cr3tvalue\n", greeting=b"token=s3cr3tvalue\n", lingers=False)
    outcome = talk(play, serve, steps=steps)
    assert kind(outcome) == "tcp.closed"
    assert "s3cr3tvalue" not in repr(outcome)


POSTGRES_STARTING = (
    b"E\x00\x00\x00\x4aSFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"
)
POSTGRES_REFUSING = b"E\x00\x00\x00\x99SFATAL\x00VFATAL\x00C28000\x00Mno pg_hba.conf entry for host\x00\x00"
NATS_INFO = b'INFO {"server_id":"N","version":"2.12.1","max_payload":1048576} \r\n'
HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("preset", "serve", "expected"),
    [
        pytest.param("redis", saying(b"+PONG\r\n", b"+OK\r\n"), None, id="redis"),
        pytest.param("redis", saying(b"-NOAUTH Authentication required.\r\n"), None, id="redis with password"),
        pytest.param("redis", saying(b"-LOADING Redis is loading\r\n"), "tcp.not_ready", id="redis loading"),
        pytest.param("redis", saying(b"-ERR unknown command\r\n"), "tcp.unexpected", id="no redis"),
        pytest.param("redis", saying(HTTP), "tcp.unexpected", id="http instead of redis"),
        pytest.param("memcached", saying(b"VERSION 1.6.40\r\n"), None, id="memcached"),
        pytest.param("ssh", saying(greeting=b"SSH-2.0-OpenSSH_9.2p1\r\n"), None, id="ssh"),
        pytest.param("ssh", saying(greeting=b"Hi!\r\nSSH-2.0-x\r\n"), None, id="ssh with a word before"),
        pytest.param("ssh", saying(greeting=b"Exceeded MaxStartups\r\n"), "tcp.not_ready", id="ssh too busy"),
        pytest.param("ssh", saying(greeting=b"220 mail ESMTP\r\n"), "tcp.unexpected", id="smtp instead of ssh"),
        pytest.param("smtp", saying(greeting=b"421 too busy\r\n"), "tcp.not_ready", id="smtp too busy"),
        pytest.param("smtp", saying(greeting=b"SSH-2.0-x\r\n"), "tcp.unexpected", id="ssh instead of smtp"),
        pytest.param("imap", saying(greeting=b"* OK [CAPABILITY IMAP4rev1] ready\r\n"), None, id="imap"),
        pytest.param("pop3", saying(greeting=b"+OK POP3 ready\r\n"), None, id="pop3"),
        pytest.param("ftp", saying(greeting=b"220-Welcome\r\n220 ready\r\n"), None, id="ftp"),
        pytest.param("postgres", saying(POSTGRES_STARTING), "tcp.not_ready", id="postgres starting up"),
        pytest.param("postgres", saying(POSTGRES_REFUSING), None, id="postgres refusing us"),
        pytest.param("postgres", saying(HTTP), "tcp.unexpected", id="http instead of postgres"),
        pytest.param("postgres", saying(b"RFB 003.008\n"), "tcp.unexpected", id="vnc instead of postgres"),
        pytest.param("nats", saying(b"-ERR 'Authorization Violation'\r\n", greeting=NATS_INFO), None, id="nats with password"),
    ],
)  # fmt: skip
def test_a_preset_knows_its_service(play: Play, preset: str, serve: Serve, expected: str | None) -> None:
    assert kind(talk(play, serve, preset=preset)) == expected


def test_the_wrong_service_is_quoted(play: Play) -> None:
    assert "SSH-2.0-dropbear" in message(
        talk(play, saying(greeting=b"SSH-2.0-dropbear\r\n\x1b[2J"), preset="smtp")
    )


def test_the_real_nats_answers_as_itself(play: Play, nats_url: str) -> None:
    port = urlsplit(nats_url).port
    assert talk(play, echo, port=port, preset="nats").failure is None
    assert kind(talk(play, echo, port=port, preset="redis")) == "tcp.unexpected"


def postgres_of(servers: Embedded) -> Serve:
    """The real PostgreSQL, which listens on a Unix socket, as a TCP server."""
    folder = parse_qs(urlsplit(servers.database_url).query)["host"][0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_unix_connection(next(Path(folder).glob(".s.PGSQL.*[0-9]")))

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(4096):
                    sink.write(data)
                sink.close()

        try:
            await asyncio.gather(pass_on(reader, out), pass_on(there, writer))
        finally:
            out.close()
            await out.wait_closed()

    return serve


def test_the_real_postgresql_answers_as_itself(play: Play, servers: Embedded) -> None:
    serve = postgres_of(servers)
    assert talk(play, serve, preset="postgres").failure is None
    assert kind(talk(play, serve, preset="postgres", starttls="postgres")) == "tls.not_offered"


def test_a_real_mail_server_answers_as_itself_with_and_without_starttls(play: Play, tmp_path: Path) -> None:
    mail = Controller(Sink(), hostname=HERE, port=0, tls_context=LEAF.serving(tmp_path))
    with socket.create_server((HERE, 0)) as free:
        mail.port = free.getsockname()[1]
    mail.start()
    try:
        assert talk(play, echo, port=mail.port, preset="smtp").failure is None
        secure = {"port": mail.port, "starttls": "smtp", "ca": ROOT.certificate_pem}
        outcome = talk(play, echo, **secure, preset="smtp")
        assert (outcome.failure, outcome.certificate_days is not None) == (None, True)
        assert play(echo, type="tls", host=HERE, **secure).failure is None
        untrusted = talk(play, echo, port=mail.port, starttls="smtp", preset="smtp")
        assert (kind(untrusted) or "").startswith("tls.")
    finally:
        mail.stop()


XMPP = b"<?xml version='1.0'?><stream:stream><stream:features><starttls xmlns='x'/></stream:features>"
LDAP_YES = b"0\x24\x02\x01\x01x\x1f\x0a\x01\x00\x04\x00\x04\x00"
LDAP_NO = b"0\x24\x02\x01\x01x\x1f\x0a\x01\x02\x04\x00\x04\x00"


@pytest.mark.parametrize(
    ("protocol", "greeting", "answers"),
    [
        ("imap", b"* OK ready\r\n", [b"a OK begin TLS now\r\n"]),
        ("pop3", b"+OK ready\r\n", [b"+OK begin TLS\r\n"]),
        ("ftp", b"220-Hi\r\n220 ready\r\n", [b"234 AUTH TLS ok\r\n"]),
        ("xmpp", b"", [XMPP, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"]),
        ("ldap", b"", [LDAP_YES]),
        ("postgres", b"", [b"S"]),
        ("nats", NATS_INFO, []),
    ],
)
def test_every_protocol_goes_on_in_tls(
    play: Play, tmp_path: Path, protocol: str, greeting: bytes, answers: list[bytes]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        for answer in answers:
            await reader.read(4096)
            writer.write(answer)
        await writer.drain()
        await writer.start_tls(LEAF.serving(tmp_path))
        await reader.read(1)

    outcome = talk(play, serve, type="tls", starttls=protocol, ca=ROOT.certificate_pem)
    assert outcome.failure is None, outcome.failure


@pytest.mark.parametrize(
    ("protocol", "serve", "expected"),
    [
        pytest.param("smtp", saying(b"250 mail\r\n", b"502 no TLS here\r\n", greeting=b"220 mail\r\n"), "tls.not_offered", id="smtp"),
        pytest.param("imap", saying(b"a BAD unknown\r\n", greeting=b"* OK ready\r\n"), "tls.not_offered", id="imap"),
        pytest.param("pop3", saying(b"-ERR no\r\n", greeting=b"+OK ready\r\n"), "tls.not_offered", id="pop3"),
        pytest.param("ldap", saying(LDAP_NO), "tls.not_offered", id="ldap"),
        pytest.param("postgres", saying(b"N"), "tls.not_offered", id="postgres"),
        pytest.param("smtp", saying(greeting=b"SSH-2.0-x\r\n"), "tcp.unexpected", id="another service"),
        pytest.param("postgres", saying(b"Sx"), "tls.protocol", id="something slipped in before TLS"),
    ],
)  # fmt: skip
def test_tls_that_is_not_offered_is_told(play: Play, protocol: str, serve: Serve, expected: str) -> None:
    assert kind(talk(play, serve, starttls=protocol)) == expected


@contextmanager
def asking(context: ssl.SSLContext) -> Iterator[int]:
    """A blocking server that wants a certificate: asyncio hangs up without telling why, which no real server does."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                with suppress(ssl.SSLError), context.wrap_socket(accepted, server_side=True) as session:
                    session.sendall(b"hello")

    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ROOT.certificate_pem)
    with socket.create_server((HERE, 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_our_own_certificate_is_shown_where_it_is_asked_for(play: Play, tmp_path: Path) -> None:
    us = ROOT.issue("upbeat.example", for_clients=True)
    more = {"tls": True, "ca": ROOT.certificate_pem, "steps": [{"expect": "hello"}]}
    identity = {"certificate": us.certificate_pem, "key": "${env:KEY}"}
    with asking(LEAF.serving(tmp_path)) as port:
        assert kind(talk(play, echo, port=port, more=more)) == "tls.client_certificate"
        outcome = talk(play, echo, port=port, more=more | identity, environment={"KEY": us.key_pem})
        assert outcome.failure is None


def test_captures_that_are_published_are_kept_of_a_failed_run(play: Play) -> None:
    captures = {"city": {"matches": r"in (\w+)"}, "secret_key": {"matches": "(hello)"}}
    steps = [{"expect": "Aachen", "capture": captures}, {"send": "x", "expect": "never"}]
    outcome = talk(play, saying(greeting=b"hello in Aachen", lingers=False), steps=steps, publish=["city"])
    assert (outcome.evidence or {})["published"] == {"city": "Aachen"}
