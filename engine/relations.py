"""What declared objects make of each other: who is in which group, who depends on whom, which maintenance covers whom.

Fed with every row that changed, it knows whose `Bound` is another one now. It reads and decides nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from evaluators.policy import Bound, Window
from rules.kinds.kind import ProbedRule
from rules.known import Kind, Ref, parent
from rules.maintenance import Key, Maintenance, keys
from rules.owner import OwnerRule

AHEAD_S: Final = 40 * 86400.0
"""So far ahead times of maintenance are laid out; they are laid out anew every `ANEW_S`."""
ANEW_S: Final = 86400.0
MOST: Final = 1000
"""Times of maintenance that one beat or group is told of, the next ones."""
KINDS: Final[tuple[Kind, ...]] = ("page", "group", "beat", "maintenance")
"""Kinds of rows it wants to know of."""


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    page_id: UUID | None
    slug: str
    group: str | None = None
    depends_on: tuple[str, ...] = ()
    components: frozenset[str] = frozenset()
    maintenance: Maintenance | None = None


@dataclass(slots=True)
class Relations:
    """All living beats and groups, as far as others care. Ids everywhere, as text where states hold them."""

    children: dict[UUID, tuple[UUID, ...]] = field(default_factory=dict)
    """Of each beat and group, those that depend on it."""
    _bounds: dict[UUID, Bound] = field(default_factory=dict)
    _rows: dict[UUID, _Row] = field(default_factory=dict)
    _is_stale: bool = True
    _laid_out_at: float = 0.0

    def put(
        self, object_id: UUID, kind: Kind, page_id: UUID | None, slug: str, spec: Mapping[str, Any]
    ) -> None:
        """A row that is new or changed."""
        row = _Row(
            kind,
            page_id,
            slug,
            spec.get("group"),
            tuple(spec.get("depends_on", ())),
            frozenset(spec.get("components", ())),
            Maintenance.model_validate(spec) if kind == "maintenance" else None,
        )
        if self._rows.get(object_id) != row:
            self._rows[object_id] = row
            self._is_stale = True

    def drop(self, object_id: UUID) -> None:
        """A row that is gone."""
        self._is_stale |= self._rows.pop(object_id, None) is not None

    def bound(self, object_id: UUID) -> Bound:
        """What others make of this one, without regions."""
        return self._bounds.get(object_id, Bound())

    def settle(self, now: float) -> set[UUID]:
        """Work out everything anew if anything changed; returns the beats and groups that are bound differently."""
        if not self._is_stale and now < self._laid_out_at + ANEW_S:
            return set()
        self._is_stale, self._laid_out_at = False, now
        pages = {object_id: row.slug for object_id, row in self._rows.items() if row.kind == "page"}
        ids: dict[Ref, UUID] = {
            (row.kind, pages.get(row.page_id) if row.page_id else None, row.slug): object_id
            for object_id, row in self._rows.items()
        }
        windows = self._windows(pages, now)
        before, self._bounds, children = self._bounds, {}, dict[UUID, list[UUID]]()
        for object_id, row in self._rows.items():
            if row.kind not in ("beat", "group") or row.page_id is None:
                continue
            page = pages.get(row.page_id, "")
            group = ids.get(("group", page, row.group)) if row.group else None
            # Without what its group depends on a member is down for the same reason: it looks for itself when that is back.
            shared = self._rows[group].depends_on if group else ()
            written = (ids.get(parent(path, page)) for path in dict.fromkeys((*row.depends_on, *shared)))
            parents = [one for one in dict.fromkeys(written) if one is not None]
            for one in parents:
                children.setdefault(one, []).append(object_id)
            self._bounds[object_id] = Bound(
                group=str(group) if group else "",
                parents=tuple(map(str, parents)),
                windows=windows.get(object_id, ()),
            )
        self.children = {one: tuple(sorted(found)) for one, found in children.items()}
        return {
            object_id for object_id, bound in self._bounds.items() if before.get(object_id, Bound()) != bound
        }

    def _windows(self, pages: Mapping[UUID, str], now: float) -> dict[UUID, tuple[Window, ...]]:
        """The times of maintenance of everything that is covered by any, found by name: there may be thousands of each."""
        by_key = defaultdict[Key, list[UUID]](list)
        for object_id, row in self._rows.items():
            if row.kind in ("beat", "group") and row.page_id is not None:
                for key in keys(row.kind, pages.get(row.page_id, ""), row.slug, row.group, row.components):
                    by_key[key].append(object_id)
        spans, covering = dict[UUID, list[Window]](), defaultdict[UUID, list[UUID]](list)
        for window_id, row in self._rows.items():
            if (rule := row.maintenance) is None or row.page_id is None:
                continue
            spans[window_id] = [Window(a, b, str(window_id)) for a, b in rule.spans(now, now + AHEAD_S)]
            about = rule.about(pages.get(row.page_id, "")) if spans[window_id] else ()
            for object_id in {one for key in about for one in by_key.get(key, ())}:
                covering[object_id].append(window_id)
        alike: dict[tuple[UUID, ...], tuple[Window, ...]] = {}
        for its in map(tuple, covering.values()):
            if its not in alike:
                alike[its] = _outermost(one for window_id in its for one in spans[window_id])
        return {object_id: alike[tuple(its)] for object_id, its in covering.items()}


def _outermost(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Those that lie in none of the others, by start: as much is covered by them, and fewer are kept in each state."""
    found: list[Window] = []
    for one in sorted(windows, key=lambda one: (one.start, -one.end, one.id)):
        if not found or one.end > found[-1].end:
            found.append(one)
    return tuple(found[:MOST])


def bind(rule: OwnerRule, bound: Bound) -> Bound:
    """`bound` with those regions that `rule` runs in: what goes on in others is nothing to it."""
    if not isinstance(rule, ProbedRule):
        return replace(bound, regions=(), sick=(), zones={})
    mine = tuple(rule.regions if rule.regions is not None else bound.regions)
    return replace(
        bound,
        regions=mine,
        sick=tuple(region for region in mine if region in bound.sick),
        zones={region: bound.zones[region] for region in mine if region in bound.zones},
    )
