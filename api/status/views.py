"""Every view of a public page, in the order in which they are asked. A new one is a module with `VIEWS`, and a line here."""

from typing import Final

from api.status import badge, calendar, crawlers, embed, feeds, pages, status_json, statuspage, text
from api.status.view import View

VIEWS: Final[tuple[View, ...]] = (
    *pages.VIEWS,
    *status_json.VIEWS,
    *badge.VIEWS,
    *embed.VIEWS,
    *feeds.VIEWS,
    *calendar.VIEWS,
    *statuspage.VIEWS,
    *crawlers.VIEWS,
    *text.VIEWS,
)
