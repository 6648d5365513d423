"""`upbeat triggers` against a running server: rules are previewed, compared and applied; what is printed, and with which exit code."""

import json
from pathlib import Path

import aiohttp

from tests.rig.process import TOKEN, Upbeat
from tests.upbeat.conftest import Cli

RULE = """\
slug: payments-down
inbox: payments
critical: {value: $.status, eq: firing}
recovery: {value: $.status, eq: resolved}
fingerprint: "{$.host}"
target: {external: payments}
"""


async def counted(server: Upbeat) -> list[str]:
    """What the server's metrics say of the inbox."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.get(f"http://127.0.0.1:{server.port}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    assert any(line.startswith("upbeat_") for line in lines)
    return [line for line in lines if "payments" in line]


async def inbox(remote: Cli, slug: str) -> None:
    made = await remote("inboxes", "create", stdin=f"slug: {slug}\n")
    assert made.code == 0, made.err


async def test_a_rule_is_previewed_on_samples(remote: Cli, server: Upbeat, tmp_path: Path) -> None:
    await inbox(remote, "payments")
    rule, firing, resolved = (tmp_path / name for name in ("rule.yaml", "firing.json", "resolved.json"))
    rule.write_text(RULE, "utf-8")
    firing.write_text(json.dumps({"status": "firing", "host": "db-1"}), "utf-8")
    resolved.write_text(json.dumps({"status": "resolved", "host": "db-1"}), "utf-8")
    asked = ("triggers", "preview", rule, "--since", "1h", "--sample", firing, "--sample", resolved)
    ran = await remote(*asked, "--lines", "5")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("payments-down: 2 events: 2 matched\n")
    assert "episodes that would have opened: 1" in ran.out
    assert "open, a draft to review: Outage: payments" in ran.out
    assert "sample 2  matched  resolved db-1" in ran.out
    as_json = await remote(*asked, "--json")
    assert as_json.json["findings"]["opened"] == 1
    assert await counted(server) == []
    assert "payments-down" not in (await remote("triggers", "list", "--quiet")).out


async def test_samples_have_headers_and_a_query(remote: Cli, tmp_path: Path) -> None:
    await inbox(remote, "headed")
    rule, sample = tmp_path / "rule.yaml", tmp_path / "form.txt"
    text = RULE.replace("payments", "headed")
    rule.write_text(
        text + "when: [{value: 'header:X-Kind', eq: alert}, {value: 'query:env', eq: prod}]\n", "utf-8"
    )
    sample.write_text("status=firing&host=db-1", "utf-8")
    asked = ("triggers", "preview", rule, "--no-stored", "--sample", sample, "--lines", "1")
    form = ("-H", "Content-Type: application/x-www-form-urlencoded", "-H", "X-Kind:alert")
    assert "opened critical db-1" in (await remote(*asked, *form, "--query", "env=prod")).out
    assert "ignored unmatched" in (await remote(*asked, *form)).out
    wrong = await remote(*asked, "-H", "X-Kind")
    assert (wrong.code, "'X-Kind' is no header; write it as NAME:VALUE" in wrong.err) == (2, True)
    empty = await remote("inboxes", "create", stdin="\n")
    assert (empty.code, "stdin is empty; write YAML or JSON, such as `slug: NAME`" in empty.err) == (2, True)


async def test_a_rule_that_cannot_judge_exits_with_1_and_a_wrong_one_with_2(
    remote: Cli, tmp_path: Path
) -> None:
    await inbox(remote, "judging")
    rule, sample = tmp_path / "rule.yaml", tmp_path / "sample.json"
    rule.write_text(
        f"triggers:\n  - {{{RULE.replace('payments', 'judging').strip().replace(chr(10), ', ')}}}\n", "utf-8"
    )
    sample.write_text('{"status": "firing"}', "utf-8")
    ran = await remote("triggers", "preview", rule, "--no-stored", "--sample", sample)
    assert ran.code == 1, ran.err
    assert "warning: 1 item cannot be judged: fingerprint" in ran.out
    rule.write_text(RULE.replace("eq", "equals"), "utf-8")
    ran = await remote("triggers", "preview", rule)
    assert (ran.code, "/rule/critical" in ran.err) == (2, True)
    rule.write_text("beats: []\n", "utf-8")
    assert "there is no trigger in it" in (await remote("triggers", "preview", rule)).err


async def test_a_rule_is_applied_and_its_versions_are_compared(remote: Cli, tmp_path: Path) -> None:
    await inbox(remote, "applied")
    rule = tmp_path / "rule.yaml"
    rule.write_text(RULE.replace("payments", "applied"), "utf-8")
    made = await remote("triggers", "apply", rule)
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("trigger applied-down created: For each event of applied")
    assert "is as it was" in (await remote("triggers", "apply", rule)).out
    rule.write_text(rule.read_text("utf-8").replace("eq: firing", "eq: down"), "utf-8")
    compared = await remote("triggers", "diff", rule, "--since", "1h")
    assert (compared.code, compared.err) == (0, "")
    assert "Only the new rule does something: 0 events" in compared.out
    changed = await remote("triggers", "apply", rule)
    assert "trigger applied-down is at revision 2" in changed.out
    assert '"eq": "down"' in changed.out
    shown = (await remote("triggers", "show", "applied-down", "--json")).json
    assert (shown["enabled"], shown["incidents"]["open"]) == (False, "draft")
    versions = await remote("triggers", "diff", "applied-down", "--revision", "1", "--since", "1h", "--json")
    assert versions.json["difference"]["counts"] == {}
    assert (await remote("triggers", "diff", rule, rule, "--revision", "1")).code == 2
    assert (await remote("triggers", "delete", "applied-down")).code == 0
