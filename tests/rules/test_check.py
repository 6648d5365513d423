"""Beats compiled for the probes: targets, redirects, names in other scripts, IPv6, references."""

from typing import Any

import pytest

from rules.beat import BEAT
from rules.check import Check, compile_check
from rules.kinds.dns import DnsCheck, parse_resolver
from rules.kinds.http import HttpCheck
from rules.kinds.tcp import TcpCheck
from rules.pace import run_deadline_s
from rules.secret import UnsetReferenceError
from rules.target import Target, parse_target

_OAUTH2 = {"client_id": "i", "client_secret": "s"}
_CAPTURES = {"name": "a", "url": "http://h/", "capture": {"c": {"header": "x"}}}


def compiled(environment: dict[str, str] | None = None, **keys: Any) -> Check:
    return compile_check(
        BEAT.validate_python({"slug": "b", "type": "http"} | keys),
        {f"env:{name}": value for name, value in (environment or {}).items()},
    )


@pytest.mark.parametrize(
    ("url", "target"),
    [
        pytest.param("http://h", Target("http", "h", 80, "h", "/"), id="an empty path is /"),
        pytest.param(
            "https://h:443/a", Target("https", "h", 443, "h", "/a"), id="the default port is left out"
        ),
        pytest.param(
            "http://h:8080/a?b=1#c", Target("http", "h", 8080, "h:8080", "/a?b=1"), id="no fragment is sent"
        ),
        pytest.param("http://h?x=1", Target("http", "h", 80, "h", "/?x=1"), id="a query without path"),
        pytest.param("HTTP://H/", Target("http", "h", 80, "h", "/"), id="scheme and host in lower case"),
        pytest.param(
            "http://[::1]:8080/",
            Target("http", "::1", 8080, "[::1]:8080", "/"),
            id="IPv6 keeps its brackets in Host",
        ),
        pytest.param(
            "http://[2001:db8::1]/",
            Target("http", "2001:db8::1", 80, "[2001:db8::1]", "/"),
            id="IPv6 on the default port",
        ),
        pytest.param(
            "https://bücher.example/",
            Target("https", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/"),
            id="an international name",
        ),
        pytest.param(
            "http://h/ü?q=ß",
            Target("http", "h", 80, "h", "/%C3%BC?q=%C3%9F"),
            id="a path in UTF-8, percent-encoded",
        ),
        pytest.param("http://h/%7Ea", Target("http", "h", 80, "h", "/%7Ea"), id="what is encoded stays so"),
    ],
)
def test_a_url_is_taken_apart(url: str, target: Target) -> None:
    assert parse_target(url) == target


def test_a_target_knows_its_url() -> None:
    assert parse_target("http://[::1]:8080/a?b").url == "http://[::1]:8080/a?b"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        pytest.param("/b", "https://h:8443/b", id="an absolute path"),
        pytest.param("b", "https://h:8443/a/b", id="a relative path"),
        pytest.param("?x", "https://h:8443/a/c?x", id="a query alone"),
        pytest.param("//other/b", "https://other/b", id="another host, the same scheme"),
        pytest.param("http://other:81/b", "http://other:81/b", id="another URL"),
        pytest.param("../../x", "https://h:8443/x", id="never above the root"),
    ],
)
def test_a_redirect_is_resolved_against_where_it_came_from(location: str, url: str) -> None:
    assert parse_target(location, parse_target("https://h:8443/a/c")).url == url


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "file:///etc/passwd",
        "//h/",
        "h",
        "",
        "http://",
        "http:///a",
        "http://h:0/",
        "http://h:99999/",
        "http://h:x/",
        "http://[::1/",
        "http://u:p@h/",
        "http://u@h/",
        "http://h/a b",
        "http://h/a\r\nX: y",
        "http://h/\x7f",
        f"http://{'ü' * 70}.example/",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_target_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(url)


def test_a_redirect_may_not_leave_http() -> None:
    with pytest.raises(ValueError, match="not an http"):
        parse_target("gopher://h/", parse_target("http://h/"))


def test_a_redirect_may_not_carry_credentials() -> None:
    with pytest.raises(ValueError, match="credentials"):
        parse_target("http://me:pw@h/", parse_target("http://h/"))


def test_references_are_replaced_where_they_are_used() -> None:
    check = compiled(
        {"U": "http://h/x", "T": "tok"},
        url="${env:U}",
        headers={"Authorization": "Bearer ${env:T}"},
        body="${env:T}!",
    )
    assert isinstance(check, HttpCheck)
    assert (check.target.url, check.headers, check.body) == (
        "http://h/x",
        (("Authorization", "Bearer tok"),),
        b"tok!",
    )


def test_a_reference_that_is_not_set_is_named() -> None:
    with pytest.raises(UnsetReferenceError, match="export U") as missing:
        compiled(url="${env:U}")
    assert missing.value.reference == "env:U"


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\x00b"])
def test_a_replaced_header_may_not_break_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        compiled({"T": value}, url="http://h/", headers={"X": "${env:T}"})


def test_a_replaced_url_is_judged() -> None:
    with pytest.raises(ValueError, match="not an http"):
        compiled({"U": "ftp://h/"}, url="${env:U}")


@pytest.mark.parametrize(
    "value", ["canary7731", "http://h:canary7731/", "http://u:canary7731@h/", "http://h/ canary7731"]
)
def test_a_replaced_url_that_is_refused_is_not_quoted(value: str) -> None:
    with pytest.raises(ValueError, match="U") as refused:
        compiled({"U": value}, url="${env:U}")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("assertion", "reads"),
    [
        ({"of": "status", "eq": 200}, False),
        ({"of": "body", "contains": "x"}, True),
        ({"of": "json", "path": "$.a", "eq": 1}, True),
        ({"of": "size", "gt": 1}, False),
    ],
)
def test_the_body_is_read_only_where_it_is_asserted(assertion: dict[str, Any], reads: bool) -> None:
    check = compiled(url="http://h/", assertions=[assertion])
    assert isinstance(check, HttpCheck)
    assert check.reads_body is reads


def test_an_expectation_has_nothing_left_to_parse() -> None:
    (header, path) = compiled(
        url="http://h/",
        assertions=[
            {"of": "header", "name": "X-Id", "matches": "^a"},
            {"of": "json", "path": "$.a", "eq": 1, "severity": "warning"},
        ],
    ).expectations
    assert (header.key, header.pattern.search("abc") is not None) == ("x-id", True)
    assert path.select is not None
    assert (path.select({"a": 1}), path.severity) == ([1], "warning")


def test_tcp_and_dns_hosts_are_looked_up_as_ascii() -> None:
    tcp = compiled(type="tcp", host="bücher.example", port=5432)
    dns = compiled(type="dns", host="bücher.example", record="MX", resolver="[2620:fe::fe]:53")
    assert isinstance(tcp, TcpCheck)
    assert isinstance(dns, DnsCheck)
    assert tcp.host == dns.host == "xn--bcher-kva.example"
    assert dns.resolvers == (("2620:fe::fe", 53),)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("9.9.9.9:5353", ("9.9.9.9", 5353)),
        ("2620:fe::fe", ("2620:fe::fe", 53)),
        ("[2620:fe::fe]", ("2620:fe::fe", 53)),
        ("[2620:fe::fe]:5353", ("2620:fe::fe", 5353)),
        ("dns.google", ("dns.google", 53)),
        ("pihole:5353", ("pihole", 5353)),
    ],
)
def test_a_resolver_is_a_host_and_port(text: str, server: tuple[str, int]) -> None:
    assert parse_resolver(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns google",
        "9.9.9.9:",
        "9.9.9.9:0",
        "9.9.9.9:x",
        "9.9.9.9:70000",
        "[2620:fe::fe",
        "[::1]:",
        "[::1]x",
        "9.9.9",
    ],
)
def test_what_is_no_resolver_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a name server"):
        parse_resolver(text)


@pytest.mark.parametrize(
    ("interval_s", "timeout_s", "retries", "deadline_s"),
    [
        pytest.param(60, 10, 0, 10, id="one attempt"),
        pytest.param(60, 10, 1, 20.5, id="two attempts and half a second"),
        pytest.param(300, 10, 5, 60 + 0.5 + 1 + 2 + 4 + 5, id="back-off doubles to at most five seconds"),
        pytest.param(15, 10, 1, 15, id="never more than the interval"),
    ],
)
def test_a_run_has_a_deadline(interval_s: float, timeout_s: float, retries: int, deadline_s: float) -> None:
    assert run_deadline_s(interval_s, timeout_s, retries) == deadline_s


@pytest.mark.parametrize(
    "beat",
    [
        {"type": "http", "url": "${env:A}"},
        {"type": "http", "url": "http://h/", "proxy": "${env:A}"},
        {"type": "http", "url": "http://h/", "body_base64": "${env:A}"},
        {"type": "http", "url": "http://h/", "headers": {"X": "${env:A}"}},
        {"type": "http", "url": "http://h/", "auth": {"oauth2": _OAUTH2 | {"token_url": "${env:A}"}}},
        {"type": "http", "steps": [_CAPTURES, {"name": "b", "url": "http://${env:A}${capture:c}/"}]},
        {"type": "tcp", "host": "${env:A}", "port": 1},
        {"type": "tls", "host": "${env:A}"},
        {"type": "dns", "host": "${env:A}"},
        {"type": "icmp", "host": "${env:A}"},
    ],
)
def test_what_is_said_of_a_value_does_not_repeat_it(beat: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(?!.*canary)"):
        compiled({"A": "canary\n" + "ä" * 70}, **beat)
