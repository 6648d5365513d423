"""Cachet, versions 2 (2.4) and 3: incidents with updates, schedules, and what components are shown as. Not its metrics or subscribers.

What it calls an incident is its path, `incidents/12` or `schedules/3`. Several requests make one step: those that are the
same in every try come first (components, name), the one that adds something is last and looked up before it is repeated.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from evaluators.model import Post
from exporters.publishing import Api, GoneError, began_at, differing, is_since, window
from rules.publishers.cachet import CachetPublisher

INCIDENT: Final = {"investigating": 1, "identified": 2, "monitoring": 3, "resolved": 4}
SCHEDULE: Final = {"scheduled": 0, "in_progress": 1, "verifying": 1, "completed": 2}
KEPT: Final = {"incident": ("incidents", "occurred"), "maintenance": ("schedules", "scheduled")}
"""Of each kind: its path, and the moment of it that Upbeat says."""
VISIBLE: Final = 1
"""To everybody: true in the first 3.x, later one of several."""
MANY: Final = "1000"


class Cachet3:
    """Version 3. Its updates notify as the incident says by then.

    An incident that names components shows them, until it is over, as they were when it was made: ours names none.
    """

    root: ClassVar = "/api"
    clock: ClassVar = "%Y-%m-%d %H:%M:%S"
    newest: ClassVar[Mapping[str, str]] = {"sort": "-id", "per_page": "50"}
    said: ClassVar[Mapping[str, str]] = {"sort": "-created_at", "per_page": "50"}
    has_updates: ClassVar[Collection[str]] = ("incidents", "schedules")
    components: ClassVar[Mapping[str, int]] = {
        "operational": 1,
        "degraded_performance": 2,
        "partial_outage": 3,
        "major_outage": 4,
        "under_maintenance": 6,
    }

    def __init__(self, api: Api, rule: CachetPublisher) -> None:
        self._api, self._zone = api, ZoneInfo(rule.timezone)

    def _made(self, post: Post) -> dict[str, Any]:
        """What a new one has besides its name, message and when it is."""
        if post.kind == "maintenance":
            affected = [{"id": int(one), "status": status} for one, status in self._wanted(post).items()]
            return {"components": affected}
        made = {"status": INCIDENT[post.status], "visible": VISIBLE, "notifications": post.notify}
        return made | {"meta": {"upbeat": post.incident}}

    def _changed(self, post: Post) -> dict[str, Any]:
        """What is set of it besides its name."""
        return self._window(post) if post.kind == "maintenance" else {"notifications": post.notify}

    async def find(self, post: Post) -> str | None:
        """The one whose meta says our id; where meta is not shown, one so called, of our moment, that is as we made it."""
        kind, moment = KEPT[post.kind]
        for there in await self._listed(kind, self.newest):
            is_alike = (
                there["name"] == post.title
                and _said_at(there, moment).startswith(self._time(began_at(post)))
                and (post.kind == "maintenance" or _number(there["status"]) == INCIDENT[post.status])
            )
            marker = _meta(there).get("upbeat")
            if marker == post.incident or (marker is None and is_alike):
                return f"{kind}/{there['id']}"
        return None

    async def create(self, post: Post) -> str:
        """Make it; its message is the first update."""
        await self._show(post)
        kind = KEPT[post.kind][0]
        when = (
            self._window(post) if post.kind == "maintenance" else {"occurred_at": self._time(began_at(post))}
        )
        body = {"name": post.title, "message": post.text or post.title} | when | self._made(post)
        there = await self._api.send("POST", f"{self.root}/{kind}", body)
        return f"{kind}/{self._api.named(there.get('data', {}).get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since. All else is the same in every try."""
        if not self._has_updates(remote):
            return False
        updates = await self._listed(f"{remote}/updates", self.said)
        return any(one["message"] == post.text and is_since(self._made_s(one), post) for one in updates)

    async def update(self, remote: str, post: Post) -> None:
        """The name and what components are shown as, then what is said."""
        await self._show(post)
        await self._api.send("PUT", f"{self.root}/{remote}", {"name": post.title} | self._changed(post))
        if post.step != "edit" and self._has_updates(remote):
            status = {"status": INCIDENT[post.status]} if post.kind == "incident" else {}
            await self._api.send("POST", f"{self.root}/{remote}/updates", {"message": post.text} | status)

    async def delete(self, remote: str) -> None:
        """Take it away."""
        await self._api.send("DELETE", f"{self.root}/{remote}")

    async def check(self) -> tuple[str, Collection[str]]:
        """Its components. Reading takes no key: that is tried on a component that there is never."""
        with contextlib.suppress(GoneError):
            await self._api.send("PUT", f"{self.root}/components/0", {})
        return "Cachet answers", list(await self._shown())

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Name, status of an incident, and what components are shown as."""
        there = _fields((await self._api.get(f"{self.root}/{remote}"))["data"])
        shown = await self._shown()
        number = INCIDENT.get(post.status)
        return differing(
            ("title", there["name"], post.title),
            *([("status", _number(there["status"]), number)] if number else []),
            *((f"component {one}", shown.get(one), status) for one, status in self._wanted(post).items()),
        )

    def _has_updates(self, remote: str) -> bool:
        """Whether what is said of it is a list, not its one message."""
        return remote.partition("/")[0] in self.has_updates

    def _wanted(self, post: Post) -> dict[str, int]:
        known = self.components
        return {one: known[status] for one, status in post.components.items() if status in known}

    async def _show(self, post: Post) -> None:
        for one, status in self._wanted(post).items():
            await self._api.set(
                "PUT", f"{self.root}/components/{one}", {"status": status}, f"component {one}"
            )

    async def _shown(self) -> dict[str, int]:
        listed = await self._listed("components", {"per_page": MANY})
        return {str(one["id"]): _number(one["status"]) for one in listed}

    async def _listed(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [_fields(one) for one in (await self._api.get(f"{self.root}/{path}", **query))["data"]]

    def _made_s(self, there: Mapping[str, Any]) -> float:
        return datetime.fromisoformat(_said_at(there, "created")).replace(tzinfo=self._zone).timestamp()

    def _time(self, epoch_s: float) -> str:
        return datetime.fromtimestamp(epoch_s, self._zone).strftime(self.clock)

    def _window(self, post: Post) -> dict[str, Any]:
        starts_s, ends_s = window(post)
        return {"scheduled_at": self._time(starts_s), "completed_at": self._time(ends_s)}


class Cachet2(Cachet3):
    """Version 2.4. It knows no component under maintenance: that is left as it is shown. Its updates always notify."""

    root = "/api/v1"
    clock = "%Y-%m-%d %H:%M"  # seconds are an error there
    newest: ClassVar = {"sort": "id", "order": "desc", "per_page": "50"}
    said: ClassVar = {"per_page": "50"}
    has_updates: ClassVar = ("incidents",)
    components: ClassVar = {name: n for name, n in Cachet3.components.items() if n != 6}

    def _made(self, post: Post) -> dict[str, Any]:
        if post.kind == "maintenance":
            return {"status": SCHEDULE[post.status]}
        shown = {"visible": VISIBLE, "stickied": False, "notify": post.notify}
        made = {"status": INCIDENT[post.status], "meta": {"upbeat": post.incident}} | shown
        for one, status in list(self._wanted(post).items())[:1]:  # it has room for one
            made |= {"component_id": one, "component_status": status}
        return made

    def _changed(self, post: Post) -> dict[str, Any]:
        if post.kind == "incident":  # what is left out here would be set back
            return {"visible": VISIBLE, "stickied": False, "notify": False}
        said = {"message": post.text} if post.text else {}
        return self._window(post) | {"status": SCHEDULE[post.status]} | said


def _fields(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Version 3 wraps them as JSON:API does."""
    return {**resource, **resource.get("attributes", {})}


def _said_at(there: Mapping[str, Any], moment: str) -> str:
    """What is said of when something was, by version 3 with words for people."""
    return str(there.get(f"{moment}_at") or (there.get(moment) or {}).get("string"))


def _meta(there: Mapping[str, Any]) -> Mapping[str, Any]:
    """By name, or as a list of names and values."""
    meta = there.get("meta") or {}
    return {one["key"]: one["value"] for one in meta} if isinstance(meta, list) else meta


def _number(status: Any) -> int:
    """Version 3 says of an incident's both number and name."""
    return int(status["value"] if isinstance(status, dict) else status)
