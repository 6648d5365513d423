"""OpenStatus, its Connect RPCs as JSON: status reports with updates, maintenances, and how each affects components. Not its monitors.

It has no room for a marker: what is called the same and began at the same moment, which Upbeat says, is ours.
Requests and answers were parsed with the messages of its Python SDK 0.1.0; impacts of components are newer, and ignored by what is older.
From memory: that messages are Markdown, and that a page or component of somebody else's is not_found.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from evaluators.model import Post
from exporters.outcome import Rejected
from exporters.publishing import (
    Api,
    GoneError,
    TroubleError,
    began_at,
    differing,
    epoch_s,
    is_then,
    rfc3339,
    window,
)
from rules.publishers.openstatus import OpenStatusPublisher

KEPT: Final = {
    "incident": ("/openstatus.status_report.v1.StatusReportService", "StatusReport", "statusReport"),
    "maintenance": ("/openstatus.maintenance.v1.MaintenanceService", "Maintenance", "maintenance"),
}
"""Of each kind: its service, what that calls it in methods, and in messages."""
PAGE: Final = "/openstatus.status_page.v1.StatusPageService/GetStatusPageContent"
IMPACT: Final = {"under_maintenance": "degraded_performance"}
"""All else it calls as we do."""
RECENT: Final = 50


class OpenStatus:
    """One page there. What it calls an incident is `incident/x` or `maintenance/x`."""

    def __init__(self, api: Api, rule: OpenStatusPublisher) -> None:
        self._api, self._page = api, rule.page_id

    async def find(self, post: Post) -> str | None:
        """The one so called that begins when ours does: a moment that Upbeat said to the millisecond."""
        service, what, key = KEPT[post.kind]
        of_page = {"pageId": self._page} if post.kind == "maintenance" else {}
        listed = await self._read(f"{service}/List{what}s", {"limit": RECENT} | of_page)
        for there in listed.get(f"{key}s", []):
            remote = f"{post.kind}/{there['id']}"
            if there["title"] == post.title and is_then(await self._began(remote), began_at(post)):
                return remote
        return None

    async def create(self, post: Post) -> str:
        """Make it, with its first update."""
        service, what, key = KEPT[post.kind]
        body: dict[str, Any] = {"title": post.title, "pageId": self._page}
        body |= {"pageComponentIds": list(post.components), "message": post.text or post.title}
        body |= {"notify": post.notify} | self._window(post)
        if post.kind == "incident":
            body |= self._said(post) | {"date": rfc3339(post.began_at)}
        there = await self._api.send("POST", f"{service}/Create{what}", body)
        return f"{post.kind}/{self._api.named(there.get(key, {}).get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates is of the moment of ours. Maintenance is the same in every try."""
        updates = (await self._there(remote)).get("updates", []) if post.kind == "incident" else []
        return any(one["message"] == post.text and is_then(one["date"], post.at) for one in updates)

    async def update(self, remote: str, post: Post) -> None:
        """The title and what is affected, then what is said; of maintenance all at once, in place of what was said before."""
        service, what, _ = KEPT[post.kind]
        body = {
            "id": _id(remote),
            "title": post.title,
            "pageComponentIds": list(post.components),
            "updatePageComponentIds": True,
        } | self._window(post)
        if post.kind == "maintenance" and post.text:
            body["message"] = post.text
        try:
            await self._api.send("POST", f"{service}/Update{what}", body)
            if post.kind == "incident" and post.step != "edit":
                body = {"statusReportId": _id(remote), "message": post.text, "date": rfc3339(post.at)}
                said = body | self._said(post) | {"notify": post.notify}
                await self._api.send("POST", f"{service}/AddStatusReportUpdate", said)
        except GoneError:
            await self._there(remote)  # raises where it is this that is gone
            raise TroubleError(Rejected("there is no such component")) from None

    async def delete(self, remote: str) -> None:
        """Take it away."""
        service, what, _ = KEPT[_kind(remote)]
        await self._api.send("POST", f"{service}/Delete{what}", {"id": _id(remote)})

    async def check(self) -> tuple[str, Collection[str]]:
        """The page's title, and its components."""
        found = await self._read(PAGE, {"id": self._page})
        return str(found["statusPage"]["title"]), [one["id"] for one in found.get("components", [])]

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Title, status of a report, and how its components are affected by the newest update."""
        there, said = await self._there(remote), self._said(post)
        title = ("title", there["title"], post.title)
        if post.kind == "maintenance":
            ids = sorted(there.get("pageComponentIds", []))
            return differing(title, ("components", ids, sorted(post.components)))
        newest = max(there["updates"], key=lambda update: epoch_s(update["date"]))
        shown, wanted = _impacts(newest), _impacts(said)
        return differing(
            title,
            ("status", there["status"], said["status"]),
            *((f"component {one}", shown.get(one), impact) for one, impact in wanted.items() if shown),
        )

    def _said(self, post: Post) -> dict[str, Any]:
        """What every update of a report says besides its message."""
        impacts = [
            {"pageComponentId": one, "impact": f"PAGE_COMPONENT_IMPACT_{IMPACT.get(status, status).upper()}"}
            for one, status in post.components.items()
        ]
        return {"status": f"STATUS_REPORT_STATUS_{post.status.upper()}", "componentImpacts": impacts}

    def _window(self, post: Post) -> dict[str, Any]:
        """When maintenance is. A report says no such thing."""
        when = zip(("from", "to"), map(rfc3339, window(post)), strict=True)
        return dict(when) if post.kind == "maintenance" else {}

    async def _began(self, remote: str) -> str:
        there = await self._there(remote)
        return str(there.get("from") or min((one["date"] for one in there["updates"]), key=epoch_s))

    async def _there(self, remote: str) -> dict[str, Any]:
        service, what, key = KEPT[_kind(remote)]
        return dict((await self._read(f"{service}/Get{what}", {"id": _id(remote)}))[key])

    async def _read(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        """What changes nothing may be asked by GET, also in a dry run."""
        asked = json.dumps(message, separators=(",", ":"))
        return dict(await self._api.get(path, connect="v1", encoding="json", message=asked))


def _impacts(said: Mapping[str, Any]) -> dict[str, str]:
    return {one["pageComponentId"]: one["impact"] for one in said.get("componentImpacts", [])}


def _kind(remote: str) -> str:
    return remote.partition("/")[0]


def _id(remote: str) -> str:
    return remote.partition("/")[2]
