"""The table of docs/explanation/compared.md is what the rules say, and ours has none of the holes it shows in others."""

import pytest

from benchmarks.compared import PAGE, PEERS, TRACES, Trace, outcome, upbeat, written


def test_the_table_on_the_page_is_what_the_rules_say() -> None:
    page = PAGE.read_text("utf-8")
    assert written(page) == page, "run `python -m benchmarks.compared --write`"


@pytest.mark.parametrize("trace", TRACES, ids=[trace.name for trace in TRACES])
def test_upbeat_alerts_of_what_is_wrong_and_of_nothing_else(trace: Trace) -> None:
    said = outcome(trace, upbeat(trace).changes)
    assert said == "quiet" if trace.truth is None else said.startswith("after")
    assert "never ends" not in said


def test_each_rule_of_others_fails_some_trace() -> None:
    for name, rule in PEERS.items():
        said = [outcome(trace, list(rule(trace.seen(), list(trace.rows)))) for trace in TRACES]
        assert any("**" in one for one in said), name
