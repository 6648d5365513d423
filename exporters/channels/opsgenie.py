"""Opsgenie's alerts: the episode is the alias. Requests are taken at once there and worked off later.

Limits are those of https://docs.opsgenie.com/docs/alert-api.
"""

from typing import Final
from urllib.parse import quote

from evaluators.model import Notice
from exporters.channels.alerting import alert_of
from exporters.channels.sending import Request
from exporters.channels.words import body, facts, fitted, inert, level, line, link, packed

MAX_MESSAGE, MAX_ALIAS, MAX_DESCRIPTION, MAX_NOTE, MAX_USER = 130, 512, 15_000, 25_000, 100
HOSTS: Final = {"us": "https://api.opsgenie.com", "eu": "https://api.eu.opsgenie.com"}
_PRIORITIES: Final = {"ok": "P5", "warning": "P3", "critical": "P1", "unknown": "P3"}
_PATHS: Final = {"acknowledge": "acknowledge", "resolve": "close", "note": "notes"}


def requests(notice: Notice, base: str) -> list[Request]:
    """What it is told of a notice."""
    if (found := alert_of(notice)) is None:
        return []
    does, alias, title = found[0], found[1][:MAX_ALIAS], inert(line(notice.title))
    alerts = f"{base.rstrip('/')}/v2/alerts"
    who = {"source": "Upbeat", "user": fitted(line(notice.by or "Upbeat"), MAX_USER)}

    def of_it(what: str) -> str:
        return f"{alerts}/{quote(alias, safe='')}/{what}?identifierType=alias"

    noted = who | {"note": "\n".join(packed([title, *map(inert, body(notice))], MAX_NOTE))}
    if does != "trigger":
        return [(of_it(_PATHS[does]), noted)]
    opened = {
        "message": fitted(title, MAX_MESSAGE),
        "alias": alias,
        "description": "\n".join(packed([link(notice) or "", *map(inert, body(notice))], MAX_DESCRIPTION)),
        "priority": _PRIORITIES[level(notice)],
        "entity": notice.beat or notice.group or notice.page or "upbeat",
        "tags": [tag[:50] for tag in notice.tags][:20],
        "details": {name.lower(): fitted(value, 500) for name, value in facts(notice)},
    }
    made: list[Request] = [(alerts, who | opened)]
    if notice.told == "test":
        made.append((of_it("close"), noted))
    elif notice.told in ("change", "incident"):  # what is there already only counts that it came again
        made += [(of_it(name), {name: opened[name]}, "PUT") for name in ("priority", "message")]
    return made
