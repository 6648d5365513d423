"""`upbeat import`: YAML to stdout or a file, notes to stderr or as JSON, and its exit codes."""

from pathlib import Path

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


async def test_a_file_that_is_none_is_a_mistake_in_usage(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[1, 2]")
    ran = await cli("import", "gatus", tmp_path / "x")
    assert (ran.code, "Traceback" in ran.err) == (2, False), ran.err
