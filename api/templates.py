"""Templates of public words under /api/v1: what they may name, words that are there to be taken, and what customers would read. It stores nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Principal, Router, permits
from api.body import read_body, reply, takes
from api.context import services_of
from api.objects import locate
from api.problems import invalid, missing
from api.replays import Ref
from api.reviews import saying
from api.shapes import gives
from api.shown_templates import ShownPreset, ShownRendering, ShownVariables
from engine.store import incidents, objects
from engine.store.database import Connection
from engine.store.ids import read, show
from engine.store.objects import Stored
from engine.store.states import moment
from engine.store.wording import Scene, last_scene, named, rendered
from evaluators.facts import Of
from evaluators.model import Severity
from rules import markdown
from rules.incident import Step
from rules.kinds.external import ExternalBeat
from rules.known import Kind
from rules.owner import OwnerRule
from rules.shape import Rule
from rules.subject import rule_of
from rules.trigger import Trigger
from rules.wording import VARIANTS, Templates, Variant, presets

_STEPS: Final[dict[Variant, tuple[Step, Of]]] = {
    "open": ("open", "severity"),
    "update": ("update", "severity"),
    "reopened": ("update", "reopened"),
    "member": ("update", "member"),
    "resolve": ("resolve", "severity"),
}
_OWNERS: Final[tuple[Kind, ...]] = ("beat", "group", "trigger")

router = Router(prefix="/api/v1/templates", tags=["templates"])


class AskedRendering(Rule):
    """Templates to try, and whose they would be: a beat's, group's or trigger's; a page's where none of them is named."""

    beat: Ref | None = Field(default=None, description="Slug or id.")
    group: Ref | None = Field(default=None, description="Slug or id.")
    trigger: Ref | None = Field(default=None, description="Slug or id.")
    page: Ref | None = Field(
        default=None, description="Its page, where that is not clear; or the page whose they are."
    )
    templates: Templates | None = Field(default=None, description="Those that are stored when not given.")
    step: Variant | None = Field(default=None, description="Only this one.")
    severity: Severity | None = Field(default=None, description="As it was last when not given.")
    episode: str | None = Field(
        default=None, max_length=100, description="Of this one instead of the newest."
    )


@router.get("/variables")
@permits(Permission.READ)
@gives(ShownVariables)
async def read_variables() -> Response:
    """What templates may name, and the filters there are."""
    from rules.template import FILTERS, VARIABLES

    return reply({"variables": VARIABLES, "filters": {name: said for name, (_, said) in FILTERS.items()}})


@router.get("/presets")
@permits(Permission.READ)
@gives(ShownPreset, listed=True)
async def list_presets() -> Response:
    """Words that are there to be taken: named in `templates`, or copied."""
    known = await asyncio.to_thread(presets)
    return reply({"items": [one.model_dump() for one in known.values()], "next": None})


@router.post("/preview")
@permits(Permission.READ)
@takes(AskedRendering)
@gives(ShownRendering)
async def preview_templates(request: Request, asking: Asking) -> Response:
    """What customers would read, step by step, by these templates alone and what was last seen. Nothing is told to anybody."""
    sent = await read_body(request, AskedRendering)
    async with services_of(request).pool.acquire() as db:
        named = [(kind, ref) for kind in _OWNERS if (ref := getattr(sent, kind)) is not None]
        if len(named) + (not named and sent.page is not None) != 1:
            raise invalid([("", "name one of beat, group and trigger, or a page")])
        of = await locate(
            db, asking, *(named or [("page", sent.page or "")])[0], sent.page if named else None
        )
        return reply(await preview(request, db, asking, of, sent))


async def preview(
    request: Request, db: Connection, asking: Principal, of: Stored, asked: AskedRendering
) -> dict[str, Any]:
    """A rendering as JSON. Raises 404 for an episode that is not of `of`."""
    episode = read("episode", asked.episode) if asked.episode else None
    owner = of if of.kind in ("beat", "group") else None
    rule = rule_of(of.kind, of.spec) if owner else None
    found = await last_scene(db, of, rule, episode)
    if found is None and asked.episode:
        raise missing(f"there is no episode {asked.episode!r} of it in which something was to be told")
    now = moment(services_of(request).clock.epoch_s())
    scene, severity = found or (await _sample(db, of, owner, now), "critical")
    severity = asked.severity or severity
    whose = of.kind if of.kind in ("page", "trigger") else scene.kind
    order = ("trigger", scene.kind, "page")
    nearer: dict[str, Templates] = {one: Templates() for one in order[: order.index(whose)]}
    scene = replace(scene, written=nearer | ({whose: asked.templates} if asked.templates is not None else {}))
    publishers = await objects.listing(db, "publisher", pages=[scene.page_id])
    steps = [
        await _words(db, scene, variant, severity, publishers)
        for variant in VARIANTS
        if asked.step in (None, variant)
    ]
    return {
        "is_sample": found is None,
        "owner": scene.rule.slug,
        "owner_kind": scene.kind,
        "episode": show("episode", scene.episode) if scene.episode else None,
        "severity": severity,
        "steps": steps,
    }


async def _words(
    db: Connection, scene: Scene, variant: Variant, severity: Severity, publishers: Sequence[Stored]
) -> dict[str, Any]:
    step, of = _STEPS[variant]
    known = await named(db, [(scene.page_id, scene.rule)])
    said = await rendered(db, known, scene, step, severity, of)
    row: dict[str, Any] = msgspec.to_builtins(said)
    names = await incidents.component_names(db, list(said.components))
    told = {"step": step, "page": known.pages[scene.page_id]["slug"], "impact": None, "notify": True}
    shown = (
        await asyncio.to_thread(markdown.html, said.text) if said.is_markdown else markdown.as_html(said.text)
    )
    targets = saying({**row, **told, "goes_to": None, "publishers": None}, publishers, names)
    return {**row, "step": variant, "html": shown, "targets": targets}


async def _sample(db: Connection, of: Stored, owner: Stored | None, now: Any) -> Scene:
    """Something bad, made up: of the beat or group, that a trigger aims at, or some beat of the page."""
    page, publish = of.page_id or of.id, []
    if of.kind == "trigger":
        trigger = Trigger.model_validate(of.spec)
        publish, target = trigger.publish, trigger.target
        kind: Kind = "group" if target.group else "beat"
        slug = target.group or target.beat or target.external or ""
        owner = await objects.find(db, kind, slug, pages=[page])
    elif owner is None:
        owner = next(iter(await objects.listing(db, "beat", pages=[page], limit=1)), None)
    rule: OwnerRule = (
        rule_of(owner.kind, owner.spec) if owner else ExternalBeat(slug="sample", type="external")
    )
    publish = publish or getattr(rule, "publish", [])
    error = {"type": "connect.refused", "message": ""}
    evidence: dict[str, Any] = {
        "verdict": "critical",
        "error": error,
        "captures": {name: f"[{name}]" for name in publish},
    }
    evidence |= {"trigger_id": str(of.id)} if of.kind == "trigger" else {"run": "", "region": "local"}
    return Scene(page, owner.kind if owner else "beat", rule, now, None, [evidence])
