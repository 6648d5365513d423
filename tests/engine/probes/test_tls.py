"""TLS as the http probe sees it: certificates made in the test, each wrong in one way."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.probes.run import RunOutcome
from evaluators.model import Verdict
from tests.rig.certificates import root

Play = Callable[..., RunOutcome]
URL = "https://127.0.0.1:{port}/"
TODAY = datetime(2026, 1, 1, tzinfo=UTC)


async def hi(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def serving(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def test_a_trusted_certificate_is_ok_and_its_phases_are_measured(play: Play, authority: trustme.CA) -> None:
    outcome = play(hi, tls=serving(authority.issue_cert("127.0.0.1")), url=URL)
    times = outcome.timings
    assert outcome.verdict is Verdict.OK
    assert all(getattr(times, phase) > 0 for phase in ("dns", "connect", "tls", "ttfb", "transfer"))


def test_a_certificate_for_the_name_is_ok(play: Play, authority: trustme.CA) -> None:
    url = "https://localhost:{port}/"
    assert play(hi, tls=serving(authority.issue_cert("localhost")), url=url).verdict is Verdict.OK


def test_a_large_body_comes_through(play: Play, authority: trustme.CA) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000)

    outcome = play(
        serve,
        tls=serving(authority.issue_cert("127.0.0.1")),
        url=URL,
        assertions=[{"of": "body", "eq": "x" * 300_000}],
    )
    assert outcome.verdict is Verdict.OK


@pytest.mark.parametrize(
    ("name", "begins", "ends", "expected"),
    [
        pytest.param("127.0.0.1", -20, -10, "tls.expired", id="expired"),
        pytest.param("127.0.0.1", 36500, 40000, "tls.not_yet_valid", id="not yet valid"),
        pytest.param("127.0.0.9", -10, 36500, "tls.wrong_host", id="another address"),
        pytest.param("other.example", -10, 36500, "tls.wrong_host", id="another name"),
    ],
)
def test_a_wrong_certificate_has_its_error_type(
    play: Play, authority: trustme.CA, name: str, begins: int, ends: int, expected: str
) -> None:
    begin, end = TODAY + timedelta(days=begins), TODAY + timedelta(days=ends)
    leaf = authority.issue_cert(name, not_before=begin, not_after=end)
    outcome = play(hi, tls=serving(leaf), url=URL)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)


def test_an_unknown_authority_is_untrusted(play: Play, tmp_path: Path) -> None:
    unknown = root()
    leaf = unknown.issue("127.0.0.1")
    leaf.above.append(unknown.certificate)
    assert kind(play(hi, tls=leaf.serving(tmp_path), url=URL)) == "tls.untrusted"


def test_nothing_is_sent_to_a_server_that_is_not_believed(play: Play, tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    play(listening, tls=root().issue("127.0.0.1").serving(tmp_path), url=URL)
    assert heard in ([], [b""])


def test_a_self_signed_certificate_is_told_apart(play: Play, self_signed: ssl.SSLContext) -> None:
    assert kind(play(hi, tls=self_signed, url=URL)) == "tls.self_signed"


def test_without_verify_any_certificate_will_do(play: Play, self_signed: ssl.SSLContext) -> None:
    assert play(hi, tls=self_signed, url=URL, verify=False).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(silent, "tls.timeout", id="a stalled handshake"),
        pytest.param(hanging_up, "tls.handshake", id="hangs up within the handshake"),
        pytest.param(no_tls, "tls.protocol", id="answers without TLS"),
    ],
)
def test_a_broken_handshake_has_its_error_type(
    play: Play, serve: Callable[..., object], expected: str
) -> None:
    assert kind(play(serve, url=URL, timeout_s=0.2 if "timeout" in expected else 3.0)) == expected


def test_a_protocol_that_is_too_old_is_a_failed_handshake(play: Play, authority: trustme.CA) -> None:
    context = serving(authority.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert kind(play(hi, tls=context, url=URL)) == "tls.handshake"


def test_secrets_do_not_follow_from_https_to_http(play: Play, authority: trustme.CA) -> None:
    heard: list[bytes] = []

    async def redirecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        port = plain_port[0]
        writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\n\r\n" % port)

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    plain_port: list[int] = []
    outcome = play(
        redirecting,
        also=listening,
        ports=plain_port,
        tls=serving(authority.issue_cert("127.0.0.1")),
        url=URL,
        headers={"Authorization": "Bearer x"},
    )
    assert (outcome.verdict, b"authorization" in heard[0].lower()) == (Verdict.OK, False)


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    built = x509.CertificateBuilder(
        name, name, key.public_key(), 1, TODAY - timedelta(days=9), TODAY + timedelta(days=36500)
    )
    pem = tmp_path_factory.mktemp("tls") / "self.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
