"""What the pages that people read say, of a page made by hand: no browser, no database."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from api.status import badge, look, pages, status_json, text
from api.status.document import Day, Document, Picture, Series, Update
from api.status.pages import VIEWS
from api.status.view import Place, Rendition
from rules.language import LANGUAGES, language
from rules.page import Look
from tests.api.status.shown import NOW, component, crowded, document, incident, usual

PLACE = Place("/p/usual", "https://status.example", language("en"))


def _made(page: Document, path: str = "", place: Place = PLACE, **given: str) -> Rendition | None:
    for view in (*VIEWS, *text.VIEWS):
        if found := view.pattern.fullmatch(path):
            groups = {name: value for name, value in found.groupdict().items() if value is not None}
            return view.make(page, place, groups | given)
    raise AssertionError(path)


def _html(page: Document, path: str = "", place: Place = PLACE) -> str:
    made = _made(page, path, place)
    assert made is not None
    return made.body.decode()


def test_every_path_that_an_export_has_is_made_in_every_language() -> None:
    page = usual()
    for code in LANGUAGES:
        place = Place("", "https://x.example", language(code), is_live=False, is_prefixed=code != "en")
        for view in (*VIEWS, *text.VIEWS):
            for path in view.paths(page):
                assert _made(page, path, place) is not None, path


def test_twenty_components_are_less_than_60_kb() -> None:
    parts = [component(n, f"Part {n}", f"Group {n // 5}", bad={n: "major_outage", 50: "partial_outage"}) for n in range(20)]  # fmt: skip
    assert (
        len(_html(document("twenty", parts, [incident(1, "Down", "investigating", timedelta(hours=1))])))
        < 60_000
    )


def test_that_holds_where_every_day_has_a_figure_of_its_own() -> None:
    days = [Day(day.date, "operational", 0.9991) for day in component(1, "A").days]
    parts = [component(n, f"Part {n}", days=days, uptime_by="duration") for n in range(20)]
    html = _html(document("figures", parts))
    assert len(html) < 60_000
    assert 'data-figures="99.91%;99.91%' in html


def test_a_day_says_what_it_was_and_leads_to_what_was_said() -> None:
    html = _html(usual())
    said = re.search(r'<a href="/p/usual/incidents/inc_2" aria-label="([^"]+)">', html)
    assert said is not None
    assert said[1] == "November 18, 2026: Major outage, 50%. Checkout was down"
    assert '<a href="/p/usual/history/2026-10#d2026-10-12"' in html  # of which nobody said anything
    assert "Search, last 90 days: 1 day with something to report" in html


def test_days_that_components_share_may_be_others_of_each() -> None:
    later = component(2, "B")
    shifted = [Day((NOW + timedelta(days=1)).date().isoformat(), "operational", 1.0), *later.days[1:]]
    html = _html(document("two", [component(1, "A"), component(2, "B", days=shifted)]))
    assert 'href="#o0"' in html
    assert 'href="#o1"' in html


def test_components_without_a_group_stand_apart_and_a_group_shows_its_worst() -> None:
    found = pages.sections(usual())
    assert [(one.name, one.status) for one in found] == [
        ("Shopping", "partial_outage"),
        (None, "operational"),
        ("Infrastructure", "under_maintenance"),
    ]


def test_of_a_large_page_only_groups_with_trouble_are_unfolded() -> None:
    parts = [component(n, f"Part {n}", f"Group {n // 10}", "major_outage" if n == 15 else "operational") for n in range(30)]  # fmt: skip
    assert [one.is_open for one in pages.sections(document("large", parts))] == [False, True, False]


@pytest.mark.parametrize(
    ("page", "begun"),
    [
        pytest.param(usual(), timedelta(minutes=52), id="since the update that said so"),
        pytest.param(document("by-hand", [component(1, "A", status="major_outage")]), None, id="set by hand: nobody said"),
        pytest.param(document("calm", [component(1, "A")]), None, id="all is well"),
        pytest.param(
            document("kept", [component(1, "A", status="under_maintenance")], [incident(1, "M", "in_progress", timedelta(hours=2), timedelta(hours=4), "maintenance")]),
            timedelta(hours=2),
            id="since maintenance began",
        ),
    ],
)  # fmt: skip
def test_since_when_is_what_was_said(page: Document, begun: timedelta | None) -> None:
    assert pages.since(page) == (None if begun is None else NOW - begun)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        pytest.param([], ("operational", "All systems operational"), id="nothing"),
        pytest.param([("maintenance", "scheduled")], ("operational", "All systems operational"), id="planned"),
        pytest.param([("maintenance", "in_progress")], ("under_maintenance", "Maintenance is under way"), id="under way"),
        pytest.param([("maintenance", "in_progress"), ("incident", "monitoring")], ("degraded_performance", "An incident is open"), id="an incident"),
    ],
)  # fmt: skip
def test_what_names_no_component_is_in_the_banner_too(told: list[Any], said: tuple[str, str]) -> None:
    day = timedelta(days=1)
    those = [incident(n, "It", status, day, 2 * day, kind) for n, (kind, status) in enumerate(told)]
    page = document("bare", [component(1, "A")], those)
    assert pages.headline(page, PLACE) == said
    assert pages.since(page) == (None if said[0] == "operational" else NOW - day)
    assert look.assets(page)["icon"].startswith(f"icon-{said[0]}-")


@pytest.mark.parametrize(
    ("said", "begun"),
    [
        pytest.param([("identified", "comp_1", 20), ("investigating", "comp_1", 40)], 60, id="all of it, from its begin on"),
        pytest.param([("identified", "comp_1", 20), ("investigating", None, 40)], 20, id="since it was said of a component"),
        pytest.param([("monitoring", None, 20), ("investigating", "comp_1", 40)], 60, id="since it began, though its components are well"),
        pytest.param([("investigating", "comp_1", 20), ("resolved", "comp_1", 40)], 20, id="since it was opened again"),
    ],
)  # fmt: skip
def test_since_when_the_banner_says(said: list[tuple[str, str | None, int]], begun: int) -> None:
    down = {"comp_1": "major_outage"}
    one = msgspec.structs.replace(
        incident(1, "Down", said[0][0], timedelta(minutes=60), about=down),
        updates=[
            Update(f"upd_{ago}", status, "It is.", False, NOW - timedelta(minutes=ago), down if on else {})
            for status, on, ago in said
        ],
    )
    is_down = said[0][1] is not None
    page = document("down", [component(1, "A", status="major_outage" if is_down else "operational")], [one])
    assert pages.since(page) == NOW - timedelta(minutes=begun)


def test_no_day_on_which_an_incident_lasted_is_said_to_have_none() -> None:
    day = timedelta(days=1)
    told = [
        incident(1, "Lasts", "identified", 2 * day),
        incident(2, "Through days", "resolved", 9 * day, 3 * day),
        incident(3, "Before it all", "resolved", 30 * day, 18 * day),
        incident(4, "Moved", "completed", 5 * day, 2 * day, "maintenance"),
    ]
    html = _html(document("past", [component(1, "A")], told), place=Place("/p/past", "", language("en")))
    days = re.findall(r'<section class="day calm"><h3>([^<]+)</h3>\s*<p class="muted">([^<]+)</p>', html)
    assert days == [
        ("November 19, 2026 – November 21, 2026", "No other incidents."),
        ("November 17, 2026 – November 18, 2026", "No incidents."),
        ("November 13, 2026 – November 15, 2026", "No other incidents."),
        ("November 10, 2026 – November 11, 2026", "No incidents."),
        ("November 9, 2026", "No other incidents."),
    ]


def test_maintenance_that_never_came_to_be_says_what_was_planned() -> None:
    planned = incident(5, "Never", "cancelled", -timedelta(days=4), timedelta(hours=2), "maintenance")
    page = document("off", [], [msgspec.structs.replace(planned, resolved_at=NOW - timedelta(days=1))])
    for path in ("", "incidents/inc_5", "incidents/inc_5.txt"):
        assert re.search("Nov 25, 2026, 15:05.*17:05 CET", _html(page, path), re.DOTALL), path
    assert re.search("November 20, 2026</h3>[^§]*Never", _html(page))
    assert "Ended" not in _html(page, "incidents/inc_5")


def test_days_that_are_not_those_of_the_times_are_said_to_be_utc() -> None:
    said = "Each bar is a day from midnight to midnight UTC."
    assert said in _html(usual())
    assert said not in _html(usual(timezone="UTC"))
    assert said not in _html(document("none", []))


def test_a_month_has_what_lasted_into_it_and_its_neighbours() -> None:
    over = incident(7, "Through the night", "resolved", timedelta(days=30), timedelta(days=12))
    page = replace(usual(), incidents=[*usual().incidents, over])
    november, october = _html(page, "history/2026-11"), _html(page, "history/2026-10")
    assert "Through the night" in november
    assert 'id="d2026-11-01"' in november
    assert "Through the night" in october
    assert "Old certificates" in october
    assert 'rel="prev" href="/p/usual/history/2026-10"' in november
    assert 'rel="next" href="/p/usual/history/2026-11"' in october
    for nowhere in (
        "history/2026-12",
        "history/2019-01",
        "history/2026-13",
        "incidents/inc_99",
        "assets/x.css",
    ):
        assert _made(page, nowhere) is None, nowhere


def test_what_is_long_is_cut_where_it_is_listed_and_whole_on_its_own_page() -> None:
    page = crowded()
    assert len(_html(page, "history")) < 60_000
    assert len(_html(page, "incidents/inc_2")) > 50_000


def test_the_page_itself_says_the_last_ten_updates() -> None:
    one = incident(1, "Long", "identified", timedelta(hours=30))
    many = replace(usual(), incidents=[_with_updates(one, 40)])
    assert _html(many).count('id="upd_1b"') == pages.MOST_TOLD
    assert "All 40 updates" in _html(many)
    assert _html(many, "index.txt").count("    Identified · ") == pages.MOST_TOLD
    assert _html(many, "incidents/inc_1.txt").count("    Identified · ") == 40
    assert _html(many, "incidents/inc_1").count('id="upd_1b"') == 40


def _with_updates(one: Any, count: int) -> Any:
    return msgspec.structs.replace(one, updates=[one.updates[0]] * count)


@pytest.mark.parametrize(
    "accent", ["#000000", "#ffffff", "#ffd400", "#0b5fff", "#7a7a7a", "#ff0000", "#00ff7f"]
)
def test_text_in_an_operators_colours_can_be_read(accent: str) -> None:
    sheet = look.stylesheet(Look.model_validate({"accent": accent, "colours": {"operational": accent}}))
    old, _, new = sheet.partition("@supports (color:light-dark(#000,#fff))")
    pairs = {name: re.findall(r"#\w{6}", value) for name, value in re.findall(r"--([\w-]+):([^;}]+)", new)}
    for name, value in re.findall(r"--([\w-]+):([^;}]+)", old):
        assert value == pairs[name][0]
    assert pairs["accent"] == [accent] * 2
    assert _contrast(accent, pairs["on-accent"][0]) >= 4.5
    for scheme, surfaces in enumerate((("#f8f9fb", "#ffffff", "#f0f2f5"), ("#0d0f13", "#15181e", "#1c2028"))):
        for surface in surfaces:
            assert _contrast(pairs["link"][scheme], surface) >= 4.5
            assert _contrast(pairs["operational-text"][scheme], surface) >= 4.5
            assert _contrast(pairs["operational"][scheme], surface) >= 3
        assert _contrast(pairs["operational-text"][scheme], pairs["operational-soft"][scheme]) >= 4.5


def _contrast(one: str, other: str) -> float:
    return look.contrast(look.read(one), look.read(other))


def test_files_are_kept_for_good_and_an_old_name_leads_to_what_is_there_now() -> None:
    page = usual(look={"accent": "#0b5fff", "css": ".lead { font-weight: 700 }"})
    html = _html(page)
    names = re.findall(r'"/p/usual/assets/([\w.-]+)"', html)
    assert [re.sub(r"-\w+(?=\.)", "", name) for name in names] == [
        "icon-partial_outage.svg", "status.css", "page.css", "own.css", "status.js",
    ]  # fmt: skip
    for name in names:
        made = _made(page, f"assets/{name}")
        assert made is not None
        assert "immutable" in made.headers["Cache-Control"]
    old = _made(page, "assets/page-000000000000.css")
    assert old is not None
    assert (old.headers["Cache-Control"], b"#0b5fff" in old.body) == ("public, no-cache", True)


def test_pictures_of_the_page_are_shown_and_can_do_nothing() -> None:
    picture = Picture("logo-1.png", "image/png", b"png")
    page = replace(
        usual(), pictures={"logo": picture, "logo-dark": replace_file(picture), "favicon": picture}
    )
    html = _html(page)
    assert '<link rel="icon" href="/p/usual/assets/logo-1.png"' in html
    assert '<source media="(prefers-color-scheme: dark)" srcset="/p/usual/assets/dark-1.png"><img src="/p/usual/assets/logo-1.png" alt="Shop">' in html  # fmt: skip
    made = _made(page, "assets/logo-1.png")
    assert made is not None
    assert (made.body, "sandbox" in made.headers["Content-Security-Policy"]) == (b"png", True)


def replace_file(picture: Picture) -> Picture:
    return Picture("dark-1.png", picture.media_type, picture.body)


def test_an_export_has_no_forms_and_leads_to_the_live_page_where_it_is_known() -> None:
    export = Place("", "https://x.example", language("en"), is_live=False)
    assert "/subscribe" not in _html(usual(), place=export)
    known = replace(export, live="https://live.example/p/usual")
    assert 'href="https://live.example/p/usual/subscribe"' in _html(usual(), place=known)
    assert "E-mail" not in _html(usual(subscribers={"kinds": []}))


@pytest.mark.parametrize(
    ("access", "fields"),
    [
        pytest.param({"password": "x"}, ["password"], id="password"),
        pytest.param({"emails": ["a.example"]}, ["email"], id="mailbox"),
        pytest.param({"password": "x", "emails": ["a.example"]}, ["password", "email"], id="both"),
        pytest.param({"networks": ["10.0.0.0/8"]}, [], id="network"),
    ],
)
def test_the_gate_asks_for_what_lets_in_and_says_nothing_of_the_page(
    access: dict[str, Any], fields: list[str]
) -> None:
    html = pages.gate(usual(access=access), PLACE, to="history").body.decode()
    assert [name for name in re.findall(r'<input id="(\w+)"', html) if name != "to"] == fields
    assert html.count('name="to" value="history"') == len(fields)
    for secret in ("Checkout", "payments", "feed.", "calendar"):
        assert secret not in html


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_terminal_is_shown_eighty_columns(code: str) -> None:
    place = Place("/p/usual", "https://status.example", language(code))
    made = _made(usual(), "index.txt", place)
    assert made is not None
    lines = made.body.decode().splitlines()
    assert max(map(len, lines)) <= text.WIDTH
    assert any(line.startswith("  ▲ Checkout") for line in lines)
    assert "\x1b" not in made.body.decode()
    coloured = _made(usual(), "index.txt", place, color="")
    assert coloured is not None
    assert re.sub(r"\x1b\[\d+m", "", coloured.body.decode()) == made.body.decode()
    assert coloured.body != made.body


def test_wide_letters_stand_in_the_columns_of_a_terminal() -> None:
    page = document("wide", [component(1, "决済サービス"), component(2, "支" * 40), component(3, "Web")])
    html = _html(page, "index.txt")
    assert "● 决済サービス" + " " * 22 + " Operational" in html
    assert "● " + "支" * 16 + "…  Operational" in html
    assert "● Web" + " " * 31 + " Operational" in html


def test_a_terminal_is_told_nothing_that_it_would_obey() -> None:
    evil = "a\x1b]0;title\x07\x1b[2Jb\u202ec\rd"
    page = document("evil", [component(1, evil)], [incident(1, evil, "investigating", timedelta(hours=1), said=evil)], name=evil)  # fmt: skip
    for path in ("index.txt", "incidents/inc_1.txt"):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", _html(page, path))


@pytest.mark.parametrize(
    ("agent", "accept", "is_terminal"),
    [
        pytest.param(b"curl/8.5.0", b"*/*", True, id="curl"),
        pytest.param(b"Wget/1.21.4", b"*/*", True, id="wget"),
        pytest.param(b"HTTPie/3.2.2", b"*/*", True, id="httpie"),
        pytest.param(b"curl/8.5.0", b"text/html", False, id="curl that wants HTML"),
        pytest.param(b"Mozilla/5.0", b"text/html,*/*", False, id="a browser"),
        pytest.param(b"Mozilla/5.0", b"text/plain", True, id="who says that it wants text"),
        pytest.param(b"python-requests/2", b"*/*", False, id="a program"),
        pytest.param(
            b"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", b"*/*", False, id="Slack"
        ),
        pytest.param(b"facebookexternalhit/1.1", b"*/*", False, id="who shows a link"),
        pytest.param(b"", b"", False, id="nobody knows"),
    ],
)
def test_who_is_shown_text(agent: bytes, accept: bytes, is_terminal: bool) -> None:
    assert text.is_terminal(agent, accept) is is_terminal


def test_a_public_beat_is_seen_after_its_first_runs() -> None:
    hours: list[float | None] = [None] * 23
    began = NOW.replace(minute=0) - timedelta(hours=23)
    one = Series("Pay", began.timestamp(), 3600, [*hours, 0.08], [*hours, 0.2])
    page = document("young", [component(1, "Payments", latency=[one])])
    html = _html(page)
    assert re.search(r'class="p50" d="M958\.3 ([\d.]+)h2L1000\.0 \1"', html)
    assert "typically 80 ms, rarely above 200 ms" in html
    (view,) = (one for one in status_json.VIEWS if one.pattern.fullmatch("status.json"))
    made = view.make(page, PLACE, {})
    assert made is not None
    (shown,) = msgspec.json.decode(made.body)["components"][0]["latency"]
    assert (shown["name"], shown["since"], shown["step_s"]) == ("Pay", "2026-11-20T15:00:00Z", 3600)
    assert (shown["p50"][-2:], shown["p95"][-1]) == ([None, 0.08], 0.2)


def test_a_page_without_components_says_nothing_of_a_state() -> None:
    page = document("bare", [])
    assert pages.headline(page, PLACE) == ("unknown", "No status yet")
    for said in (_html(page), _html(page, "index.txt")):
        assert "No status yet" in said
        assert "operational" not in re.sub(r'class="[^"]*"|icon-operational', "", said).lower()
    opened = [incident(1, "It", "investigating", timedelta(hours=1))]
    assert pages.headline(document("bare", [], opened), PLACE)[1] == "An incident is open"
    for view in badge.VIEWS:
        made = view.make(page, PLACE, {})
        assert made is not None
        assert made.media_type != "image/svg+xml" or b"No status yet" in made.body
        assert (
            not view.pattern.fullmatch("badge/nix.svg")
            or view.make(page, PLACE, {"component": "nix"}) is None
        )


def test_uptime_says_since_when_it_is_counted_and_what_it_is_of_which_component() -> None:
    born = NOW - timedelta(minutes=15)
    young = component(1, "Young", bad=dict.fromkeys(range(1, 90)), uptime=0.46)
    week = component(2, "Week", bad=dict.fromkeys(range(7, 90)), uptime_by="duration")
    old = component(3, "Old")
    page = document("ages", [msgspec.structs.replace(young, created_at=born), week, old])
    html = _html(page)
    assert "46% uptime · since Nov 21, 2026, 14:50 CET" in html
    assert "99.98% measured uptime · since November 15, 2026" in html
    assert "99.98% uptime</span>" in html
    assert "<strong>Young, Old</strong> · Uptime is the share" in html
    assert "<strong>Week</strong> · Measured uptime is" in html
    alone = _html(document("one", [old]))
    assert '<p class="why">Uptime is the share' in alone
    many = [component(n, f"Part {n}") for n in range(9)]
    assert "<strong>Part 0, Part 1, Part 2, Part 3, Part 4…</strong>" in _html(
        document("many", [*many, week])
    )


def test_a_terminal_is_shown_the_last_days_as_the_page_does() -> None:
    said = _html(usual(), "index.txt")
    assert "  The last 14 days\n" in said
    past = said.partition("The last 14 days")[2]
    assert past.index("Checkout was down") < past.index("Pages were slow")
    assert "  Affects: Storefront" in said
    assert "  Affected: Checkout" in said


def test_planned_maintenance_affects_components_and_says_nothing_of_their_state() -> None:
    about = {"comp_1": "under_maintenance"}
    day = timedelta(days=1)
    for status, is_planned in (("scheduled", True), ("in_progress", False)):
        told = incident(1, "It", status, -day if is_planned else timedelta(), day, "maintenance", about=about)
        html = _html(document("planned", [component(1, "A")], [told]))
        (shown,) = re.findall(r'<ul class="affected" aria-label="(\w+)">(.*?)</ul>', html)
        assert (shown[0], "Under maintenance" in shown[1]) == (
            ("Affects", False) if is_planned else ("Affected", True)
        )
