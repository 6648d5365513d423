"""Which addresses may be reached, for what: B a beat, R a mail relay, C any other channel; `-` is refused."""

import ipaddress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.address import EgressPolicy, Purpose

PURPOSES: tuple[tuple[str, Purpose], ...] = (("B", "beat"), ("R", "relay"), ("C", "channel"))


def reach(address: str, *allow: str) -> str:
    policy = EgressPolicy(allow)
    return "".join("-" if policy.refusal(address, purpose) else letter for letter, purpose in PURPOSES)


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("93.184.216.34", "BRC"),
        ("2606:2800:220:1::1", "BRC"),
        ("10.1.2.3", "BR-"),
        ("172.16.0.1", "BR-"),
        ("172.32.0.1", "BRC"),
        ("192.168.1.1", "BR-"),
        ("100.64.0.1", "BR-"),
        ("127.0.0.1", "BR-"),
        ("127.255.255.254", "BR-"),
        ("192.0.2.1", "BR-"),
        ("198.18.0.1", "BR-"),
        ("::1", "BR-"),
        ("fd12::1", "BR-"),
        ("2001:db8::1", "BR-"),
        ("169.254.169.254", "---"),
        ("169.254.0.1", "---"),
        ("100.100.100.200", "---"),
        ("192.0.0.192", "---"),
        ("fd00:ec2::254", "---"),
        ("fe80::1", "---"),
        ("fe80::1%eth0", "---"),
        ("0.0.0.0", "---"),
        ("::", "---"),
        ("224.0.0.1", "---"),
        ("255.255.255.255", "---"),
        ("ff02::1", "---"),
        ("::ffff:169.254.169.254", "---"),
        ("::ffff:10.0.0.1", "BR-"),
        ("::ffff:93.184.216.34", "BRC"),
        ("64:ff9b::169.254.169.254", "---"),
        ("64:ff9b::10.0.0.1", "BR-"),
        ("64:ff9b::93.184.216.34", "BRC"),
        ("2002:a9fe:a9fe::1", "---"),
        ("2002:0a00:0001::1", "BR-"),
        ("2002:5db8:d822::1", "BRC"),
        ("64:ff9b:1::a00:1", "BR-"),
        ("::10.0.0.1", "BR-"),
        ("3fff::1", "BR-"),
        ("168.63.129.16", "---"),
        ("localhost", "---"),
        ("", "---"),
        ("010.0.0.1", "---"),
        ("2130706433", "---"),
        ("0x7f.1", "---"),
    ],
    ids=str,
)
def test_by_default(address: str, who: str) -> None:
    assert reach(address) == who


@pytest.mark.parametrize(
    ("address", "allow", "who"),
    [
        pytest.param("127.0.0.1", "127.0.0.1/32", "BRC", id="loopback that is listed"),
        pytest.param("127.0.0.2", "127.0.0.1/32", "BR-", id="only what is listed"),
        pytest.param("169.254.169.254", "169.254.169.254", "BRC", id="metadata that is listed"),
        pytest.param("169.254.169.253", "169.254.169.254", "---", id="its neighbour is not"),
        pytest.param("::ffff:10.0.0.1", "10.0.0.0/8", "BRC", id="a mapped address of a listed network"),
        pytest.param("64:ff9b::a00:1", "10.0.0.0/8", "BRC", id="a translated address of a listed network"),
        pytest.param("10.0.0.1", "fd00::/8", "BR-", id="another family lists nothing"),
        pytest.param("10.0.0.1", "10.0.0.77/8", "BRC", id="host bits do not matter"),
    ],
)
def test_with_a_listed_network(address: str, allow: str, who: str) -> None:
    assert reach(address, allow) == who


@given(st.ip_addresses(), st.sampled_from(["beat", "relay", "channel"]))
def test_every_address_has_an_answer(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, purpose: Literal["beat", "relay", "channel"]
) -> None:
    refusal = EgressPolicy().refusal(str(address), purpose)
    leads_on = address.version == 6 and (address.ipv4_mapped or address.sixtofour)
    if purpose == "channel" and not address.is_global and not leads_on:
        assert refusal is not None, "what no registry calls global is refused to channels"
    assert EgressPolicy(["0.0.0.0/0", "::/0"]).refusal(str(address), purpose) is None


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
def test_an_embedded_address_is_judged_like_itself(address: ipaddress.IPv4Address, form: str) -> None:
    assert reach(form.format(address)) == reach(str(address))
