"""Which hosts `block` names."""

import pytest

from rules.blocking import is_blocked


@pytest.mark.parametrize(
    ("host", "block", "expected"),
    [
        ("ads.example", ("*.example",), True),
        ("ads.example", ("ADS.example",), True),
        ("example", ("*.example",), False),
        ("shop.test", ("third-party",), False),
        ("www.shop.test", ("third-party",), False),
        ("img.shop.test", ("third-party",), False),
        ("test", ("third-party",), False),
        ("eshop.test", ("third-party",), True),
        ("shop.test.evil.example", ("third-party",), True),
        ("img.shop.test", ("third-party", "img.*"), True),
        ("127.0.0.1", ("third-party",), True),
        ("ads.example.", ("*.example",), True),
        ("img.shop.test.", ("third-party",), False),
        ("ads.example", (), False),
    ],
)
def test_a_host_is_blocked_by_name_or_as_another_site(
    host: str, block: tuple[str, ...], expected: bool
) -> None:
    assert is_blocked(host, block, ["www.shop.test"]) is expected
