"""Pages as they would be read, made by hand: what there can be on one, and too much of it. And a server that shows them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from api.status.document import Day, Document, Incident, Report, Series, Shown, Update
from api.status.kept import Kept
from evaluators.model import Impact
from evaluators.public import overall_status
from rules.language import LANGUAGES
from rules.page import Page

if TYPE_CHECKING:
    from tests.api.conftest import Server

NOW = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def component(
    number: int,
    name: str,
    group: str | None = None,
    status: str = "operational",
    bad: Mapping[int, str | None] | None = None,
    **more: Any,
) -> Shown:
    """A component; `bad`: days ago -> what they were, None being unknown."""
    said = bad or {}
    days = [
        Day((NOW - timedelta(days=ago)).date().isoformat(), what, _UPTIME.get(what))
        for ago in range(89, -1, -1)
        for what in [said.get(ago, "operational")]
    ]
    given: dict[str, Any] = {"uptime": 0.99987, "uptime_by": "manual", "days": days} | more
    return Shown(f"comp_{number}", f"c{number}", name, "", group, status, number, NOW, NOW, **given)


_UPTIME: Mapping[str | None, float] = {"operational": 1.0, "partial_outage": 0.97, "major_outage": 0.5}


def incident(
    number: int,
    title: str,
    status: str,
    began: timedelta,
    lasted: timedelta | None = None,
    kind: Literal["incident", "maintenance"] = "incident",
    impact: Impact = "major",
    said: str = "We look into it.",
    about: Mapping[str, str] | None = None,
    report: str | None = None,
    is_markdown: bool = False,
) -> Incident:
    """One that began so long ago. What lasted is over, or planned for so long."""
    begin, is_planned = NOW - began, kind == "maintenance"
    end = begin + lasted if lasted is not None else None
    affected = dict(about or {})
    return Incident(
        f"inc_{number}",
        kind,
        title,
        status,
        impact,
        min(begin, NOW),
        NOW,
        None if is_planned else end,
        begin if is_planned else None,
        end if is_planned else None,
        affected,
        [
            Update(f"upd_{number}b", status, said, is_markdown, end if end and not is_planned else min(begin, NOW), affected),
            Update(f"upd_{number}a", status if is_planned else "investigating", "It began.\nWe are sorry.", False, min(begin, NOW), affected),
        ],
        Report(report, NOW) if report is not None else None,
    )  # fmt: skip


def document(slug: str, components: list[Shown], told: list[Incident] | None = None, **rule: Any) -> Document:
    """The page of these."""
    given: dict[str, Any] = {
        "slug": slug,
        "name": "Shop",
        "description": "A small shop that fails on cue.",
        "languages": list(LANGUAGES),
        "homepage": "https://shop.example",
        "contact": "mailto:help@shop.example",
        "timezone": "Europe/Berlin",
    }
    return Document(
        id=f"page_{slug}",
        rule=Page.model_validate(given | rule),
        status=overall_status(one.status for one in components),
        components=components,
        incidents=[one for one in told or [] if one.kind == "incident"],
        maintenances=[one for one in told or [] if one.kind == "maintenance"],
        at=NOW,
        pictures={},
    )


def usual(slug: str = "usual", **rule: Any) -> Document:
    """With everything that there can be."""
    hours = [0.08 + 0.01 * (n % 5) for n in range(24)]
    latency = [
        Series("Checkout", (NOW - timedelta(days=1)).timestamp(), 3600, [*hours], [3 * v for v in hours])
    ]
    failing = {"comp_3": "partial_outage"}
    day = timedelta(days=1)
    return document(
        slug,
        [
            component(1, "Storefront", "Shopping", bad={12: "degraded_performance"}),
            component(2, "Search", "Shopping", uptime_by="duration", bad={40: "partial_outage"}),
            component(3, "Checkout", "Shopping", "partial_outage", {0: "partial_outage", 3: "major_outage"}, latency=latency),
            component(4, "Partner API", bad=dict.fromkeys(range(30, 90))),
            component(5, "Data centre Frankfurt", "Infrastructure", uptime_by="requests"),
            component(6, "Mail", "Infrastructure", "under_maintenance", days=[], uptime=None, shows_uptime=False),
        ],
        [
            incident(1, "Some payments are declined", "identified", timedelta(minutes=52), about=failing, said="A **bank** is slow:\n\n- `cards` work\n- *others* too", is_markdown=True),
            incident(2, "Checkout was down", "resolved", 3 * day, timedelta(hours=1), about={"comp_3": "major_outage"}, report="# Why\n\nA [bad query](https://x.example).\n\n> It passed.\n\n```\nSELECT 1\n```"),
            incident(3, "Pages were slow", "resolved", 12 * day, timedelta(hours=2), impact="minor", about={"comp_1": "degraded_performance"}),
            incident(4, "Mail servers are moved", "in_progress", timedelta(minutes=30), timedelta(hours=2), "maintenance", "none", about={"comp_6": "under_maintenance"}),
            incident(5, "Database upgrade", "scheduled", -4 * day, timedelta(hours=2), "maintenance", "none", about={"comp_1": "under_maintenance"}),
            incident(6, "Old certificates", "completed", 40 * day, timedelta(hours=2), "maintenance", "none"),
        ],
        **rule,
    )  # fmt: skip


def crowded(slug: str = "crowded") -> Document:
    """60 components with long names, and the longest text that is read as Markdown."""
    long = ("A **sentence** of many with a [link](https://x.example) and `code`. " * 400)[:25_000]
    return document(
        slug,
        [
            component(n, f"{LONG} {n}" if n % 3 else f"Part {n}", f"Group {n // 8} {LONG}" if n % 4 else None, bad={n: "major_outage"})
            for n in range(60)
        ],
        [incident(1, f"{LONG} {LONG}", "monitoring", timedelta(hours=1), said=long, is_markdown=True, about={f"comp_{n}": "operational" for n in range(60)}),
         incident(2, LONG, "resolved", timedelta(hours=9), timedelta(hours=1), said=long, is_markdown=True, report=long)],
        name=f"{LONG} of everything",
    )  # fmt: skip


@asynccontextmanager
async def showing(server: "Server", *pages: Document) -> AsyncIterator[None]:
    """The server's pages are these."""
    by_slug = {page.rule.slug: page for page in pages}

    async def read(slug: str) -> Document | None:
        return by_slug.get(slug)

    before = getattr(server.app.state, "status_pages", None)
    server.app.state.status_pages = Kept(read)
    try:
        yield
    finally:
        server.app.state.status_pages = before
