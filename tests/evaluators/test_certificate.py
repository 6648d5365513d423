"""What is wrong with a certificate, told without a handshake."""

from dataclasses import replace

import pytest

from evaluators.certificate import agreed_fault, name_fault, strength_fault, tls_failures
from evaluators.model import Failure
from evaluators.observation import Certificate, TlsSeen
from rules.beat import BEAT
from rules.check import compile_check
from rules.kinds.tls import TlsCheck

DAY_S = 86_400.0


def certificate(*names: str, key: str = "EC secp256r1", signature: str = "ecdsa-with-SHA256") -> Certificate:
    return Certificate("CN=leaf", "CN=ca", names, 0.0, 90 * DAY_S, "1", "ab" * 32, key, signature)


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("shop.example", "shop.example", True),
        ("SHOP.example", "shop.EXAMPLE.", True),
        ("*.shop.example", "www.shop.example", True),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", "a.b.shop.example", False),
        ("*.example", "shop.example", False),
        ("*", "example", False),
        ("w*.shop.example", "www.shop.example", False),
        ("www.*.example", "www.shop.example", False),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", True),
        ("*.shop.example", ".shop.example", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:DB8:0::1", True),
        ("*.0.2.1", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.10", False),
    ],
)
def test_a_name_covers_a_host(name: str, host: str, fits: bool) -> None:
    fault = name_fault(certificate(name), host)
    assert (fault is None) is fits
    assert fault is None or fault.type == "tls.wrong_host"


def test_a_certificate_without_names_covers_nothing() -> None:
    fault = name_fault(certificate(), "leaf")
    assert fault == Failure("tls.wrong_host", "the certificate is for no name, not for leaf")


@pytest.mark.parametrize(
    ("key", "signature", "expected"),
    [
        ("RSA 2048", "sha256WithRSAEncryption", None),
        ("RSA 1024", "sha256WithRSAEncryption", "tls.weak_key"),
        ("DSA 1024", "dsa-with-sha256", "tls.weak_key"),
        ("EC secp192r1", "ecdsa-with-SHA256", "tls.weak_key"),
        ("EC secp521r1", "ecdsa-with-SHA512", None),
        ("ed25519", "ed25519", None),
        ("RSA 4096", "sha1WithRSAEncryption", "tls.weak_signature"),
        ("RSA 4096", "md5WithRSAEncryption", "tls.weak_signature"),
        ("EC secp256r1", "ecdsa-with-SHA1", "tls.weak_signature"),
    ],
)
def test_keys_and_signatures_are_strong_or_weak(key: str, signature: str, expected: str | None) -> None:
    fault = strength_fault((certificate(key=key, signature=signature),))
    assert (fault.type if fault else None) == expected


@pytest.mark.parametrize(
    ("version", "cipher", "expected"),
    [
        ("TLSv1.3", "TLS_AES_256_GCM_SHA384", None),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ("TLSv1.1", "ECDHE-RSA-AES128-SHA", "tls.old_version"),
        ("TLSv1", "ECDHE-RSA-AES128-SHA", "tls.old_version"),
        ("SSLv3", "AES128-SHA", "tls.old_version"),
        ("TLSv1.2", "ECDHE-RSA-NULL-SHA", "tls.weak_cipher"),
        ("TLSv1.2", "RC4-SHA", "tls.weak_cipher"),
        ("TLSv1.2", "DES-CBC3-SHA", "tls.weak_cipher"),
    ],
)
def test_what_is_agreed_on_is_strong_or_weak(version: str, cipher: str, expected: str | None) -> None:
    fault = agreed_fault(version, cipher, "1.2")
    assert (fault.type if fault else None) == expected


def test_without_verify_only_what_is_written_counts() -> None:
    check = compile_check(
        BEAT.validate_python({"type": "tls", "slug": "c", "host": "shop.example", "verify": False}), {}
    )
    assert isinstance(check, TlsCheck)
    late = TlsSeen("TLSv1.3", "", (certificate(),), at=91 * DAY_S, faults=(Failure("tls.expired", ""),))
    assert tls_failures(check, late) == (None, None)
    critical, _ = tls_failures(replace(check, critical_s=DAY_S), late)
    assert critical is not None
    assert critical.type == "tls.expiring"
