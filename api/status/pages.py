"""The pages that people read: the page itself, its history, and each incident. Their look is `api.status.look`'s and `static/status.css`.

Other pages of the same look (who subscribes, who signs in) extend `base.html`, and are made by `render`.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import Struct

from api.status import look
from api.status.document import PAST_DAYS, Document, Incident, Shown
from api.status.drawing import Bars, lasted, latency
from api.status.previews import FEEDS, codes, head, keyed
from api.status.view import Place, Rendition, View, view
from evaluators.lifecycle import ENDED
from evaluators.public import overall_status
from rules import markdown
from rules.language import language

HTML: Final = "text/html; charset=utf-8"
MOST_OPEN: Final = 24
"""Components of a page whose groups are all unfolded; of a larger page only groups in which something is wrong."""
MOST_CHARTS: Final = 4
"""Latency charts that are unfolded."""
MOST_NAMED: Final = 5
"""Components that stand beside what their uptime is."""
MOST_TOLD: Final = 10
"""Updates of an open incident that the page itself shows; all of them are on its own."""
MOST_BRIEF: Final = 1000
"""Characters of the last update of one that is over, wherever several are listed."""
_DAYS: Final = 90
_OF_IMPACT: Final = {
    "none": "operational",
    "minor": "degraded_performance",
    "major": "partial_outage",
    "critical": "major_outage",
}
_TEMPLATES: Final = Environment(
    loader=PackageLoader("api.status"),
    autoescape=True,
    auto_reload=False,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["iso"] = lambda at: at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_TEMPLATES.filters["markdown"] = lambda text: Markup(markdown.html(text))  # noqa: S704 - it is made to be shown as it is


def render(
    template: str,
    page: Document,
    place: Place,
    *,
    title: str,
    description: str = "",
    path: str = "",
    status: int = 200,
    **values: Any,
) -> Rendition:
    """A page of `templates/`. `path` is its own, below the page; what is not 200 has none, and tells machines nothing."""
    zone, words, said = page.rule.zone, place.language, place.language.say
    shared = {
        "page": page,
        "place": place,
        "say": said,
        "words": words,
        "moment": lambda at: words.moment(at, zone),
        "assets": look.assets(page),
        "asset": lambda name: place.path(f"assets/{name}", language=""),
        "title": title,
        "head": head(page, place, title, description, path) if status == 200 else None,
        "feeds": [(keyed(place, place.path(file)), name) for file, _, name in FEEDS],
        "languages": [(code, language(code).name, place.path(path, language=at)) for code, at in codes(page)],
        "subscribing": place.path("subscribe") if place.is_live else place.live and f"{place.live}/subscribe",
        "tone": tone,
        "counted_since": counted_since,
        "span": lambda begin, end: words.span(begin, end, zone),
        "lasted": lambda incident: lasted(incident, page.at),
        "named": {shown.id: shown.name for shown in page.components},
        "zone": " · ".join(dict.fromkeys((zone.key, f"{page.at.astimezone(zone):%Z}"))),
        "status": status,
        "most_told": MOST_TOLD,
        "most_brief": MOST_BRIEF,
    }
    html = _TEMPLATES.get_template(template).render(shared | values)
    return Rendition(html.encode(), HTML, status=status)


def tone(incident: Incident) -> str:
    """The status whose colour it has: while it is open the worst that it says, then how much was felt of it."""
    if incident.kind == "maintenance":
        return "under_maintenance"
    worst = overall_status(incident.components.values())
    return worst if worst != "operational" and not incident.is_over else _OF_IMPACT[incident.impact]


def headline(page: Document, place: Place) -> tuple[str, str]:
    """The status whose colour it has, "unknown" where nothing is listed, and the state of it all in a few words."""
    if page.state == "operational" and not page.components:
        return "unknown", place.language.say("none_well")
    keys = {"operational": "all_well", "under_maintenance": "under_way"}
    key = keys.get(page.state, f"status_{page.state}")
    return page.state, place.language.say(
        "open_incident" if page.status == "operational" and page.open else key
    )


def _running(page: Document) -> list[datetime]:
    """When maintenance began that is under way."""
    return [one.starts_at for one in page.ahead if one.starts_at and one.status != "scheduled"]


def since(page: Document) -> datetime | None:
    """Since when the page is in its state; None where nobody said so: it was set by hand, or all is well."""
    if page.status == "operational":
        return min([one.created_at for one in page.open] or _running(page), default=None)
    found = _running(page) if page.status == "under_maintenance" else []
    for incident in page.open:
        at = None
        for update in incident.updates:
            if update.status in ENDED or page.status not in update.components.values():
                break
            at = update.at
        else:  # what was entered after the fact began before that
            at = incident.created_at if incident.updates else None
        found += [at] if at else []
    return min(found, default=None)


class Section(Struct, frozen=True):
    """Components that stand together."""

    name: str | None
    components: list[Shown]
    status: str
    is_open: bool


def sections(page: Document) -> list[Section]:
    """The page's groups in the order of their first component; those without one are one of them."""
    groups: dict[str | None, list[Shown]] = {}
    for shown in page.components:
        groups.setdefault(shown.group, []).append(shown)
    is_small = len(page.components) <= MOST_OPEN
    return [
        Section(name, members, status, is_small or status != "operational")
        for name, members in groups.items()
        for status in [overall_status(shown.status for shown in members)]
    ]


class Stretch(Struct, frozen=True):
    """A day on which something began, or days beside each other on which nothing did."""

    first: date
    last: date
    incidents: list[Incident]
    is_calm: bool  # whether no incident lasted on it


def happened(page: Document, first: date, last: date) -> dict[date, list[Incident]]:
    """What was or is over between these days, the page's, by the day it began (or the first); the newest first."""
    found: dict[date, list[Incident]] = {}
    for incident in sorted(page.told, key=lambda one: lasted(one, page.at)[0], reverse=True):
        begin, end = _days_of(incident, page)
        if begin <= last and end >= first:
            found.setdefault(max(begin, first), []).append(incident)
    return dict(sorted(found.items(), reverse=True))


def _days_of(incident: Incident, page: Document) -> tuple[date, date]:
    """Its first and last, the page's; of maintenance that did not come to be, when that was said."""
    begin, end = (at.astimezone(page.rule.zone).date() for at in lasted(incident, page.at))
    over = incident.resolved_at.astimezone(page.rule.zone).date() if incident.resolved_at else end
    return min(begin, over), min(end, over)


def past(page: Document) -> list[Stretch]:
    """The last `PAST_DAYS` days, newest first, with what is over and began there."""
    today = _today(page)
    found = happened(page, today - timedelta(days=PAST_DAYS - 1), today)
    lasting = [_days_of(incident, page) for incident in page.incidents]
    stretches: list[Stretch] = []
    for back in range(PAST_DAYS):
        on = today - timedelta(days=back)
        last, those = on, [incident for incident in found.get(on, []) if incident.is_over]
        is_calm = not any(begin <= on <= end for begin, end in lasting)
        if stretches and not those and not stretches[-1].incidents and stretches[-1].is_calm == is_calm:
            last = stretches.pop().last
        stretches.append(Stretch(on, last, those, is_calm))
    return stretches


def _today(page: Document) -> date:
    return page.at.astimezone(page.rule.zone).date()


def _index(page: Document, place: Place, _: Mapping[str, str]) -> Rendition:
    bars = Bars(page, place)
    charts = {
        shown.id: [drawn for series in shown.latency if (drawn := latency(series, place))]
        for shown in page.components
    }
    state, said = headline(page, place)
    return render(
        "index.html",
        page,
        place,
        title=f"{said} · {page.rule.name}",
        description=". ".join([said, *(incident.title for incident in page.open)]),
        headline=said,
        state=state,
        since=since(page),
        sections=sections(page),
        bars=bars,
        charts=charts,
        unfolds_charts=sum(map(len, charts.values())) <= MOST_CHARTS,
        ways=_ways(page),
        most_named=MOST_NAMED,
        past=past(page),
    )


def _ways(page: Document) -> list[tuple[str, list[str]]]:
    """What the figures of the page stand for: keys of texts, and where they differ the names of the components that each is about."""
    ways: dict[str, list[str]] = {}
    for shown in page.components:
        if shown.days:
            ways.setdefault(shown.uptime_by, []).append(shown.name)
    zoned = [("days", [])] if ways and page.rule.timezone != "UTC" else list[tuple[str, list[str]]]()
    return [(way, names if len(ways) > 1 else []) for way, names in sorted(ways.items())] + zoned


def counted_since(shown: Shown) -> datetime | None:
    """Since when its uptime is counted; None: as long as its bars are, or nothing is known."""
    known = next((day.date for day in shown.days if day.status), None)
    if known is None or known == shown.days[0].date:
        return None
    born = shown.created_at.astimezone(UTC)
    return born if f"{born:%Y-%m-%d}" == known else datetime.fromisoformat(known).replace(tzinfo=UTC)


def _months(page: Document) -> list[date]:
    """Those that have a history, newest first: since the oldest that the page remembers, and of all of its bars."""
    known = [lasted(incident, page.at)[0] for incident in page.told]
    oldest = min([*known, page.at - timedelta(days=_DAYS)]).astimezone(page.rule.zone).date().replace(day=1)
    month, found = _today(page).replace(day=1), list[date]()
    while month >= oldest:
        found.append(month)
        month = (month - timedelta(days=1)).replace(day=1)
    return found


def _history(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    months = _months(page)
    at = next((n for n, one in enumerate(months) if given.get("month") in (None, f"{one:%Y-%m}")), None)
    if at is None:
        return None
    month = months[at]
    last = (month + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    name = place.language.month(month)
    title = place.language.say("history_of", month=name)
    return render(
        "history.html",
        page,
        place,
        title=f"{title} · {page.rule.name}",
        description=f"{title}: {page.rule.name}",
        path=f"history/{given['month']}" if "month" in given else "history",
        heading=title,
        month=name,
        days=happened(page, month, last),
        earlier=months[at + 1] if at + 1 < len(months) else None,
        later=months[at - 1] if at else None,
    )


def _incident(page: Document, place: Place, given: Mapping[str, str]) -> Rendition | None:
    shown = page.one(given["id"])
    if shown is None:
        return None
    said = place.language.say(f"said_{shown.status}")
    return render(
        "incident.html",
        page,
        place,
        title=f"{shown.title} · {page.rule.name}",
        description=f"{said}. {shown.updates[0].plain if shown.updates else ''}",
        path=f"incidents/{shown.id}",
        incident=shown,
        begin=lasted(shown, page.at)[0],
    )


_INERT: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


def _asset(page: Document, _: Place, given: Mapping[str, str]) -> Rendition | None:
    found = look.found(page, given["name"])
    if found is None:
        return None
    file, headers = found
    is_picture = file.media_type.startswith("image/")
    return Rendition(file.body, file.media_type, headers | (_INERT if is_picture else {}))


def _favicon(page: Document, _: Place, __: Mapping[str, str]) -> Rendition | None:
    """For what asks for it without having read the page."""
    picture = page.pictures.get("favicon")
    return Rendition(picture.body, picture.media_type, _INERT) if picture else None


def gate(page: Document, place: Place, *, to: str = "", said: str = "") -> Rendition:
    """What is shown to who is not let in; `to`: the path they wanted; `said`: the key of what they are told."""
    return render("gate.html", page, place, title=page.rule.name, path=to, status=401, to=to, said=said)


def missing(page: Document, place: Place) -> Rendition:
    """What is shown where there is nothing."""
    title = f"{place.language.say('missing_title')} · {page.rule.name}"
    return render("missing.html", page, place, title=title, status=404)


VIEWS: Final[tuple[View, ...]] = (
    view("", _index, paths=[""], is_spoken=True),
    view(
        r"history(?:/(?P<month>\d{4}-\d{2}))?",
        _history,
        paths=lambda page: ["history", *(f"history/{month:%Y-%m}" for month in _months(page))],
        is_spoken=True,
    ),
    view(
        r"incidents/(?P<id>inc_\w+)",
        _incident,
        paths=lambda page: (f"incidents/{one.id}" for one in page.told),
        is_spoken=True,
    ),
    view(
        r"assets/(?P<name>[\w.-]+)",
        _asset,
        paths=lambda page: (f"assets/{name}" for name in look.files(page)),
        is_open=True,
    ),
    view(
        r"favicon\.ico",
        _favicon,
        paths=lambda page: ["favicon.ico"] if "favicon" in page.pictures else [],
        is_open=True,
    ),
)
