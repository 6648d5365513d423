"""`upbeat inboxes` and `upbeat inbox`: made, filled, read and explained from a terminal."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.upbeat.conftest import Cli, Ran

RULE = {
    "slug": "shop-down",
    "inbox": "alerts",
    "enabled": True,
    "critical": {"value": "$.status", "eq": "firing"},
    "recovery": {"value": "$.status", "eq": "resolved"},
    "fingerprint": "{$.host}",
    "target": {"external": "outside"},
}


async def _judged(remote: Cli, event: str) -> Ran:
    """The event, once it was judged."""
    while True:
        ran = await remote("inboxes", "event", event)
        if "waiting" not in ran.out:
            return ran
        await asyncio.sleep(0.2)


async def _first_line(remote: Cli, *arguments: str) -> str:
    """The first line of a command that goes on until it is interrupted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "upbeat.cli", *arguments),
        env={**os.environ, **remote.environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    process.terminate()
    await process.wait()
    return line.decode()


async def test_an_inbox_is_made_filled_and_read(remote: Cli, tmp_path: Path) -> None:
    made = await remote("inboxes", "create", stdin='{"slug": "alerts", "page": "shop"}')
    assert made.out.startswith("inbox alerts created\nits token, told this once: upi_")
    turned = await remote("inboxes", "rotate", "alerts", "--overlap", "1h", "--json")
    assert turned.json["expires_at"]
    shown = await remote("inboxes", "show", "alerts")
    assert shown.out.count("token ...") == 2
    assert turned.json["token"] not in shown.out
    assert (await remote("inboxes", "revoke", "alerts", turned.json["id"])).code == 0

    trigger = tmp_path / "rule.json"
    trigger.write_text(json.dumps(RULE))
    sample = tmp_path / "sample.json"
    sample.write_text(
        '{"status": "firing", "host": "web-1", "password": "hunter2hunter2", "text": "\\u001b[31mred"}'
    )
    assert (await remote("triggers", "create", "--page", "shop", "-f", trigger)).code == 0
    fired = await remote("inboxes", "fire", "alerts", "-f", sample, "-H", "X-Kind: alert", "--quiet")
    assert fired.out.startswith("evt_"), fired.err
    event = fired.out.strip()
    read = await _judged(remote, event)
    assert "X-Kind: alert" in read.out
    assert '  "password": "***",\n' in read.out
    assert "hunter2" not in read.out
    assert "\x1b" not in read.out
    trace = await remote("inboxes", "event", event, "--trigger", "shop-down")
    assert "item 0: critical web-1" in trace.out
    assert any(
        "$.status" in line and "is firing" in line and "yes" in line for line in trace.out.splitlines()
    )
    listed = await remote("inboxes", "events", "alerts", "--search", "web-1", "--verdict", "matched")
    assert len(listed.out.splitlines()) == 2
    followed = await _first_line(remote, "inbox", "alerts", "--follow")
    for said in (listed.out, followed):
        assert "shop-down opened web-1" in said

    signals = await remote("triggers", "signals", "shop-down")
    assert signals.out.splitlines()[1].split()[:2] == ["web-1", "critical"]
    assert (await remote("triggers", "end", "shop-down", "web-1")).out == "web-1 of shop-down is over\n"
    shown = await remote("triggers", "show", "shop-down")
    assert shown.out.startswith(
        "shop-down: For each event of alerts, beat outside is critical if $.status is firing."
    )
    assert "open draft, update draft, resolve draft" in shown.out
    record = await remote("triggers", "record", "shop-down")
    assert ["real", "firings", "0"] in [line.split() for line in record.out.splitlines()]
    assert "no firing and no recovery was seen yet" in record.out
    refused = await remote("triggers", "promote", "shop-down", "--step", "open")
    assert (refused.code, "cannot be promoted" in refused.err) == (2, True)
