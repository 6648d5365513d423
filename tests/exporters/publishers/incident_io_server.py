"""A local incident.io with one status page: the rules of its API reference. `subscribers`: how many it has."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

PAGE = "01FCNDV6P870EA6S7TK1DSYDG0"
SHOWN = {
    "operational": "operational",
    "degraded_performance": "degraded_performance",
    "partial_outage": "partial_outage",
    "full_outage": "major_outage",
    "under_maintenance": "under_maintenance",
}
SAID = {
    "incident": {word: word for word in ("investigating", "identified", "monitoring", "resolved")},
    "maintenance": {
        "maintenance_scheduled": "scheduled",
        "maintenance_in_progress": "in_progress",
        "maintenance_complete": "completed",
    },
}
OVER = ("resolved", "maintenance_complete")
MOST_NOTIFIED, MOST_UPDATES = 1000, 100


def _wrong(status: int, said: str, headers: dict[str, str] | None = None) -> Refusal:
    body = {"type": "validation_error", "status": status, "errors": [{"code": "invalid", "message": said}]}
    return Refusal(status, body, headers)


class IncidentIoServer(SiteServer):
    component = "01FCNDV6P870EA6S7TK1DSYDG2"

    def __init__(self) -> None:
        super().__init__()
        self.subscribers = 12
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"incident": {}, "maintenance": {}}
        self.keys: dict[str, str] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        root = "/v2/status_page_{kind:incident|maintenance}"
        return [
            web.get("/v2/status_page_structures/{page}", self._structure),
            web.post(f"{root}s", self._create),
            web.get(root + "s/{id}", self._show),
            web.put(root + "s/{id}", self._change),
            web.post(f"{root}_updates", self._say),
        ]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise Refusal(401, {"type": "authentication_error", "status": 401})

    def limited(self, wait: str) -> Refusal:
        return Refusal(429, {"type": "rate_limit_exceeded", "status": 429}, {"Retry-After": wait})

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (one["name"], SAID[kind][one[f"{kind}_status"]], [said["message"] for said in one["updates"]])
            for kind, kept in self.kept.items()
            for one in kept.values()
        ]

    def shown(self) -> str:
        for one in self.kept["maintenance"].values():
            if one["maintenance_status"] == "maintenance_in_progress":
                return "under_maintenance"
        for one in self.kept["incident"].values():
            for impact in one["component_impacts"]:
                if impact["component_id"] == self.component and impact["end_at"] is None:
                    return SHOWN[impact["component_status"]]
        return "operational"

    def remove(self) -> None:
        for kept in self.kept.values():
            kept.clear()

    async def _structure(self, request: web.Request) -> web.Response:
        if request.match_info["page"] != PAGE:
            raise Refusal(404, {"type": "not_found", "status": 404})
        part = {"id": "p", "name": "UK", "items": [{"component": {"component_id": "uk-1", "name": "UK"}}]}
        group = {"id": "g", "name": "EU", "components": [{"component_id": self.component, "name": "Site"}]}
        return web.json_response({"current_structure": {"items": [{"group": group}, {"sub_page": part}]}})

    async def _create(self, request: web.Request) -> web.Response:
        given, kind = await request.json(), request.match_info["kind"]
        if not given.get("idempotency_key") or given.get("status_page_id") != PAGE:
            raise _wrong(422, "idempotency_key and status_page_id are required")
        if given["idempotency_key"] not in self.keys:
            key = f"01{self.new_id():024}"
            one: dict[str, Any] = {"id": key, "updates": [], "component_impacts": [], "published_at": _iso()}
            self._set(one, given, kind)
            if kind == "maintenance" and not set(given["affected_component_ids"]) <= {self.component}:
                raise _wrong(422, "affected_component_ids")
            self._said(one, given, kind)
            self.kept[kind][key] = one
            self.keys[given["idempotency_key"]] = key
        return web.json_response(
            {f"status_page_{kind}": self.kept[kind][self.keys[given["idempotency_key"]]]}, status=201
        )

    def _set(self, one: dict[str, Any], given: dict[str, Any], kind: str) -> None:
        if not 1 <= len(given.get("name", "")) <= 200:
            raise _wrong(422, "name is 1 to 200 characters")
        one["name"] = given["name"]
        if kind == "maintenance":
            begins, ends = (datetime.fromisoformat(given[name]) for name in ("start_at", "end_at"))
            if ends <= begins:
                raise _wrong(422, "end_at is before start_at")
            one |= {"start_at": given["start_at"], "end_at": given["end_at"]}

    def _said(self, one: dict[str, Any], given: dict[str, Any], kind: str) -> None:
        status = given.get(f"{kind}_status", one.get(f"{kind}_status"))
        if status not in SAID[kind] or not 1 <= len(given.get("message", "")) <= 4096:
            raise _wrong(422, "a status, and a message of 1 to 4096 characters")
        if not isinstance(given.get("notify_subscribers"), bool):
            raise _wrong(422, "notify_subscribers is required")
        if given["notify_subscribers"] and self.subscribers > MOST_NOTIFIED:
            raise _wrong(422, "too many subscribers")
        if len(one["updates"]) >= MOST_UPDATES:
            raise _wrong(422, "too many updates")
        statuses = {
            each["component_id"]: each["component_status"] for each in given.get("component_statuses", ())
        }
        if statuses and status in OVER:
            raise _wrong(422, "component_statuses must not be set")
        if not set(statuses) <= {self.component, "uk-1"} or not set(statuses.values()) <= set(SHOWN):
            raise _wrong(422, "component_statuses")
        for impact in one["component_impacts"]:
            if impact["end_at"] is None and (status in OVER or impact["component_id"] in statuses):
                impact["end_at"] = _iso()
        one["component_impacts"] += [
            {"component_id": key, "component_status": shown, "start_at": _iso(), "end_at": None}
            for key, shown in statuses.items()
            if shown != "operational"
        ]
        one[f"{kind}_status"] = status
        self.notified += given["notify_subscribers"]
        one["updates"].append({"id": str(self.new_id()), "message": given["message"], "published_at": _iso()})

    async def _say(self, request: web.Request) -> web.Response:
        given, kind = await request.json(), request.match_info["kind"]
        one = self._one(kind, given.get(f"status_page_{kind}_id"))
        self._said(one, given, kind)
        return web.json_response({f"status_page_{kind}_update": one["updates"][-1]}, status=201)

    async def _change(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        one = self._one(kind, request.match_info["id"])
        self._set(one, await request.json(), kind)
        return web.json_response({f"status_page_{kind}": one})

    async def _show(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        return web.json_response({f"status_page_{kind}": self._one(kind, request.match_info["id"])})

    def _one(self, kind: str, key: str | None) -> dict[str, Any]:
        if key not in self.kept[kind]:
            raise Refusal(404, {"type": "not_found", "status": 404})
        return self.kept[kind][key]


def _iso() -> str:
    return datetime.fromtimestamp(now_s(), UTC).isoformat().replace("+00:00", "Z")
