"""What a public page draws, as SVG that is made here: days as bars, and how long beats took. Their colours are `static/status.css`'s."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Final

from markupsafe import Markup
from msgspec import Struct

from api.console.charts import nice, path
from api.status.document import Day, Document, Incident, Series, Shown
from api.status.view import Place

_STEP: Final = 5
_RECT: Final = Markup('<rect x="{}" y="{}" width="4" height="{}"{}>{}</rect>')
_TITLE: Final = Markup("<title>{}</title>")
_LIKE: Final = ' class="s-{}"'
_FLAT: Final = 6
"""How high a day is of which nothing is known; one that is well is 26, a worse one 34: colour is not the only sign."""
_MOST_NAMED: Final = 3
_RUN: Final = 3
"""So many days without anything to say are drawn as one piece of a strip that all components share."""


class Bars:
    """The days of all components of a page. Days on which nothing was are drawn once for all: 60 components have 5,400."""

    def __init__(self, page: Document, place: Place) -> None:
        self._place, self._say, self._about = place, place.language.say, _about(page)
        self._strips: dict[tuple[str, ...], int] = {}
        self.drawn = {shown.id: self._component(shown) for shown in page.components if shown.days}

    @property
    def shared(self) -> Markup:
        """What the drawn ones refer to; it stands before them."""
        strips = Markup().join(
            Markup('<g id="{}{}">{}</g>').format(letter, number, self._strip(dates, what))
            for dates, number in self._strips.items()
            for letter, what in (("o", "operational"), ("n", None))
        )
        return Markup('<svg class="shared" aria-hidden="true"><defs>{}</defs></svg>').format(strips)

    def _strip(self, dates: Sequence[str], status: str | None) -> Markup:
        said = self._status(status)
        return Markup().join(
            _rect(place, status, "", f"{self._place.language.day(date.fromisoformat(on))}: {said}")
            for place, on in enumerate(dates)
        )

    def _status(self, status: str | None) -> str:
        return self._say(f"status_{status}" if status else "day_unknown")

    def _component(self, shown: Shown) -> Markup:
        strip = self._strips.setdefault(tuple(day.date for day in shown.days), len(self._strips))
        about = self._about.get(shown.id, ())
        parts: list[Markup] = []
        at = 0
        for what, grouped in groupby(shown.days, _is_plain):
            run = list(grouped)
            if what and len(run) >= _RUN:
                parts.append(_piece(f"{what}{strip}", at, len(run)))
            else:
                parts += [self._day(at + n, day, about) for n, day in enumerate(run)]
            at += len(run)
        bad = sum(day.status not in (None, "operational") for day in shown.days)
        percent = self._place.language.percent
        figures = [
            percent(day.uptime) if day.uptime is not None and day.uptime < 1 and _is_plain(day) else ""
            for day in shown.days
        ]
        return Markup(
            '<svg class="bars" viewBox="0 0 {} 34" preserveAspectRatio="none" role="group" aria-label="{}"{}>{}</svg>'
        ).format(
            len(shown.days) * _STEP,
            self._say("bars_label", name=shown.name, days=len(shown.days), count=bad),
            Markup(' data-figures="{}"').format(";".join(figures)) if any(figures) else "",
            Markup().join(parts),
        )

    def _day(self, at: int, day: Day, about: Sequence[tuple[date, date, Incident]]) -> Markup:
        on = date.fromisoformat(day.date)
        said = f"{self._place.language.day(on)}: {self._status(day.status)}"
        if day.uptime is not None and day.uptime < 1:
            said += f", {self._place.language.percent(day.uptime)}"
        if day.status in (None, "operational"):
            return _rect(at, day.status, "" if day.status else _LIKE.format("unknown"), said)
        told = [incident for begin, end, incident in about if begin <= on <= end]
        said = ". ".join([said, *(incident.title for incident in told[:_MOST_NAMED])])
        leads = f"incidents/{told[0].id}" if len(told) == 1 else f"history/{day.date[:7]}#d{day.date}"
        return Markup('<a href="{}" aria-label="{}">{}</a>').format(
            self._place.path(leads), said, _rect(at, day.status, _LIKE.format(day.status), said)
        )


def _is_plain(day: Day) -> str:
    """The letter of the strip that shows it; "" where it has something to say."""
    if day.status is None:
        return "n"
    return "o" if day.status == "operational" else ""


def _rect(at: int, status: str | None, like: str, said: str) -> Markup:
    height = {None: _FLAT, "operational": 26}.get(status, 34)
    return _RECT.format(at * _STEP, (34 - height) // 2, height, Markup(like), _TITLE.format(said))  # noqa: S704 - a class of ours


def _piece(strip: str, at: int, count: int) -> Markup:
    """A nested SVG shows only what is inside of it."""
    like = Markup(' class="s-unknown"') if strip[0] == "n" else ""
    x, width = at * _STEP, count * _STEP
    return Markup(
        '<svg x="{0}" width="{1}" height="34" viewBox="{0} 0 {1} 34"{2}><use href="#{3}"/></svg>'
    ).format(x, width, like, strip)


def _about(page: Document) -> dict[str, list[tuple[date, date, Incident]]]:
    """By component (first day, last day, what was told) of it, in UTC as the days are."""
    found: dict[str, list[tuple[date, date, Incident]]] = {}
    for incident in page.told:
        begin, end = (at.astimezone(UTC).date() for at in lasted(incident, page.at))
        for key in {*incident.components, *(key for update in incident.updates for key in update.components)}:
            found.setdefault(key, []).append((begin, end, incident))
    return found


def lasted(incident: Incident, now: datetime) -> tuple[datetime, datetime]:
    """From when to when: as it was planned, while it is ahead or never came to be; until now, while an incident is open."""
    begin = incident.starts_at or incident.created_at
    end = incident.resolved_at or incident.ends_at or now
    if end < begin and incident.ends_at:
        return begin, incident.ends_at
    return min(begin, end), end


class Drawn(Struct, frozen=True):
    """A latency chart: SVG paths in a box of 1000 x 100, and its words."""

    name: str
    p50: str
    p95: str
    top: str  # the value at its upper edge
    said: str
    since: datetime
    until: datetime


def latency(series: Series, place: Place) -> Drawn | None:
    """How it is drawn, one hour as a line of its own; None while nothing is known."""
    count = len(series.p50)
    known = [n for n in range(count) if series.p50[n] is not None and series.p95[n] is not None]
    if not known:
        return None
    places = [(n + 0.5) / count for n in known]
    if len(known) == 1:  # as wide as it is
        known, places = known * 2, [known[0] / count, (known[0] + 1) / count]
    p50, p95 = ([float(values[n] or 0) for n in known] for values in (series.p50, series.p95))
    top = nice(max(p95) * 1.05)
    seconds = place.language.seconds
    return Drawn(
        series.name,
        path(places, [value / top for value in p50], 1.5 / count),
        path(places, [value / top for value in p95], 1.5 / count),
        top=seconds(top),
        said=place.language.say("latency_said", p50=seconds(p50[-1]), p95=seconds(p95[-1])),
        since=datetime.fromtimestamp(series.since, UTC),
        until=datetime.fromtimestamp(series.since + count * series.step_s, UTC),
    )
