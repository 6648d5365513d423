"""What was said of incidents and maintenance as RSS 2.0, Atom (RFC 4287) and JSON Feed 1.1: the same entries in all three.

An entry is one update (or report), not one incident: feed readers and Slack show what has an id that they have not seen, and
never again what only changed. Ids are UUIDs of what was said: another host, name or language of the page changes none of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from heapq import nlargest
from html import escape
from typing import Final
from uuid import UUID
from xml.etree.ElementTree import Element, SubElement, tostring

import msgspec

from api.status.document import Document, Incident, Update
from api.status.embed import only
from api.status.previews import keyed
from api.status.view import OPEN, Place, Rendition, View, view
from engine.store.ids import derived_id
from rules.markdown import as_html, html, one_line

MOST_ENTRIES: Final = 50
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a reader shows as new."""

    id: str
    title: str
    html: str
    url: str
    at: datetime
    about: list[str]  # names of components


@dataclass(frozen=True, slots=True)
class Feed:
    """What it is called, where it is, and its entries, newest first."""

    id: str
    title: str
    description: str
    home: str
    url: str
    language: str
    entries: list[Entry]
    at: datetime  # of the newest


def chosen(page: Document, given: Mapping[str, str]) -> Document:
    """The page with what `components=` asks for; all of it where it does not ask."""
    return only(page, given["components"].split(",")) if "components" in given else page


def _feed(page: Document, place: Place, given: Mapping[str, str], file: str) -> Feed:
    page = chosen(page, given)
    slugs = sorted(one.slug for one in page.components) if "components" in given else []
    said = [
        (update, incident)
        for incident in [*page.incidents, *page.maintenances]
        for update in [*incident.updates, *_report(incident)]
    ]
    newest = nlargest(MOST_ENTRIES, said, key=lambda one: (one[0].at, one[0].id))
    asked = f"?components={','.join(slugs)}" if "components" in given else ""
    return Feed(
        id=derived_id("feed", page.id, place.language.code, asked).urn,
        title=one_line(page.rule.name),
        description=page.rule.description or one_line(page.rule.name),
        home=keyed(place, place.url()),
        url=keyed(place, place.url(file) + asked),
        language=place.language.code,
        entries=[_entry(page, place, update, incident) for update, incident in newest],
        at=newest[0][0].at if newest else max((one.created_at for one in page.components), default=page.at),
    )


def _report(incident: Incident) -> list[Update]:
    report = incident.report
    key = derived_id("report", incident.id).hex
    return [Update(f"upd_{key}", "report", report.text, True, report.at)] if report else []


def _entry(page: Document, place: Place, update: Update, incident: Incident) -> Entry:
    say, parts = place.language.say, list[str]()
    if incident.starts_at and incident.ends_at:
        span = (place.language.moment(at, page.rule.zone) for at in (incident.starts_at, incident.ends_at))
        parts.append(as_html(" – ".join(span)))
    parts.append(html(update.text) if update.is_markdown else as_html(update.text).replace("\n", "<br>"))
    states = [
        f"<li>{escape(one.name)}: {escape(say(f'status_{update.components[one.id]}'))}</li>"
        for one in page.components
        if one.id in update.components
    ]
    part = update.id if update.status != "report" else "report"
    return Entry(
        id=UUID(update.id.rpartition("_")[2]).urn,
        title=one_line(f"{say(f'said_{update.status}')} · {incident.title}"),
        html="".join([*parts, "<ul>", *states, "</ul>"] if states else parts),
        url=f"{keyed(place, place.url(f'incidents/{incident.id}'))}#{part}",
        at=update.at.astimezone(UTC),
        about=page.named(incident),
    )


def _put(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    said = {name: _NOT_XML.sub("", value) for name, value in attributes.items()}
    made = SubElement(parent, tag, said)
    made.text = _NOT_XML.sub("", text) or None
    return made


def _xml(root: Element, media_type: str) -> Rendition:
    return Rendition(tostring(root, "utf-8", xml_declaration=True), f"{media_type}; charset=utf-8", OPEN)


def _rss(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    feed = _feed(page, place, given, "feed.rss")
    root = Element("rss", {"version": "2.0", "xmlns:atom": "http://www.w3.org/2005/Atom"})
    channel = _put(root, "channel")
    _put(channel, "title", feed.title)
    _put(channel, "link", feed.home)
    _put(channel, "description", feed.description)
    _put(channel, "language", feed.language)
    _put(channel, "lastBuildDate", format_datetime(feed.at.astimezone(UTC), usegmt=True))
    _put(channel, "atom:link", rel="self", type="application/rss+xml", href=feed.url)
    for entry in feed.entries:
        item = _put(channel, "item")
        _put(item, "title", entry.title)
        _put(item, "link", entry.url)
        _put(item, "guid", entry.id, isPermaLink="false")
        _put(item, "pubDate", format_datetime(entry.at, usegmt=True))
        _put(item, "description", entry.html)
        for name in entry.about:
            _put(item, "category", name)
    return _xml(root, "application/rss+xml")


def _atom(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    feed = _feed(page, place, given, "feed.atom")
    root = Element("feed", {"xmlns": "http://www.w3.org/2005/Atom", "xml:lang": feed.language})
    _put(root, "id", feed.id)
    _put(root, "title", feed.title)
    _put(root, "subtitle", feed.description)
    _put(root, "updated", _moment(feed.at))
    _put(root, "link", rel="self", type="application/atom+xml", href=feed.url)
    _put(root, "link", rel="alternate", type="text/html", href=feed.home)
    _put(_put(root, "author"), "name", feed.title)
    for entry in feed.entries:
        one = _put(root, "entry")
        _put(one, "id", entry.id)
        _put(one, "title", entry.title)
        _put(one, "published", _moment(entry.at))
        _put(one, "updated", _moment(entry.at))
        _put(one, "link", rel="alternate", type="text/html", href=entry.url)
        for name in entry.about:
            _put(one, "category", term=name)
        _put(one, "content", entry.html, type="html")
    return _xml(root, "application/atom+xml")


def _json(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    feed = _feed(page, place, given, "feed.json")
    said = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": feed.title,
        "description": feed.description,
        "home_page_url": feed.home,
        "feed_url": feed.url,
        "language": feed.language,
        "items": [
            {
                "id": entry.id,
                "url": entry.url,
                "title": entry.title,
                "content_html": entry.html,
                "date_published": entry.at,
                "tags": entry.about,
            }
            for entry in feed.entries
        ],
    }
    return Rendition(msgspec.json.encode(said), "application/feed+json", OPEN)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# `history.*` is what Statuspage calls them: who follows a page that moved here goes on doing so.
VIEWS: Final[tuple[View, ...]] = (
    view(r"(?:feed|history)\.rss", _rss, paths=["feed.rss"], is_spoken=True, options=["components"]),
    view(r"(?:feed|history)\.atom", _atom, paths=["feed.atom"], is_spoken=True, options=["components"]),
    view(r"feed\.json", _json, paths=["feed.json"], is_spoken=True, options=["components"]),
)
