"""OTLP over TLS and to judged addresses only, on real sockets."""

import ssl
from collections.abc import AsyncIterator

import grpc
import pytest
import trustme

from exporters.otlp import OtlpSettings, Speaks, Tls
from exporters.outcome import Delivered, Rejected, Retry
from rules.address import EgressPolicy
from rules.otlp import Otlp, OtlpTls
from tests.exporters.otlp_rig import Process, result
from tests.rig.collector import Collector, grpc_collector, http_collector

AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost")
CLIENT = AUTHORITY.issue_cert("upbeat@example.com")
CA = AUTHORITY.cert_pem.bytes().decode()
OURS = "".join(blob.bytes().decode() for blob in CLIENT.cert_chain_pems)
KEY = CLIENT.private_key_pem.bytes().decode()


@pytest.fixture(params=["http/protobuf", "grpc"])
async def collector(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Speaks, Collector]]:
    """One that wants a certificate of ours."""
    if request.param == "grpc":
        chain = b"".join(blob.bytes() for blob in SERVER.cert_chain_pems)
        pair = [(SERVER.private_key_pem.bytes(), chain)]
        credentials = grpc.ssl_server_credentials(pair, CA.encode(), require_client_auth=True)
        async with grpc_collector(credentials) as found:
            yield "grpc", found
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    SERVER.configure_cert(context)
    AUTHORITY.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    async with http_collector(context) as found:
        yield "http/protobuf", found


@pytest.mark.parametrize(
    ("tls", "is_taken"),
    [
        pytest.param(Tls(CA, OURS, KEY), True, id="with its authority and our certificate"),
        pytest.param(Tls(CA), False, id="without our certificate"),
        pytest.param(Tls(None, OURS, KEY), False, id="signed by nobody we know"),
        pytest.param(Tls(None, OURS, KEY, verify=False), True, id="unchecked, as was asked for"),
    ],
)
async def test_a_collector_is_trusted_and_trusts_us_by_certificates(
    collector: tuple[Speaks, Collector], tls: Tls, is_taken: bool
) -> None:
    protocol, found = collector
    if protocol == "grpc" and not tls.verify:
        pytest.skip("a rule cannot say so")
    process = Process(OtlpSettings(f"https://localhost:{found.port}", protocol, tls=tls, timeout_s=5.0))
    process.totals.observe([result()])
    outcome = await process.flush()
    assert isinstance(outcome, Delivered if is_taken else Retry)
    assert bool(found.metrics) is is_taken
    await process.destination.close()


async def test_a_certificate_for_another_name_is_refused(collector: tuple[Speaks, Collector]) -> None:
    protocol, found = collector
    tls = Tls(CA, OURS, KEY)
    process = Process(OtlpSettings(f"https://127.0.0.1:{found.port}", protocol, tls=tls, timeout_s=5.0))
    process.totals.observe([result()])
    assert isinstance(await process.flush(), Retry)
    assert found.asked == 0
    await process.destination.close()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_an_address_the_policy_denies_is_not_connected_to(protocol: Speaks) -> None:
    class NoLoopback(EgressPolicy):
        def refusal(self, address: str, purpose: object) -> str | None:
            return f"{address} is not allowed"

    opened = grpc_collector() if protocol == "grpc" else http_collector()
    async with opened as found:
        process = Process(OtlpSettings(f"http://localhost:{found.port}", protocol))
        denied = process.open(process.settings, NoLoopback())
        process.totals.observe([result()])
        outcome = await denied.flush()
        assert isinstance(outcome, Rejected)
        assert "is not allowed" in outcome.reason
        assert found.asked == 0
        await denied.close()
        await process.destination.close()


def test_what_is_no_certificate_is_said_without_showing_it() -> None:
    with pytest.raises(ValueError, match=r"^the certificates of otlp\.tls cannot be used: \w+$"):
        Process(OtlpSettings("https://c", tls=Tls("hunter22")))


def test_grpc_cannot_be_told_to_trust_anybody() -> None:
    with pytest.raises(ValueError, match=r"grpc always checks the certificate"):
        Otlp(endpoint="https://c", protocol="grpc", tls=OtlpTls(verify=False))
