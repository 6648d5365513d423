"""A form made of a model: one input for each field that one holds. What is nested is written as YAML, in the editor."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from api.console.forms import listed
from rules.shape import Rule


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `options`: what it may be, where that is few; `is_list`: several, with commas."""

    name: str
    label: str
    hint: str
    is_required: bool
    is_list: bool
    options: tuple[tuple[Any, Any], ...]


def inputs_of(model: type[Rule], *, without: frozenset[str] = frozenset()) -> list[Input]:
    """The inputs of a model's fields, in their order."""
    found = (_input(name, field) for name, field in model.model_fields.items() if name not in without)
    return [one for one in found if one is not None]


def document_of(inputs: list[Input], sent: Mapping[str, str]) -> dict[str, Any]:
    """What a form says; what was left empty has its default."""
    given = ((one, sent.get(one.name, "")) for one in inputs)
    return {one.name: listed(text) if one.is_list else _meant(one, text) for one, text in given if text}


def _meant(one: Input, text: str) -> Any:
    """The option that was chosen, which may be a number."""
    return next((option for option, _ in one.options if str(option) == text), text)


def _input(name: str, field: FieldInfo) -> Input | None:
    kind = _bare(field.annotation)
    is_list = get_origin(kind) is list
    inner = _bare(get_args(kind)[0]) if is_list else kind
    words = get_args(inner) if get_origin(inner) is Literal else ()
    if not (words or inner in (str, int, float, bool)) or words == (field.default,):
        return None  # nothing that one line holds, or nothing to choose
    hint = (field.description or "").replace("`", "")
    default = field.get_default(call_default_factory=False)
    options: tuple[tuple[Any, Any], ...] = ()
    if is_list:
        hint += f" With commas between: {', '.join(words)}." if words else " With commas between."
    elif inner is bool:
        options = (("", f"as usual ({'yes' if default else 'no'})"), ("true", "yes"), ("false", "no"))
    elif words:
        usual = () if field.is_required() else (("", f"as usual ({default})"),)
        options = (*usual, *((word, word) for word in words))
    elif isinstance(default, int | float):
        hint += f" {default} when not given."
    return Input(
        name,
        name.replace("_", " ").capitalize().replace("Url", "URL"),
        hint.strip(),
        field.is_required(),
        is_list,
        options,
    )


def _bare(kind: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        else:
            return kind
