"""The table of docs/explanation/compared.md is what the rules say, and ours has none of the holes it shows in others."""

import re

import pytest

from benchmarks.compared import PAGE, PEERS, TRACES, Trace, written

TEXT = PAGE.read_text("utf-8")
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| \*\*(.+?)\*\*: [^|]* " + r"\| ([^|]*) " * 7 + r"\|$", TEXT, re.MULTILINE)
}


def test_the_table_on_the_page_is_what_the_rules_say() -> None:
    assert written(TEXT) == TEXT, "run `python -m benchmarks.compared --write`"


@pytest.mark.parametrize("trace", TRACES, ids=[trace.name for trace in TRACES])
def test_upbeat_alerts_of_what_is_wrong_and_of_nothing_else(trace: Trace) -> None:
    assert ROWS[trace.name][0].startswith("quiet" if trace.truth is None else "after")
    assert "never ends" not in ROWS[trace.name][0]


@pytest.mark.parametrize("place", range(1, len(PEERS) + 1), ids=list(PEERS))
def test_each_rule_of_others_fails_some_trace(place: int) -> None:
    assert any("**" in cells[place] for cells in ROWS.values())
