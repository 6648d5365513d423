"""A public page for terminals: 80 columns of plain text, in colour only where that was asked for. Not for browsers."""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final
from unicodedata import combining, east_asian_width

from api.status.document import Document, Incident, Shown
from api.status.drawing import lasted
from api.status.pages import MOST_TOLD, headline, past, sections, since, tone
from api.status.view import Place, Rendition, View, view
from rules.markdown import one_line, plain

WIDTH: Final = 80
_MEDIA: Final = "text/plain; charset=utf-8"
_OWN: Final = {"Cache-Control": "private, no-cache"}
"""Who asks is part of why it is text: what is kept for others, under the same address, is the page."""
_TERMINALS: Final = re.compile(rb"(?i)(curl|wget2?|httpie|xh|fetch libfetch)\b")
_HAS_TEXT: Final = re.compile(r"([a-z]{2,3}(?:-\w+)?(?=$|/))?/?(incidents/inc_\w+)?", re.ASCII)
_SIGNS: Final = {
    "operational": ("●", 32),
    "under_maintenance": ("◆", 34),
    "degraded_performance": ("▲", 33),
    "partial_outage": ("▲", 33),
    "major_outage": ("✖", 31),
    "unknown": ("○", 37),
}
"""Of a status: its sign, and the number of its colour."""
_UNSHOWN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal would obey instead of showing it."""
_NAME: Final = 34


@lru_cache(1024)
def is_terminal(agent: bytes, accept: bytes) -> bool:
    """Whether who asks reads text and no HTML: curl and its like, or who says that text is what they want."""
    wanted = accept.strip().lower()
    return b"html" not in wanted and (wanted.startswith(b"text/plain") or bool(_TERMINALS.match(agent)))


def asks(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """`is_terminal` of these headers."""
    said = dict(headers)
    return is_terminal(said.get(b"user-agent", b""), said.get(b"accept", b""))


def for_reader(path: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The path below a page, its language included, that answers this reader: of a terminal that of the text, where there is one."""
    found = _HAS_TEXT.fullmatch(path)
    if found is None or not asks(headers):
        return path
    code, incident = found.groups()
    return f"{path}.txt" if incident else f"{code}/index.txt" if code else "index.txt"


Paint = Callable[[str, str], str]
"""A text in the colour of a status."""


def _paint(given: Mapping[str, str]) -> Paint:
    if "color" in given:
        return lambda text, status: f"\x1b[{_SIGNS[status][1]}m{text}\x1b[0m"
    return lambda text, _: text


def _text(lines: Iterable[str]) -> Rendition:
    return Rendition(("\n".join(lines) + "\n").encode(), _MEDIA, _OWN)


def _index(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    said = place.language.say
    paint = _paint(given)
    lines = ["", f"  {one_line(page.rule.name)}", ""]
    begun = since(page)
    status, state = headline(page, place)
    lines.append(f"  {paint(f'{_SIGNS[status][0]} {state}', status)}")
    if begun:
        lines.append(f"    {said('since', moment=place.language.moment(begun, page.rule.zone))}")
    if page.stale_since:
        stale = said("stale", moment=place.language.moment(page.stale_since, page.rule.zone))
        lines += ["", *_wrapped(stale, 2)]
    for section in sections(page):
        lines += ["", *([f"  {one_line(section.name)}"] if section.name else [])]
        lines += [_component(shown, place, paint) for shown in section.components]
    for heading, those in (
        ("open_incidents", page.open),
        ("running", [one for one in page.ahead if one.status != "scheduled"]),
        ("planned", [one for one in page.ahead if one.status == "scheduled"]),
    ):
        if those:
            lines += ["", f"  {said(heading)}"]
        for incident in those:
            lines += ["", *_incident(page, place, incident, paint, MOST_TOLD)]
    lines += ["", f"  {said('past')}"]
    for stretch in past(page):
        first, last = (place.language.day(on) for on in (stretch.first, stretch.last))
        calm = "" if stretch.incidents else f": {said('no_incident' if stretch.is_calm else 'no_other')}"
        lines += ["", f"  {last if first == last else f'{first} – {last}'}{calm}"]
        for incident in stretch.incidents:
            lines += ["", *_incident(page, place, incident, paint, 1)]
    return _text([*lines, "", f"  {said('text_more', url=place.url())}"])


def gate(page: Document, place: Place) -> Rendition:
    """What is shown to who is not let in."""
    return _refused(page, place, "gate_title", 401)


def missing(page: Document, place: Place) -> Rendition:
    """What is shown where there is nothing."""
    return _refused(page, place, "missing_title", 404)


def _refused(page: Document, place: Place, key: str, status: int) -> Rendition:
    said = place.language.say
    lines = ["", f"  {one_line(page.rule.name)}", "", f"  {said(key)}", ""]
    return replace(_text([*lines, f"  {said('text_more', url=place.url())}"]), status=status)


def _component(shown: Shown, place: Place, paint: Paint) -> str:
    name = one_line(shown.name)
    if _cells(name) > _NAME:
        while _cells(name) >= _NAME:
            name = name[:-1]
        name += "…"
    name += " " * (_NAME - _cells(name))
    share = "" if shown.uptime is None else place.language.percent(shown.uptime)
    status = place.language.say(f"status_{shown.status}")
    return f"  {paint(_SIGNS[shown.status][0], shown.status)} {name} {status:<26}{share:>10}".rstrip()


def _cells(name: str) -> int:
    """Columns of a terminal: letters of East Asia take two, marks upon letters none."""
    return sum(0 if combining(one) else 1 + (east_asian_width(one) in "WF") for one in name)


def _incident(
    page: Document, place: Place, incident: Incident, paint: Paint, most: int | None = None
) -> list[str]:
    said, zone = place.language.say, page.rule.zone
    begin, end = lasted(incident, page.at)
    when = (
        said("since", moment=place.language.moment(begin, zone))
        if incident.kind == "incident" and not incident.is_over
        else place.language.span(begin, end, zone)
    )
    lines = [paint(line, tone(incident)) for line in _wrapped(one_line(incident.title), 2)]
    lines += _wrapped(f"{said(f'said_{incident.status}')} · {when}", 2)
    if incident.components:
        about = "affects" if incident.status == "scheduled" else "affected"
        lines += _wrapped(f"{said(about)}: {', '.join(map(one_line, page.named(incident)))}", 2)
    for update in incident.updates[:most]:
        lines += [
            "",
            f"    {said(f'said_{update.status}')} · {place.language.moment(update.at, zone)}",
            *_wrapped(update.plain, 4),
        ]
    return lines


def _one(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    found = page.one(given["id"])
    if found is None:
        return None
    lines = ["", *_incident(page, place, found, _paint(given))]
    if found.report:
        lines += ["", f"  {place.language.say('report')}", "", *_wrapped(plain(found.report.text), 2)]
    return _text([*lines, "", f"  {place.language.say('text_more', url=place.url(f'incidents/{found.id}'))}"])


def _wrapped(text: str, margin: int) -> list[str]:
    """Lines of at most `WIDTH`; longer words stand as they are, so that addresses can be copied."""
    lines: list[str] = []
    for line in _UNSHOWN.sub(" ", text).splitlines():
        lines += textwrap.wrap(line, WIDTH - margin, break_long_words=False, break_on_hyphens=False) or [""]
    return [(" " * margin + line).rstrip() for line in lines]


VIEWS: Final[tuple[View, ...]] = (
    view(r"index\.txt", _index, paths=["index.txt"], is_spoken=True, options=["color"]),
    view(
        r"incidents/(?P<id>inc_\w+)\.txt",
        _one,
        paths=lambda page: (f"incidents/{one.id}.txt" for one in page.told),
        is_spoken=True,
        options=["color"],
    ),
)
