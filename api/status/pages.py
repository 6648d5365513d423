"""The pages that people read: the page itself. Their look is `static/status.css`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from api.console.page import environment
from api.status.document import Document, Incident, past
from api.status.view import Place, Rendition, View, view

_TEMPLATES: Final = environment("api.status")
_HTML: Final = "text/html; charset=utf-8"


def _index(page: Document, place: Place, _: Mapping[str, str]) -> Rendition:
    groups: dict[str | None, list[Any]] = {}
    for component in page.components:
        groups.setdefault(component.group, []).append(component)
    html = _TEMPLATES.get_template("status.html").render(
        page=page, place=place, groups=groups, past=_stretches(past(page))
    )
    return Rendition(html.encode(), _HTML)


def _stretches(days: list[tuple[str, list[Incident]]]) -> list[tuple[str, str, list[Incident]]]:
    """(newest day, oldest day, incidents), newest first: quiet days beside each other are one stretch."""
    stretches: list[tuple[str, str, list[Incident]]] = []
    for day, incidents in days:
        date = f"{datetime.fromisoformat(day):%d %B %Y}".lstrip("0")
        if stretches and not incidents and not stretches[-1][2]:
            stretches[-1] = (stretches[-1][0], date, [])
        else:
            stretches.append((date, date, incidents))
    return stretches


def gate(page: Document, place: Place) -> Rendition:
    """What is shown to who is not let in."""
    return Rendition(b"this page is not public\n", "text/plain; charset=utf-8", status=401)


def missing(page: Document, place: Place) -> Rendition:
    """What is shown where there is nothing."""
    return Rendition(b"there is no such page\n", "text/plain; charset=utf-8", status=404)


VIEWS: Final[tuple[View, ...]] = (view("", _index, paths=[""], is_spoken=True),)
