"""Attacks in every text of a page, through every address that it has: in a real browser nothing of them runs, and no policy is broken.

Documents are made as they would be read, so that a view that is added is attacked without a line here.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from api.status.document import Day, Document, Incident, Report, Series, Shown, Update
from api.status.kept import Kept
from api.status.views import VIEWS
from rules.language import LANGUAGES
from rules.page import Page
from tests.api.console.conftest import WATCH
from tests.api.status.test_status_hostile import ATTACKS
from tests.rig.browser import chromium

if TYPE_CHECKING:
    from tests.api.conftest import Server

pytestmark = pytest.mark.browser
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EACH = 120


def hostile(number: int, attacks: list[str]) -> Document:
    """A page of nothing but attacks."""
    first = attacks[0]
    rule = Page(
        slug=f"attacked-{number}",
        name=first[:200].strip() or "x",
        description=attacks[-1],
        homepage='https://e.example/"onmouseover="xss()',
        contact='mailto:a@e.example?subject="><script>xss()</script>'.replace(" ", ""),
        languages=list(LANGUAGES),
        frames="any",
    )
    components = [
        Shown(
            f"comp_{n:032x}", f"c-{n}", attack, attack, attack, "major_outage", n, NOW, NOW, 0.5, "manual",
            [Day("2026-11-20", "major_outage", 0.5)], True, [Series(attack, NOW.timestamp() - 7200, 3600.0, [0.1, None], [0.2, 0.3])],
        )
        for n, attack in enumerate(attacks)
    ]  # fmt: skip
    return Document(
        id=f"page_{number:032x}",
        rule=rule,
        status="major_outage",
        components=components,
        incidents=[_incident(n, attack, "incident", components) for n, attack in enumerate(attacks)],
        maintenances=[_incident(n, attack, "maintenance", components) for n, attack in enumerate(attacks)],
        at=NOW,
        pictures={},
    )


def _incident(n: int, attack: str, kind: str, components: list[Shown]) -> Incident:
    is_open, begun = n % 3 == 0, NOW - timedelta(hours=n)
    status = {"incident": ("investigating", "resolved"), "maintenance": ("in_progress", "completed")}[kind]
    said = {components[n].id: "major_outage"}
    return Incident(
        f"inc_{n + (1000 if kind == 'maintenance' else 0):032x}",
        "incident" if kind == "incident" else "maintenance",
        attack,
        status[0] if is_open else status[1],
        "critical",
        begun,
        NOW,
        None if is_open or kind == "maintenance" else NOW,
        begun if kind == "maintenance" else None,
        NOW if kind == "maintenance" else None,
        said if is_open else {},
        [
            Update(
                f"upd_{2 * n + is_marked:032x}",
                status[is_marked and not is_open],
                attack,
                is_marked,
                begun,
                said,
            )
            for is_marked in (True, False)
        ],
        None if is_open or kind == "maintenance" else Report(attack, NOW),
    )


async def test_attacks_run_in_no_view(server: "Server") -> None:
    pages = {}
    for number in range(0, len(ATTACKS), EACH):
        made = hostile(number, ATTACKS[number : number + EACH])
        pages[made.rule.slug] = made

    async def read(slug: str) -> Document | None:
        return pages.get(slug)

    server.app.state.status_pages = Kept(read)
    tried = 0
    try:
        async with chromium() as browser:
            context = await browser.new_context()
            await context.add_init_script(WATCH)
            tab = await context.new_page()
            for page in pages.values():
                for path in _paths(page):
                    answer = await server.session.get(f"{server.url}/p/{page.rule.slug}/{path}")
                    assert answer.status == 200, path
                    kind = answer.headers["Content-Type"]
                    if "html" not in kind and "xml" not in kind and "svg" not in kind:
                        assert answer.headers["X-Content-Type-Options"] == "nosniff"
                        continue
                    await tab.goto(f"{server.url}/p/{page.rule.slug}/{path}")
                    await tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                    found = set(await tab.evaluate("window.attacks"))
                    # Chromium's own viewer of XML has a style in it, which the policy refuses.
                    assert found <= (
                        set() if "html" in kind or "svg" in kind else {"style-src-elem inline"}
                    ), path
                    tried += 1
    finally:
        server.app.state.status_pages = None
    assert tried > 2 * len(pages)


def _paths(page: Document) -> list[str]:
    """All that the page has; of several incidents, and in other languages, one each."""
    found: list[str] = []
    assert len(page.rule.languages) > 3
    for view in VIEWS:
        listed = list(view.paths(page))
        found += listed[:: max(len(listed) // 3, 1)]
        if view.is_spoken and listed:
            found.append(f"{page.rule.languages[-1 - len(found) % 3]}/{listed[-1]}")
    return found
