"""Public words from templates: whose counts, what they may show, and what is said instead where one fails. Stores nothing.

A template that fails, says nothing or takes too long gives way to the default words, with a warning: it never keeps an
incident from being told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from evaluators import words
from evaluators.facts import Of
from evaluators.model import Severity
from evaluators.policy import SERVER
from rules.incident import Step
from rules.markdown import one_line
from rules.owner import OwnerRule
from rules.secret import references
from rules.template import compile_template
from rules.wording import Templates, Variant

DEFAULT: Final = "default"
MAX_TITLE: Final = 200
_BAD: Final = ("warning", "critical")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is said. `title_of` and `text_of`: whose template says it, or `default`. `warnings`: why it is not what a template wants.

    `components`: id to status.
    """

    title: str
    text: str
    is_markdown: bool = False
    title_of: str = DEFAULT
    text_of: str = DEFAULT
    warnings: tuple[str, ...] = ()
    components: Mapping[str, str] = field(default_factory=dict)


def variant_of(step: Step, of: Of) -> Variant:
    """Which templates are for it."""
    return step if step != "update" or of == "severity" else of


def bad(evidence: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What of it says that something is wrong."""
    return [item for item in evidence if item.get("verdict") in _BAD]


def resting_on(evidence: Sequence[Mapping[str, Any]]) -> str | None:
    """The id of the trigger that alone says so, if it is one."""
    sources = {item.get("trigger_id") for item in bad(evidence)}
    return sources.pop() if len(sources) == 1 else None


def values_of(
    rule: OwnerRule,
    kind: str,
    step: Step,
    severity: Severity,
    since: datetime,
    page: Mapping[str, str],
    components: Sequence[Mapping[str, str]],
    evidence: Sequence[Mapping[str, Any]],
    regions: Mapping[str, str],
) -> dict[str, Any]:
    """What templates may name: see `rules.template.VARIABLES`. `regions`: their names by slug."""
    wrong = bad(evidence)
    measured = [item for item in wrong if "run" in item]
    captures: dict[str, str] = {}
    for item in reversed(wrong):  # the worst and oldest comes first, and counts
        captures |= item.get("captures") or {}
    first = next(iter(getattr(rule, "steps", ())), None)
    url = str(getattr(rule, "url", None) or getattr(first, "url", None) or getattr(rule, "host", ""))
    return {
        "what": words.joined(rule.title, [one["name"] for one in components]),
        "name": rule.title,
        "slug": rule.slug,
        "kind": kind,
        "stage": "ok" if step == "resolve" else severity,
        "severity": severity,
        "since": since,
        "regions": sorted({regions.get(one["region"], one["region"]) for one in measured} - {SERVER, ""}),
        "evidence": words.reason(
            [(one.get("error") or {}).get("type") or "" for one in measured],
            is_reported=len(measured) < len(wrong),
        ),
        "components": list(components),
        "page": dict(page),
        "url": "" if any(references(url)) else url.partition("?")[0],
        "captures": captures,
    }


def render(
    templates: Mapping[str, Templates],
    variant: Variant,
    values: Mapping[str, Any],
    otherwise: tuple[str, str],
    deadline: Callable[[], Callable[[], bool]],
) -> Rendered:
    """What `templates`, by whose they are and the nearest first, say in this step; `otherwise` are the default title and text.

    A title is that of the step, else of the opening: an incident keeps its own. A `deadline` begins when it is called.
    """
    warnings: list[str] = []

    def say(called: str, whose: str, source: str, *, is_markdown: bool) -> str | None:
        try:
            template = compile_template(
                source, is_markdown=is_markdown
            )  # for which no time is set: it is kept
            if text := template.render(values, deadline()):
                return text
            why: object = "it says nothing"
        except Exception as failed:  # whatever is wrong with it, the incident is told
            why = failed
        warnings.append(f"the {called} is not that of the {whose}'s template: {why}")
        return None

    title, title_of, text, text_of, is_markdown = otherwise[0], DEFAULT, otherwise[1], DEFAULT, False
    for whose, each in templates.items():
        named = [one.templates[0] for name in (variant, "open") for one in each.of(name)]
        if source := next(filter(None, named), None):
            if said := say("title", whose, source, is_markdown=False):
                title, title_of = one_line(said), whose
            break
    for whose, each in templates.items():
        written = next((one for one in each.of(variant) if one.templates[1]), None)
        if written is not None:
            is_markdown = written.format == "markdown"
            if said := say("text", whose, written.templates[1] or "", is_markdown=is_markdown):
                text, text_of = said, whose
            break
    title = title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 1].rstrip()}…"
    return Rendered(title, text, is_markdown and text_of != DEFAULT, title_of, text_of, tuple(warnings))
