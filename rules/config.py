"""The document `upbeat.yaml`: from text to validated objects, or to everything that is wrong with it. It opens no file."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from rules.check import compile_check
from rules.component import Region
from rules.declared import Declared, Document
from rules.export import dump
from rules.group import Group
from rules.journey import MOST_LISTS
from rules.kinds.kind import ProbedRule
from rules.kinds.tcp import TcpBeat
from rules.known import KINDS, PAGELESS, Kind, Known, Ref, check_references, plural
from rules.models import MODELS, TYPED
from rules.node import Node, read
from rules.owner import ComponentImpact
from rules.page import Page
from rules.problem import ConfigError, Problem, nearest, show
from rules.secret import (
    HIDDEN_LEAST,
    MISSPELT,
    Sources,
    UnknownHereError,
    UnsetReferenceError,
    expanded,
    is_misspelt,
    references,
    value_of,
)
from rules.settings import BEAT_WIDE, Defaults, DocumentShape, Settings, Shared
from rules.shape import Rule
from rules.tls import EXPANDED, PemError
from rules.validation import check, place, unknown_key

__all__ = [
    "ConfigError",
    "Declared",
    "Document",
    "Kind",
    "Known",
    "Problem",
    "check_references",
    "dump",
    "json_schema",
    "parse",
]

IMPLIED_PAGE = Page(slug="status", name="Status")
IMPLIED_REGION = Region(slug="local", name="Local")
_LISTS: dict[str, Kind] = {plural(kind): kind for kind in KINDS}
_MERGED = frozenset({"quorum", "incidents", "episodes"})


def parse(text: str, file: str, sources: Sources, known: Known | None = None) -> Document:
    """The document in `text`; `file` is its name in messages, `sources` has what references stand for.

    `known` is what exists besides the file (made through the API), which its objects may refer to. Where there is no
    page or region at all, the page `status` and the region `local` are implied. Raises `ConfigError` with all problems.
    """
    root, problems = read(text, file)
    if not isinstance(root.value, dict):
        said = f"the file must be a mapping of keys such as beats: and channels:, not {show(root.plain())}"
        raise ConfigError([*problems, Problem(file, root.line, "", said)])
    reading = _Reading(root, file, sources, known or Known())
    document = reading.document()
    if problems or reading.problems:
        raise ConfigError([*problems, *reading.problems])
    return document


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of the document, for editors. It knows no check across objects."""
    schema = DocumentShape.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema | {"title": "upbeat.yaml"}


class _Reading:
    """One pass over a document's nodes, gathering problems."""

    def __init__(self, root: Node, file: str, sources: Sources, known: Known) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._root, self._file, self._sources, self._outside = root, file, sources, known
        self._nodes: dict[Kind, list[Node]] = {kind: [] for kind in KINDS}
        self._home: str | None = None  # of an object that names no page
        self._taken: dict[tuple[Kind, str | None, str], Node] = {}
        self._domains: dict[str, Node] = {}

    def document(self) -> Document:
        self._expect_set_references()
        settings = self._settings()
        self._gather()
        implied = self._implied()
        known = self._known(implied)
        objects = [*implied]
        for kind in KINDS:
            for node in self._nodes[kind]:
                declared = self._declared(kind, node, known)
                if declared is not None:
                    objects.append(declared)
        objects.sort(key=lambda declared: KINDS.index(declared.kind))
        return Document(self._file, settings, tuple(objects), tuple(self.warnings))

    def _wrong(self, node: Node, message: str, key: str = "") -> None:
        path = f"{node.path}.{key}" if node.path and key else node.path or key
        self.problems.append(Problem(self._file, node.line, path, message))

    def _expect_set_references(self) -> None:
        for node in self._root.scalars():
            if not isinstance(node.value, str) or "${" not in node.value:
                continue
            for reference in references(node.value):
                try:
                    value = value_of(reference, self._sources)
                except UnknownHereError:
                    continue
                except UnsetReferenceError as unset:
                    self._wrong(node, str(unset))
                    continue
                if len(value) < HIDDEN_LEAST:
                    said = f"${{{reference}}} has fewer than {HIDDEN_LEAST} characters: it is not hidden in results"
                    self.warnings.append(Problem(self._file, node.line, node.path, said))
            if is_misspelt(node.value):
                self._wrong(node, MISSPELT)

    def _settings(self) -> Settings:
        assert isinstance(self._root.value, dict)
        given, allowed = dict[str, Node](), list(DocumentShape.model_fields)
        for key, node in self._root.value.items():
            if key not in allowed:
                self._wrong(node, unknown_key(key, allowed))
            elif key == "version":
                if node.value != 1 or isinstance(node.value, bool):
                    self._wrong(node, f"{show(node.value)} is not allowed; this Upbeat reads version 1")
            elif key in Settings.model_fields:
                given[key] = node
        settings, problems = check(Settings, replace(self._root, value=given), self._file)
        self.problems += problems
        return settings if isinstance(settings, Settings) else Settings()

    def _gather(self) -> None:
        """Sort the objects by kind, with the defaults merged into the beats."""
        single = self._root.child("page")
        if single is not None:
            self._nodes["page"].append(single)
            if self._root.child("pages") is not None:
                self._wrong(single, "write either `page` or `pages`, not both")
        defaults = self._root.child("defaults")
        if defaults is not None and defaults.value is not None:
            self.problems += check(Defaults, defaults, self._file)[1]
        lists = self._root.child("lists")
        if lists is not None and lists.value is not None:
            self.problems += check(Shared, replace(self._root, value={"lists": lists}), self._file)[1]
        shared = lists.value if lists is not None and isinstance(lists.value, dict) else {}
        for key, kind in _LISTS.items():
            listed = self._root.child(key)
            if listed is None or listed.value is None:
                continue
            if not isinstance(listed.value, list):
                self._wrong(listed, f"{show(listed.plain())} is not a list of {key}")
                continue
            items = listed.value
            if kind == "beat":
                items = [_with_lists(shared, _merged(defaults, item)) for item in items]
            self._nodes[kind] += items

    def _implied(self) -> list[Declared]:
        implied: list[Declared] = []
        belonging = any(nodes for kind, nodes in self._nodes.items() if kind not in PAGELESS)
        if belonging and not self._nodes["page"] and not self._outside.pages:
            implied.append(Declared("page", IMPLIED_PAGE.slug, None, IMPLIED_PAGE, 0))
        if self._nodes["beat"] and not self._nodes["region"] and not self._outside.slugs("region"):
            implied.append(Declared("region", IMPLIED_REGION.slug, None, IMPLIED_REGION, 0))
        return implied

    def _known(self, implied: list[Declared]) -> Known:
        """All slugs, also those of objects with other mistakes in them, so that one mistake is told once."""
        pages = {slug for node in self._nodes["page"] if (slug := _slug(node))}
        pages |= {declared.slug for declared in implied if declared.kind == "page"}
        candidates = pages or set(self._outside.pages)
        self._home = next(iter(candidates)) if len(candidates) == 1 else None
        found: list[tuple[Ref, dict[str, Any]]] = [((d.kind, None, d.slug), {}) for d in implied]
        for kind, nodes in self._nodes.items():
            for node in nodes:
                page = None if kind in PAGELESS else self._page(node)
                if (slug := _slug(node)) and (page or kind in PAGELESS):
                    plain = node.plain()
                    found.append(((kind, page, slug), plain if isinstance(plain, dict) else {}))
        return self._outside | Known.of(found)

    def _page(self, node: Node) -> str | None:
        written = node.child("page")
        return written.value if written and isinstance(written.value, str) else self._home

    def _declared(self, kind: Kind, node: Node, known: Known) -> Declared | None:
        self._expect_one_of_its_name(kind, node)
        if kind == "page":
            self._expect_its_own_domain(node)
        page = None if kind in PAGELESS else self._page(node)
        valid = self._spec(kind, node)
        spec = valid or _sketch(kind, node)
        if kind not in PAGELESS:
            spec = spec.model_copy(update={"page": page})
        for pointer, message in check_references(kind, spec, known):
            self._at(node, pointer, message)
        if valid is None:
            return None
        self._expect_runnable(kind, spec, node)
        return Declared(kind, _slug(node) or "", page, spec, node.line)

    def _expect_one_of_its_name(self, kind: Kind, node: Node) -> None:
        slug = _slug(node)
        if slug is None:
            return
        page = None if kind in PAGELESS else self._page(node)
        first = self._taken.setdefault((kind, page, slug), node)
        if first is not node:
            said = f"another {kind} has the slug {show(slug)}, on line {first.line}"
            self._wrong(node.child("slug") or node, said)

    def _expect_its_own_domain(self, node: Node) -> None:
        domain = node.child("domain") if isinstance(node.value, dict) else None
        if domain is None or not isinstance(domain.value, str):
            return
        first = self._domains.setdefault(domain.value, domain)
        if first is not domain:
            self._wrong(domain, f"another page has the domain {show(domain.value)}, on line {first.line}")

    def _spec(self, kind: Kind, node: Node) -> Rule | None:
        if kind == "region" and isinstance(node.value, str):
            return self._checked(Region, node, {"slug": node.value})
        if not isinstance(node.value, dict):
            self._wrong(node, f"{show(node.plain())} is not a mapping such as {{slug: shop, ...}}")
            return None
        model = MODELS.get(kind)
        if model is None:
            typed, written = TYPED[kind], node.child("type")
            model = typed.get(written.value) if written and isinstance(written.value, str) else None
            if model is None:
                allowed = ", ".join(typed)
                if written is None:
                    self._wrong(node, f"is missing; one of {allowed}", "type")
                else:
                    near = nearest(str(written.value), typed)
                    self._wrong(
                        written, f"{show(written.plain())} is not allowed{near or ';'} one of {allowed}"
                    )
                return None
        return self._checked(model, node)

    def _checked(self, model: type[Rule], node: Node, value: Any = None) -> Rule | None:
        spec, problems = check(model, node, self._file, value)
        self.problems += problems
        return spec

    def _at(self, node: Node, pointer: str, message: str) -> None:
        """Report what is wrong at a JSON Pointer into `node`, or as near to it as something is written."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        found, lost = place(node, [int(part) if part.isdigit() else part for part in parts])
        self._wrong(found, message, ".".join(map(str, lost)) if isinstance(found.value, dict) else "")

    def _expect_runnable(self, kind: Kind, spec: Rule, node: Node) -> None:
        """What only shows once references are replaced. The replaced values are never told."""
        refers = any(any(references(scalar.value)) for scalar in node.scalars())
        try:
            if refers:
                spec = type(spec).model_validate(expanded(node.plain(), self._sources), context=EXPANDED)
            if isinstance(spec, ProbedRule):
                compile_check(spec, self._sources)
        except UnsetReferenceError:
            return  # told where it is written
        except ValidationError as refused:
            for error in refused.errors(include_url=False):
                found, lost = place(node, error["loc"])
                cause = error.get("ctx", {}).get("error")
                said = str(cause) if isinstance(cause, PemError) else "is not allowed"
                self._wrong(found, f"{said} once its reference is replaced", ".".join(map(str, lost)))
        except PemError as refused:
            self._wrong(node, str(refused))
        except ValueError as refused:
            self._wrong(node, "cannot run once its reference is replaced" if refers else str(refused))


def _sketch(kind: Kind, node: Node) -> Rule:
    """What an invalid object refers to, as far as it can be read: its references are checked all the same."""
    read: dict[str, Any] = {}
    for key in ("regions", "channels", "components", "depends_on") if kind in ("beat", "group") else ():
        listed = node.child(key)
        if listed is not None and isinstance(listed.value, list | dict):
            plain = [name for name in listed.plain() if isinstance(name, str)]
            read[key] = dict.fromkeys(plain, ComponentImpact()) if key == "components" else plain
    if kind == "beat":
        return TcpBeat.model_construct(None, slug=_slug(node) or "", **read)
    return Group.model_construct(None, slug=_slug(node) or "", **read) if kind == "group" else Rule()


def _slug(node: Node) -> str | None:
    slug = node.child("slug") if isinstance(node.value, dict) else node
    return slug.value if slug and isinstance(slug.value, str) else None


def _with_lists(shared: dict[str, Node], beat: Node) -> Node:
    """`beat` with those lists of the file that it uses and has not itself: what is stored of it is whole."""
    if not shared or not isinstance(beat.value, dict) or beat.value.get("type", beat).value != "browser":
        return beat
    written = beat.child("lists") or replace(beat, path=f"{beat.path}.lists", value={})
    if not isinstance(written.value, dict):
        return beat
    lists, is_known = dict(written.value), True
    asking = [*filter(None, map(beat.child, ("steps", "teardown"))), *lists.values()]
    while asking:
        node = asking.pop()
        for step in node.value if isinstance(node.value, list) else ():
            used = step.child("use") if isinstance(step.value, dict) else None
            name = used.value if used is not None else None
            if isinstance(name, str) and name not in lists:
                is_known = is_known and name in shared
                if name in shared:
                    lists[name] = shared[name]
                    asking.append(shared[name])
    if not is_known:  # so that those that there are can be named
        lists = dict([*(lists | shared).items()][:MOST_LISTS])
    return replace(beat, value=beat.value | {"lists": replace(written, value=lists)}) if lists else beat


def _merged(defaults: Node | None, beat: Node) -> Node:
    """`beat` with what it does not say itself taken from `defaults`, each node keeping its own line."""
    if defaults is None or not isinstance(defaults.value, dict) or not isinstance(beat.value, dict):
        return beat
    written = beat.child("type")
    model = TYPED["beat"].get(written.value) if written and isinstance(written.value, str) else None
    fits = set(BEAT_WIDE) if model is None else model.model_fields.keys() & BEAT_WIDE  # of what it can have
    members = {key: node for key, node in defaults.value.items() if key in fits} | beat.value
    for key in _MERGED & fits & defaults.value.keys() & beat.value.keys():
        default, own = defaults.value[key], beat.value[key]
        if isinstance(default.value, dict) and isinstance(own.value, dict):
            members[key] = replace(own, value=default.value | own.value)
    return replace(beat, value=members)
