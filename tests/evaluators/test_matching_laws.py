"""Laws of matching: nothing raises, a trace changes nothing and agrees, and items do not touch each other."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.event import Event, read
from evaluators.matching import MAX_FINGERPRINT, MAX_MESSAGE, NOTHING, Item, Matched, Matcher, Traced
from rules.trigger import Trigger

NOW = 1.78e9
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([2**60, 10**40, 1.5, 1e300]),
    st.text(alphabet='a1D"{}[]\0\ud800é', max_size=4), st.sampled_from(["down", '{"a": "down"}', "2026-01-01", "x" * 300]),
)  # fmt: skip
keys = st.sampled_from(["a", "b", "c"])
bodies = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=15,
)
references = st.sampled_from(
    ["$", "$.a", "$.b", "$.a.b", "$.a[0]", "$[*]", "$..a", "$.a[?@.b == 'down']", "body:$.c", "body:$..b", "header:x-a", "query:q", "text", "value:cut", "value:any"]
)  # fmt: skip
texts = st.sampled_from(["down", "a", "1", "true", ""])
comparisons = st.one_of(
    st.fixed_dictionaries({"eq": st.one_of(texts, st.integers(-1, 2), st.none(), st.booleans())}),
    st.fixed_dictionaries({"ne": texts}),
    st.fixed_dictionaries({"gt": st.integers(-2, 2)}),
    st.fixed_dictionaries({"between": st.just([0, 2])}),
    st.fixed_dictionaries({"in": st.lists(st.one_of(texts, st.integers(0, 2)), min_size=1, max_size=3)}),
    st.fixed_dictionaries({"contains": texts}),
    st.fixed_dictionaries({"starts": texts}),
    st.fixed_dictionaries({"matches": st.sampled_from(["d.w", "^$", "(?i)DOWN"])}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"empty": st.booleans()}),
    st.fixed_dictionaries({"count": st.sampled_from([0, 1, {"ge": 2}])}),
    st.fixed_dictionaries({"changed": st.booleans()}),
    st.just({"schema": {"type": "object"}}),
)
leaves = st.builds(
    lambda value, comparison, negated: {"value": value, **comparison, **({"not": True} if negated else {})},
    references,
    comparisons,
    st.booleans(),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda name, all_: {name: all_},
        st.sampled_from(["all", "any", "none"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
rules = st.fixed_dictionaries(
    {"critical": conditions, "fingerprint": st.sampled_from(["single", "{$.a}", "{$.a}/{value:cut}", "{text}"])},
    optional={
        "when": conditions, "warning": conditions, "suppress": conditions, "truncated": leaves.filter(lambda leaf: "changed" not in leaf),
        "each": st.sampled_from(["$", "$.a", "$[*]", "$..a"]), "unwrap": st.lists(st.sampled_from(["$.a", "$.b", "$[*]", "$..a"]), max_size=3),
        "time": st.sampled_from(["$.a", "$.b"]), "message": st.sampled_from(["{$}", "{$.a}: {$.b}{text}"]),
    },
)  # fmt: skip
NAMED = {"cut": {"value": "text", "matches": "(d[a-z]+)"}, "any": "$.a"}


def compiled(rule: dict[str, Any]) -> Matcher:
    spec = {"slug": "t", "inbox": "i", "target": {"beat": "b"}, "silence": "1h", "values": NAMED}
    return Matcher(Trigger.model_validate({**spec, **rule}))


def matched(matcher: Matcher, body: Any, *, is_traced: bool = False) -> Matched:
    event = Event("evt", NOW, (("X-A", "down"),), "q=1", json.dumps(body).encode())
    return matcher.match(read(event), NOW, remembered, is_traced=is_traced)


def remembered(fingerprint: str) -> Mapping[str, str]:
    return {"$.a": "down", "$": "1"} if len(fingerprint) % 2 else {}


def agrees(trace: list[Traced]) -> bool:
    """Whether the first of `trace` follows from what is below it."""
    first, inner = trace[0], []
    for one in trace[1:]:
        if one.depth <= first.depth:
            break
        if one.depth == first.depth + 1 and one.part == first.part:
            inner.append(one.holds)
    if first.holds is None or first.of not in ("all", "any", "none"):
        return True
    looked_at = [holds for holds in inner if holds is not None]
    return first.holds is {"all": all(looked_at), "any": any(looked_at), "none": not any(looked_at)}[first.of]


def top(item: Item, part: str) -> bool | None:
    return next((one.holds for one in item.trace if one.part == part and one.depth == 0), None)


@settings(max_examples=300, deadline=None)
@given(rules, bodies)
def test_nothing_raises_and_a_trace_changes_nothing_and_agrees(rule: dict[str, Any], body: Any) -> None:
    matcher = compiled(rule)
    plain, traced = matched(matcher, body), matched(matcher, body, is_traced=True)
    if plain is NOTHING:
        assert {item.ignored for item in traced.items} == {"unmatched"}
        return
    assert (plain.is_truncated, plain.error, len(plain.items)) == (
        traced.is_truncated,
        traced.error,
        len(traced.items),
    )
    for index, (item, told) in enumerate(zip(plain.items, traced.items, strict=True)):
        assert all(
            getattr(item, name) == getattr(told, name) for name in Item.__struct_fields__ if name != "trace"
        )
        assert (item.index, item.trace) == (index, ())
        assert (item.says is not None) + (item.ignored is not None) + bool(item.error) == 1
        assert item.says is None or 0 < len(item.fingerprint) <= MAX_FINGERPRINT
        assert item.at <= NOW
        assert len(item.message) <= MAX_MESSAGE
        trace = list(told.trace)
        assert all(agrees(trace[place:]) for place in range(len(trace)))
        if not item.error:
            assert (item.ignored == "unmatched") == (top(told, "when") is False)
            assert item.says is None or top(told, item.says) is True
            assert (item.ignored == "suppressed") == (top(told, "suppress") is True)


@settings(max_examples=100, deadline=None)
@given(rules, st.lists(bodies, max_size=4))
def test_an_item_is_judged_as_it_would_be_alone(rule: dict[str, Any], items: list[Any]) -> None:
    matcher = compiled({**rule, "each": "$.all", "unwrap": []} | {"fingerprint": "{$.a}"})
    if "body:" in json.dumps(rule) or "text" in json.dumps(rule) or "value:cut" in json.dumps(rule):
        return
    together = matched(matcher, {"all": items}, is_traced=True).items
    alone = [matched(matcher, {"all": [item]}).items[0] for item in items]
    assert [(i.says, i.ignored, i.error, i.fingerprint) for i in together] == [
        (i.says, i.ignored, i.error, i.fingerprint) for i in alone
    ]


@settings(max_examples=150, deadline=None)
@given(leaves, bodies)
def test_of_a_comparison_and_its_opposite_one_holds_at_most(leaf: dict[str, Any], body: Any) -> None:
    said = [
        bool(matched(compiled({"critical": one, "fingerprint": "single"}), body).items[0].says)
        for one in ({**leaf, "not": False}, {**leaf, "not": True})
    ]
    assert not all(said)
    if "exists" in leaf:
        assert any(said)
