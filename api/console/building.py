"""The builder of triggers: a form that is previewed as it is edited, and filled by picking values from an event. What may be saved is `api.saving`."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from api import received, saving
from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_json
from api.console import drafting
from api.console.drafting import Draft, Row, Section
from api.console.forms import Mistakes, as_json, mistakes_of, refusal, whole
from api.console.page import go, render
from api.console.previewing import RANGES, begun
from api.console.runs import slug_of_page
from api.console.tree import leaves, tree
from api.console.words import address
from api.context import Services, services_of
from api.named import NamedTrigger
from api.problems import ProblemError
from engine.store import objects
from engine.store import received as stored_events
from engine.store.objects import StaleError, Stored, TakenError
from evaluators.event import read as take_apart
from evaluators.matching import unwrapped
from rules.condition import Condition
from rules.redaction import MASK, Redaction
from rules.selection import Budget, BudgetError, compile_path
from rules.sender import senders
from rules.sentence import in_words, sentence
from rules.shape import spec_of
from rules.trigger import Trigger, TriggerPolicy

_RECENT: Final = 8  # events offered to pick from
_SEEN: Final = 50  # events that are looked at for what a value may be
_SEEN_BYTES: Final = 100_000
_MOST_VALUES: Final = 20
_MOST_PATHS: Final = 300
_LONGEST: Final = 1000  # of a value that is compared with
_DESK: Final = ("event", "pick", "range", "sample", "preview")
_OTHERS: Final = ("enabled", "incidents")  # that have pages of their own
_KEPT_BY_PRESET: Final = ("name", "slug", "page", "inbox", "target", "target_slug")

router = Router(prefix="/console/triggers", include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Desk:
    """What lies on it besides the draft. `pick`: the path that was chosen; `blanks`: more empty rows; `waits`: for the
    preview; `revision`: of the trigger, when somebody began to edit it.
    """

    event: str = ""
    pick: str = ""
    span: str = "7d"
    sample: str = ""
    preview: str = ""
    blanks: bool = False
    waits: bool = True
    revision: int = 0


@router.get("/new")
@permits(Permission.READ)
async def new(request: Request, asking: Asking) -> Response:
    """An empty form, or one that begins with an event, a sender or a picked value."""
    asked = request.query_params
    draft = Draft({name: asked[name] for name in ("inbox", "page") if name in asked})
    draft = await _preset(draft, asked.get("sender", ""))
    return await _page(request, asking, draft, Desk(asked.get("event", ""), asked.get("pick", "")))


@router.post("/new")
@permits(Permission.READ)
async def edit_new(request: Request, asking: Asking) -> Response:
    """The form after a step of editing; nothing is saved."""
    draft, desk = await _edited(request)
    return await _page(request, asking, draft, desk, is_edited=True)


@router.post("")
@permits(Permission.WRITE)
async def save_new(request: Request, asking: Asking) -> Response:
    """Save it, not enabled, and go to its page."""
    return await _save(request, asking, *await _edited(request))


@router.get("/{ref}/build")
@permits(Permission.READ)
async def change(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """The form of one that is there."""
    asked, page = request.query_params, await page_of(request, stored)
    draft = drafting.draft_of({**stored.spec, "page": page})
    desk = Desk(asked.get("event", ""), asked.get("pick", ""), revision=stored.revision)
    return await _page(request, asking, draft, desk, stored)


@router.post("/{ref}/build")
@permits(Permission.READ)
async def edit(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """The form of one that is there after a step of editing; nothing is saved."""
    draft, desk = await _edited(request, stored)
    return await _page(request, asking, draft, desk, stored, is_edited=True)


@router.post("/{ref}/save")
@permits(Permission.WRITE)
async def save(request: Request, asking: Asking, stored: NamedTrigger) -> Response:
    """Save a changed one."""
    return await _save(request, asking, *await _edited(request, stored), stored)


async def _save(
    request: Request, asking: Principal, draft: Draft, desk: Desk, stored: Stored | None = None
) -> Response:
    services, spec = services_of(request), drafting.spec_of(draft)
    if not spec["slug"]:
        nameless = [("/name", "is missing: its slug is made of it")]
        return await _page(request, asking, draft, desk, stored, mistakes=nameless, status=422)
    try:
        if stored is None:
            made = await saving.create(services, asking, "trigger", spec)
        else:
            made = await saving.change(services, asking, stored, spec, expected=desk.revision)
    except (ProblemError, TakenError) as refused:
        mistakes, status = refusal(refused)
    except StaleError:
        mistakes, status = [], 412
    else:
        told = "saved" if stored else "added_trigger"
        return go(address("trigger", made.slug, draft["page"] or None), told)
    return await _page(request, asking, draft, desk, stored, mistakes=mistakes, status=status)


async def page_of(request: Request, stored: Stored) -> str:
    """The slug of its page."""
    async with services_of(request).pool.acquire() as db:
        return await slug_of_page(db, stored)


# ---- what comes back


async def _edited(request: Request, stored: Stored | None = None) -> tuple[Draft, Desk]:
    """The form as it came back, after what its button does. Raises 400. What it has no say in is as `stored` now."""
    pairs = [(n, text) for n, text in (await request.form()).multi_items() if isinstance(text, str)]
    if any("\x00" in text for _, text in pairs):
        raise ProblemError(400, "malformed", "a field has the character NUL in it")
    try:
        draft = drafting.read_draft(pairs)
    except (ValueError, RecursionError):
        raise ProblemError(400, "malformed", "what the form kept is not what it was given") from None
    await read_json(as_json(request, drafting.spec_of(draft)))  # refuses what could not be kept, as REST does
    sent = dict(pairs)
    if stored:
        others = {key: value for key, value in draft.kept.items() if key not in _OTHERS}
        others |= {key: stored.spec[key] for key in _OTHERS if key in stored.spec}
        page = await page_of(request, stored)
        draft = replace(draft.having(slug=stored.slug, page=page), kept=others)
    do, _, what = sent.get("do", "").partition(".")
    event, pick, span, sample, preview = (sent.get(name, "") for name in _DESK)
    revision = whole(sent.get("revision"), stored.revision if stored else 0)
    desk = Desk(event, pick, span, sample, preview, do == "rows", do != "follow", revision)
    if do == "sender":
        draft = await _preset(draft, sent.get("sender", ""))
    elif do == "event":
        desk = replace(desk, event=what)
    elif do == "clear":
        draft = replace(draft, sections={**draft.sections, what: Section()})
    elif "use" in sent:
        draft = await _used(request, draft, desk, sent, pairs)
    return draft, desk


async def _preset(draft: Draft, slug: str) -> Draft:
    """`draft` with what is known of a sender; as it is where nobody knows it."""
    sender = next((one for one in await asyncio.to_thread(senders) if one.slug == slug), None)
    if sender is None:
        return draft
    kept = {name: draft[name] for name in _KEPT_BY_PRESET if draft[name]}
    return drafting.draft_of({"name": sender.title, **sender.trigger}).having(**kept)


async def _used(
    request: Request, draft: Draft, desk: Desk, sent: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> Draft:
    """`draft` with the picked value put where its button says."""
    use, _, of = sent["use"].partition(":")
    path = sent.get("picked", "")
    if use == "map":
        values, says = ([text for name, text in pairs if name == f"map.{key}"] for key in ("value", "says"))
        said = [(drafting.literal(value), level) for value, level in zip(values, says, strict=False)]
        return drafting.mapped(draft, path, said)
    event = await _event(request, request.state.principal, desk.event)
    values = await asyncio.to_thread(_values, event, draft, path) if event else []
    if use in drafting.SECTIONS and not (values and _is_comparable(values[0])):
        return draft  # the panel does not offer it
    return drafting.picked(draft, use, of or path, values[0] if values else None)


def _is_comparable(value: Any) -> bool:
    return not isinstance(value, list | dict) and len(str(value)) <= _LONGEST


# ---- what is picked from


async def _event(request: Request, asking: Principal, ref: str) -> dict[str, Any] | None:
    """An event as people are shown it, with its page; None where there is none."""
    async with services_of(request).pool.acquire() as db:
        try:
            row, inbox = await received.find_event(db, asking, ref)
        except ProblemError:
            return None
    shown = await asyncio.to_thread(received.shown_event, row, inbox, {})
    pairs = parse_qsl(shown["query"], keep_blank_values=True)
    return shown | {
        "page_id": inbox.page_id,
        "query": pairs,
        "row": row,
        "redact": inbox.spec.get("redact", []),
    }


def _body(event: Mapping[str, Any], draft: Draft) -> Any:
    """As the rule reads it; what was inside a text is hidden as well."""
    if not draft["unwrap"]:
        return event["document"]
    try:
        body = unwrapped(event["document"], draft["unwrap"].splitlines(), Budget())
    except (ValueError, BudgetError):
        return event["document"]
    return Redaction(event["redact"]).document(body)


def _values(event: Mapping[str, Any], draft: Draft, path: str) -> list[Any]:
    """What is at `path` in what people are shown of an event."""
    source, _, name = path.partition(":")
    if source in ("header", "query"):
        pairs = event["headers"] if source == "header" else event["query"]
        return [text for called, text in pairs if called.lower() == name.lower()]
    try:
        return compile_path(path)(_body(event, draft))
    except (ValueError, BudgetError):
        return []


async def _pick(
    services: Services, event: Mapping[str, Any], draft: Draft, path: str, inbox: Stored | None
) -> dict[str, Any]:
    """What a value may become."""
    values = await asyncio.to_thread(_values, event, draft, path)
    value, is_items = values[0] if values else None, path.endswith("[*]")
    if is_items:
        path = drafting.starred(path)
    named = drafting.reference(path, draft["each"])
    seen: list[tuple[str, int]] = []
    if path.startswith("$") and inbox is not None and not is_items and _is_comparable(value):
        rows = await stored_events.look(services.pool, inbox.id, stored_events.Asked(), None, _SEEN)
        seen = await asyncio.to_thread(_seen, rows, inbox, draft, drafting.starred(path))
    says = drafting.levels_of(draft, named)
    return {
        "path": path,
        "name": named,
        "text": value if isinstance(value, str) and value else drafting.typed(value),
        "is_there": bool(values),
        "is_comparable": _is_comparable(value),
        "is_items": is_items,
        "is_hidden": isinstance(value, str) and MASK in value,
        "is_json": path in event["unwrappable"] and path not in draft["unwrap"].splitlines(),
        "lists": [] if draft["each"] else drafting.lists_in(path),
        "seen": [
            (text, count, says.get(text, "" if says else drafting.guess(drafting.literal(text))))
            for text, count in seen
        ],
    }


def _seen(rows: Sequence[Any], inbox: Stored, draft: Draft, path: str) -> list[tuple[str, int]]:
    """What the last events have at `path`, as typed, and how often. Empty where it is ever another."""
    counts = Counter[str]()
    for row in rows:
        if not row["is_meant"] or row["size_bytes"] > _SEEN_BYTES:
            continue
        redact = inbox.spec.get("redact", ())
        shown = Redaction(redact).document(take_apart(stored_events.event_of(row)).body)
        values = _values({"document": shown, "redact": redact}, draft, path)
        counts.update(drafting.typed(value) for value in values if _is_comparable(value))
    return counts.most_common() if len(counts) <= _MOST_VALUES else []


# ---- what is shown


async def _page(
    request: Request,
    asking: Principal,
    draft: Draft,
    desk: Desk,
    stored: Stored | None = None,
    *,
    mistakes: Mistakes | None = None,
    status: int = 200,
    is_edited: bool = False,
) -> Response:
    services = services_of(request)
    event = await _event(request, asking, desk.event) if desk.event else None
    async with services.pool.acquire() as db:
        homes = await objects.listing(db, "page", pages=asking.pages_for(Permission.READ))
        of_event = next((one.slug for one in homes if event and one.id == event["page_id"]), "")
        wanted = draft["page"] or of_event
        home = next((one for one in homes if one.slug == wanted), homes[0] if homes else None)
        boxes = await objects.listing(db, "inbox", pages=[home.id] if home else [])
    wanted = draft["inbox"] or (event["inbox"] if event else "")
    inbox = next((box for box in boxes if box.slug == wanted), boxes[0] if boxes else None)
    page = home.slug if home else ""
    draft = draft.having(page=page, inbox=inbox.slug if inbox else draft["inbox"])
    rule, lacks = await asyncio.to_thread(_rule, draft)
    preview = None
    if is_edited and rule:
        asked = {"rule": spec_of(rule) | {"page": page}}
        preview = await begun(request, asking, asked, desk.span, desk.sample, desk.preview, waits=desk.waits)
    body = None
    if event and not event["trouble"]:
        body = await asyncio.to_thread(lambda: tree(_body(event, draft)))
    paths = {drafting.reference(path, draft["each"]) for path in leaves(body)} if body else ()
    judged, recent = None, list[dict[str, Any]]()
    if event and rule and asking.may(Permission.WRITE, event["page_id"]):  # a rule sees what is not shown
        judged = await asyncio.to_thread(received.traced, event["row"], event["redact"], rule)
    if event is None and inbox is not None:
        recent, _ = await received.look(services, inbox, stored_events.Asked(), None, _RECENT)
    pick = await _pick(services, event, draft, desk.pick, inbox) if event and desk.pick else None
    may_save = home is not None and asking.may(Permission.WRITE, home.id)
    async with services.pool.acquire() as db:
        return await render(
            request,
            db,
            "build.html",
            status,
            draft=draft,
            stored=stored,
            desk=desk,
            event=event,
            body=body,
            paths=sorted(paths)[:_MOST_PATHS],
            pick=pick,
            judged=judged,
            recent=recent,
            said=sentence(rule) if rule else "",
            lacks=lacks,
            preview=preview,
            page_slug=page,
            pages=[(one.slug, one.spec["name"]) for one in homes],
            inboxes=[(box.slug, box.spec.get("name") or box.slug) for box in boxes]
            or [("", "there is none yet")],
            senders=await asyncio.to_thread(senders),
            here=address("trigger", stored.slug, page, "build") if stored else "/console/triggers/new",
            saves=address("trigger", stored.slug, page, "save") if stored else "/console/triggers",
            can_save=may_save and (stored is None or stored.managed_by == "api"),
            errors=_beside(mistakes or []),
            mistakes=mistakes or [],
            changed=desk.revision if stored and stored.revision != desk.revision else 0,
            # who was told, and saves again, means it
            revision=stored.revision if stored and status == 412 else desk.revision,
            kept={name: _in_words(one) for name, one in draft.sections.items() if one.kept},
            beside=[name for name in draft.kept if name not in _OTHERS],
            form=drafting,
            blanks=(Row(),) * (3 if desk.blanks else 1),
            policy=TriggerPolicy.model_validate(stored.spec.get("incidents", {})) if stored else None,
            ranges=RANGES,
        )


def _rule(draft: Draft) -> tuple[Trigger | None, Mistakes]:
    """The rule, or what it lacks."""
    rows = any(section.rows or section.kept for section in draft.sections.values())
    if not (rows or draft["fingerprint"] or draft["absence_after"]):
        return None, [("", "say how bad it is, and what it is about: choose values of an event for that")]
    slug = draft["slug"] or drafting.slug_of(draft["name"]) or "draft"
    try:
        rule = saving.rule_of("trigger", drafting.spec_of(draft.having(slug=slug)))
    except ProblemError as wrong:
        return None, [(pointer.strip("/").replace("/", " "), told) for pointer, told in mistakes_of(wrong)]
    assert isinstance(rule, Trigger)
    return rule, []


def _in_words(section: Section) -> str:
    try:
        return in_words(Condition.model_validate_json(section.kept))
    except ValueError:
        return section.kept


def _beside(mistakes: Mistakes) -> dict[str, str]:
    """Mistakes by the field they are beside."""
    found: dict[str, str] = {}
    for pointer, told in mistakes:
        block, _, key = pointer.strip("/").partition("/")
        name = f"{block}_{key}" if f"{block}_{key}" in drafting.FIELDS else block
        name = "repeats_count" if name == "repeats" else "target_slug" if name == "target" else name
        found.setdefault(name, told)
    return found
