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
    said = {"title": _plain(title, 24), "submit": _plain(submit, 24), "close": _plain("Cancel", 24)}
    kept = {"callback_id": called, "private_metadata": msgspec.json.encode(about).decode()}
    return {"type": "modal", "blocks": [block for block in blocks if block], **kept, **said}


def note(text: str) -> Block:
    """What is said above the fields."""
    return {"type": "section", "text": _plain(text, 3000)}


def field(
    name: str, label: str, initial: str = "", *, lines: bool = False, needed: bool = True, most: int = 3000
) -> Block:
    """A text."""
    element: Block = {"type": "plain_text_input", "multiline": lines, "max_length": most}
    element |= {"initial_value": initial[:most]} if initial else {}
    return _input(name, label, element, needed=needed)


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


def values(view: Any) -> dict[str, Any]:
    """What was filled in: texts, seconds since the epoch, lists of what was chosen. Anything else is left out."""
    try:
        given = msgspec.convert(view, _View).state.values
    except msgspec.ValidationError:
        return {}
    return {name: said for name, block in given.items() if (said := block.value.said()) is not None}


class _Option(msgspec.Struct):
    value: str


class _Element(msgspec.Struct):
    value: str | None = None
    selected_option: _Option | None = None
    selected_options: list[_Option] | None = None
    selected_date_time: int | None = None

    def said(self) -> str | int | list[str] | None:
        if self.selected_options is not None:
            return [one.value for one in self.selected_options]
        one = self.selected_option.value if self.selected_option else self.value
        return self.selected_date_time if one is None else one


class _Block(msgspec.Struct):
    value: _Element  # by its action_id, which is the same for all of ours


class _State(msgspec.Struct):
    values: dict[str, _Block]


class _View(msgspec.Struct):
    state: _State


def _input(name: str, label: str, element: Block, *, needed: bool = True) -> Block:
    block = {"type": "input", "block_id": name, "label": _plain(label, 2000), "optional": not needed}
    return block | {"element": element | {"action_id": "value"}}


def _option(value: str, said: str) -> Block:
    return {"value": value[:150], "text": _plain(said, 75)}


def _plain(text: str, most: int) -> Block:
    return {"type": "plain_text", "text": text if len(text) <= most else text[: most - 1] + "…"}
