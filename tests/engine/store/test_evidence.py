"""Evidence of any shape is stored in at most so many bytes, the largest parts cut first, and says what was cut."""

import json
from typing import Any

import asyncpg
from hypothesis import given
from hypothesis import strategies as st

from engine.store import evidence

LEAVES = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20)
LONG = st.builds(lambda text, n: text * n, st.text(min_size=1, max_size=4), st.integers(1, 9000))
DOCUMENTS = st.dictionaries(
    st.text(max_size=12) | LONG,
    st.recursive(
        LEAVES | LONG,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6),
        max_leaves=30,
    ),
    max_size=8,
)


@given(DOCUMENTS)
def test_evidence_of_any_shape_keeps_its_size_and_stays_json(found: dict[str, Any]) -> None:
    text = evidence.encoded(found)
    assert (text is None) == (not found)
    if text is not None:
        assert len(text.encode()) <= evidence.MOST_BYTES
        whole = len(json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode())
        if whole < evidence.MOST_BYTES // 2:
            assert json.loads(text) == _without_nul(found)


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {_without_nul(key): _without_nul(inner) for key, inner in value.items()}
        case list():
            return [_without_nul(inner) for inner in value]
    return value


async def test_what_a_stranger_wrote_can_be_searched(database_url: str) -> None:
    found = {"records": [{"text": "a\0\\\0\\u0000"}], "\0": "\0"}
    connection = await asyncpg.connect(database_url)
    try:
        kept = await connection.fetchval(
            "SELECT $1::json::jsonb->'records'->0->>'text'", evidence.encoded(found)
        )
    finally:
        await connection.close()
    assert kept == "a\ufffd\\\ufffd\\u0000"


def test_the_largest_part_is_cut_first_and_says_how_long_it_was() -> None:
    found = {"status": 503, "body": "x" * 50_000, "headers": [["server", "nginx"]] * 20}
    kept = json.loads(evidence.encoded(found) or "")
    assert kept["status"] == 503
    assert kept["headers"] == found["headers"]
    assert kept["body"].startswith("xxx")
    assert kept["body"].endswith("… [50000 characters, cut]")
    assert len(kept["body"]) > 15_000


def test_of_too_many_parts_the_first_are_kept() -> None:
    kept = json.loads(evidence.encoded({"records": [f"record {n}" for n in range(10_000)]}) or "")
    assert kept["records"][0] == "record 0"
    assert kept["records"][-1].endswith(" more]")


def test_what_lies_too_deep_is_cut_as_text() -> None:
    deep: Any = "x" * 20_000
    for _ in range(100):
        deep = {"in": deep}
    assert len(evidence.encoded(deep) or "") <= evidence.MOST_BYTES
