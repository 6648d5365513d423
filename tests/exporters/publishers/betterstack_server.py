"""A local Better Stack with one status page: the rules of its API reference, JSON:API, the oldest report first, two a page when asked."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

PAGE = "123456"
MANUAL = {"resolved": "operational", "degraded": "degraded_performance", "downtime": "major_outage"}


def _wrong(**errors: str) -> Refusal:
    return Refusal(422, {"errors": {name: [said] for name, said in errors.items()}})


def _moment(text: str | None) -> float:
    return now_s() if text is None else datetime.fromisoformat(text).timestamp()


class BetterStackServer(SiteServer):
    component = "8822"
    most = 50

    def __init__(self) -> None:
        super().__init__()
        self.reports: dict[str, dict[str, Any]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        root = "/api/v2/status-pages/{page}"
        return [
            web.get(root, self._page),
            web.get(f"{root}/resources", self._resources),
            web.get(f"{root}/status-reports", self._list),
            web.post(f"{root}/status-reports", self._create),
            web.get(root + "/status-reports/{id}", self._show),
            web.patch(root + "/status-reports/{id}", self._change),
            web.delete(root + "/status-reports/{id}", self._delete),
            web.get(root + "/status-reports/{id}/status-updates", self._updates),
            web.post(root + "/status-reports/{id}/status-updates", self._say),
        ]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            raise Refusal(401, {"errors": "Invalid Team API token"})
        if request.match_info.get("page") != PAGE:
            raise Refusal(404, {"errors": "Resource with provided ID was not found"})

    def limited(self, wait: str) -> Refusal:
        return Refusal(429, {"errors": "Too many requests"}, {"Retry-After": wait})

    def seen(self) -> list[tuple[str, str, list[str]]]:
        return [
            (one["title"], self._status(one), [said["message"] for said in one["updates"]])
            for one in self.reports.values()
        ]

    def _status(self, one: dict[str, Any]) -> str:
        if one["report_type"] == "maintenance":
            begun = "in_progress" if one["starts_at"] <= now_s() else "scheduled"
            return "completed" if one["ends_at"] <= now_s() else begun
        is_over = all(status == "resolved" for status in one["affected"].values())
        return "resolved" if is_over else "open"

    def shown(self) -> str:
        for one in self.reports.values():
            if one["report_type"] == "maintenance":
                if self._status(one) == "in_progress" and self.component in one["affected"]:
                    return "under_maintenance"
            elif (status := one["affected"].get(self.component, "resolved")) != "resolved":
                return MANUAL[status]
        return "operational"

    def remove(self) -> None:
        self.reports.clear()

    async def _page(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"data": {"id": PAGE, "type": "status_page", "attributes": {"company_name": "Shop"}}}
        )

    async def _resources(self, request: web.Request) -> web.Response:
        if int(request.query.get("per_page", "50")) > 250:
            raise _wrong(per_page="is at most 250")
        data = [{"id": self.component, "type": "status_page_resource", "attributes": {"public_name": "Site"}}]
        return web.json_response({"data": data, "pagination": {"next": None}})

    async def _list(self, request: web.Request) -> web.Response:
        return self._part(request, [self._shape(one) for one in self.reports.values()])

    async def _updates(self, request: web.Request) -> web.Response:
        said = [
            {"id": one["id"], "type": "status_update", "attributes": one}
            for one in self._one(request)["updates"]
        ]
        return self._part(request, said)

    def _part(self, request: web.Request, data: list[Any]) -> web.Response:
        most = min(int(request.query.get("per_page", "50")), self.most)
        page, last = int(request.query.get("page", "1")), max(-(-len(data) // most), 1)

        def url(number: int) -> str:
            return f"{self.url}{request.path}?page={number}&per_page={most}"

        pagination = {"first": url(1), "last": url(last), "next": url(page + 1) if page < last else None}
        return web.json_response({"data": data[(page - 1) * most : page * most], "pagination": pagination})

    def _shape(self, one: dict[str, Any]) -> dict[str, Any]:
        at = {name: one[name] and _iso(one[name]) for name in ("starts_at", "ends_at")}
        affected = [
            {"status_page_resource_id": key, "status": status} for key, status in one["affected"].items()
        ]
        said = {"title": one["title"], "report_type": one["report_type"], "affected_resources": affected}
        return {"id": one["id"], "type": "status_report", "attributes": said | at}

    async def _create(self, request: web.Request) -> web.Response:
        given = await request.json()
        if not given.get("title") or not given.get("message"):
            raise _wrong(base="title and message are required")
        kind = given.get("report_type", "manual")
        if kind not in ("manual", "maintenance"):
            raise _wrong(report_type="is not included in the list")
        key = str(self.new_id())
        one = {"id": key, "title": given["title"], "report_type": kind, "updates": [], "affected": {}}
        self._time(one, given)
        self._said(one, given, notifies=True)
        self.reports[key] = one
        return web.json_response({"data": self._shape(one)}, status=201)

    def _time(self, one: dict[str, Any], given: dict[str, Any]) -> None:
        starts_at = _moment(given["starts_at"]) if "starts_at" in given else one.get("starts_at", now_s())
        ends_at = _moment(given["ends_at"]) if given.get("ends_at") else one.get("ends_at")
        if one["report_type"] == "maintenance" and (ends_at is None or ends_at <= starts_at):
            raise _wrong(ends_at="must be after starts_at")
        one |= {"starts_at": starts_at, "ends_at": ends_at}

    def _said(self, one: dict[str, Any], given: dict[str, Any], *, notifies: bool) -> None:
        affected = {
            each["status_page_resource_id"]: each["status"] for each in given.get("affected_resources", ())
        }
        allowed = {"maintenance"} if one["report_type"] == "maintenance" else set(MANUAL)
        if not affected or not set(affected) <= {self.component} or not set(affected.values()) <= allowed:
            raise _wrong(affected_resources="is invalid")
        one["affected"] |= affected
        self.notified += bool(given.get("notify_subscribers", notifies))
        published = _iso(_moment(given.get("published_at")))
        one["updates"].append(
            {"id": str(self.new_id()), "message": given["message"], "published_at": published}
        )

    async def _say(self, request: web.Request) -> web.Response:
        given, one = await request.json(), self._one(request)
        if not given.get("message"):
            raise _wrong(message="can't be blank")
        self._said(one, given, notifies=False)
        return web.json_response({"data": {"id": one["updates"][-1]["id"]}}, status=201)

    async def _change(self, request: web.Request) -> web.Response:
        given, one = await request.json(), self._one(request)
        if not set(given) <= {"title", "starts_at", "ends_at"}:
            raise _wrong(base="only title, starts_at and ends_at")
        self._time(one, given)
        one["title"] = given.get("title", one["title"])
        return web.json_response({"data": self._shape(one)})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self._shape(self._one(request))})

    async def _delete(self, request: web.Request) -> web.Response:
        del self.reports[self._one(request)["id"]]
        return web.Response(status=204)

    def _one(self, request: web.Request) -> dict[str, Any]:
        if request.match_info["id"] not in self.reports:
            raise Refusal(404, {"errors": "Resource with provided ID was not found"})
        return self.reports[request.match_info["id"]]


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s).astimezone().isoformat(timespec="milliseconds")
