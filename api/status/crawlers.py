"""What search engines ask for: `sitemap.xml` and `robots.txt` of a page. Whether they may list it is said in its head: `previews`."""

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from api.status import pages
from api.status.document import Document
from api.status.previews import codes, is_listed
from api.status.view import Place, Rendition, View, view

MOST_URLS: Final = 50_000


def _sitemap(page: Document, place: Place, _: Mapping[str, str]) -> Rendition | None:
    if not is_listed(page):
        return None
    root = Element("urlset", {"xmlns": "http://www.sitemaps.org/schemas/sitemap/0.9"})
    paths = [path for one in pages.VIEWS if one.is_spoken for path in one.paths(page) if "." not in path]
    urls = [place.url(path, language=prefix) for path in paths for _, prefix in codes(page)]
    for url in urls[:MOST_URLS]:
        SubElement(SubElement(root, "url"), "loc").text = url
    return Rendition(tostring(root, "utf-8", xml_declaration=True), "application/xml; charset=utf-8")


def _robots(page: Document, place: Place, _: Mapping[str, str]) -> Rendition:
    """A page that may not be listed may still be read: else nobody would see that it says so."""
    lines = ["User-agent: *", "Allow: /"]
    if is_listed(page):
        lines.append(f"Sitemap: {place.url('sitemap.xml')}")
    return Rendition("\n".join([*lines, ""]).encode(), "text/plain; charset=utf-8")


VIEWS: Final[tuple[View, ...]] = (
    view(r"sitemap\.xml", _sitemap, paths=lambda page: ["sitemap.xml"] if is_listed(page) else []),
    view(r"robots\.txt", _robots, paths=["robots.txt"]),
)
