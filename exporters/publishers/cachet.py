"""Cachet, versions 2 (2.4) and 3: incidents with updates, schedules, and what components are shown as. Not its metrics or subscribers.

What it calls an incident is its path, `incidents/12` or `schedules/3`. Several requests make one step: those that are the
same in every try come first (components, name), the one that adds something is last and looked up before it is repeated.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from evaluators.lifecycle import ENDED
from evaluators.model import Post
from exporters.publishing import Api, GoneError, differing, is_since
from rules.publishers.cachet import CachetPublisher

INCIDENT: Final = {"investigating": 1, "identified": 2, "monitoring": 3, "resolved": 4}
SCHEDULE: Final = {"scheduled": 0, "in_progress": 1, "verifying": 1, "completed": 2, "cancelled": 2}
VISIBLE: Final = 1
"""To everybody: true in the first 3.x, later one of several."""
MANY: Final = "1000"


class Cachet(ABC):
    """What both versions have in common."""

    root: ClassVar[str]
    newest: ClassVar[Mapping[str, str]]  # query: the newest first
    said: ClassVar[Mapping[str, str]]  # the same, of updates
    components: ClassVar[Mapping[str, int]]

    def __init__(self, api: Api, rule: CachetPublisher) -> None:
        self._api, self._zone = api, ZoneInfo(rule.timezone)

    @abstractmethod
    def _made(self, post: Post) -> dict[str, Any]:
        """What a new one has besides its name and message."""

    @abstractmethod
    def _changed(self, post: Post) -> dict[str, Any]:
        """What is set of it besides its name."""

    @abstractmethod
    def _has_updates(self, remote: str) -> bool:
        """Whether what is said of it is a list, not its one message."""

    async def find(self, post: Post) -> str | None:
        """The one whose meta says our id; where meta is not shown, one so called that was made since."""
        kind = _kind(post)
        for there in await self._listed(kind, self.newest):
            meta = there.get("meta") or {}
            is_alike = there["name"] == post.title and is_since(self._made_s(there), post)
            if meta.get("upbeat") == post.incident or ("upbeat" not in meta and is_alike):
                return f"{kind}/{there['id']}"
        return None

    async def create(self, post: Post) -> str:
        """Make it; its message is the first update."""
        await self._show(post)
        body = {"name": post.title, "message": post.text or post.title} | self._made(post)
        there = await self._api.send("POST", f"{self.root}/{_kind(post)}", body)
        return f"{_kind(post)}/{self._api.named(there.get('data', {}).get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since. All else is the same in every try."""
        if post.step == "edit" or not self._has_updates(remote):
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
        shown, wanted = await self._shown(), self._wanted(post)
        status = (
            [("status", _number(there["status"]), INCIDENT[post.status])] if post.kind == "incident" else []
        )
        return differing(
            ("title", there["name"], post.title),
            *status,
            *((f"component {one}", shown.get(one), status) for one, status in wanted.items()),
        )

    def _wanted(self, post: Post) -> dict[str, int]:
        return {
            one: self.components[status]
            for one, status in post.components.items()
            if status in self.components
        }

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
        said = there["created"]["string"] if "created" in there else there["created_at"]
        return datetime.fromisoformat(said).replace(tzinfo=self._zone).timestamp()

    def _time(self, epoch_s: float) -> str:
        return datetime.fromtimestamp(epoch_s, self._zone).strftime("%Y-%m-%d %H:%M:%S")

    def _window(self, post: Post) -> dict[str, Any]:
        """When maintenance begins and ends; what is over ended then."""
        starts_s, ends_s = post.starts_at or post.at, post.ends_at or post.at
        if post.status in ENDED:
            ends_s = min(ends_s, post.at)
        return {"scheduled_at": self._time(starts_s), "completed_at": self._time(ends_s)}

    def _since(self, post: Post) -> dict[str, Any]:
        return {"occurred_at": self._time(post.began_at)} if post.is_backfilled else {}


class Cachet2(Cachet):
    """Version 2.4. It knows no component under maintenance: that is left as it is shown."""

    root = "/api/v1"
    newest: ClassVar = {"sort": "id", "order": "desc", "per_page": "50"}
    said: ClassVar = {"per_page": "50"}
    components: ClassVar = {
        "operational": 1,
        "degraded_performance": 2,
        "partial_outage": 3,
        "major_outage": 4,
    }

    def _has_updates(self, remote: str) -> bool:
        return remote.startswith("incidents/")

    def _made(self, post: Post) -> dict[str, Any]:
        if post.kind == "maintenance":
            return self._window(post) | {"status": SCHEDULE[post.status]}
        made = {
            "status": INCIDENT[post.status],
            "visible": VISIBLE,
            "stickied": False,
            "notify": post.notify,
            "meta": {"upbeat": post.incident},
        } | self._since(post)
        for one, status in list(self._wanted(post).items())[:1]:  # it has room for one
            made |= {"component_id": one, "component_status": status}
        return made

    def _changed(self, post: Post) -> dict[str, Any]:
        if post.kind == "incident":  # what is left out here would be set back
            return {"visible": VISIBLE, "stickied": False, "notify": False}
        said = {"message": post.text} if post.text else {}
        return self._window(post) | {"status": SCHEDULE[post.status]} | said


class Cachet3(Cachet):
    """Version 3."""

    root = "/api"
    newest: ClassVar = {"sort": "-id", "per_page": "50"}
    said: ClassVar = {"sort": "-created_at", "per_page": "50"}
    components: ClassVar = {**Cachet2.components, "under_maintenance": 6}

    def _has_updates(self, remote: str) -> bool:
        return True

    def _made(self, post: Post) -> dict[str, Any]:
        affected = [{"id": int(one), "status": status} for one, status in self._wanted(post).items()]
        made = {"components": affected, "meta": {"upbeat": post.incident}}
        if post.kind == "maintenance":
            return made | self._window(post)
        return (
            made
            | {"status": INCIDENT[post.status], "visible": VISIBLE, "notifications": post.notify}
            | self._since(post)
        )

    def _changed(self, post: Post) -> dict[str, Any]:
        return self._window(post) if post.kind == "maintenance" else {}


def _kind(post: Post) -> str:
    return "schedules" if post.kind == "maintenance" else "incidents"


def _fields(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Version 3 wraps them as JSON:API does."""
    return {**resource, **resource.get("attributes", {})}


def _number(status: Any) -> int:
    """Version 3 says of an incident's both number and name."""
    return int(status["value"] if isinstance(status, dict) else status)
