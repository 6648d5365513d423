"""JSON Schema: what is refused when it is written, and values that may not hold anybody up."""

from typing import Any

import msgspec
import pytest

from rules.schema import compile_schema
from rules.selection import BudgetError


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        pytest.param({"type": "nonsense"}, "not a JSON Schema", id="an unknown type"),
        pytest.param({"pattern": "(?=a)"}, "not a JSON Schema", id="a pattern that is not linear"),
        pytest.param({"patternProperties": {r"(a)\1": True}}, "not a JSON Schema", id="the same of keys"),
        pytest.param({"pattern": "((a{100}){100}){100}"}, "not a JSON Schema", id="an enormous pattern"),
        pytest.param({"$ref": "http://192.0.2.1/s"}, "holds all it refers to", id="a remote reference"),
        pytest.param({"items": {"$ref": "file:///etc/passwd"}}, "holds all it refers to", id="a file"),
        pytest.param({"$ref": "#/$defs/gone"}, "which is not there", id="a reference to nothing"),
        pytest.param({"items": {"$ref": "#"}}, "the whole of it", id="a reference to itself"),
        pytest.param(
            {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "to itself", id="a circle"
        ),
        pytest.param({"items": {"$id": "http://x/", "$ref": "#"}}, r"\$id inside", id="a base inside"),
        pytest.param({"$dynamicRef": "#a"}, "dynamicRef", id="a dynamic reference"),
        pytest.param({"enum": ["x" * 70_000]}, "larger than 65536 bytes", id="too large"),
        pytest.param(
            {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(9)} | {"d9": True}},
            "10000 parts",
            id="references that multiply",
        ),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_bounded_is_refused(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compile_schema(schema)


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"not": schema}
    with pytest.raises(ValueError, match="60 levels"):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"type": "object"}, {}, ""),
        ({"required": ["a"]}, {}, 'the whole: "a" is a required property'),
        ({"properties": {"a/b~": {"type": "integer"}}}, {"a/b~": "x"}, '/a~1b~0: "x" is not of type "integer"'),
        ({"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"maximum": 2}}}, [1, 3], "/1: 3 is greater"),
        ({"const": {"$ref": "http://x/"}}, {"$ref": "http://x/"}, ""),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "http://x/"}, ""),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}, [1], "/0: 1 is not"),
        ({"pattern": "^(a+)+$"}, "a" * 100_000 + "!", "the whole: "),
    ],
)  # fmt: skip
def test_where_a_value_does_not_fit_is_a_pointer(schema: dict[str, Any], value: Any, said: str) -> None:
    compiled = compile_schema(schema)
    told = compiled.misfit(value)
    assert told.startswith(said)
    assert (compiled.fits(value), bool(told)) == (not said, bool(said))
    assert len(told) < 1000


@pytest.mark.parametrize(
    "body",
    [b"[" + b"1," * 400_000 + b"1]", b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500, b"1e308"],
)
@pytest.mark.parametrize(
    "schema", [{"uniqueItems": True, "type": "array"}, {"items": {"type": "string"}}, {"multipleOf": 0.1}]
)
def test_a_hostile_value_is_told_of(schema: dict[str, Any], body: bytes) -> None:
    try:
        compiled, value = compile_schema(schema), msgspec.json.decode(body)
        assert compiled.fits(value) or compiled.misfit(value)
    except BudgetError as over:
        assert "schema" in str(over)  # noqa: PT017
