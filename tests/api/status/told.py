"""A page as a document, without a database: for views, which ask none."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from api.status.document import Document, Incident, Report, Shown, Update
from api.status.view import Place
from api.status.views import VIEWS
from rules.language import LANGUAGES, language
from rules.page import Page

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def component(n: int, slug: str, status: str = "operational", *, group: str | None = None) -> Shown:
    """A component that is older than all that is told."""
    born = NOW - timedelta(days=30)
    return Shown(f"comp_{n:032x}", slug, slug.title(), "", group, status, n, born, born, 1.0, "manual", [])


def incident(
    n: int,
    said: Mapping[str, str],
    *,
    kind: Literal["incident", "maintenance"] = "incident",
    about: Mapping[str, str] | None = None,
    report: str | None = None,
    title: str = "Payments fail",
    hours: float = 0.0,
) -> Incident:
    """One whose statuses were said a minute apart, with these texts, the oldest first; maintenance begins `hours` from now."""
    begun = NOW - timedelta(hours=n)
    spoken = [
        Update(
            f"upd_{n * 100 + at:032x}", status, text, True, begun + timedelta(minutes=at), dict(about or {})
        )
        for at, (status, text) in enumerate(said.items())
    ]
    is_over = spoken[-1].status in ("resolved", "completed", "cancelled")
    starts = NOW + timedelta(hours=hours) if kind == "maintenance" else None
    return Incident(
        f"inc_{n:032x}",
        kind,
        title,
        spoken[-1].status,
        "major",
        begun,
        spoken[-1].at,
        spoken[-1].at if is_over else None,
        starts,
        starts + timedelta(hours=2) if starts else None,
        dict(about or {}),
        spoken[::-1],
        Report(report, NOW) if report else None,
    )


PAY, APP, WEB = f"comp_{1:032x}", f"comp_{2:032x}", f"comp_{3:032x}"
FAILED = incident(
    2,
    {"investigating": "We *look*.", "monitoring": "Mended.", "resolved": "It is over."},
    about={PAY: "major_outage"},
    report="# Why\nA disk.",
)
LASTS = incident(1, {"identified": "A & B <c>"}, about={PAY: "partial_outage", APP: "degraded_performance"})
AHEAD = incident(
    3,
    {"scheduled": "We move, slowly; all of it."},
    kind="maintenance",
    about={WEB: "under_maintenance"},
    title="A move",
    hours=5,
)
RUNS = incident(
    4, {"scheduled": "Soon.", "in_progress": "Now."}, kind="maintenance", about={PAY: "under_maintenance"}
)
TAKEN_BACK = incident(5, {"scheduled": "Soon.", "cancelled": "Not now."}, kind="maintenance", hours=-30)


def page(**changed: Any) -> Document:
    """A shop with an incident that lasts and one that is over, and maintenance to come, under way and cancelled."""
    rule = Page(slug="shop", name="The Shop & Co.", languages=[*LANGUAGES[:2]], **changed.pop("rule", {}))
    made: dict[str, Any] = {
        "id": f"page_{7:032x}",
        "rule": rule,
        "status": "partial_outage",
        "components": [
            component(1, "pay", "partial_outage", group="Money"),
            component(2, "app", "degraded_performance", group="Money"),
            component(3, "web"),
        ],
        "incidents": [LASTS, FAILED],
        "maintenances": [RUNS, AHEAD, TAKEN_BACK],
        "at": NOW,
        "pictures": {},
    }
    return Document(**(made | changed))


def place(
    code: str = "en", *, base: str = "/p/shop", origin: str = "https://up.example", key: str = ""
) -> Place:
    """Where it is shown; German is its second language."""
    return Place(base, origin, language(code), key=key, is_prefixed=code != "en")


def body(path: str, document: Document | None = None, where: Place | None = None, **asked: str) -> bytes:
    """What the view that answers at `path` makes of it."""
    for view in VIEWS:
        if found := view.pattern.fullmatch(path):
            assert set(asked) <= view.options
            groups = {name: value for name, value in found.groupdict().items() if value is not None}
            made = view.make(document or page(), where or place(), asked | groups)
            return b"" if made is None else made.body
    raise AssertionError(f"no view answers at {path}")
