"""A local Atlassian Statuspage: the rules of its API v1 as documented, on one page. Paths may end in .json, as older clients write them."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

PAGE = "kctbh9vrtdwd"
REALTIME = ("investigating", "identified", "monitoring", "resolved")
SCHEDULED = ("scheduled", "in_progress", "verifying", "completed")
SHOWN = ("operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance")
IMPACTS = ("none", "minor", "major", "critical", "maintenance")
KEPT = (
    "name",
    "status",
    "impact_override",
    "scheduled_for",
    "scheduled_until",
    "scheduled_auto_in_progress",
    "scheduled_auto_completed",
    "scheduled_remind_prior",
    "metadata",
    "backfilled",
    "backfill_date",
)


def _refuse(*said: str) -> Refusal:
    return Refusal(422, {"error": list(said)})


class StatuspageServer(SiteServer):
    component = "8kbf7d35c070"

    def __init__(self) -> None:
        super().__init__()
        self.components = {self.component: "operational", "vtnh60py4yd7": "operational"}
        self.incidents: list[dict[str, Any]] = []
        self.takes_metadata = True  # of an update

    def routes(self) -> Iterable[web.RouteDef]:
        page = rf"/v1/pages/{PAGE}"
        return [
            web.get(page, self._page),
            web.get(page + ".json", self._page),
            web.get(page + r"/components{end:(\.json)?}", self._components),
            web.get(page + r"/incidents{end:(\.json)?}", self._list),
            web.post(page + r"/incidents{end:(\.json)?}", self._create),
            web.get(page + r"/incidents/{which:unresolved|scheduled}{end:(\.json)?}", self._some),
            web.get(page + r"/incidents/{id:\w+}{end:(\.json)?}", self._get),
            web.patch(page + r"/incidents/{id:\w+}{end:(\.json)?}", self._update),
            web.put(page + r"/incidents/{id:\w+}{end:(\.json)?}", self._update),
            web.delete(page + r"/incidents/{id:\w+}{end:(\.json)?}", self._delete),
        ]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"OAuth {KEY}":
            raise Refusal(401, {"error": "Could not authenticate"})

    def limited(self, wait: str) -> Refusal:
        return Refusal(420, {"error": "Rate limit exceeded"}, {"Retry-After": wait})

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (one["name"], one["status"], [said["body"] for said in reversed(one["incident_updates"])])
            for one in self.incidents
        ]

    def shown(self) -> str:
        return self.components[self.component]

    def remove(self) -> None:
        self.incidents.clear()

    async def _page(self, _: web.Request) -> web.Response:
        return web.json_response({"id": PAGE, "name": "Shop status", "subdomain": "shop"})

    async def _components(self, _: web.Request) -> web.Response:
        return web.json_response(
            [{"id": one, "name": one, "status": status} for one, status in self.components.items()]
        )

    async def _list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "100"))
        return web.json_response(self.incidents[::-1][: min(limit, 100)])

    async def _some(self, request: web.Request) -> web.Response:
        is_scheduled = request.match_info["which"] == "scheduled"
        wanted = ("scheduled",) if is_scheduled else REALTIME[:3]
        return web.json_response([one for one in self.incidents[::-1] if one["status"] in wanted])

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._one(request))

    def _one(self, request: web.Request) -> dict[str, Any]:
        for one in self.incidents:
            if one["id"] == request.match_info["id"]:
                return one
        raise Refusal(404, {"error": "Not found"})

    async def _create(self, request: web.Request) -> web.Response:
        given = await self._given(request)
        if not given.get("name"):
            raise _refuse("Name can't be blank")
        is_scheduled = "scheduled_for" in given or given.get("status") == "scheduled"
        if is_scheduled and not ("scheduled_for" in given and "scheduled_until" in given):
            raise _refuse("Scheduled for can't be blank", "Scheduled until can't be blank")
        if is_scheduled and _time(given["scheduled_until"]) <= _time(given["scheduled_for"]):
            raise _refuse("Scheduled until must be after scheduled for")
        incident: dict[str, Any] = {
            "id": f"inc{self.new_id():09}",
            "page_id": PAGE,
            "status": "scheduled" if is_scheduled else "investigating",
            "scheduled_for": None,
            "incident_updates": [],
            "components": [],
            "metadata": {},
            "impact": "maintenance" if is_scheduled else "none",
            "created_at": datetime.fromtimestamp(now_s(), UTC).isoformat(),
        }
        self._apply(incident, given)
        self.incidents.append(incident)
        return web.json_response(incident, status=201)

    async def _update(self, request: web.Request) -> web.Response:
        incident, given = self._one(request), await self._given(request)
        if not self.takes_metadata:
            given.pop("metadata", None)
        self._apply(incident, given)
        return web.json_response(incident)

    async def _delete(self, request: web.Request) -> web.Response:
        incident = self._one(request)
        self.incidents.remove(incident)
        return web.json_response(incident)

    async def _given(self, request: web.Request) -> dict[str, Any]:
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("incident"), dict):
            raise Refusal(400, {"error": "incident is missing"})
        given = dict(body["incident"])
        if "message" in given:  # as clients of the first API say it
            given["body"] = given.pop("message")
        return given

    def _apply(self, incident: dict[str, Any], given: dict[str, Any]) -> None:
        """Change it, if every rule holds."""
        statuses = SCHEDULED if given.get("scheduled_for") or incident["scheduled_for"] else REALTIME
        components = given.get("components") or {}
        wrong = [
            said
            for is_wrong, said in (
                (len(given.get("name", "")) > 255, "Name is too long (maximum is 255 characters)"),
                (len(given.get("body", "")) > 25_000, "Body is too long (maximum is 25000 characters)"),
                (given.get("status", statuses[0]) not in statuses, "Status is not included in the list"),
                (given.get("impact_override", "none") not in IMPACTS, "Impact override is not included"),
                (any(one not in SHOWN for one in components.values()), "Component status is not included"),
                (
                    not {*components, *given.get("component_ids", ())} <= {*self.components},
                    "Component ids are not of this page",
                ),
                (
                    any(not isinstance(one, dict) for one in given.get("metadata", {}).values()),
                    "Metadata must hold objects",
                ),
                (
                    bool(given.get("backfilled") and components),
                    "Components cannot be specified when backfilled",
                ),
                (
                    "backfill_date" in given and not re.fullmatch(r"\d{4}-\d\d-\d\d", given["backfill_date"]),
                    "Backfill date is no date",
                ),
            )
            if is_wrong
        ]
        if wrong:
            raise _refuse(*wrong)
        is_news = bool(given.get("body")) or given.get("status", incident["status"]) != incident["status"]
        incident |= {key: given[key] for key in KEPT if key in given}
        self.components |= components
        named = {one["id"] for one in incident["components"]} | {*components, *given.get("component_ids", ())}
        incident["components"] = [{"id": one, "status": self.components[one]} for one in sorted(named)]
        if is_news or not incident["incident_updates"]:
            said = {
                "id": f"upd{self.new_id():09}",
                "status": incident["status"],
                "body": given.get("body", ""),
                "created_at": datetime.fromtimestamp(now_s(), UTC).isoformat(),
                "deliver_notifications": given.get("deliver_notifications", True),
            }
            self.notified += said["deliver_notifications"]
            incident["incident_updates"].insert(0, said)


def _time(said: str) -> datetime:
    return datetime.fromisoformat(said)
