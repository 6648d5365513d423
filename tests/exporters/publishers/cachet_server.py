"""A local Cachet of either version: the rules that their API code enforces. Times are UTC without saying so."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

INCIDENT: Final = {1: "investigating", 2: "identified", 3: "monitoring", 4: "resolved"}
SCHEDULE: Final = {0: "scheduled", 1: "in_progress", 2: "completed"}
SHOWN: Final = {
    1: "operational",
    2: "degraded_performance",
    3: "partial_outage",
    4: "major_outage",
    6: "under_maintenance",
}


class Cachet2Server(SiteServer):
    component = "7"
    root = "/api/v1"
    component_statuses: tuple[int, ...] = (0, 1, 2, 3, 4)
    clock = "%Y-%m-%d %H:%M"

    def __init__(self) -> None:
        super().__init__()
        self.components = {7: 1, 8: 1}
        self.kept: dict[str, dict[int, dict[str, Any]]] = {"incidents": {}, "schedules": {}}
        self.updates: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.shows_meta = True

    def routes(self) -> Iterable[web.RouteDef]:
        one = self.root + r"/{kind:incidents|schedules}/{id:\d+}"
        return [
            web.get(self.root + "/components", self._components),
            web.put(self.root + r"/components/{id:\d+}", self._show),
            web.get(self.root + "/{kind:incidents|schedules}", self._list),
            web.post(self.root + "/{kind:incidents|schedules}", self._create),
            web.get(one, self._get),
            web.put(one, self._update),
            web.delete(one, self._delete),
            web.get(one + "/updates", self._said),
            web.post(one + "/updates", self._say),
        ]

    # ---- what differs between the versions

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("X-Cachet-Token") != KEY:
            raise self.refuse(401, "You are not authorized to perform this action.")

    def refuse(self, status: int, said: str) -> Refusal:
        return Refusal(status, {"errors": [{"id": "1", "status": status, "title": said, "detail": said}]})

    def limited(self, wait: str) -> Refusal:
        status, body, _ = self.refuse(429, "Too Many Attempts.").answer
        return Refusal(status, body, {"Retry-After": wait})

    def wrong(self, said: str) -> Refusal:
        return self.refuse(400, said)

    def resource(self, kind: str, there: dict[str, Any]) -> dict[str, Any]:
        meta = {"meta": there["meta"]} if self.shows_meta else {}
        return {key: value for key, value in there.items() if key != "meta"} | meta

    def check(self, kind: str, given: dict[str, Any], is_new: bool) -> None:
        """Raises what a wrong request is answered."""
        if is_new and not (given.get("name") and given.get("message")):
            raise self.wrong("The name and message fields are required.")
        if kind == "schedules":
            if given.get("status") not in SCHEDULE:
                raise self.wrong("The status is invalid.")
        elif is_new and given.get("status") not in INCIDENT:
            raise self.wrong("The status is invalid.")
        if kind == "incidents" and not isinstance(given.get("stickied"), bool):
            raise self.wrong("The stickied field is required.")
        if ("component_id" in given) != ("component_status" in given):
            raise self.wrong("The component status field is required when component id is present.")

    # ---- what both have

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (
                there["name"],
                (INCIDENT if kind == "incidents" else SCHEDULE)[self.status_of(kind, there)],
                [there["message"], *(said["message"] for said in self.updates[kind, key])],
            )
            for kind, listed in self.kept.items()
            for key, there in listed.items()
            if there.get("visible", 1)
        ]

    def status_of(self, _: str, there: dict[str, Any]) -> int:
        return int(there["status"])

    def shown(self) -> str:
        return SHOWN[self.components[7]]

    def remove(self) -> None:
        for listed in self.kept.values():
            listed.clear()

    async def _components(self, _: web.Request) -> web.Response:
        listed = [{"id": one, "name": "A", "status": status} for one, status in self.components.items()]
        return web.json_response(
            {"data": [self.resource("components", one | {"meta": {}}) for one in listed]}
        )

    async def _show(self, request: web.Request) -> web.Response:
        component, status = int(request.match_info["id"]), (await request.json()).get("status")
        if component not in self.components:
            raise self.refuse(404, "Not Found")
        if status not in self.component_statuses:
            raise self.wrong("The status is invalid.")
        self.components[component] = status
        return web.json_response({"data": {"id": component, "status": status}})

    async def _list(self, request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        is_newest = request.query.get("order") == "desc" or request.query.get("sort", "").startswith("-")
        listed = sorted(self.kept[kind].values(), key=lambda one: int(one["id"]), reverse=is_newest)
        listed = listed[: int(request.query.get("per_page", "20"))]
        return web.json_response({"data": [self.resource(kind, one) for one in listed]})

    async def _get(self, request: web.Request) -> web.Response:
        kind, there = self._one(request)
        return web.json_response({"data": self.resource(kind, there)})

    def _one(self, request: web.Request) -> tuple[str, dict[str, Any]]:
        kind, key = request.match_info["kind"], int(request.match_info["id"])
        if key not in self.kept[kind]:
            raise self.refuse(404, "Not Found")
        return kind, self.kept[kind][key]

    async def _create(self, request: web.Request) -> web.Response:
        kind, given = request.match_info["kind"], await request.json()
        self.check(kind, given, is_new=True)
        if kind == "schedules" and not given.get("scheduled_at"):
            raise self.wrong("The scheduled at field is required.")
        given |= self._times(given)
        key = self.new_id()
        self.kept[kind][key] = {"id": key, "meta": {}, "created_at": _now()} | given
        self.updates[kind, key] = []
        self.notified += bool(given.get("notify", given.get("notifications")))
        return web.json_response({"data": self.resource(kind, self.kept[kind][key])}, status=self.made)

    made = 200

    def _times(self, given: dict[str, Any]) -> dict[str, str]:
        """Of the one form that is understood; another is no wrong request but breaks it."""
        try:
            return {
                name: str(datetime.strptime(given[name], self.clock))  # UTC without saying so
                for name in ("scheduled_at", "completed_at", "occurred_at")
                if name in given
            }
        except ValueError:
            raise self.refuse(500, "Trailing data") from None

    def notifies(self, kind: str, there: dict[str, Any]) -> bool:
        """Whether what is said of it is mailed: always."""
        return kind == "incidents" and bool(there["visible"])

    async def _update(self, request: web.Request) -> web.Response:
        kind, there = self._one(request)
        given = await request.json()
        self.check(kind, given, is_new=False)
        there |= given | self._times(given)
        return web.json_response({"data": self.resource(kind, there)})

    async def _delete(self, request: web.Request) -> web.Response:
        kind, there = self._one(request)
        del self.kept[kind][there["id"]]
        return web.Response(status=204)

    async def _said(self, request: web.Request) -> web.Response:
        kind, there = self._one(request)
        listed = self.updates[kind, there["id"]][::-1]
        return web.json_response({"data": [self.resource("updates", one | {"meta": {}}) for one in listed]})

    async def _say(self, request: web.Request) -> web.Response:
        kind, there = self._one(request)
        given = await request.json()
        if (kind == "incidents" and given.get("status") not in INCIDENT) or not given.get("message"):
            raise self.wrong("The status and message fields are required.")
        if kind == "incidents":
            there["status"] = given["status"]
        self.notified += self.notifies(kind, there)
        said = {"id": self.new_id(), "created_at": _now(), "status": given.get("status")}
        self.updates[kind, there["id"]].append(said | {"message": given["message"]})
        return web.json_response({"data": self.resource("updates", said | {"meta": {}})}, status=self.made)


class Cachet3Server(Cachet2Server):
    root = "/api"
    component_statuses = (1, 2, 3, 4, 5, 6)
    clock = "%Y-%m-%d %H:%M:%S"
    made = 201

    def shown(self) -> str:
        """As the newest incident that lasts said of it when that was made, whatever was said since."""
        for one in reversed(self.kept["incidents"].values()):
            said = {each["id"]: each["status"] for each in one.get("components", ())}
            if one["status"] != 4 and 7 in said:
                return SHOWN[said[7]]
        return super().shown()

    def notifies(self, kind: str, there: dict[str, Any]) -> bool:
        return kind == "incidents" and bool(there["visible"] and there.get("notifications"))

    def authenticate(self, request: web.Request) -> None:
        if request.method != "GET" and request.headers.get("Authorization") != f"Bearer {KEY}":
            raise self.refuse(401, "Unauthenticated.")

    def refuse(self, status: int, said: str) -> Refusal:
        return Refusal(status, {"message": said})

    def wrong(self, said: str) -> Refusal:
        return Refusal(422, {"message": said, "errors": {"": [said]}})

    def resource(self, kind: str, there: dict[str, Any]) -> dict[str, Any]:
        fields = super().resource(kind, there)
        for name in ("created", "occurred", "scheduled", "completed"):
            fields[name] = {"human": "now", "string": fields.pop(f"{name}_at", None)}
        if kind in {"incidents", "updates"}:
            fields["status"] = {"human": "Status", "value": fields.get("status")}
        if kind == "schedules":
            fields.pop("meta", None)
        return {"id": str(fields.pop("id")), "type": kind, "attributes": fields}

    def check(self, kind: str, given: dict[str, Any], is_new: bool) -> None:
        if is_new and not (given.get("name") and given.get("message")):
            raise self.wrong("The name and message fields are required.")
        if len(given.get("name", "")) > 255:
            raise self.wrong("The name field must not be greater than 255 characters.")
        if kind == "incidents" and is_new and given.get("status") not in INCIDENT:
            raise self.wrong("The selected status is invalid.")
        for one in given.get("components", ()):
            if one["id"] not in self.components or one["status"] not in self.component_statuses:
                raise self.wrong("The selected components.0.id is invalid.")
        if is_new and kind == "incidents":
            given.setdefault("visible", 0)  # a draft, unless it is said otherwise

    def status_of(self, kind: str, there: dict[str, Any]) -> int:
        if kind == "incidents":
            return super().status_of(kind, there)
        if there["scheduled_at"] > _now():
            return 0
        return 2 if there["completed_at"] <= _now() else 1


def _now() -> str:
    return datetime.fromtimestamp(now_s(), UTC).strftime("%Y-%m-%d %H:%M:%S")
