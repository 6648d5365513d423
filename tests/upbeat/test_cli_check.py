"""`upbeat check` against real servers: what it prints, and the exit code a pipeline goes by."""

import re
from pathlib import Path

import pytest

from tests.upbeat.conftest import Cli
from upbeat.demo.shop import config_text
from upbeat.demo.targets import HOST, Targets


def urls(shop: Targets) -> list[str]:
    return [
        f"http://{HOST}:{shop.http_port}/",
        f"tcp://{HOST}:{shop.db_port}",
        f"dns://{HOST}:{shop.dns_port}/shop.example",
        f"dns://{HOST}:{shop.dns_port}/shop.example?type=a",
    ]


async def test_urls_of_every_kind_are_checked(cli: Cli, shop: Targets) -> None:
    for url in urls(shop):
        ran = await cli("check", url)
        assert (ran.code, ran.err) == (0, ""), ran
        assert ran.out.startswith("ok  "), ran.out


async def test_tls_is_checked_where_a_url_says_so(cli: Cli, shop: Targets) -> None:
    ran = await cli("check", f"tls://{HOST}:{shop.http_port}", "--retries", "0")
    assert (ran.code, ran.err) == (1, "")
    assert "tls.protocol" in ran.out


async def test_a_failed_check_says_why_and_exits_with_1(cli: Cli, own: Targets) -> None:
    await own.become(slow=False, down=True)
    ran = await cli("check", f"http://{HOST}:{own.http_port}/checkout/health", "--retries", "0")
    assert ran.code == 1
    assert "503" in ran.out
    refused = await cli("check", f"tcp://{HOST}:{own.db_port}", "--retries", "0")
    assert refused.code == 1
    assert "connect.refused: Connection refused" in refused.out


async def test_json_has_the_shape_of_a_result(cli: Cli, shop: Targets) -> None:
    ran = await cli("check", f"http://{HOST}:{shop.http_port}/", "--json")
    result = ran.json
    assert (result["verdict"], result["kind"], result["error"]) == ("ok", "manual", None)
    assert set(result["timings"]) == {"dns", "connect", "tls", "ttfb", "transfer", "total"}
    assert result["timings"]["tls"] is None
    assert result["timings"]["total"] > 0


async def test_a_beat_of_a_file_is_checked_with_its_assertions(
    cli: Cli, own: Targets, tmp_path: Path
) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(config_text(own, 1.0), "utf-8")
    well = await cli("check", "checkout", "--config", file, "--json")
    assert well.code == 0
    assert [a["of"] for a in well.json["assertions"]] == ["status", "header", "json"]
    await own.become(slow=True, down=True)
    everything = await cli("check", "--all", "--config", file, "--json", "--retries", "0")
    assert everything.code == 1
    verdicts = {item["beat"]: item["verdict"] for item in everything.json["items"]}
    assert verdicts == {
        "checkout": "critical",
        "search": "warning",
        "storefront": "ok",
        "db": "critical",
        "dns": "ok",
    }
    assert "next" in everything.json


async def test_a_warning_fails_only_a_strict_check(cli: Cli, own: Targets, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(config_text(own, 1.0), "utf-8")
    await own.become(slow=True, down=False)
    assert (await cli("check", "search", "--config", file)).code == 0
    assert (await cli("check", "search", "--config", file, "--strict")).code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name one target"),
        (("ftp://shop.example",), "cannot be checked"),
        (("tcp://shop.example",), "cannot be checked"),
        (("dns:shop.example?type=NOPE",), "record"),
        (("checkout",), "needs --config"),
        (("checkout", "--config", "missing.yaml"), "cannot be read"),
        (("http://127.0.0.1:1/", "--timeout", "5 bananas"), "is not a duration"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, tuple) else "",
)
async def test_what_cannot_be_checked_is_a_mistake_in_usage(
    cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    ran = await cli("check", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


async def test_an_unknown_beat_names_those_there_are(cli: Cli, shop: Targets, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(config_text(shop, 1.0), "utf-8")
    ran = await cli("check", "basket", "--config", file)
    assert ran.code == 2
    assert "checkout, search, storefront, db, dns" in ran.err


async def test_a_check_prints_what_it_was_shown(cli: Cli, shop: Targets, tmp_path: Path) -> None:
    asked = await cli("check", f"dns://{HOST}:{shop.dns_port}/shop.example")
    assert "SERVER" in asked.out
    assert "NOERROR" in asked.out
    file = tmp_path / "upbeat.yaml"
    file.write_text(
        "beats:\n"
        f"  - {{slug: page, type: http, url: 'http://{HOST}:{shop.http_port}/', assertions: ["
        "{of: header, name: Content-Type, exists: true}, {of: timing.total, lt: 9s}]}\n"
        "  - {slug: job, type: heartbeat, every: 5m}\n",
        "utf-8",
    )
    ran = await cli("check", "page", "--config", file)
    assert "HTTP/1.1 200 OK" in ran.out
    assert re.search(r"header content-type +ok +text/html", ran.out), ran.out
    assert re.search(r"timing\.total +ok +[\d.]+ ms", ran.out), ran.out
    everything = await cli("check", "--all", "--config", file)
    assert (everything.code, everything.err) == (0, "not run: job waits for pings of its URL\n")
