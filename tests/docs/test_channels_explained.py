"""What docs/reference/channels.md says each target makes of each news is what the exporters do."""

import re
from pathlib import Path

from exporters.channels.alerting import DOES
from exporters.channels.opsgenie import _PRIORITIES
from exporters.channels.pagerduty import _SEVERITIES
from exporters.channels.payloads import BETTERSTACK, OPENSTATUS
from rules.channels.channel import ALL_TOLD

TEXT = (Path(__file__).parents[2] / "docs/reference/channels.md").read_text("utf-8")
_WORDS = {
    "trigger": ("trigger", "create", "alerting"),
    "acknowledge": ("acknowledge", "acknowledge", "–"),
    "resolve": ("resolve", "close", "ok"),
    "note": ("–", "note", "–"),
}


def _rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def _expected(told: str) -> list[str]:
    alerting = _WORDS.get(DOES.get(told, ""), ("–",) * 3)
    if told == "test":
        begun, ended = alerting, _WORDS["resolve"]
        alerting = (f"{begun[0]}, {ended[0]}", f"{begun[1]}, {ended[1]}", f"{begun[2]}, {ended[2]}")
    openstatus = ", ".join(reversed(OPENSTATUS.get(told, {}).values())) or "–"
    betterstack = BETTERSTACK.get(told, "–") + (", reopened" if told == "open" else "")
    if told == "beat":
        betterstack = "created, updated, paused, unpaused, deleted"
    return [f"`{told}`", "message", *alerting, openstatus, betterstack]


def test_the_table_of_news_is_what_the_exporters_do() -> None:
    rows = _rows(TEXT.split("## What a second try")[0])[2:]
    assert rows == [_expected(told) for told in (*ALL_TOLD, "digest", "test")]


def test_the_table_of_severities_is_what_the_exporters_say() -> None:
    rows = {row[0]: row[1:] for row in _rows(re.split("## (?:Severity|Limits)", TEXT)[1])}
    order = ("critical", "warning", "unknown", "ok")
    assert rows["PagerDuty `severity`"] == [_SEVERITIES[level] for level in order]
    assert rows["Opsgenie `priority`"] == [_PRIORITIES[level] for level in order]
