"""Cookies of a run: to whom they are sent, and to whom never."""

import pytest

from engine.probes.cookies import COOKIES_MAX, Jar
from rules.target import parse_target


def sent(set_by: str, line: str, to: str) -> str:
    jar = Jar()
    jar.take([("set-cookie", line)], parse_target(set_by), {})
    return jar.header(parse_target(to))


@pytest.mark.parametrize(
    ("set_by", "line", "to", "expected"),
    [
        pytest.param("https://a.example/", "s=1", "https://a.example/x", "s=1", id="the same host"),
        pytest.param("https://a.example/", "s=1", "https://b.a.example/", "", id="not a host below"),
        pytest.param(
            "https://a.example/", "s=1; Domain=a.example", "https://b.a.example/", "s=1", id="widened"
        ),
        pytest.param(
            "https://b.a.example/", "s=1; Domain=.a.example", "https://a.example/", "s=1", id="to a parent"
        ),
        pytest.param(
            "https://a.example/", "s=1; Domain=b.example", "https://b.example/", "", id="a stranger's"
        ),
        pytest.param(
            "https://a.example/", "s=1; Domain=example", "https://b.example/", "", id="a whole registry"
        ),
        pytest.param("https://a.co.uk/", "s=1; Domain=co.uk", "https://b.co.uk/", "", id="a second level"),
        pytest.param(
            "https://a.co.uk/", "s=1; Domain=co.uk", "https://a.co.uk/", "s=1", id="stays with its host"
        ),
        pytest.param(
            "http://10.0.0.1/", "s=1; Domain=0.0.1", "http://20.0.0.1/", "", id="a part of an address"
        ),
        pytest.param(
            "https://xa.example/", "s=1; Domain=a.example", "https://a.example/", "", id="a mere suffix"
        ),
        pytest.param("https://a.example/", "s=1; Secure", "http://a.example/", "", id="secure over http"),
        pytest.param("http://a.example/", "s=1; Secure", "https://a.example/", "", id="secure set over http"),
        pytest.param("https://a.example/p/q", "s=1", "https://a.example/p/z", "s=1", id="the default path"),
        pytest.param("https://a.example/p/q", "s=1", "https://a.example/other", "", id="outside of it"),
        pytest.param(
            "https://a.example/", "s=1; Path=/p", "https://a.example/px", "", id="a path is no prefix"
        ),
        pytest.param("https://a.example/", "s=1; Max-Age=0", "https://a.example/", "", id="over"),
        pytest.param(
            "https://a.example/",
            "s=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "https://a.example/",
            "",
            id="expired",
        ),
        pytest.param(
            "https://a.example/", "s=1; Expires=nonsense", "https://a.example/", "s=1", id="no date"
        ),
        pytest.param("https://a.example/", "no equals", "https://a.example/", "", id="no cookie"),
        pytest.param("https://a.example/", "s=a\tb", "https://a.example/", "", id="a control character"),
    ],
)
def test_a_cookie_is_sent_to_its_site_only(set_by: str, line: str, to: str, expected: str) -> None:
    assert sent(set_by, line, to) == expected


def test_a_jar_is_bounded() -> None:
    jar, target = Jar(), parse_target("https://a.example/")
    jar.take([("set-cookie", f"c{n}=1") for n in range(10_000)], target, {})
    assert jar.header(target).count(";") == COOKIES_MAX - 1
    jar.take([("set-cookie", f"c{n}={'x' * 4000}") for n in range(COOKIES_MAX)], target, {})
    assert len(jar.header(target)) <= 16_384
