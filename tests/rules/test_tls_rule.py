"""TLS as operators write it, once its references are replaced."""

from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from rules.beat import BEAT
from rules.check import compile_check
from rules.config import parse
from rules.kinds.tls import TlsCheck

AUTHORITY = trustme.CA()
OURS = AUTHORITY.issue_cert("upbeat.example")
THEIRS = AUTHORITY.issue_cert("other.example")
CERTIFICATE, KEY = (pem.bytes().decode() for pem in (OURS.cert_chain_pems[0], OURS.private_key_pem))


def encrypted(key: str) -> str:
    private = serialization.load_pem_private_key(key.encode(), None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


def compiled(certificate: str, key: str, **given: Any) -> TlsCheck:
    beat = {"certificate": "${file:/c.pem}", "key": "${secret:KEY}", "type": "tls", "slug": "x", "host": "h"}
    sources = {"file:/c.pem": certificate, "secret:KEY": key}
    check = compile_check(BEAT.validate_python(beat | given), sources)
    assert isinstance(check, TlsCheck)
    return check


def test_references_are_replaced_and_the_key_is_hidden() -> None:
    check = compiled(CERTIFICATE, KEY)
    assert (check.tls.certificate, check.tls.key) == (CERTIFICATE, KEY)
    assert KEY in check.secrets
    assert hash(check.tls) == hash(compiled(CERTIFICATE, KEY).tls)


@pytest.mark.parametrize("kind", ["type: tls, host: h", "type: http, url: 'https://h/'"])
def test_a_file_may_name_both_by_reference(kind: str) -> None:
    text = f"beats:\n  - {{slug: x, {kind}, certificate: '${{env:C}}', key: '${{env:K}}'}}\n"
    (beat,) = (
        one for one in parse(text, "f", {"env:C": CERTIFICATE, "env:K": KEY}).objects if one.kind == "beat"
    )
    assert beat.spec.model_dump(include={"certificate", "key"}) == {
        "certificate": "${env:C}",
        "key": "${env:K}",
    }


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        pytest.param("nothing", KEY, "certificate holds no certificate in PEM form", id="no certificate"),
        pytest.param(CERTIFICATE, "nothing", "key holds no private key in PEM form", id="no key"),
        pytest.param(
            CERTIFICATE,
            THEIRS.private_key_pem.bytes().decode(),
            "key is not the key of the first certificate",
            id="another's key",
        ),
        pytest.param(CERTIFICATE, encrypted(KEY), "key is encrypted", id="an encrypted key"),
    ],
)
def test_what_does_not_fit_is_told_without_repeating_it(certificate: str, key: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        compiled(certificate, key)
    assert "nothing" not in str(refused.value)


def test_the_port_is_the_usual_one_of_the_protocol() -> None:
    def port(**given: Any) -> int:
        return compiled(CERTIFICATE, KEY, **given).port

    assert [port(), port(starttls="imap"), port(starttls="imap", port=1143)] == [443, 143, 1143]
