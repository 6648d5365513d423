"""The forms that Slack shows, and what comes back from them. Pure: data in, Block Kit out; all of it is plain text.

Limits: https://api.slack.com/reference/block-kit and https://api.slack.com/reference/surfaces/views.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

MOST_OPTIONS: Final = 100
STATUSES: Final = ("investigating", "identified", "monitoring", "resolved")
COMPONENT_STATUSES: Final = ("degraded_performance", "partial_outage", "major_outage")
Block = dict[str, Any]
Options = Sequence[tuple[str, str]]
"""(value, what people read)."""


def form(
    called: str, title: str, submit: str, about: Mapping[str, str], blocks: Sequence[Block]
) -> dict[str, Any]:
    """A form; `about` comes back with it."""
    return {
        "type": "modal",
        "callback_id": called,
        "private_metadata": msgspec.json.encode(about).decode(),
        "title": _plain(title, 24),
        "submit": _plain(submit, 24),
        "close": _plain("Cancel", 24),
        "blocks": [block for block in blocks if block],
    }


def note(text: str) -> Block:
    """What is said above the fields."""
    return {"type": "section", "text": _plain(text, 3000)}


def field(
    name: str, label: str, initial: str = "", *, lines: bool = False, needed: bool = True, most: int = 3000
) -> Block:
    """A text."""
    element: Block = {"type": "plain_text_input", "multiline": lines, "max_length": most}
    return _input(
        name, label, element | ({"initial_value": initial[:most]} if initial else {}), needed=needed
    )


def choice(name: str, label: str, options: Options, initial: str = "", *, needed: bool = True) -> Block:
    """One of several."""
    given = [_option(*one) for one in options[:MOST_OPTIONS]]
    chosen = [one for one in given if one["value"] == initial]
    element: Block = {"type": "static_select", "options": given}
    return _input(name, label, element | ({"initial_option": chosen[0]} if chosen else {}), needed=needed)


def choices(name: str, label: str, groups: Mapping[str, Options]) -> Block:
    """Any of several; nothing where there are none."""
    given = [
        {"label": _plain(heading, 75), "options": [_option(*one) for one in options[:MOST_OPTIONS]]}
        for heading, options in list(groups.items())[:MOST_OPTIONS]
        if options
    ]
    element = {"type": "multi_static_select", "option_groups": given}
    return _input(name, label, element, needed=False) if given else {}


def tick(name: str, label: str, said: str) -> Block:
    """Ticked unless somebody takes that away."""
    option = _option("yes", said)
    element = {"type": "checkboxes", "options": [option], "initial_options": [option]}
    return _input(name, label, element, needed=False)


def moment(name: str, label: str) -> Block:
    """A date and time."""
    return _input(name, label, {"type": "datetimepicker"})


def values(view: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled in: texts, seconds since the epoch, lists of what was chosen. Anything else is left out."""
    state = view.get("state")
    given = state.get("values") if isinstance(state, dict) else None
    found: dict[str, Any] = {}
    for name, elements in given.items() if isinstance(given, dict) else ():
        element = elements.get("value") if isinstance(elements, dict) else None
        if not isinstance(element, dict):
            continue
        if isinstance(many := element.get("selected_options"), list):
            found[name] = [
                one["value"] for one in many if isinstance(one, dict) and isinstance(one.get("value"), str)
            ]
            continue
        one = element.get("selected_option")
        value = one.get("value") if isinstance(one, dict) else element.get("value")
        value = element.get("selected_date_time") if value is None else value
        if isinstance(value, str | int):
            found[name] = value
    return found


def _input(name: str, label: str, element: Block, *, needed: bool = True) -> Block:
    named = element | {"action_id": "value"}
    return {
        "type": "input",
        "block_id": name,
        "label": _plain(label, 2000),
        "element": named,
        "optional": not needed,
    }


def _option(value: str, said: str) -> Block:
    return {"value": value[:150], "text": _plain(said, 75)}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": text if len(text) <= most else text[: most - 1] + "…"}
