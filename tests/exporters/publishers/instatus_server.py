"""A local Instatus: the rules of its API reference. Updates notify by default."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

PAGE = "ckf01fonve9i40a32oas5b0uw"
SHOWN = {
    "OPERATIONAL": "operational",
    "UNDERMAINTENANCE": "under_maintenance",
    "DEGRADEDPERFORMANCE": "degraded_performance",
    "PARTIALOUTAGE": "partial_outage",
    "MINOROUTAGE": "partial_outage",
    "MAJOROUTAGE": "major_outage",
}
SAID = {
    "incidents": {word.upper(): word for word in ("investigating", "identified", "monitoring", "resolved")},
    "maintenances": {
        "NOTSTARTEDYET": "scheduled",
        "INPROGRESS": "in_progress",
        "VERIFYING": "verifying",
        "COMPLETED": "completed",
    },
}


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Refusal:
    return Refusal(status, {"error": {"code": code, "message": message}}, headers)


class InstatusServer(SiteServer):
    component = "ckf01fvnxywz50a35nh1qzssm"

    def __init__(self) -> None:
        super().__init__()
        self.is_newest_first = True  # its reference does not say
        self.components = {self.component: "OPERATIONAL"}
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"incidents": {}, "maintenances": {}}

    def routes(self) -> Iterable[web.RouteDef]:
        root = "/v1/{page}/{kind:incidents|maintenances}"
        return [
            web.get("/v1/pages", self._pages),
            web.get("/v1/{page}/components", self._components),
            web.get(root, self._list),
            web.post(root, self._create),
            web.get(root + "/{id}", self._show),
            web.put(root + "/{id}", self._change),
            web.delete(root + "/{id}", self._delete),
            web.post("/v1/{page}/{kind:incidents}/{id}/incident-updates", self._say),
            web.post("/v1/{page}/{kind:maintenances}/{id}/maintenance-updates", self._say),
        ]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise _refused(401, "forbidden", "Not authorized")
        if request.match_info.get("page", PAGE) != PAGE:
            raise _refused(404, "not_found", "no such page")

    def limited(self, wait: str) -> Refusal:
        return _refused(429, "rate_limited", "Too many requests", {"Retry-After": wait})

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (one["name"], SAID[kind][one["status"]], [said["message"] for said in one["updates"]])
            for kind, kept in self.kept.items()
            for one in kept.values()
        ]

    def shown(self) -> str:
        return SHOWN[self.components[self.component]]

    def remove(self) -> None:
        for kept in self.kept.values():
            kept.clear()

    async def _pages(self, _: web.Request) -> web.Response:
        return web.json_response([{"id": PAGE, "name": "Nasa", "subdomain": "nasa", "status": "UP"}])

    def _listed(self) -> list[dict[str, Any]]:
        return [{"id": one, "name": one, "status": status} for one, status in self.components.items()]

    async def _components(self, _: web.Request) -> web.Response:
        return web.json_response(self._listed())

    async def _list(self, request: web.Request) -> web.Response:
        most = int(request.query.get("per_page", "50"))
        if not 1 <= most <= 100 or int(request.query.get("page", "1")) < 1:
            raise _refused(400, "bad_request", "page or per_page")
        unlike = request.query.get("!status", "").split(",")
        found = [one for one in self.kept[request.match_info["kind"]].values() if one["status"] not in unlike]
        if self.is_newest_first:
            found.reverse()
        return web.json_response([self._whole(one) for one in found[:most]])

    def _whole(self, one: dict[str, Any]) -> dict[str, Any]:
        return one | {"components": [each for each in self._listed() if each["id"] in one["components"]]}

    async def _create(self, request: web.Request) -> web.Response:
        given, kind = await request.json(), request.match_info["kind"]
        if not given.get("name") or not given.get("message"):
            raise _refused(400, "bad_request", "name and message are required")
        key = f"ck{self.new_id()}"
        one: dict[str, Any] = {"id": key, "updates": [], "components": []}
        self._set(one, given, kind)
        self._said(one, given, kind, given.get("started"))
        self.kept[kind][key] = one
        return web.json_response(self._whole(one))

    def _set(self, one: dict[str, Any], given: dict[str, Any], kind: str) -> None:
        known = {"name", "message", "components", "status", "statuses", "notify", "started", "shouldPublish"}
        if kind == "maintenances":
            known |= {"start", "duration", "autoStart", "autoEnd", "notifyStart", "notifyEnd", "notifyEarly"}
            if not isinstance(given.get("duration", 1), int) or given.get("duration", 1) < 1:
                raise _refused(400, "bad_request", "duration is in minutes")
        if unknown := set(given) - known:
            raise _refused(400, "bad_request", f"unknown: {unknown}")
        for name in ("started", "start"):
            if name in given:
                moment = datetime.fromisoformat(given[name])
                one[name] = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
        self._show_as(one, given)
        one["name"] = given.get("name", one.get("name"))

    def _show_as(self, one: dict[str, Any], given: dict[str, Any]) -> None:
        shown = {status["id"]: status["status"] for status in given.get("statuses", ())}
        named = set(shown) | set(given.get("components", ()))
        if not named <= set(self.components) or not set(shown.values()) <= set(SHOWN):
            raise _refused(400, "bad_request", "unknown component or status")
        one["components"] = sorted(named)
        self.components |= shown

    def _said(self, one: dict[str, Any], given: dict[str, Any], kind: str, at: str | None) -> None:
        if given.get("status") not in SAID[kind]:
            raise _refused(400, "bad_request", "unknown status")
        one["status"] = given["status"]
        self.notified += bool(given.get("notify", True))
        at = at or datetime.fromtimestamp(now_s()).astimezone().isoformat()
        one["updates"].append({"message": given["message"], "status": given["status"], "started": at})

    async def _say(self, request: web.Request) -> web.Response:
        given, one = await request.json(), self._one(request)
        if not given.get("message"):
            raise _refused(400, "bad_request", "message is required")
        self._show_as(one, given)
        self._said(one, given, request.match_info["kind"], given.get("started"))
        return web.json_response({"id": f"ck{self.new_id()}"})

    async def _change(self, request: web.Request) -> web.Response:
        given, one = await request.json(), self._one(request)
        self.notified += bool(given.get("notify", True))
        self._set(one, given, request.match_info["kind"])
        return web.json_response(self._whole(one))

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._whole(self._one(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        self._one(request)
        del self.kept[request.match_info["kind"]][request.match_info["id"]]
        return web.json_response({"id": request.match_info["id"]})

    def _one(self, request: web.Request) -> dict[str, Any]:
        found = self.kept[request.match_info["kind"]].get(request.match_info["id"])
        if found is None:
            raise _refused(404, "not_found", "no such incident")
        return found
