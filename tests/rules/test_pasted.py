"""What a pasted URL stands for, and which are refused."""

import pytest

from rules.pasted import check_of


@pytest.mark.parametrize(
    ("target", "check"),
    [
        ("https://shop.example/health?x=1", {"type": "http", "url": "https://shop.example/health?x=1"}),
        ("tcp://db.internal:5432", {"type": "tcp", "host": "db.internal", "port": 5432}),
        ("tls://shop.example", {"type": "tls", "host": "shop.example"}),
        ("tls://[2001:db8::1]:8443/", {"type": "tls", "host": "2001:db8::1", "port": 8443}),
        ("icmp://gateway", {"type": "icmp", "host": "gateway"}),
        ("dns:shop.example", {"type": "dns", "host": "shop.example"}),
        ("dns://shop.example", {"type": "dns", "host": "shop.example"}),
        (
            "dns://9.9.9.9/shop.example?type=mx",
            {"type": "dns", "host": "shop.example", "resolver": "9.9.9.9", "record": "MX"},
        ),
    ],
)
def test_a_url_stands_for_a_beat(target: str, check: dict[str, object]) -> None:
    assert check_of(target) == check


@pytest.mark.parametrize(
    "target",
    ["", "shop.example", "ftp://shop.example", "tcp://db", "tcp://db:99999", "tls://shop.example/path",
     "icmp://gateway:80", "dns:", "dns:shop.example?typ=MX"],
)  # fmt: skip
def test_what_stands_for_none_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"write https://|takes \?type="):
        check_of(target)
