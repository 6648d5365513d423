"""What the head of a page tells machines: where it is in other languages, its feeds, and how a link to it looks in Slack, Teams and elsewhere."""

from typing import Final
from urllib.parse import quote

from markupsafe import Markup

from api.status.access import KEY
from api.status.document import Document
from api.status.view import Place
from rules.markdown import one_line

FEEDS: Final = (
    ("feed.atom", "application/atom+xml", "Atom"),
    ("feed.rss", "application/rss+xml", "RSS"),
    ("feed.json", "application/feed+json", "JSON Feed"),
    ("calendar.ics", "text/calendar", "iCalendar"),
)
"""Addresses that readers subscribe to: path, media type, name. All of them are spoken."""
MOST_DESCRIPTION: Final = 300
_META: Final = Markup('<meta {}="{}" content="{}">')


def keyed(place: Place, url: str) -> str:
    """`url` of this page as a program can read it that gives no password: with the page's proof where it needs one."""
    return f"{url}{'&' if '?' in url else '?'}{KEY}={quote(place.key)}" if place.key else url


def is_listed(page: Document) -> bool:
    """Whether search engines may list it."""
    return page.rule.indexed and page.rule.access.is_public


def codes(page: Document) -> list[tuple[str, str]]:
    """The page's languages: (code, as `Place.path` is asked for it)."""
    first, *others = page.rule.languages
    return [(first, ""), *((code, code) for code in others)]


def head(page: Document, place: Place, title: str, description: str, path: str) -> Markup:
    """Elements for the head of the page at `path`, one a line. `description` says its state in a sentence or two."""
    rule = page.rule
    said = one_line(description)[:MOST_DESCRIPTION]
    lines = [_META.format("name", "description", said)]
    if not is_listed(page):
        lines.append(_META.format("name", "robots", "noindex"))
    if rule.look.accent:
        lines.append(_META.format("name", "theme-color", rule.look.accent))
    lines.append(Markup('<link rel="canonical" href="{}">').format(place.url(path)))
    if len(rule.languages) > 1:
        lines += [
            Markup('<link rel="alternate" hreflang="{}" href="{}">').format(
                code, place.url(path, language=prefix)
            )
            for code, prefix in [*codes(page), ("x-default", "")]
        ]
    lines += [
        Markup('<link rel="alternate" type="{}" title="{}" href="{}">').format(
            media_type, f"{one_line(rule.name)} ({name})", keyed(place, place.url(file))
        )
        for file, media_type, name in FEEDS
    ]
    shown = {
        "og:type": "website",
        "og:site_name": one_line(rule.name),
        "og:title": one_line(title),
        "og:description": said,
        "og:url": place.url(path),
        "og:locale": place.language.code.replace("-", "_"),
        "og:image": keyed(place, place.url("preview.png")),
        "og:image:type": "image/png",
        "og:image:alt": said,
    }
    lines += [_META.format("property", name, value) for name, value in shown.items()]
    lines.append(
        _META.format("name", "twitter:card", "summary_large_image")
    )  # its other words are those of og:
    return Markup("\n").join(lines)
