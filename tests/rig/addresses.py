"""Ways to write addresses that must not be reached: in numbers, in IPv6, in letters of other scripts, in odd URLs. Reaches none."""

import socket
from collections.abc import Iterator


def numbers(v4: str) -> list[str]:
    """The ways inet_aton reads an IPv4 address: decimal, octal, hexadecimal, short and padded."""
    a, b, c, d = (int(part) for part in v4.split("."))
    whole = a << 24 | b << 16 | c << 8 | d
    return [
        v4,
        f"{v4}.",
        f"{v4}..",
        str(whole),
        f"0x{whole:x}",
        f"0X{whole:08X}",
        f"0{whole:o}",
        f"000{whole:o}",
        f"{a}.{b << 16 | c << 8 | d}",
        f"{a}.{b}.{c << 8 | d}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0x{a:x}.{b}.{c}.{d}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"00{a:o}.{b}.{c}.0x{d:x}",
        f"0x{a:x}.{b << 16 | c << 8 | d}",
        f"{a}.0x{b << 16 | c << 8 | d:x}",
        f"{a}.{b}.0{c << 8 | d:o}",
        v4.replace(".", "。"),
        v4.replace(".", "．"),
        v4.translate({ord("0") + n: ord("０") + n for n in range(10)}),
        "".join("⓪" if c == "0" else chr(0x2460 + int(c) - 1) if c.isdigit() else c for c in v4),
    ]


def sixes(v4: str) -> list[str]:
    """The IPv6 addresses that lead, or once led, to an IPv4 one, each written in several ways."""
    a, b, c, d = (int(part) for part in v4.split("."))
    high, low = f"{a:02x}{b:02x}", f"{c:02x}{d:02x}"
    not_high, not_low = f"{0xFFFF ^ (a << 8 | b):04x}", f"{0xFFFF ^ (c << 8 | d):04x}"
    return [
        f"[::ffff:{v4}]",
        f"[::FFFF:{high}:{low}]",
        f"[0:0:0:0:0:ffff:{high}:{low}]",
        f"[0000:0000:0000:0000:0000:ffff:{v4}]",
        f"[::ffff:{v4}%25lo]",
        f"[::{v4}]",
        f"[::{high}:{low}]",
        f"[::ffff:0:{v4}]",
        f"[64:ff9b::{v4}]",
        f"[64:ff9b::{high}:{low}]",
        f"[64:FF9B:0:0:0:0:{high}:{low}]",
        f"[64:ff9b:1::{v4}]",
        f"[2002:{high}:{low}::]",
        f"[2002:{high}:{low}::1]",
        f"[2002:{high}:{low}:0:0:5efe:{high}:{low}]",
        f"[2001:0:4136:e378:8000:63bf:{not_high}:{not_low}]",
        f"[2001:0:{high}:{low}:0:0:f7f7:f7f7]",
    ]


def local_hosts() -> list[str]:
    """This host, in every way."""
    return [
        *(form for v4 in ("127.0.0.1", "127.255.255.254", "0.0.0.0") for form in numbers(v4) + sixes(v4)),
        *("127.1", "127.0.1", "0", "0x0", "00", "0.0", "127.00.00.01", "0x7f.1", "0177.1", "127.0x1"),
        *("localhost", "LOCALHOST", "LocalHost", "localhost.", "localhost..", "lo%63alhost", "ⓛocalhost"),
        *("a.localhost", "ｌｏｃａｌｈｏｓｔ", "localhost。", "ip6-localhost", "ip6-loopback"),
        *(
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[0000::0001]",
            "[::]",
            "[0:0::0]",
            "[::0.0.0.1]",
            "[::1%25lo]",
            "[::1%lo]",
        ),
        *(
            "127%2e0%2e0%2e1",
            "127.0.0.1%00",
            "127.0.0.1%0a",
            "127.0.0.1%20",
            "%31%32%37.0.0.1",
            "[::1].",
            "::1",
        ),
        socket.gethostname(),
    ]


def elsewhere() -> list[str]:
    """Metadata services, link-local, private and special addresses."""
    return [
        *(form for v4 in ("169.254.169.254", "10.0.0.1", "192.168.0.1") for form in numbers(v4) + sixes(v4)),
        *("[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *(
            "[fe80::1]",
            "[fe80::1%25lo]",
            "[fe80::5efe:7f00:1]",
            "172.16.0.1",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
        ),
        *("[fc00::1]", "[fd12::1]", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[ff02::1]", "[fec0::1]"),
        *("[2001:db8::1]", "[100::1]", "[64:ff9b:1::1]", "[5f00::1]", "[3fff::1]"),
    ]


def odd_urls(port: int) -> Iterator[str]:
    """URLs whose host is not where it seems to be."""
    here = f"127.0.0.1:{port}"
    yield from (
        f"http://user:word@{here}/",
        f"http://example.org@{here}/",
        f"http://example.org:80@{here}/",
        f"http://example.org%2f@{here}/",
        f"http://{here}#@example.org/",
        f"http://{here}?@example.org/",
        f"http://{here}\\@example.org/",
        f"http://example.org\\@{here}/",
        f"http://example.org@@{here}/",
        f"http://[::1]@{here}/",
        f"https://{here}/",
        f"https://localhost:{port}/",
        f"https://[::1]:{port}/",
        f"ws://{here}/",
        f"HTTP://{here}/",
        f"hTtP://LOCALHOST:{port}/",
        f"ftp://{here}/",
        f"gopher://{here}/_x",
        f"//{here}/",
        f"/\\{here}/",
        f"http:/{here}/",
        f"http:{here}/",
        f"http:///{here}/",
        f"http:\\\\{here}\\",
        f" http://{here}/",
        f"http://{here} /",
        f"http://\t{here}/",
        f"http://127.0.0.1\r\n:{port}/",
        f"http://127.0.0.1:{port}0/",
        f"http://127.0.0.1:0{port}/",
        f"http://127.0.0.1:+{port}/",
        f"http://{'a' * 70}.invalid:{port}/",
        "file:///etc/passwd",
    )


def every_url(port: int) -> list[str]:
    """All of it as URLs; more than 300."""
    hosts = dict.fromkeys([*local_hosts(), *elsewhere()])
    return [*(f"http://{host}:{port}/" for host in hosts), *odd_urls(port)]
