"""incident.io's status pages, API v2: incidents and maintenances with updates. Not its incidents proper, nor its alerts.

A create has an idempotency key: the same again is answered with what it made first. An update has none and is looked up.
From memory: `full_outage` for a component, and that what is refused for too many subscribers is HTTP 422.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from evaluators.lifecycle import ENDED
from evaluators.model import Post
from exporters.publishing import Api, TroubleError, differing, epoch_s, is_since, rfc3339, window
from rules.publishers.incident_io import IncidentIoPublisher

MAINTENANCE: Final = {
    "scheduled": "maintenance_scheduled",
    "in_progress": "maintenance_in_progress",
    "verifying": "maintenance_in_progress",
    "completed": "maintenance_complete",
}


class IncidentIo:
    """One page there. What it calls an incident is `incident/x` or `maintenance/x`."""

    def __init__(self, api: Api, rule: IncidentIoPublisher) -> None:
        self._api, self._page = api, rule.page_id

    async def find(self, _: Post) -> str | None:
        """Nothing is looked up: a create that is sent again is answered with what it made."""
        return None

    async def create(self, post: Post) -> str:
        """Make it, with its first update."""
        body = (
            self._said(post)
            | self._changed(post)
            | {"status_page_id": self._page, "idempotency_key": post.incident}
        )
        if post.kind == "maintenance":
            body["affected_component_ids"] = list(post.components)
        there = await self._tell(f"/v2/status_page_{post.kind}s", body | {"message": post.text or post.title})
        return f"{post.kind}/{self._api.named(there.get(f'status_page_{post.kind}', {}).get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since."""
        updates = (await self._there(remote))["updates"]
        return any(
            one["message"] == post.text and is_since(epoch_s(one["published_at"]), post) for one in updates
        )

    async def update(self, remote: str, post: Post) -> None:
        """The name and when it is, then what is said: components can be set only by saying something."""
        kind, there = remote.split("/")
        await self._api.send("PUT", f"/v2/status_page_{kind}s/{there}", self._changed(post))
        if post.step != "edit":
            await self._say(remote, self._said(post) | {"message": post.text})

    async def delete(self, remote: str) -> None:
        """Nothing can be taken away: what lasts is ended, and nobody is notified."""
        kind = remote.partition("/")[0]
        ended = {f"{kind}_status": "resolved" if kind == "incident" else MAINTENANCE["completed"]}
        there = await self._there(remote)
        if not ended.items() <= there.items():
            await self._say(remote, ended | {"notify_subscribers": False, "message": there["name"]})

    async def check(self) -> tuple[str, Collection[str]]:
        """Its components. The page's name is not asked: that is a list of all pages."""
        found = await self._api.get(f"/v2/status_page_structures/{self._page}")
        return "incident.io answers", list(_components(found["current_structure"]["items"]))

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Name, status, and what components an incident that lasts affects."""
        there, said = await self._there(remote), self._said(post)
        impacts = there.get("component_impacts", ())
        shown = {one["component_id"]: one["component_status"] for one in impacts if not one.get("end_at")}
        wanted = (
            (one["component_id"], one["component_status"]) for one in said.get("component_statuses", ())
        )
        status = f"{post.kind}_status"
        return differing(
            ("title", there["name"], post.title),
            ("status", there[status], said[status]),
            *((f"component {one}", shown.get(one, "operational"), status) for one, status in wanted),
        )

    def _said(self, post: Post) -> dict[str, Any]:
        """What every update says besides its message. What is over must not name components: all are operational then."""
        if post.kind == "maintenance":
            return {"maintenance_status": MAINTENANCE[post.status], "notify_subscribers": post.notify}
        body: dict[str, Any] = {"incident_status": post.status, "notify_subscribers": post.notify}
        if post.status not in ENDED:
            body["component_statuses"] = [
                {
                    "component_id": one,
                    "component_status": "full_outage" if status == "major_outage" else status,
                }
                for one, status in post.components.items()
            ]
        return body

    def _changed(self, post: Post) -> dict[str, Any]:
        """What can be set without saying anything."""
        if post.kind == "incident":
            return {"name": post.title}
        starts_at, ends_at = map(rfc3339, window(post))
        return {"name": post.title, "start_at": starts_at, "end_at": ends_at}

    async def _say(self, remote: str, body: dict[str, Any]) -> None:
        kind, there = remote.split("/")
        await self._tell(f"/v2/status_page_{kind}_updates", body | {f"status_page_{kind}_id": there})

    async def _tell(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Where more than 1,000 subscribers are to be notified it refuses: then it is said without."""
        try:
            return dict(await self._api.send("POST", path, body))
        except TroubleError as refused:
            if refused.status != 422 or not body["notify_subscribers"]:
                raise
        there = await self._api.send("POST", path, body | {"notify_subscribers": False})
        self._api.notes.append("said without notifying: it notifies at most 1,000 subscribers")
        return dict(there)

    async def _there(self, remote: str) -> dict[str, Any]:
        kind, there = remote.split("/")
        return dict((await self._api.get(f"/v2/status_page_{kind}s/{there}"))[f"status_page_{kind}"])


def _components(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Those of a page, of its groups, and of its pages for parts of it."""
    for item in items:
        group, part = item.get("group") or {}, item.get("sub_page") or {}
        for component in (item.get("component"), *group.get("components", ())):
            if component:
                yield component["component_id"]
        yield from _components(part.get("items", ()))
