"""Whom a check trusts: the system's authorities, those of the environment, or its own; and for how long a chain is known."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from engine.probes import trust
from engine.probes.certificate import read_certificate
from engine.probes.trouble import TroubleError
from engine.probes.trust import Trust
from evaluators.model import Failure
from tests.rig.certificates import NOW, Identity, named, root

ROOT = root()
BETWEEN = ROOT.issue("Between", is_authority=True, days=20)
LEAF = BETWEEN.issue("shop.example", days=90)
AT = NOW.timestamp()


def judged(trusted: Trust, leaf: Identity, at: float = AT) -> tuple[Failure | None, float | None]:
    sent = [one.public_bytes(Encoding.DER) for one in (leaf.certificate, *leaf.above)]
    return trusted.judge(sent, [read_certificate(der) for der in sent], at)


def test_a_chain_ends_with_the_first_of_its_certificates() -> None:
    fault, ends = judged(Trust(ROOT.certificate_pem), LEAF)
    assert (fault, ends) == (None, BETWEEN.certificate.not_valid_after_utc.timestamp())


def test_several_authorities_are_trusted() -> None:
    trusted = Trust(f"# ours\n{root('Other').certificate_pem}\n{ROOT.certificate_pem}")
    assert judged(trusted, LEAF)[0] is None


def test_an_authority_in_between_may_be_named_alone() -> None:
    trusted = Trust(BETWEEN.certificate_pem)
    assert judged(trusted, LEAF)[0] is None
    assert judged(trusted, Identity(LEAF.certificate, LEAF.key))[0] is None  # and need not be sent


def test_a_certificate_that_is_named_itself_must_be_for_servers() -> None:
    assert judged(Trust(LEAF.certificate_pem), LEAF)[0] is None
    for_clients = ROOT.issue("shop.example", for_clients=True)
    assert judged(Trust(for_clients.certificate_pem), for_clients)[0] == Failure(
        "tls.untrusted", "CN=shop.example is not for TLS servers"
    )


@pytest.mark.parametrize(
    "extension",
    [
        pytest.param("3004a3023000", id="a name in X.400"),
        pytest.param("0401", id="no names at all"),
    ],
)
def test_a_certificate_with_names_of_another_world_cannot_be_read(extension: str) -> None:
    names = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex(extension))
    odd = (
        x509.CertificateBuilder(named("odd"), named("odd"), LEAF.key.public_key(), 7, NOW, NOW)
        .add_extension(names, critical=False)
        .sign(LEAF.key, hashes.SHA256())
    )
    with pytest.raises(ValueError, match=r"not supported types|parsing asn1"):
        read_certificate(odd.public_bytes(Encoding.DER))


def test_an_address_written_as_a_name_is_none() -> None:
    written = x509.SubjectAlternativeName([x509.DNSName("10.0.0.1"), x509.DNSName("shop.example")])
    leaf = (
        x509.CertificateBuilder(named("a"), named("a"), LEAF.key.public_key(), 8, NOW, NOW)
        .add_extension(written, critical=False)
        .sign(LEAF.key, hashes.SHA256())
    )
    assert read_certificate(leaf.public_bytes(Encoding.DER)).names == ("shop.example",)


def test_an_expired_certificate_above_the_leaf_is_told() -> None:
    stale = ROOT.issue("Stale", is_authority=True, days=-1, begins=-9)
    fault, _ = judged(Trust(ROOT.certificate_pem), stale.issue("shop.example"))
    assert fault == Failure("tls.expired", "CN=Stale has expired")


def test_an_expired_certificate_that_is_not_needed_does_no_harm() -> None:
    """As when a root's old cross-signature is still sent."""
    crossed = ROOT.issue("Crossed", is_authority=True, days=-1, begins=-9)
    leaf = Identity(LEAF.certificate, LEAF.key, [*LEAF.above, crossed.certificate])
    assert judged(Trust(ROOT.certificate_pem), leaf)[0] is None


def test_what_signs_without_being_an_authority_vouches_for_nothing() -> None:
    fault, _ = judged(Trust(ROOT.certificate_pem), ROOT.issue("clerk.example").issue("shop.example"))
    assert fault is not None
    assert fault.type in ("tls.untrusted", "tls.incomplete_chain")


def test_the_environment_names_the_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(ROOT.certificate_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert judged(Trust(), LEAF)[0] is None


def test_a_machine_without_authorities_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(trust, "_BUNDLES", ())
    with pytest.raises(TroubleError, match="install ca-certificates"):
        judged(Trust(), LEAF)
