"""`upbeat import`: YAML to stdout or a file, notes to stderr or as JSON, and its exit codes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.upbeat.conftest import Cli

HERE = Path(__file__).parent


async def test_the_document_is_printed_and_what_is_not_in_it_named(cli: Cli) -> None:
    ran = await cli("import", "openstatus", HERE / "openstatus.yaml")
    assert (ran.code, ran.out.startswith("version: 1\n")) == (0, True)
    assert "openstatus.yaml:20: shop-front.request.cookies: has no counterpart" in ran.err


async def test_strict_fails_and_json_says_the_same(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    ran = await cli("import", "kuma", HERE / "kuma.json", "--json", "--strict", "-o", file)
    assert (ran.code, ran.json["beats"], ran.json["file"]) == (1, 9, str(file))
    assert {"line", "path", "message"} == ran.json["notes"][0].keys()
    assert file.read_text().startswith("version: 1\n")


@pytest.fixture
async def ports() -> AsyncIterator[tuple[int, int]]:
    """Of a server that answers HTTP with a line end behind the body, and of one that says several lines at once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nOK\n")
        writer.close()

    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 shop ESMTP\r\n250-SIZE\r\n250-AUTH PLAIN\r\n250 HELP\r\n")
        await reader.readline()
        writer.write(b"PING :abc def\r\n")
        writer.write(b":shop 001 " + await reader.readline())
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as web,
        await asyncio.start_server(chat, "127.0.0.1", 0) as mail,
    ):
        yield web.sockets[0].getsockname()[1], mail.sockets[0].getsockname()[1]


async def test_what_passes_there_passes_here(cli: Cli, tmp_path: Path, ports: tuple[int, int]) -> None:
    gatus, file = tmp_path / "config.yaml", tmp_path / "upbeat.yaml"
    gatus.write_text(
        f"endpoints: [{{name: x, url: 'http://127.0.0.1:{ports[0]}/', conditions: ['[BODY] == OK', '[RESPONSE_TIME] < 9s']}}]"
    )
    assert (await cli("import", "gatus", gatus, "-o", file)).code == 0
    ran = await cli("check", "--all", "--config", file)
    assert ran.code == 0, ran.out + ran.err

    modules, targets = tmp_path / "blackbox.yml", tmp_path / "prometheus.yml"
    modules.write_text("""
modules:
  chat:
    prober: tcp
    tcp:
      query_response:
        - expect: "^220 ([^ ]+) ESMTP$"
        - expect: "^250-AUTH"
        - send: "NICK x"
        - {expect: "PING :([^ ]+)", send: "PONG ${1}"}
        - expect: "^:[^ ]+ 001 PONG abc$"
""")
    targets.write_text(
        f"scrape_configs: [{{params: {{module: [chat]}}, static_configs: [{{targets: ['127.0.0.1:{ports[1]}']}}]}}]"
    )
    assert (await cli("import", "blackbox", modules, "--targets", targets, "-o", file)).code == 0
    ran = await cli("check", "--all", "--config", file)
    assert ran.code == 0, ran.out + ran.err


async def test_a_file_that_is_none_is_a_mistake_in_usage(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[1, 2]")
    ran = await cli("import", "gatus", tmp_path / "x")
    assert (ran.code, "Traceback" in ran.err) == (2, False), ran.err
