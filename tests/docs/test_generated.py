"""The generated reference is what the models say, and the schema accepts what the parser accepts."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GENERATOR: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate.py"))
GOOD: dict[str, Any] = {
    "version": 1,
    "page": {"slug": "shop", "name": "Shop"},
    "regions": ["eu", {"slug": "us", "reference": ["1.1.1.1:53"]}],
    "defaults": {"interval": "30s", "quorum": {"critical": "all", "confirm": "off"}},
    "channels": [{"slug": "ops", "type": "webhook", "url": "http://127.0.0.1:9000/hook"}],
    "components": [{"slug": "cart", "name": "Cart"}],
    "retention": {"days": 7, "size": "5GB"},
    "beats": [
        {
            "slug": "b",
            "type": "http",
            "url": "https://example.com/",
            "components": ["cart"],
            "timeout": 5,
            "quorum": {"critical": {"open": "60%", "close": "auto"}, "max_age": "auto"},
            "assertions": [{"of": "status", "in": [200]}],
        }
    ],
}


@pytest.mark.parametrize("name", sorted(GENERATOR["FILES"]))
def test_what_is_committed_is_what_the_models_say(name: str) -> None:
    made = GENERATOR["FILES"][name]()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == made, "run `make docs`"


def test_every_key_is_described() -> None:
    page = GENERATOR["configuration"]()
    assert re.findall(r"^\| `\w+` .*\|\s*\|$", page, re.MULTILINE) == []


def test_every_link_leads_to_a_heading() -> None:
    page = GENERATOR["configuration"]()
    headings = {line[3:].lower().replace(" ", "-") for line in page.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\(#([^)]+)\)", page)) <= headings


def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(GENERATOR["editor_schema"]())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_accepts_a_good_file() -> None:
    assert [error.message for error in validator().iter_errors(GOOD)] == []


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param({"beets": []}, id="an unknown key"),
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"beats": [{"slug": "b", "type": "http"}]}, id="a beat without url"),
        pytest.param({"defaults": {"interval": "soon"}}, id="a duration that is none"),
        pytest.param({"regions": ["EU"]}, id="a slug in capitals"),
        pytest.param({"defaults": {"quorum": {"critical": "most"}}}, id="a count that is none"),
    ],
)
def test_the_schema_refuses_a_mistake(mistake: dict[str, Any]) -> None:
    assert not validator().is_valid(GOOD | mistake)


def test_the_schema_says_which_draft_it_is() -> None:
    schema = json.loads(GENERATOR["editor_schema"]())
    assert (schema["$schema"], schema["title"]) == (
        "https://json-schema.org/draft/2020-12/schema",
        "upbeat.yaml",
    )
