"""References between objects: what a beat, channel or component names must exist. The file and the API ask the same way."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rules.kinds.kind import BeatRule, ProbedRule
from rules.problem import nearest, show
from rules.shape import Rule

Kind = Literal["page", "region", "component", "channel", "beat"]
KINDS: tuple[Kind, ...] = ("page", "region", "component", "channel", "beat")
"""In the order in which they may refer to each other: later ones to earlier ones."""


@dataclass(frozen=True, slots=True)
class Known:
    """Slugs that exist; channels and components by the slug of their page."""

    pages: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    channels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    components: Mapping[str, frozenset[str]] = field(default_factory=dict)


def check_references(kind: Kind, spec: Rule, known: Known) -> list[tuple[str, str]]:
    """What `spec` refers to in vain, as (JSON Pointer into the spec, message).

    A beat, channel or component without `page` belongs to the only page there is; with several it must say which.
    """
    if kind in ("page", "region"):
        return []
    page: str | None = getattr(spec, "page", None)
    if page is None and len(known.pages) != 1:
        return [("/page", _must_say_page(kind, known.pages))]
    if page is None:
        (page,) = known.pages
    elif page not in known.pages:
        return [("/page", _unknown("page", page, known.pages))]
    return _of_beat(spec, page, known) if isinstance(spec, BeatRule) else []


def _must_say_page(kind: Kind, pages: frozenset[str]) -> str:
    if not pages:
        return f"a {kind} belongs to a page, and there is none"
    return f"there are several pages; say which this {kind} belongs to: {_listed(pages)}"


def _of_beat(beat: BeatRule, page: str, known: Known) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    channels = known.channels.get(page, frozenset())
    for index, slug in enumerate(beat.channels):
        if slug not in channels:
            wrong.append((f"/channels/{index}", _unknown("channel", slug, channels, page)))
    for path in beat.components:
        said = _component(path, page, known)
        if said:
            wrong.append((f"/components/{path.replace('~', '~0').replace('/', '~1')}", said))
    return wrong + _of_probed(beat, known) if isinstance(beat, ProbedRule) else wrong


def _of_probed(beat: ProbedRule, known: Known) -> list[tuple[str, str]]:
    wrong = [
        (f"/regions/{index}", _unknown("region", slug, known.regions))
        for index, slug in enumerate(beat.regions or ())
        if slug not in known.regions
    ]
    try:
        beat.quorum.refuse_overlap(len(known.regions if beat.regions is None else beat.regions))
    except ValueError as refused:
        name = str(refused).split(" ", 1)[0].rstrip(":")  # its messages begin with the key they are about
        wrong.append((f"/{name.replace('.', '/')}", str(refused)))
    return wrong


def _component(path: str, page: str, known: Known) -> str | None:
    home, _, slug = path.rpartition("/")
    home = home or page
    if home not in known.pages:
        return _unknown("page", home, known.pages)
    there = known.components.get(home, frozenset())
    return None if slug in there else _unknown("component", slug, there, home)


def _unknown(what: str, slug: str, there: Iterable[str], page: str | None = None) -> str:
    where = f" on the page {page}" if page else ""
    return f"there is no {what} {show(slug)}{where}{nearest(slug, there) or ';'} known: {_listed(there)}"


def _listed(slugs: Iterable[str]) -> str:
    some = sorted(slugs)
    more = f" and {len(some) - 20} more" if len(some) > 20 else ""
    return ", ".join(some[:20]) + more or "none"
