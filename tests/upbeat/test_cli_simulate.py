"""`upbeat simulate` and `upbeat size`: policies side by side, a drawing, and clear words for what cannot be read."""

import json
import re
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

from click.testing import CliRunner

from tests.rig.process import REPO
from tests.upbeat.conftest import Cli
from upbeat.cli.simulate import simulate, size

WORLD = "time: 2d\nbeats: 3\noutages: [{per_month: 30, lasts: {median: 10m, p95: 1h}}]\nseed: 4\n"


async def test_policies_are_compared_in_the_same_world(cli: Cli, tmp_path: Path) -> None:
    hasty, world, plot = tmp_path / "hasty.yaml", tmp_path / "world.yaml", tmp_path / "delays.svg"
    hasty.write_text("quorum: {critical: any, confirm: off, consecutive: {open: 1}}\n", "utf-8")
    world.write_text(WORLD, "utf-8")
    calm = tmp_path / "calm.yaml"
    calm.write_text("interval: 60s\n", "utf-8")
    ran = await cli(
        "simulate", "--policy", hasty, "--policy", calm, "--world", world, "--plot", plot, "--json"
    )
    assert ran.code == 0, ran.err
    one, other = ran.json["policies"]
    assert (one["policy"], other["policy"]) == (str(hasty), str(calm))
    assert one["outages"] == other["outages"] > 0
    assert one["false_episodes"] > other["false_episodes"] == 0
    drawn = ET.parse(plot).getroot()
    assert [str(hasty), str(calm)] == [
        text.text for text in drawn.iter() if (text.text or "").endswith(".yaml")
    ]


async def test_a_whole_file_is_simulated_as_it_is(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "upbeat.yaml"
    file.write_text(
        "version: 1\nregions: [eu, us, ap]\ngroups: [{slug: shop}]\nbeats:\n"
        "  - {slug: web, type: tcp, host: web.example, port: 443, group: shop}\n"
        "  - {slug: db, type: tcp, host: db.example, port: 5432, group: shop}\n",
        "utf-8",
    )
    ran = await cli("simulate", "--policy", file, "--set", "time=2d", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["policies"][0]["beat_hours"] == 2 * 48


def test_what_the_page_shows_can_be_simulated(tmp_path: Path) -> None:
    page = (REPO / "docs" / "how-to" / "simulate-a-policy.md").read_text("utf-8")
    blocks = {
        name: dedent(text)
        for text, name in re.findall(r"```yaml\n( *# not a whole file: (\S+)\n.*?)```", page, re.DOTALL)
    }
    files = {name: tmp_path / name for name in blocks}
    for name, text in blocks.items():
        files[name].write_text(text, "utf-8")
    given = ["--policy", files["strict.yaml"], "--world", files["world.yaml"], "--set", "time=12h", "--json"]
    ran = CliRunner().invoke(simulate, list(map(str, given)))
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["policies"][0]["beat_hours"] == 40 * 12


async def test_without_anything_the_defaults_are_simulated(cli: Cli) -> None:
    ran = await cli("simulate", "--set", "time=1d", "--set", "beats=2")
    assert ran.code == 0, ran.err
    assert "default" in ran.out
    assert "FALSE/10,000 H" in ran.out


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    for text, said in (
        ("quorum: {crit: 1}\n", f"{file}:1: quorum.crit: unknown key; did you mean critical?"),
        ("quorum: {critical: 5}\n", "quorum.critical.open is 5, but the beat runs in 3 region(s)"),
        ("- a\n", "is not a mapping"),
        ("beats: []\n", "0 beats that probes run; 1 to 100 can be simulated"),
    ):
        file.write_text(text, "utf-8")
        assert said in _refused("--policy", file)
    assert "tim: unknown key; did you mean time?" in _refused("--set", "tim=3d")
    assert "--set:2: beats: 200 is out of range" in _refused("--set", "time=3d", "--set", "beats=200")
    assert "cannot be read: No such file" in _refused("--policy", tmp_path / "none.yaml")


def _refused(*arguments: object) -> str:
    ran = CliRunner().invoke(simulate, list(map(str, arguments)))
    assert ran.exit_code == 2
    return ran.output


def test_a_fleet_is_sized_as_an_estimate() -> None:
    said = CliRunner().invoke(size, ["--beats", "5000", "--interval", "30s"])
    assert said.exit_code == 0
    assert "ESTIMATE" in said.output
    assert json.loads(CliRunner().invoke(size, ["--beats", "5000", "--json"]).stdout)["estimate"] is True
    for wrong in ("soon", "0s"):
        assert CliRunner().invoke(size, ["--beats", "5", "--interval", wrong]).exit_code == 2
