"""`upbeat replay` against a running server: its own worker processes, what is printed, what is refused."""

from pathlib import Path
from xml.etree import ElementTree as ET

from tests.upbeat.conftest import Cli


async def test_a_running_servers_past_leads_to_what_it_stores(remote: Cli) -> None:
    ran = await remote("replay", "--exact", "--workers", "2")
    assert (ran.code, ran.err) == (0, "")
    rows = ran.out.splitlines()[1:-1]
    assert len(rows) >= 5
    assert all(" same " in row for row in rows)


async def test_another_policy_is_compared_and_drawn(remote: Cli, tmp_path: Path) -> None:
    policy, plot = tmp_path / "new.yaml", tmp_path / "both.svg"
    policy.write_text("quorum: {critical: any, confirm: off}\nepisodes: {resolve_delay: 2m}\n", "utf-8")
    ran = await remote("replay", "--beat", "storefront", "--since", "1h", "--policy", policy, "--plot", plot)
    assert (ran.code, ran.err) == (0, "")
    heading, old, new, *_ = ran.out.splitlines()
    assert heading.split() == ["POLICY", "EPISODES", "CRITICAL", "WARNING", "UNKNOWN", "TOLD"]
    assert old.split()[:3] == ["beat", "storefront", "old"]
    assert new.split()[:3] == ["beat", "storefront", "new"]
    assert ET.parse(plot).getroot().tag.endswith("svg")


async def test_a_policy_that_cannot_be_is_refused_where_it_is_wrong(remote: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "new.yaml"
    policy.write_text("quorum: {critical: 9}\n", "utf-8")
    ran = await remote("replay", "--beat", "storefront", "--policy", policy)
    assert ran.code == 2
    assert "--policy: storefront: quorum.critical.open is 9" in ran.err
    assert "runs in 3 region(s)" in ran.err
    policy.write_text("quorum: [\n", "utf-8")
    ran = await remote("replay", "--beat", "storefront", "--policy", policy)
    assert (ran.code, "new.yaml:" in ran.err) == (2, True)
    assert (await remote("replay", "--beat", "storefront")).code == 2
