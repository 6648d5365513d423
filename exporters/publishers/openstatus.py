"""OpenStatus, its Connect RPCs as JSON: status reports with updates, maintenances, and how each affects components. Not its monitors.

It has no room for a marker: a report is ours that is called the same and whose first update is of the moment that Upbeat said.
Requests and answers were parsed with the messages of its Python SDK 0.1.0; impacts of components are newer, and ignored by what is older.
From memory: that messages are Markdown, and that a page or component of somebody else's is not_found.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

from evaluators.model import Post
from exporters.outcome import Rejected
from exporters.publishing import Api, GoneError, TroubleError, differing, epoch_s, is_then, rfc3339, window
from rules.publishers.openstatus import OpenStatusPublisher

REPORTS: Final = "/openstatus.status_report.v1.StatusReportService"
MAINTENANCES: Final = "/openstatus.maintenance.v1.MaintenanceService"
PAGES: Final = "/openstatus.status_page.v1.StatusPageService"
IMPACT: Final = {
    "operational": "OPERATIONAL",
    "degraded_performance": "DEGRADED_PERFORMANCE",
    "under_maintenance": "DEGRADED_PERFORMANCE",
    "partial_outage": "PARTIAL_OUTAGE",
    "major_outage": "MAJOR_OUTAGE",
}
RECENT: Final = 50


class OpenStatus:
    """One page there. What it calls an incident is `report/x` or `maintenance/x`."""

    def __init__(self, api: Api, rule: OpenStatusPublisher) -> None:
        self._api, self._page = api, rule.page_id

    async def find(self, post: Post) -> str | None:
        """The one so called that begins when ours does: a moment that Upbeat said to the millisecond."""
        if post.kind == "maintenance":
            asked = {"limit": RECENT, "pageId": self._page}
            listed = (await self._read(MAINTENANCES, "ListMaintenances", asked)).get("maintenances", [])
            alike = [one for one in listed if is_then(one["from"], window(post)[0])]
            return next((f"maintenance/{one['id']}" for one in alike if one["title"] == post.title), None)
        listed = (await self._read(REPORTS, "ListStatusReports", {"limit": RECENT})).get("statusReports", [])
        for there in listed:
            if there["title"] == post.title:
                dates = [update["date"] for update in await self._updates(there["id"])]
                if dates and is_then(min(dates, key=epoch_s), post.began_at):
                    return f"report/{there['id']}"
        return None

    async def create(self, post: Post) -> str:
        """Make it, with its first update."""
        body: dict[str, Any] = {
            "title": post.title,
            "pageId": self._page,
            "pageComponentIds": list(post.components),
        }
        if post.kind == "maintenance":
            body |= self._window(post) | {"message": post.text or post.title, "notify": post.notify}
            there = await self._api.send("POST", f"{MAINTENANCES}/CreateMaintenance", body)
            return f"maintenance/{self._api.named(there.get('maintenance', {}).get('id'))}"
        body |= self._said(post) | {"message": post.text or post.title, "date": rfc3339(post.began_at)}
        there = await self._api.send("POST", f"{REPORTS}/CreateStatusReport", body)
        return f"report/{self._api.named(there.get('statusReport', {}).get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates is of the moment of ours. Maintenance is the same in every try."""
        if post.kind == "maintenance":
            return False
        updates = await self._updates(_id(remote))
        return any(one["message"] == post.text and is_then(one["date"], post.at) for one in updates)

    async def update(self, remote: str, post: Post) -> None:
        """The title and what is affected, then what is said; of maintenance all at once, in place of what was said before."""
        body = {
            "id": _id(remote),
            "title": post.title,
            "pageComponentIds": list(post.components),
            "updatePageComponentIds": True,
        }
        try:
            if post.kind == "maintenance":
                body |= self._window(post) | ({"message": post.text} if post.text else {})
                await self._api.send("POST", f"{MAINTENANCES}/UpdateMaintenance", body)
                return
            await self._api.send("POST", f"{REPORTS}/UpdateStatusReport", body)
            if post.step != "edit":
                body = {"statusReportId": _id(remote), "message": post.text, "date": rfc3339(post.at)}
                await self._api.send("POST", f"{REPORTS}/AddStatusReportUpdate", body | self._said(post))
        except GoneError:
            await self._there(remote)  # raises where it is this that is gone
            raise TroubleError(Rejected("there is no such component")) from None

    async def delete(self, remote: str) -> None:
        """Take it away."""
        of = (
            f"{REPORTS}/DeleteStatusReport"
            if remote.startswith("report/")
            else f"{MAINTENANCES}/DeleteMaintenance"
        )
        await self._api.send("POST", of, {"id": _id(remote)})

    async def check(self) -> tuple[str, Collection[str]]:
        """The page's title, and its components."""
        found = await self._read(PAGES, "GetStatusPageContent", {"id": self._page})
        return str(found["statusPage"]["title"]), [one["id"] for one in found.get("components", [])]

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Title, status of a report, and how its components are affected by the newest update."""
        there = await self._there(remote)
        title = ("title", there["title"], post.title)
        if post.kind == "maintenance":
            ids = sorted(there.get("pageComponentIds", []))
            return differing(title, ("components", ids, sorted(post.components)))
        newest = max(there["updates"], key=lambda update: epoch_s(update["date"]))
        shown = {one["pageComponentId"]: one["impact"] for one in newest.get("componentImpacts", [])}
        said = self._said(post)
        wanted = ((one["pageComponentId"], one["impact"]) for one in said["componentImpacts"])
        return differing(
            title,
            ("status", there["status"], said["status"]),
            *((f"component {one}", shown.get(one), impact) for one, impact in wanted if shown),
        )

    def _said(self, post: Post) -> dict[str, Any]:
        """What every update of a report says besides its message."""
        impacts = {one: f"PAGE_COMPONENT_IMPACT_{IMPACT[status]}" for one, status in post.components.items()}
        return {
            "status": f"STATUS_REPORT_STATUS_{post.status.upper()}",
            "notify": post.notify,
            "componentImpacts": [
                {"pageComponentId": one, "impact": impact} for one, impact in impacts.items()
            ],
        }

    def _window(self, post: Post) -> dict[str, str]:
        starts_at, ends_at = window(post)
        return {"from": rfc3339(starts_at), "to": rfc3339(ends_at)}

    async def _updates(self, report: str) -> list[dict[str, Any]]:
        return list((await self._there(f"report/{report}")).get("updates", []))

    async def _there(self, remote: str) -> dict[str, Any]:
        if remote.startswith("report/"):
            found = await self._read(REPORTS, "GetStatusReport", {"id": _id(remote)})
            return dict(found["statusReport"])
        return dict((await self._read(MAINTENANCES, "GetMaintenance", {"id": _id(remote)}))["maintenance"])

    async def _read(self, service: str, method: str, message: dict[str, Any]) -> dict[str, Any]:
        """What changes nothing may be asked by GET, also in a dry run."""
        asked = json.dumps(message, separators=(",", ":"))
        found = await self._api.get(f"{service}/{method}", connect="v1", encoding="json", message=asked)
        return dict(found)


def _id(remote: str) -> str:
    return remote.partition("/")[2]
