"""References between objects: what one names must exist, and nothing may depend on itself. File and API ask the same way."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from rules.channels.channel import ChannelRule
from rules.kinds.kind import BeatRule, ProbedRule
from rules.maintenance import Maintenance
from rules.owner import OwnerRule, ParentPath
from rules.page import Page
from rules.problem import nearest, show
from rules.publishers.publisher import PublisherRule
from rules.shape import Rule
from rules.trigger import Trigger

Kind = Literal[
    "page", "region", "component", "channel", "publisher", "group", "beat", "maintenance", "inbox", "trigger"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they may refer to each other: later ones to earlier ones. Only `depends_on`, and what a channel is told of, may look ahead."""
PAGELESS: Final = frozenset[Kind]({"page", "region"})


def plural(kind: str) -> str:
    """What several of a kind are called: in files, URLs and texts."""
    return "inboxes" if kind == "inbox" else f"{kind}s"


def with_article(kind: str) -> str:
    """What one of a kind is called, with its article."""
    return f"an {kind}" if kind == "inbox" else f"a {kind}"


Ref = tuple[Kind, str | None, str]
"""Kind, page (None for pages and regions) and slug of an object."""
_PARENT: Final = re.compile(get_args(ParentPath)[1].pattern)


@dataclass(frozen=True, slots=True)
class Known:
    """What exists. `zones` has the zone of each region that is in one, `groups` the group of each beat that is in one."""

    objects: frozenset[Ref] = frozenset()
    zones: Mapping[str, str] = field(default_factory=dict)
    depends: Mapping[Ref, frozenset[Ref]] = field(default_factory=dict)  # on what each beat and group does
    groups: Mapping[Ref, Ref] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Iterable[tuple[Ref, Mapping[str, Any]]]) -> "Known":
        """From objects and what was written of them, which need not be valid."""
        found, zones = set[Ref](), dict[str, str]()
        depends, groups = dict[Ref, frozenset[Ref]](), dict[Ref, Ref]()
        for ref, spec in objects:
            kind, page, slug = ref
            found.add(ref)
            if kind == "region" and isinstance(zone := spec.get("zone"), str):
                zones[slug] = zone
            if kind not in ("group", "beat") or page is None:
                continue
            if parents := frozenset(_parents(spec.get("depends_on"), page)):
                depends[ref] = parents
            if kind == "beat" and isinstance(group := spec.get("group"), str):
                groups[ref] = ("group", page, group)
        return cls(frozenset(found), zones, depends, groups)

    def __or__(self, other: "Known") -> "Known":
        """Both; what `other` says of an object counts."""
        depends = {ref: wanted for ref, wanted in self.depends.items() if ref not in other.objects}
        groups = {ref: group for ref, group in self.groups.items() if ref not in other.objects}
        return Known(
            self.objects | other.objects,
            {**self.zones, **other.zones},
            depends | dict(other.depends),
            groups | dict(other.groups),
        )

    def seen_from(self, pages: Collection[str]) -> "Known":
        """What may be named by who may read these pages. A circle is one through any page: what depends on what stays."""
        homes = {*pages, None}
        seen = (ref for ref in self.objects if (ref[2] if ref[0] == "page" else ref[1]) in homes)
        return replace(self, objects=frozenset(seen))

    def slugs(self, kind: Kind, page: str | None = None) -> list[str]:
        """Those of a kind, on a page where the kind has one, sorted."""
        return sorted(slug for of, home, slug in self.objects if of == kind and home == page)

    @property
    def pages(self) -> list[str]:
        """Slugs of all pages."""
        return self.slugs("page")

    def by_zone(self, regions: Iterable[str]) -> dict[str, list[str]]:
        """The zones that these regions are in, each with those in it."""
        found: dict[str, list[str]] = {}
        for region in regions:
            if zone := self.zones.get(region):
                found.setdefault(zone, []).append(region)
        return found


def parent(path: str, page: str) -> Ref:
    """What a path of `depends_on` names, written on `page`."""
    of, _, rest = path.rpartition(":")
    home, _, slug = rest.rpartition("/")
    return "group" if of else "beat", home or page, slug


def _parents(written: object, page: str) -> Iterator[Ref]:
    for path in written if isinstance(written, list) else ():
        if isinstance(path, str) and _PARENT.fullmatch(path):
            yield parent(path, page)


def check_references(kind: Kind, spec: Rule, known: Known) -> list[tuple[str, str]]:
    """What `spec` refers to in vain, as (JSON Pointer into the spec, message).

    An object without `page` belongs to the only page there is; with several it must say which.
    """
    if isinstance(spec, Page) and spec.slack is not None:
        slug, there = spec.slack.channel, known.slugs("channel", spec.slug)
        return [] if slug in there else [("/slack/channel", _unknown("channel", slug, there, spec.slug))]
    if kind in PAGELESS:
        return []
    page: str | None = getattr(spec, "page", None)
    if page is None and len(known.pages) != 1:
        return [("/page", _must_say_page(kind, known.pages))]
    if page is None:
        (page,) = known.pages
    elif page not in known.pages:
        return [("/page", _unknown("page", page, known.pages))]
    if isinstance(spec, Maintenance):
        return _of_maintenance(spec, page, known)
    if isinstance(spec, ChannelRule):
        of_beats = _missing("beats", spec.beats, "beat", page, known)
        return of_beats + _missing("groups", spec.groups, "group", page, known)
    if isinstance(spec, PublisherRule):
        return _of_components(spec.components, page, known)
    if isinstance(spec, Trigger):
        return _of_trigger(spec, page, known)
    return _of_owner(kind, spec, page, known) if isinstance(spec, OwnerRule) else []


def _must_say_page(kind: Kind, pages: list[str]) -> str:
    if not pages:
        return f"a {kind} belongs to a page, and there is none"
    return f"there are several pages; say which this {kind} belongs to: {_listed(pages)}"


def _of_owner(kind: Kind, spec: OwnerRule, page: str, known: Known) -> list[tuple[str, str]]:
    wrong = _missing("channels", spec.channels, "channel", page, known)
    wrong += _of_components(spec.components, page, known)
    me: Ref = (kind, page, spec.slug)
    for index, path in enumerate(spec.depends_on):
        if _PARENT.fullmatch(path) and (said := _of_parent(me, parent(path, page), known)):
            wrong.append((f"/depends_on/{index}", said))
    if isinstance(spec, BeatRule) and spec.group is not None:
        groups, mine = known.slugs("group", page), parent(f"group:{spec.group}", page)
        if spec.group not in groups:
            wrong.append(("/group", _unknown("group", spec.group, groups, page)))
        elif said := _circle(me, (mine, False), known):
            wrong.append(("/group", said))
    return wrong + _of_probed(spec, known) if isinstance(spec, ProbedRule) else wrong


def _of_components(paths: Iterable[str], page: str, known: Known) -> list[tuple[str, str]]:
    return [
        (f"/components/{path.replace('/', '~1')}", said)
        for path in paths
        if (said := _component(path, page, known))
    ]


def _of_parent(me: Ref, wanted: Ref, known: Known) -> str | None:
    kind, page, slug = wanted
    if wanted not in known.objects and wanted != me:
        return _unknown(kind, slug, known.slugs(kind, page), page)
    return _circle(me, (wanted, True), known)


_Step = tuple[Ref, bool]
"""A beat or group; False: a group as one of its members needs it, for what it depends on and not for its members."""


def _circle(me: Ref, begin: _Step, known: Known) -> str | None:
    """Why `me` may not need `begin`: the shortest way back to `me`, if there is one."""
    ways, seen = [[begin]], {begin}
    for way in ways:
        if way[-1][0] == me:
            return "nothing may depend on itself: " + " needs ".join(
                _called(ref, me, known) for ref in (me, *(ref for ref, _ in way))
            )
        for step in sorted(_needs(*way[-1], known) - seen, key=str):
            seen.add(step)
            ways.append([*way, step])
    return None


def _needs(ref: Ref, is_whole: bool, known: Known) -> set[_Step]:
    """Without what it is down, or nothing is said of it: members share what their group depends on."""
    found = {(one, True) for one in known.depends.get(ref, ())}
    if (group := known.groups.get(ref)) is not None:
        found.add((group, False))
    if ref[0] == "group" and is_whole:
        found |= {(beat, True) for beat, group in known.groups.items() if group == ref}
    return found


def _called(ref: Ref, me: Ref, known: Known) -> str:
    kind, page, slug = ref
    if ref != me and ref not in known.objects:
        return "something on a page you may not read"
    return f"{'group ' if kind == 'group' else ''}{f'{page}/' if page != me[1] else ''}{slug}"


def _of_maintenance(spec: Maintenance, page: str, known: Known) -> list[tuple[str, str]]:
    return [
        *_missing("beats", spec.beats, "beat", page, known),
        *_missing("groups", spec.groups, "group", page, known),
        *(
            (f"/components/{spec.components.index(path)}", said)
            for path in spec.components
            if (said := _component(path, page, known))
        ),
    ]


def _of_trigger(spec: Trigger, page: str, known: Known) -> list[tuple[str, str]]:
    """The external beat of a target need not be there: it is made."""
    wanted: tuple[tuple[Kind, str | None, str], ...] = (
        ("inbox", spec.inbox, "/inbox"),
        ("beat", spec.target.beat, "/target/beat"),
        ("group", spec.target.group, "/target/group"),
    )
    return [
        (pointer, _unknown(kind, slug, known.slugs(kind, page), page))
        for kind, slug, pointer in wanted
        if slug is not None and slug not in known.slugs(kind, page)
    ]


def _of_probed(beat: ProbedRule, known: Known) -> list[tuple[str, str]]:
    regions = known.slugs("region")
    wrong = _missing("regions", beat.regions or (), "region", None, known)
    mine = regions if beat.regions is None else beat.regions
    try:
        beat.quorum.refuse_overlap(len(mine), known.by_zone(mine))
    except ValueError as refused:
        name = str(refused).split(" ", 1)[0].rstrip(":")  # its messages begin with the key they are about
        wrong.append((f"/{name.replace('.', '/')}", str(refused)))
    return wrong


def _missing(
    key: str, slugs: Iterable[str], kind: Kind, page: str | None, known: Known
) -> list[tuple[str, str]]:
    there = known.slugs(kind, page)
    return [
        (f"/{key}/{index}", _unknown(kind, slug, there, page))
        for index, slug in enumerate(slugs)
        if slug not in there
    ]


def _component(path: str, page: str, known: Known) -> str | None:
    home, _, slug = path.rpartition("/")
    home = home or page
    if home not in known.pages:
        return _unknown("page", home, known.pages)
    there = known.slugs("component", home)
    return None if slug in there else _unknown("component", slug, there, home)


def _unknown(what: str, slug: str, there: Iterable[str], page: str | None = None) -> str:
    where = f" on the page {page}" if page else ""
    return f"there is no {what} {show(slug)}{where}{nearest(slug, there) or ';'} known: {_listed(there)}"


def _listed(slugs: Iterable[str]) -> str:
    some = sorted(slugs)
    more = f" and {len(some) - 20} more" if len(some) > 20 else ""
    return ", ".join(some[:20]) + more or "none"
