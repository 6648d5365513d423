"""Every address of a public page is in its reference, with its options; and every address there is one of the page."""

import re
from pathlib import Path

from api.status.front import LIVE
from api.status.views import VIEWS

PAGE = (Path(__file__).parents[2] / "docs/reference/status-page.md").read_text("utf-8")
FILLED = {"{id}": f"inc_{1:032x}", "{month}": "2026-10", "{component}": "pay", "{name}": "x.css"}


def written() -> dict[str, tuple[bool, set[str]]]:
    """Address -> (whether it is spoken, its options), as the tables say."""
    found: dict[str, tuple[bool, set[str]]] = {}
    for row in re.findall(r"^\| (.+) \| .+ \| (yes)? ?\| ?(.*?) ?\|$", PAGE, re.MULTILINE):
        for address in re.findall(r"`([^`]*)`", row[0].replace("``", "` `")):
            found[address.strip()] = bool(row[1]), {*re.findall(r"`(\w+)`", row[2])}
    below = re.findall(
        r"`([\w/-]+\.json)`", PAGE.partition("## Statuspage's API")[2].partition("Fields and values")[0]
    )
    found |= {f"api/v2/{address}": found.get("api/v2/*.json", (False, set())) for address in below}
    del found["api/v2/*.json"]
    return found


def test_every_address_in_the_reference_is_one_and_every_view_is_in_it() -> None:
    told, seen = written(), set[str]()
    for address, (is_spoken, options) in told.items():
        path = address
        for place, value in FILLED.items():
            path = path.replace(place, value)
        (view,) = (view for view in VIEWS if view.pattern.fullmatch(path))
        assert (view.is_spoken, {*view.options}) == (is_spoken, options), address
        seen.add(view.pattern.pattern)
    assert seen == {view.pattern.pattern for view in VIEWS}
    statuspage = next(view for view in VIEWS if "api/v2" in view.pattern.pattern)
    assert {address for address in told if address.startswith("api/v2/")} == {*statuspage.paths(None)}  # type: ignore[arg-type]


def test_forms_are_those_that_the_live_page_has() -> None:
    said = re.search(r"^(`.*) are forms;", PAGE, re.MULTILINE)
    assert said is not None
    assert {*re.findall(r"`(\w+)`", said[1])} == LIVE
