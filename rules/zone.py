"""Time zones by their names in the IANA database."""

from functools import cache
from zoneinfo import available_timezones

from rules.problem import nearest

_zones = cache(available_timezones)  # it looks through a folder of files each time


def zone_name(name: str) -> str:
    """`name`, if there is such a zone. Raises `ValueError`."""
    known = _zones()
    if name not in known:
        raise ValueError(
            f"{name!r} is no time zone{nearest(name, known) or ';'} write one such as Europe/Berlin or UTC"
        )
    return name
