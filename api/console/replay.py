"""Try a policy: an editor for what a beat or group would decide by, and what it would have made of the past beside what it has."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from api import replays, saving
from api.auth import Asking, Permission, Router, permits
from api.body import validated
from api.console.forms import fields, mistakes_of, yaml_of
from api.console.page import go, render
from api.console.runs import slug_of_page
from api.console.words import address, lasting
from api.context import services_of
from api.named import named
from api.problems import ProblemError
from api.replays import AskedReplay, begin, find, shown_replay
from api.timeline import timeline
from engine.store.ids import show
from engine.store.objects import Stored
from rules.export import text_of

SPANS: Final = (("1d", "1 day"), ("7d", "7 days"), ("14d", "14 days"), ("30d", "30 days"))
REFRESH_S: Final = 2
SHOWN: Final = 50
"""Beats and groups on one page."""
_OFF: Final = (
    ("quorum", "confirm"),
    ("quorum", "advisory_after"),
    ("episodes", "flapping"),
    ("episodes", "inactivity"),
)

router = Router(include_in_schema=False)


def current(stored: Stored) -> str:
    """The policy it has, defaults filled in, as YAML."""
    rule = saving.rule_of(stored.kind, stored.spec)
    shown = rule.model_dump(mode="json", include=set(replays.KEYS))
    for block, key in _OFF:
        if key in shown[block] and shown[block][key] is None:
            shown[block][key] = "off"
    return text_of(shown)


def editor(kind: Literal["beat", "group"]) -> None:
    """The editor of beats or of groups."""
    path = f"/console/{kind}s/{{ref}}/replay"

    async def page(
        request: Request,
        stored: Stored,
        text: str,
        span: str,
        mistakes: list[tuple[str, str]],
        status: int = 200,
    ) -> Response:
        async with services_of(request).pool.acquire() as db:
            slug = await slug_of_page(db, stored)
            return await render(
                request,
                db,
                "replay_new.html",
                status,
                stored=stored,
                page_slug=slug,
                text=text,
                span=span,
                spans=SPANS,
                mistakes=mistakes,
            )

    @router.get(path)
    @permits(Permission.READ)
    async def edit(request: Request, stored: Annotated[Stored, named(kind)]) -> Response:
        """Its policy, to be changed and tried."""
        return await page(request, stored, current(stored), "7d", [])

    @router.post(path)
    @permits(Permission.READ)
    async def start(request: Request, asking: Asking, stored: Annotated[Stored, named(kind)]) -> Response:
        """Try it, or show every mistake."""
        sent = await fields(request)
        text, span = sent.get("text", "").replace("\r\n", "\n"), sent.get("since", "7d")
        node, mistakes = await yaml_of(text)
        if mistakes:
            return await page(request, stored, text, span, mistakes, 422)
        body = {"since": span, "policy": node.plain(), f"{kind}s": [show(kind, stored.id)]}
        try:
            row = await begin(request, asking, validated(AskedReplay, body))
        except ProblemError as refused:
            if refused.status not in (422, 429):
                raise
            return await page(request, stored, text, span, mistakes_of(refused), refused.status)
        return go(f"/console/replays/{show('replay', row['id'])}")


editor("beat")
editor("group")


@router.get("/console/replays/{replay}")
@permits(Permission.READ)
async def replay_page(request: Request, asking: Asking, replay: str) -> Response:
    """How far it is; what it found. While it runs the page loads itself again."""
    async with services_of(request).pool.acquire() as db:
        shown = await asyncio.to_thread(shown_replay, await find(db, asking, replay))
        since, until = (datetime.fromisoformat(shown["asked"][name]) for name in ("since", "until"))
        response = await render(
            request,
            db,
            "replay.html",
            replay=shown,
            owners=await asyncio.to_thread(_owners, shown, since, until),
            since=since,
            until=until,
        )
    if shown["status"] in ("waiting", "running"):
        response.headers["Refresh"] = str(REFRESH_S)
    return response


@router.post("/console/replays/{replay}/cancel")
@permits(Permission.READ)
async def cancel(request: Request, asking: Asking, replay: str) -> Response:
    """End it."""
    await replays.cancel_replay(request, asking, replay)
    return go(f"/console/replays/{replay}")


def _owners(shown: dict[str, Any], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Those that are shown: first the ones whose episodes are others."""
    replayed = sorted(shown["replayed"] or (), key=lambda one: not _differs(one["compared"]))
    return [
        one
        | {
            "plot": Markup(timeline(one, since, until)),  # noqa: S704 - drawn by us, escaped there
            "rows": _rows(one["old"], one["new"]),
            "url": address(one["kind"], one["id"]),
        }
        for one in replayed[:SHOWN]
    ]


def _differs(compared: dict[str, Any]) -> bool:
    return any(compared[name] for name in ("only_old", "only_new", "merged", "split"))


def _rows(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What is compared: its name, and what it is under either policy."""
    rows = [("Episodes opened", str(old["opened"]), str(new["opened"]))]
    for key, name in (("down_s", "Critical"), ("warning_s", "Warning"), ("unknown_s", "Unknown")):
        rows.append((name, lasting(old[key]), lasting(new[key])))
    rows += (
        (f"Told: {kind}", str(old["told"].get(kind, 0)), str(new["told"].get(kind, 0)))
        for kind in sorted(old["told"].keys() | new["told"].keys())
    )
    if old["rounds"] or new["rounds"]:
        before, after = (f"{one['rounds']}, {one['unanswered']} without stored runs" for one in (old, new))
        rows.append(("Confirmation rounds", before, after))
    return rows
