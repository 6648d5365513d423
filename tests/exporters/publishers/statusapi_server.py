"""A local status page with the small API: the rules that its reference states. Everything notifies."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

STATUSES = ("investigating", "identified", "monitoring", "update", "resolved")
SHOWN = {
    "operational": "operational",
    "degraded": "degraded_performance",
    "partial_outage": "partial_outage",
    "major_outage": "major_outage",
    "maintenance": "under_maintenance",
}
MOST = {"GET": 120, "POST": 60, "PATCH": 60}


def _bad(said: str) -> Refusal:
    return Refusal(400, {"error": {"code": "BAD_REQUEST", "message": said}})


class StatusApiServer(SiteServer):
    component = "abc123"

    def __init__(self) -> None:
        super().__init__()
        self.components = {self.component: "operational"}
        self.incidents: dict[str, dict[str, Any]] = {}
        self.updates: dict[str, list[dict[str, Any]]] = {}
        self._minutes: dict[tuple[bool, int], int] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        root = "/api/v1"
        return [
            web.get(f"{root}/status", self._status),
            web.get(f"{root}/components", self._components),
            web.patch(f"{root}/components/status", self._show),
            web.get(f"{root}/incidents", self._list),
            web.get(f"{root}/incidents/detail", self._detail),
            web.post(f"{root}/incidents", self._create),
            web.post(f"{root}/incidents/updates", self._say),
            web.post(f"{root}/incidents/resolve", self._resolve),
        ]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise Refusal(401, {"error": {"code": "UNAUTHORIZED", "message": "Invalid API key"}})
        minute = (request.method == "GET", int(now_s() // 60))
        self._minutes[minute] = self._minutes.get(minute, 0) + 1
        if self._minutes[minute] > MOST[request.method]:
            raise self.limited(str(60 - int(now_s() % 60)))

    def limited(self, wait: str) -> Refusal:
        return Refusal(
            429, {"error": {"code": "RATE_LIMITED", "message": "Slow down"}}, {"Retry-After": wait}
        )

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (one["title"], one["status"], [said["message"] for said in self.updates[key]])
            for key, one in self.incidents.items()
        ]

    def shown(self) -> str:
        return SHOWN[self.components[self.component]]

    def remove(self) -> None:
        self.incidents.clear()

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "Acme Corp", "slug": "acme-corp", "description": ""})

    async def _components(self, _: web.Request) -> web.Response:
        listed = [{"_id": one, "name": one, "status": status} for one, status in self.components.items()]
        return web.json_response({"components": listed})

    async def _show(self, request: web.Request) -> web.Response:
        status = (await request.json()).get("status")
        if status not in SHOWN:
            raise _bad("invalid status")
        if request.query.get("componentId") not in self.components:
            raise self._missing()
        self.components[request.query["componentId"]] = status
        return web.json_response({"success": True})

    async def _list(self, request: web.Request) -> web.Response:
        is_active = request.query.get("status") == "active"
        found = [one for one in self.incidents.values() if not is_active or one["status"] != "resolved"]
        return web.json_response({"incidents": found})

    async def _detail(self, request: web.Request) -> web.Response:
        key = self._key(request, "id")
        return web.json_response({"incident": self.incidents[key], "updates": self.updates[key]})

    async def _create(self, request: web.Request) -> web.Response:
        given = await request.json()
        if not given.get("title") or not given.get("message"):
            raise _bad("title and message are required")
        if len(given["title"]) > 120 or given.get("severity") not in {"minor", "major", "critical"}:
            raise _bad("title is at most 120 characters, severity one of minor, major, critical")
        if not set(given.get("affectedComponentIds", ())) <= set(self.components):
            raise _bad("unknown component")
        key = f"inc_{self.new_id()}"
        kept = {"title": given["title"], "severity": given["severity"], "status": "investigating"}
        self.incidents[key] = {"_id": key, "createdAt": int(now_s() * 1000)} | kept
        self.updates[key] = []
        self._said(key, "investigating", given["message"])
        return web.json_response({"incident": self.incidents[key]}, status=201)

    async def _say(self, request: web.Request) -> web.Response:
        given, key = await request.json(), self._key(request, "incidentId")
        if given.get("status") not in STATUSES or not given.get("message"):
            raise _bad("status and message are required")
        self._said(key, given["status"], given["message"])
        return web.json_response({"success": True})

    async def _resolve(self, request: web.Request) -> web.Response:
        key = self._key(request, "incidentId")
        self._said(key, "resolved", (await request.json()).get("message", ""))
        return web.json_response({"success": True})

    def _said(self, key: str, status: str, message: str) -> None:
        self.notified += 1
        if status != "update":
            self.incidents[key]["status"] = status
        self.updates[key].append({"status": status, "message": message, "createdAt": int(now_s() * 1000)})

    def _key(self, request: web.Request, name: str) -> str:
        if not (key := request.query.get(name)):
            raise _bad(f"{name} is required")
        if key not in self.incidents:
            raise self._missing()
        return key

    @staticmethod
    def _missing() -> Refusal:
        return Refusal(
            404, {"error": {"code": "NOT_FOUND", "message": "no such resource of this key's page"}}
        )
