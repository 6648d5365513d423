"""`embed`: the page for a frame on other sites, with chosen sections; `widget`: its state on one line. Only where `frames:` allows it.

Of the page's own parts and look, without forms; what is a link there opens beside the site that shows the frame.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from api.status.document import Document
from api.status.drawing import Bars
from api.status.pages import headline, render, sections
from api.status.view import CSP, OPEN, Place, Rendition, View, view
from evaluators.public import overall_status

SECTIONS: Final = ("status", "components", "incidents", "maintenance")
_WIDGET: Final = {"sections": "status", "compact": "1"}


def _embed(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    asked = [name for name in given.get("sections", "").split(",") if name in SECTIONS]
    slugs = given.get("components", "").split(",")
    if any(one.slug in slugs for one in page.components):  # of none nothing would be said to be well
        page = only(page, slugs)
    state, said = headline(page, place)
    made = render(
        "embed.html",
        page,
        place,
        title=f"{page.rule.name}: {said}",
        state=state,
        headline=said,
        chosen=list(dict.fromkeys(asked)) or SECTIONS,
        sections=sections(page),
        bars=Bars(page, place),
        theme=given["theme"] if given.get("theme") in ("light", "dark") else page.rule.look.theme,
        is_compact=given.get("compact", "0") not in ("0", "false"),
    )
    return replace(made, headers=_headers(page))


def _headers(page: Document) -> dict[str, str]:
    frames = page.rule.frames
    ancestors = "*" if frames == "any" else " ".join(frames) or "'none'"
    policy = CSP.replace("frame-ancestors 'none'", f"frame-ancestors {ancestors}")
    policy = policy.replace("form-action 'self'", "form-action 'none'")
    return {"Content-Security-Policy": policy, **(OPEN if frames else {})}


def only(page: Document, slugs: Collection[str]) -> Document:
    """The page with these components, and with the incidents and maintenance that are about them."""
    components = [one for one in page.components if one.slug in slugs]
    ids = {one.id for one in components}
    return replace(
        page,
        status=overall_status(one.status for one in components),
        components=components,
        incidents=[one for one in page.incidents if ids & one.components.keys()],
        maintenances=[one for one in page.maintenances if ids & one.components.keys()],
    )


def _widget(page: Document, place: Place, given: Mapping[str, str]) -> Rendition:
    return _embed(page, place, {**given, **_WIDGET})


VIEWS: Final[tuple[View, ...]] = (
    view(
        "embed",
        _embed,
        paths=["embed"],
        is_spoken=True,
        options=["sections", "components", "theme", "compact"],
    ),
    view("widget", _widget, paths=["widget"], is_spoken=True, options=["components", "theme"]),
)
