"""Writes the reference of `upbeat.yaml` from its models and of the command line from its commands: pure introspection, so that page and code cannot disagree.

Run `python docs/generate.py`; tests/docs/test_generated.py fails while what is committed differs.
"""  # noqa: INP001  # a script, not a package

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from rules.beat import AnyBeat
from rules.config import json_schema
from rules.duration import PATTERN, format_duration
from rules.export import text_of
from rules.kinds.kind import BeatRule, ProbedRule
from rules.sender import Sender, senders
from rules.size import format_size
from upbeat.cli.reference import cli_reference

HERE = Path(__file__).parent
_BEATS = {kind.__name__: kind for kind in get_args(AnyBeat)}
_ORDER = (
    "Page",
    "Component",
    "Region",
    "Defaults",
    *_BEATS,
    "Assertion",
    "Quorum",
    "Level",
    "Consecutive",
    "Confirm",
    "IncidentPolicy",
    "ComponentImpact",
    "WebhookChannel",
    "SlackChannel",
    "SmtpChannel",
    "Egress",
    "Watchdog",
    "Otlp",
    "OtlpTls",
    "Retention",
)
_TITLES = {
    "IncidentPolicy": "Incidents",
    "JsonRpc": "JSON-RPC",
    "Otlp": "OTLP",
    "OtlpTls": "OTLP TLS",
    "ComponentImpact": "Impact on a component",
}
_INTRO = """\
<!-- Written by docs/generate.py from the models in rules/. Do not edit. -->
# Configuration: `upbeat.yaml`

YAML 1.2. Unknown keys, values that are not allowed and unset `${env:NAME}` are refused, all together, each with file,
line and key. Durations are numbers with a unit: `800ms`, `30s`, `5m`, `2h`, `1d`, also `1h30m`; a bare number is
seconds. Sizes are `500MB` or `20GB`. A slug is 1 to 63 lower-case letters, digits and inner hyphens. Editors read
[upbeat.schema.json](upbeat.schema.json).

Where a file declares no page (and none exists), its objects belong to the implied page `{slug: status, name: Status}`.
Where it declares no region (and none exists), its beats run in the implied region `local`. With several pages, every
component, channel and beat says `page:`.
"""


def configuration() -> str:
    """The page docs/reference/configuration.md."""
    schema = json_schema()
    models: dict[str, Any] = schema["$defs"]
    parts = [_INTRO, "## The file\n", *_table(schema["properties"], schema.get("required", []))]
    every, probed = _common(models, BeatRule), _common(models, ProbedRule)
    locator = models["Locator"]["properties"]
    for name in _ordered(models):
        model = models[name]
        parts += [f"\n## {_title(name)}\n", f"{_text(model.get('description', ''))}\n"]
        keys: dict[str, Any] = model["properties"]
        if name in _BEATS:
            is_probed = issubclass(_BEATS[name], ProbedRule)
            also = " and of [every beat that probes run](#every-beat-that-probes-run)" if is_probed else ""
            parts.append(f"It has the keys of [every beat](#every-beat){also}, and these.\n")
            keys = {key: value for key, value in keys.items() if key not in (probed if is_probed else every)}
        elif name != "Locator" and keys.keys() >= locator.keys():
            parts.append("It has the keys of a [locator](#locator), which say in what, and these.\n")
            keys = {key: value for key, value in keys.items() if key not in locator}
        parts += _table(keys, model.get("required", []))
        if name == "Defaults":
            parts += ["\n## Every beat\n", *_table(every, ["slug"])]
            more = {key: value for key, value in probed.items() if key not in every}
            parts += ["\n## Every beat that probes run\n", *_table(more, [])]
    return "\n".join(parts) + "\n"


def editor_schema() -> str:
    """The file docs/reference/upbeat.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def command_line() -> str:
    """The page of the command line."""
    return "<!-- Written by docs/generate.py from upbeat/cli/. Do not edit. -->\n" + cli_reference()


_SENDERS = """\
<!-- Written by docs/generate.py from rules/senders/. Do not edit. -->
# Known senders

Systems of which Upbeat knows what they post. **Start from its preset** on the page of a received event, or the sender of a new trigger, begins
with what is shown here; `GET /api/v1/senders` has it for programs. It is a beginning: paths and words are those that the maker documents,
and what is critical to you is yours to say. A sender that is not here is no worse off: [write a trigger](../how-to/write-a-trigger.md).

Where a body is given, the sender posts what one writes there; the trigger fits that body.
"""


def known_senders() -> str:
    """The page docs/reference/senders.md."""
    return _SENDERS + "".join(map(_sender, senders()))


def _sender(sender: Sender) -> str:
    signed = f" Signature preset: `{sender.signature}`." if sender.signature else ""
    body = f"\n```text\n{sender.body.strip()}\n```\n" if sender.body else ""
    named = {"slug": sender.slug, "inbox": sender.slug, **sender.trigger, "target": {"external": sender.slug}}
    rule = text_of({"inboxes": [{"slug": sender.slug}], "triggers": [named]})
    return (
        f"\n## {sender.title}\n\n{sender.help}{signed} [What it posts]({sender.docs}).\n"
        f"{body}\n```yaml\n{rule}```\n"
    )


_TEMPLATES = """\
<!-- Written by docs/generate.py from rules/template.py and rules/presets.yaml. Do not edit. -->
# Templates

Jinja2, as far as this page goes: `{{ variable|filter }}`, `{% if ... %}`, `{% elif %}`, `{% else %}`, `{% for item in list %}` (in a loop
`loop.first`, `loop.last` and `loop.index`), comparisons with `and`, `or`, `not` and `in`, `a if b else c`, `{% raw %}`, `{# comments #}`. Anything else
is refused when it is saved: calls, arithmetic, assignments, other filters. Text outside of braces is said as it is.

A template has at most 8 KB and says at most 25,000 bytes in 50 ms of computing, a title at most 200 characters; over that, or where it fails or
says nothing, the default words are said, and the draft has a warning. What stands in `{{ }}` is put on one line, and in Markdown
shown as it is, whatever marks are in it. [How to write what customers read](../how-to/write-what-customers-read.md).
"""


def templates() -> str:
    """The page docs/reference/templates.md."""
    from rules.template import FILTERS, VARIABLES
    from rules.wording import presets

    rows = [f"| `{name}` | {said} |" for name, said in VARIABLES.items()]
    parts = [_TEMPLATES, "## Variables\n", "| name | what it is |", "|---|---|", *rows]
    rows = [f"| `{name}` | {said.replace('|', chr(92) + '|')} |" for name, (_, said) in FILTERS.items()]
    parts += ["\n## Filters\n", "| name | what it does |", "|---|---|", *rows]
    parts.append("\n## Presets\n\nTaken by name, as `open: outage`, for the step they are for or any other.")
    for preset in presets().values():
        title = f"Title: `{preset.title}`\n\n" if preset.title else ""
        parts.append(f"\n### `{preset.slug}`: {preset.name} (`{preset.use}`)\n\n{title}> {preset.text}")
    return "\n".join(parts) + "\n"


FILES = {
    "reference/templates.md": templates,
    "reference/senders.md": known_senders,
    "reference/configuration.md": configuration,
    "reference/upbeat.schema.json": editor_schema,
    "reference/command-line.md": command_line,
}


def _common(models: dict[str, Any], base: type[BeatRule]) -> dict[str, Any]:
    """Keys of every kind of beat that is a `base`, in the order of the model."""
    kinds = [models[name]["properties"] for name, kind in _BEATS.items() if issubclass(kind, base)]
    return {
        key: schema
        for key, schema in kinds[0].items()
        if key in base.model_fields and all(key in kind for kind in kinds)
    }


def _ordered(models: dict[str, Any]) -> list[str]:
    """All models, what one refers to after it, where `_ORDER` says nothing."""
    names = list(_ORDER)
    for name in names:  # it grows
        at = names.index(name)
        for reference in re.findall(r"#/\$defs/(\w+)", json.dumps(models[name])):
            if reference not in names and "properties" in models[reference]:
                names.insert(at := at + 1, reference)
    return names + [name for name in models if name not in names and "properties" in models[name]]


def _table(properties: dict[str, Any], required: list[str]) -> Iterator[str]:
    yield "| key | type | default | description |"
    yield "|---|---|---|---|"
    for key, schema in properties.items():
        default = "required" if key in required else _default(schema)
        yield f"| `{key}` | {_type(schema)} | {default} | {_text(schema.get('description', ''))} |"


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if value is None:
        return ""
    if isinstance(value, dict | list) and (not value or "$ref" in json.dumps(schema)):
        return "" if not value else "as there"
    if isinstance(value, float) and _type(schema).startswith("duration"):
        return f"`{format_duration(value)}`"
    if isinstance(value, int) and _type(schema) == "size":
        return f"`{format_size(value)}`"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`" if value else ""


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"]) if not schema["$ref"].endswith("/JsonValue") else "any value"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(dict.fromkeys(f"`{json.dumps(value).strip(chr(34))}`" for value in schema["enum"]))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return _either(branches)
    return _plain(schema)


def _either(branches: list[dict[str, Any]]) -> str:
    texts = [branch.get("pattern", "") for branch in branches]
    word = "duration" if PATTERN in texts else "size" if any("MB" in text for text in texts) else None
    # Both may be bare numbers too, which goes without saying.
    left_out = ("null",) if word is None else ("null", "number", "integer", "string")
    said = [word] if word else []
    said += [_type(branch) for branch in branches if branch.get("type") not in left_out or "const" in branch]
    return " or ".join(dict.fromkeys(said))


def _plain(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object":
        inner: list[dict[str, Any]] = [*schema.get("patternProperties", {}).values(), {}]
        return f"mapping to {_type(schema.get('additionalProperties') or inner[0])}"
    if kind in ("integer", "number"):
        word = "whole number" if kind == "integer" else "number"
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        if low is not None and high is not None:
            return f"{word}, {low} to {high}"
        return word if low is None else f"{word} from {low}"
    if kind == "boolean":
        return "`true` or `false`"
    if kind is None:
        return "any value"
    pattern = schema.get("pattern", "")
    if "%" in pattern and "d{1,3}" in pattern:
        return "a share such as `60%`"
    return "slug" if pattern.startswith("^[a-z0-9](") else "text"


def _link(reference: str) -> str:
    title = _title(reference.rsplit("/", 1)[-1])
    return f"[{title}](#{title.lower().replace(' ', '-')})"


def _title(name: str) -> str:
    if name in _BEATS:
        return f"{name.removesuffix('Beat').lower()} beat"
    for kind in ("Channel", "Publisher"):
        if name.endswith(kind) and name != kind:
            return f"{name.removesuffix(kind).lower()} {kind.lower()}"
    return _TITLES.get(name) or re.sub(r"(?<=[a-z])([A-Z])", lambda match: f" {match[1].lower()}", name)


def _text(description: str) -> str:
    return re.sub(r"\s+", " ", description).replace("|", "\\|")


def main() -> None:
    """Write all files."""
    for name, made in FILES.items():
        (HERE / name).write_text(made(), encoding="utf-8")


if __name__ == "__main__":
    main()
