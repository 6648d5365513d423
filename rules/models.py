"""Which model each kind of object has: one, or one for each `type` of it."""

from typing import Any, Final, get_args

from rules.beat import AnyBeat
from rules.channel import AnyChannel
from rules.component import Component, Region
from rules.group import Group
from rules.inbox import Inbox
from rules.known import Kind
from rules.maintenance import Maintenance
from rules.page import Page
from rules.publisher import AnyPublisher
from rules.shape import Rule
from rules.trigger import Trigger

MODELS: Final[dict[Kind, type[Rule]]] = {
    "page": Page,
    "region": Region,
    "component": Component,
    "group": Group,
    "maintenance": Maintenance,
    "inbox": Inbox,
    "trigger": Trigger,
}


def _by_type(union: Any) -> dict[str, type[Rule]]:
    models = get_args(union) or (union,)
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}


TYPED: Final[dict[Kind, dict[str, type[Rule]]]] = {
    "beat": _by_type(AnyBeat),
    "channel": _by_type(AnyChannel),
    "publisher": _by_type(AnyPublisher),
}
