"""A trigger as a form and back: nothing is lost, whatever the form can show; and what picking a value does to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.console import drafting
from api.console.drafting import Draft, Row, Section
from api.console.tree import MOST_INNER, MOST_NODES, Branch, leaves, tree
from rules.selection import compile_path
from rules.sender import senders
from rules.shape import spec_of
from rules.trigger import Trigger

WHOLE: dict[str, Any] = {
    "slug": "checkout",
    "name": "Checkout",
    "inbox": "prometheus",
    "unwrap": ["$.Message"],
    "each": "$.alerts[*]",
    "when": [
        {"value": "$.labels.team", "eq": "shop"},
        {"value": "$.count", "as": "number", "ge": 3},
        {"value": "$.tags", "contains": "live", "not": True},
        {"none": [{"value": "$.labels.severity", "in": ["info", "a, b", "1"]}]},
        {"value": "header:X-Env", "exists": False},
        {"value": "$.state", "changed": True},
        {"value": "$.null", "eq": None},
        {"value": "$.text", "eq": "null"},
        {"value": "$.number", "between": [1, 2.5]},
    ],
    "critical": {"any": [{"value": "$.status", "in": ["firing", "open"]}, {"value": "$.p", "eq": 1}]},
    "warning": {"all": [{"any": [{"value": "$.a", "eq": 1}, {"value": "$.b", "eq": 2}]}]},
    "recovery": False,
    "fingerprint": "{$.host}/{$.check}",
    "time": ["$.endsAt", "$.startsAt"],
    "message": "{$.title}",
    "repeats": {"count": 3, "within": "10m"},
    "for": "5m",
    "silence": "1h",
    "expires": "1d",
    "cooldown": "15m",
    "absence": {"after": "26h", "severity": "warning"},
    "target": {"external": "checkout", "per_fingerprint": 20},
    "tags": ["shop"],
    "values": {"host": {"value": "$.text", "matches": "host=(\\S+)"}},
    "incidents": {"resolve": "auto"},
}


def _posted(draft: Draft) -> Draft:
    """The form as a browser sends it back."""
    pairs = [*draft.plain.items(), ("kept", json.dumps(dict(draft.kept)))]
    for name, section in draft.sections.items():
        pairs += [(f"{name}.mode", section.mode), (f"{name}.kept", section.kept)]
        for row in (*section.rows, Row()):
            pairs += zip(
                (f"{name}.{key}" for key in ("value", "op", "text", "as")),
                (row.value, row.op, row.text, row.read_as),
                strict=True,
            )
    return drafting.read_draft(pairs)


def _again(rule: Trigger) -> Trigger:
    return Trigger.model_validate(drafting.spec_of(_posted(drafting.draft_of(spec_of(rule)))))


def test_a_rule_with_everything_comes_back_from_the_form_as_it_was() -> None:
    rule = Trigger.model_validate(WHOLE)
    assert _again(rule) == rule


def test_every_preset_comes_back_from_the_form_as_it_was() -> None:
    for sender in senders():
        target = {"slug": "x", "inbox": "i", "target": {"external": "x"}}
        rule = Trigger.model_validate({**sender.trigger, **target})
        assert _again(rule) == rule, sender.slug


def test_what_is_nested_too_deep_for_rows_is_kept() -> None:
    draft = drafting.draft_of(WHOLE)
    assert json.loads(draft.section("warning").kept) == WHOLE["warning"]
    assert set(draft.kept) == {"tags", "values", "incidents"}
    assert draft.section("when").rows[3] == Row("$.labels.severity", "none in", 'info, "a, b", "1"')


def test_a_form_that_was_meddled_with_is_refused() -> None:
    with pytest.raises(ValueError, match="mapping"):
        drafting.read_draft([("kept", "[]")])
    with pytest.raises(ValueError, match="Expecting"):
        drafting.read_draft([("critical.kept", "{")])


@given(
    st.one_of(
        st.text(max_size=20),
        st.integers(-(2**63) + 1, 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    )
)
def test_a_value_that_was_typed_is_the_value_that_is_meant(value: Any) -> None:
    assert drafting.literal(drafting.typed(value)) == value


def test_picked_values_become_conditions_and_one_more_value_of_the_same_is_one_of_them() -> None:
    draft = drafting.picked(Draft(), "critical", "$.status", "firing")
    draft = drafting.picked(draft, "critical", "$.status", "open")
    draft = drafting.picked(draft, "recovery", "$.code", 0)
    draft = drafting.picked(draft, "when", "header:X-Event", "42")
    assert draft.section("critical").rows == (Row("$.status", "in", "firing, open"),)
    assert draft.section("recovery").rows == (Row("$.code", "eq", "0"),)
    assert draft.section("when").rows == (Row("header:X-Event", "eq", '"42"'),)


def test_a_map_of_values_says_how_bad_each_is() -> None:
    says = [
        ("firing", "critical"),
        ("degraded", "warning"),
        ("ok", "recovery"),
        ("resolved", "recovery"),
        (1, ""),
    ]
    draft = drafting.mapped(Draft(), "$.state", says)
    assert draft.section("recovery").rows == (Row("$.state", "in", "ok, resolved"),)
    assert drafting.guess("Firing") == "critical"
    assert drafting.guess("blue") == ""


def test_items_of_a_list_turn_what_was_picked_before_into_what_is_of_the_item() -> None:
    draft = drafting.picked(Draft(), "critical", "$.alerts[0].status", "firing")
    draft = drafting.picked(draft, "when", "$.receiver", "shop")
    for path in ("$.alerts[0].labels.host", "$.version"):
        draft = drafting.picked(draft, "fingerprint", path, "x")
    draft = drafting.picked(draft, "each", "$.alerts[*]", None)
    assert draft.section("critical").rows[0].value == "$.status"
    assert draft.section("when").rows[0].value == "body:$.receiver"
    assert draft["fingerprint"] == "{$.labels.host}/{body:$.version}"


def test_a_list_in_a_list_is_looked_at_in_every_item_of_the_outer_one() -> None:
    assert drafting.lists_in("$.a[0].b[1]['c[2]']") == ["$.a[*].b[*]", "$.a[*]"]
    draft = drafting.picked(Draft(), "each", "$.a[0].b[*]", None)
    assert draft["each"] == "$.a[*].b[*]"
    assert drafting.picked(draft, "fingerprint", "$.a[3].b[1].host", "x")["fingerprint"] == "{$.host}"


def test_what_rows_cannot_show_is_turned_to_the_item_as_well() -> None:
    nested = {"all": [{"any": [{"value": "$.l[0].a", "eq": 1}, {"value": "$.b", "eq": 2}]}]}
    draft = drafting.draft_of({"critical": nested, "values": {"host": {"value": "$.l[0].h", "or": ["$.x"]}}})
    spec = drafting.spec_of(drafting.picked(draft, "each", "$.l[*]", None))
    assert [one["value"] for one in spec["critical"]["all"][0]["any"]] == ["$.a", "body:$.b"]
    assert spec["values"]["host"] == {"value": "$.h", "or": ["body:$.x"]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({"none": [{"value": "$.s", "eq": "ok"}]}, {"all": [{"none": [{"value": "$.s", "eq": "ok"}]}, {"value": "$.s", "eq": "x"}]}, id="none of these does not take its opposite in"),
        pytest.param({"any": [{"value": "$.s", "eq": "y"}]}, {"any": [{"value": "$.s", "in": ["y", "x"]}]}, id="any stays any"),
        pytest.param({"value": "$.s", "as": "lower", "in": ["y", "z"]}, {"value": "$.s", "as": "lower", "in": ["y", "z", "x"]}, id="what is read in lower case still is"),
        pytest.param({"value": "$.s", "eq": "y", "not": True}, {"all": [{"value": "$.s", "eq": "y", "not": True}, {"value": "$.s", "eq": "x"}]}, id="a value joins no negation"),
        pytest.param({"all": [{"any": [{"value": "$.a", "eq": 1}]}]}, {"all": [{"any": [{"value": "$.a", "eq": 1}]}, {"value": "$.s", "eq": "x"}]}, id="what is more than rows has one more"),
        pytest.param(False, {"value": "$.s", "eq": "x"}, id="never is over"),
    ],
)  # fmt: skip
def test_a_picked_value_is_one_more_condition(before: Any, after: Any) -> None:
    spec = drafting.spec_of(drafting.picked(drafting.draft_of({"critical": before}), "critical", "$.s", "x"))
    assert spec["critical"] == after


def test_a_second_map_of_a_path_replaces_the_first() -> None:
    draft = drafting.mapped(Draft(), "$.s", [("down", "critical"), ("slow", "critical"), ("up", "recovery")])
    assert drafting.levels_of(draft, "$.s") == {"down": "critical", "slow": "critical", "up": "recovery"}
    draft = drafting.mapped(draft, "$.s", [("down", "critical"), ("slow", "warning"), ("up", "")])
    assert drafting.levels_of(draft, "$.s") == {"down": "critical", "slow": "warning"}
    assert draft.section("critical").rows == (Row("$.s", "eq", "down"),)
    assert "recovery" not in drafting.spec_of(draft)


def test_values_that_look_like_lists_and_quotes_are_one_value_each() -> None:
    draft = Draft()
    for value in ('"a', 'b"', "c, d", "two\nlines", " blank ", 1, True):
        draft = drafting.picked(draft, "when", "$.x", value)
    wanted = drafting.spec_of(_posted(draft))["when"]["in"]
    assert [*map(repr, wanted)] == [*map(repr, ['"a', 'b"', "c, d", "two\nlines", " blank ", 1, True])]


def test_what_a_field_of_a_form_would_change_is_kept_beside_it() -> None:
    spec = {
        "message": "two\nlines",
        "fingerprint": " {$.a}",
        "critical": {"value": "$.a", "starts": " x"},
        "time": ["$['a, b']", "$.c"],
    }
    made = drafting.spec_of(_posted(drafting.draft_of(spec)))
    assert {key: made[key] for key in spec} == spec


def test_what_is_half_filled_in_is_told_and_not_left_out() -> None:
    rows = {"when": Section("all", (Row("", "eq", "firing"),))}
    spec = drafting.spec_of(Draft({"repeats_within": "5m", "target": "beat", "per_fingerprint": "3"}, rows))
    assert spec["when"] == {"value": "", "eq": "firing"}
    assert spec["repeats"] == {"within": "5m"}
    assert spec["target"]["per_fingerprint"] == 3


def test_a_tree_is_bounded_and_every_value_in_it_can_be_picked() -> None:
    deep: Any = "bottom"
    for _ in range(200):
        deep = {"a": deep}
    wide = {f"key {n}": n for n in range(5000)}
    document = {"deep": deep, "wide": wide, 'it\'s \\ "odd"': ["x" * 1_000_000], "s": [{}, [], None, True]}
    shown = tree(document)
    assert _size(shown) <= MOST_NODES + 1
    (broad,) = (one for one in shown.inner if one.name == "wide")
    assert (broad.hidden, len(broad.inner)) == (5000 - MOST_INNER, MOST_INNER)
    for path in leaves(shown):
        assert len(compile_path(path)(document)) == 1, path
    assert max(len(one.text) for one in _all(shown)) < 400


def _all(branch: Branch) -> list[Branch]:
    return [branch, *(found for inner in branch.inner for found in _all(inner))]


def _size(branch: Branch) -> int:
    return len(_all(branch))


def test_rows_without_a_value_and_conditions_that_always_hold() -> None:
    section = {
        "recovery": Section("never"),
        "critical": Section("always", (Row("$.a"),)),
        "when": Section("all", (Row(),)),
    }
    spec = drafting.spec_of(Draft({"name": "A  b"}, section))
    assert spec["recovery"] is False
    assert spec["critical"] is True
    assert "when" not in spec
    assert spec["slug"] == "a-b"
