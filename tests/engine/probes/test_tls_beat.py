"""The tls beat against servers that are each wrong in one way: every fault has its error type, and none takes the deadline."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from engine.probes.run import RunOutcome
from evaluators.model import Verdict
from tests.rig.certificates import Identity, root, self_signed

Play = Callable[..., RunOutcome]
HERE = "127.0.0.1"
ROOT = root()
BETWEEN = ROOT.issue("Upbeat Test Intermediate", is_authority=True, days=3000)
LEAF = BETWEEN.issue(HERE, "localhost")
OTHER = root("Somebody Else")
OF_OTHER = OTHER.issue(HERE)
_P = 0xECB9EC0E21AD431015E70CCC79DD20F6F04137451B9231210A1C3F1356806581
_Q = 0xCDF4907122FBAB1C963E538D5CA50D92581C9241E5529F16E27F13D7621E0C17


async def still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


@pytest.fixture
def watch(play: Play, tmp_path: Path) -> Play:
    """`watch(identity, **beat)`: run a tls beat against a server with `identity`."""

    def watched(
        identity: Identity, *, at_most: ssl.TLSVersion | None = None, ciphers: str = "", **beat: Any
    ) -> RunOutcome:
        tls = identity.serving(tmp_path, at_most=at_most, ciphers=ciphers)
        return look(play, tls=tls, **beat)

    return watched


def look(play: Play, serve: Any = still, **beat: Any) -> RunOutcome:
    return play(serve, **{"type": "tls", "host": HERE, "port": "{port}", "ca": ROOT.certificate_pem, **beat})


def kind(outcome: RunOutcome) -> str | None:
    return outcome.failure.type if outcome.failure else None


def rsa_512() -> rsa.RSAPrivateKey:
    """Made by hand: nothing that is kept well makes one any more."""
    e, n, d = 65537, _P * _Q, pow(65537, -1, (_P - 1) * (_Q - 1))
    public = rsa.RSAPublicNumbers(e, n)
    parts = (rsa.rsa_crt_dmp1(d, _P), rsa.rsa_crt_dmq1(d, _Q), rsa.rsa_crt_iqmp(_P, _Q))
    return rsa.RSAPrivateNumbers(_P, _Q, d, *parts, public).private_key(unsafe_skip_rsa_key_validation=True)


def test_a_valid_certificate_earns_ok_and_its_phases_are_measured(watch: Play) -> None:
    outcome = watch(LEAF, assertions=[{"of": "certificate.days_left", "between": [363, 366]}])
    assert (outcome.verdict, outcome.failure) == (Verdict.OK, None)
    assert (outcome.timings.tls or 0) > 0
    assert 363 < (outcome.certificate_days or 0) < 366


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        pytest.param(BETWEEN.issue(HERE, days=-2, begins=-9), "tls.expired", id="expired"),
        pytest.param(BETWEEN.issue(HERE, begins=3, days=90), "tls.not_yet_valid", id="not yet valid"),
        pytest.param(BETWEEN.issue("other.example"), "tls.wrong_host", id="another name"),
        pytest.param(BETWEEN.issue("127.0.0.2"), "tls.wrong_host", id="another address"),
        pytest.param(self_signed(HERE), "tls.self_signed", id="self-signed"),
        pytest.param(Identity(LEAF.certificate, LEAF.key), "tls.incomplete_chain", id="incomplete chain"),
        pytest.param(
            Identity(LEAF.certificate, LEAF.key, [root("Other").certificate]),
            "tls.incomplete_chain",
            id="a chain that does not fit",
        ),
        pytest.param(
            Identity(OF_OTHER.certificate, OF_OTHER.key, [OTHER.certificate]),
            "tls.untrusted",
            id="an authority that is not trusted",
        ),
        pytest.param(BETWEEN.issue(HERE, for_clients=True), "tls.untrusted", id="not for servers"),
        pytest.param(BETWEEN.issue(HERE, sha1=True), "tls.weak_signature", id="SHA-1"),
    ],
)
def test_each_fault_of_a_certificate_has_its_error_type(
    watch: Play, identity: Identity, expected: str
) -> None:
    outcome = watch(identity)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)
    assert (outcome.evidence or {})["tls"]["certificates"][0]["sha256"] == identity.sha256


def test_a_key_of_rsa_512_is_weak(watch: Play) -> None:
    weak = BETWEEN.issue(HERE, key=rsa_512())
    assert kind(watch(weak, at_most=ssl.TLSVersion.TLSv1_2)) == "tls.weak_key"


def test_without_verify_a_fault_is_a_value_only(watch: Play) -> None:
    late = BETWEEN.issue("other.example", days=-2, begins=-9)
    assert watch(late, verify=False).verdict is Verdict.OK
    outcome = watch(late, verify=False, assertions=[{"of": "certificate.leaf_days_left", "ge": 0}])
    assert kind(outcome) == "assertion.certificate.leaf_days_left"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_version_is_told(watch: Play, version: ssl.TLSVersion) -> None:
    outcome = watch(LEAF, at_most=version)
    assert kind(outcome) == "tls.old_version"
    assert "TLSv1" in (outcome.failure.message if outcome.failure else "")


def test_the_least_version_can_be_raised_and_lowered(watch: Play) -> None:
    assert kind(watch(LEAF, at_most=ssl.TLSVersion.TLSv1_2, min_version="1.3")) == "tls.old_version"
    assert watch(LEAF, min_version="1.3").verdict is Verdict.OK


def test_a_null_cipher_is_weak(watch: Play) -> None:
    outcome = watch(LEAF, at_most=ssl.TLSVersion.TLSv1_2, ciphers="eNULL:@SECLEVEL=0")
    assert kind(outcome) == "tls.weak_cipher"


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [
        pytest.param([LEAF.sha256], None, id="the leaf"),
        pytest.param(
            ["00" * 32, ":".join(f"{b:02X}" for b in bytes.fromhex(BETWEEN.sha256))], None, id="one above it"
        ),
        pytest.param(["00" * 32], "tls.pin", id="none"),
    ],
)
def test_a_pin_is_a_fingerprint_of_the_chain(watch: Play, pinned: list[str], expected: str | None) -> None:
    assert kind(watch(LEAF, pin=pinned)) == expected


@pytest.mark.parametrize(
    ("days", "lifetime", "within", "expected"),
    [
        pytest.param(20, 90, {}, "warning", id="three weeks before the end"),
        pytest.param(22, 90, {}, None, id="earlier"),
        pytest.param(6, 90, {}, "critical", id="a week before the end"),
        pytest.param(2, 6, {}, None, id="a short life is warned of later"),
        pytest.param(0.9, 6, {}, "warning", id="at a quarter of a short life"),
        pytest.param(20, 90, {"warning": "0s", "critical": "0s"}, None, id="never, if so written"),
        pytest.param(50, 90, {"warning": "60d"}, "warning", id="as early as written"),
        pytest.param(50, 90, {"critical": "60d"}, "critical", id="critical as early as written"),
    ],
)
def test_a_certificate_about_to_expire_is_told_in_time(
    watch: Play, days: float, lifetime: float, within: dict[str, str], expected: str | None
) -> None:
    outcome = watch(BETWEEN.issue(HERE, days=days + 0.5, begins=days + 0.5 - lifetime), expires_within=within)
    assert outcome.verdict.value == (expected or "ok")
    assert kind(outcome) == ("tls.expiring" if expected else None)


def test_the_name_asked_for_can_be_another_than_the_host(watch: Play) -> None:
    of_name = BETWEEN.issue("shop.example")
    assert kind(watch(of_name)) == "tls.wrong_host"
    assert watch(of_name, server_name="shop.example").verdict is Verdict.OK


def test_an_unusual_curve_is_no_fault(watch: Play) -> None:
    assert watch(BETWEEN.issue(HERE, key=ec.generate_private_key(ec.SECP521R1()))).verdict is Verdict.OK


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"\x16\x03\x03\x40\x00\x02")  # the beginning of a record that never ends
    await asyncio.sleep(3600)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(bytes(range(256)) * 8)
    await writer.drain()
    await asyncio.sleep(1)


async def refusing_the_name(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x70")  # fatal, unrecognized_name
    await writer.drain()
    await asyncio.sleep(1)


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        pytest.param(silent, "tls.timeout", id="says nothing"),
        pytest.param(stalling, "tls.timeout", id="stalls in the handshake"),
        pytest.param(garbage, "tls.protocol", id="garbage after ClientHello"),
        pytest.param(refusing_the_name, "tls.unrecognized_name", id="knows no such name"),
        pytest.param(hanging_up, "tls.handshake", id="hangs up"),
    ],
)
def test_each_broken_handshake_has_its_error_type(play: Play, serve: Any, expected: str) -> None:
    outcome = look(play, serve, timeout_s=0.2 if "timeout" in expected else 5.0)
    assert (kind(outcome), outcome.verdict) == (expected, Verdict.CRITICAL)


class Odd:
    """A blocking server of pyOpenSSL for one connection, for what the standard library does not serve."""

    def __init__(self, identity: Identity, *, staple: bytes = b"", copies: int = 0) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for certificate in [*identity.above, *[LEAF.certificate] * copies]:
            context.add_extra_chain_cert(certificate)
        if staple:
            context.set_ocsp_server_callback(lambda *_: staple)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self._context, self._listening = context, socket.create_server((HERE, 0))
        self.port = self._listening.getsockname()[1]
        self.renegotiates = False

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept, as close does not
        self._listening.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                with accepted:
                    self._answer(accepted)

    def _answer(self, accepted: socket.socket) -> None:
        accepted.settimeout(None)
        session = SSL.Connection(self._context, accepted)
        session.set_accept_state()
        with suppress(SSL.Error):
            session.do_handshake()
            for _ in range(1000 if self.renegotiates else 0):
                session.renegotiate()
                session.do_handshake()
            session.recv(1)


def test_a_stapled_answer_is_heeded(play: Play) -> None:
    for revoked, expected in ((False, None), (True, "tls.revoked")):
        with Odd(LEAF, staple=BETWEEN.staple(LEAF, revoked=revoked)) as server:
            asserted = [{"of": "certificate.ocsp", "eq": "good"}]
            outcome = look(play, port=server.port, assertions=asserted)
            assert kind(outcome) == expected


def test_a_staple_of_another_certificate_says_nothing(play: Play) -> None:
    other = BETWEEN.issue(HERE)
    with Odd(LEAF, staple=BETWEEN.staple(other, revoked=True)) as server:
        assert look(play, port=server.port).verdict is Verdict.OK


def test_a_chain_of_a_megabyte_is_not_read(play: Play) -> None:
    size_bytes = len(LEAF.certificate.public_bytes(Encoding.DER))
    with Odd(LEAF, copies=1_000_000 // size_bytes) as server:
        assert kind(look(play, port=server.port)) == "tls.too_large"


def test_renegotiation_is_refused_and_takes_no_longer(play: Play) -> None:
    with Odd(LEAF) as server:
        server.renegotiates = True
        assert look(play, port=server.port).verdict is Verdict.OK


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, which can change keys without end")
def test_a_flood_of_new_keys_is_cut_short(play: Play, tmp_path: Path) -> None:
    (tmp_path / "leaf.pem").write_text(LEAF.key_pem + LEAF.chain_pem)
    with socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
    command = [
        "openssl",
        "s_server",
        "-accept",
        f"{HERE}:{port}",
        "-cert",
        str(tmp_path / "leaf.pem"),
        "-tls1_3",
    ]
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
    assert server.stdin is not None
    keys = threading.Thread(target=change_keys, args=(server.stdin,), daemon=True)
    try:
        while b"ACCEPT" not in (tmp_path / "said").read_bytes():
            assert server.poll() is None, "openssl does not serve"
            time.sleep(0.01)
        keys.start()
        more = {"type": "tcp", "tls": True, "port": port, "verify": False, "steps": [{"expect": "never"}]}
        outcome = look(play, more=more, timeout_s=20.0, deadline_s=20.0)
    finally:
        server.kill()
        server.wait()
        keys.join(5)
        with suppress(OSError):
            server.stdin.close()
    assert kind(outcome) == "tls.protocol"


def change_keys(told: IO[bytes]) -> None:
    """Ask openssl for new keys until it is gone."""
    with suppress(OSError, ValueError):
        while True:
            told.write(b"k\n")
            told.flush()
