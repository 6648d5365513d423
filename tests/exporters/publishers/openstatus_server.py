"""A local OpenStatus with one page: its Connect RPCs as JSON, validated as its proto says. Nothing notifies unless asked."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from aiohttp import web

from tests.exporters.publishers.site_server import KEY, Refusal, SiteServer, now_s

PAGE = "17"
STATUSES = {
    f"STATUS_REPORT_STATUS_{word.upper()}": word
    for word in ("investigating", "identified", "monitoring", "resolved")
}
IMPACTS = {
    f"PAGE_COMPONENT_IMPACT_{word.upper()}": word
    for word in ("operational", "degraded_performance", "partial_outage", "major_outage")
}
CODES = {"unauthenticated": 401, "not_found": 404, "invalid_argument": 400, "resource_exhausted": 429}
READS = ("Get", "List")


def _failed(code: str, message: str, headers: dict[str, str] | None = None) -> Refusal:
    return Refusal(CODES[code], {"code": code, "message": message}, headers)


class OpenStatusServer(SiteServer):
    component = "31"

    def __init__(self) -> None:
        super().__init__()
        self.reports: dict[str, dict[str, Any]] = {}
        self.maintenances: dict[str, dict[str, Any]] = {}

    def routes(self) -> Iterable[web.RouteDef]:
        path = "/rpc/openstatus.{service}/{method}"
        return [web.get(path, self._read), web.post(path, self._rpc)]

    def authenticate(self, request: web.Request) -> None:
        if request.headers.get("x-openstatus-key") != KEY:
            raise _failed("unauthenticated", "Invalid API key")

    def limited(self, wait: str) -> Refusal:
        return _failed("resource_exhausted", "slow down", {"Retry-After": wait})

    def seen(self) -> list[tuple[str, str, list[str]]]:
        reports = [
            (one["title"], STATUSES[one["status"]], [said["message"] for said in one["updates"]])
            for one in self.reports.values()
        ]
        return reports + [(one["title"], _stage(one), [one["message"]]) for one in self.maintenances.values()]

    def shown(self) -> str:
        if any(_stage(one) == "in_progress" for one in self.maintenances.values()):
            return "under_maintenance"
        for one in self.reports.values():
            for impact in one["updates"][-1].get("componentImpacts", ()):
                if (
                    impact["pageComponentId"] == self.component
                    and one["status"] != "STATUS_REPORT_STATUS_RESOLVED"
                ):
                    return IMPACTS[impact["impact"]]
        return "operational"

    def remove(self) -> None:
        self.reports.clear()
        self.maintenances.clear()

    async def _read(self, request: web.Request) -> web.Response:
        if not request.match_info["method"].startswith(READS) or request.query.get("encoding") != "json":
            return web.Response(status=405)
        return self._called(request, json.loads(request.query["message"]))

    async def _rpc(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415)
        return self._called(request, await request.json())

    def _called(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        calls: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "status_report.v1.StatusReportService/CreateStatusReport": self._create_report,
            "status_report.v1.StatusReportService/GetStatusReport": lambda m: {
                "statusReport": self._report(m["id"])
            },
            "status_report.v1.StatusReportService/ListStatusReports": self._list_reports,
            "status_report.v1.StatusReportService/UpdateStatusReport": self._update_report,
            "status_report.v1.StatusReportService/DeleteStatusReport": self._delete_report,
            "status_report.v1.StatusReportService/AddStatusReportUpdate": self._add_update,
            "maintenance.v1.MaintenanceService/CreateMaintenance": self._create_maintenance,
            "maintenance.v1.MaintenanceService/GetMaintenance": lambda m: {
                "maintenance": self._maintenance(m["id"])
            },
            "maintenance.v1.MaintenanceService/ListMaintenances": self._list_maintenances,
            "maintenance.v1.MaintenanceService/UpdateMaintenance": self._update_maintenance,
            "maintenance.v1.MaintenanceService/DeleteMaintenance": self._delete_maintenance,
            "status_page.v1.StatusPageService/GetStatusPageContent": self._content,
        }
        call = calls.get(f"{request.match_info['service']}/{request.match_info['method']}")
        if call is None:
            raise Refusal(404, {"error": "Not found"})
        return web.json_response(call(message))

    def _content(self, message: dict[str, Any]) -> dict[str, Any]:
        self._page(message.get("id"))
        component = {
            "id": self.component,
            "pageId": PAGE,
            "name": "Site",
            "type": "PAGE_COMPONENT_TYPE_STATIC",
        }
        return {"statusPage": {"id": PAGE, "title": "Shop", "slug": "shop"}, "components": [component]}

    def _create_report(self, message: dict[str, Any]) -> dict[str, Any]:
        self._titled(message)
        self._page(message.get("pageId"))
        self._components(message.get("pageComponentIds", []))
        key = str(self.new_id())
        kept = {"id": key, "title": message["title"], "pageComponentIds": message.get("pageComponentIds", [])}
        self._said(kept | {"updates": []}, message)
        return {"statusReport": self.reports[key]}

    def _said(self, report: dict[str, Any], message: dict[str, Any]) -> None:
        if message.get("status") not in STATUSES or not message.get("message"):
            raise _failed("invalid_argument", "status and message are required")
        impacts = message.get("componentImpacts", [])
        if any(impact["impact"] not in IMPACTS for impact in impacts):
            raise _failed("invalid_argument", "impact")
        self._components([impact["pageComponentId"] for impact in impacts])
        said = {"id": str(self.new_id()), "status": message["status"], "message": message["message"]}
        said |= {"date": _utc(message.get("date")), "componentImpacts": impacts}
        self.notified += bool(message.get("notify", False))
        self.reports[report["id"]] = report | {
            "status": message["status"],
            "updates": [*report["updates"], said],
        }

    def _add_update(self, message: dict[str, Any]) -> dict[str, Any]:
        report = self._report(message["statusReportId"])
        self._said(report, message)
        return {"statusReport": self.reports[report["id"]]}

    def _update_report(self, message: dict[str, Any]) -> dict[str, Any]:
        report = self._report(message["id"])
        if message.get("updatePageComponentIds"):
            self._components(message.get("pageComponentIds", []))
            report["pageComponentIds"] = message.get("pageComponentIds", [])
        report["title"] = message.get("title", report["title"])
        return {"statusReport": report}

    def _delete_report(self, message: dict[str, Any]) -> dict[str, Any]:
        del self.reports[self._report(message["id"])["id"]]
        return {"success": True}

    def _list_reports(self, message: dict[str, Any]) -> dict[str, Any]:
        self._limited(message)
        kept = ("id", "status", "title")  # a summary: no updates
        found = [{name: one[name] for name in kept} for one in self.reports.values()][::-1]
        return {"statusReports": found[: message.get("limit", 50)], "totalSize": len(found)} if found else {}

    def _create_maintenance(self, message: dict[str, Any]) -> dict[str, Any]:
        self._titled(message)
        self._page(message.get("pageId"))
        key = str(self.new_id())
        self._keep({"id": key}, message)
        self.notified += bool(message.get("notify", False))
        return {"maintenance": self.maintenances[key]}

    def _keep(self, one: dict[str, Any], message: dict[str, Any]) -> None:
        one = one | {
            name: message[name] for name in ("title", "message", "pageComponentIds") if name in message
        }
        one |= {name: _utc(message[name]) for name in ("from", "to") if name in message}
        self._components(one.get("pageComponentIds", []))
        if not one.get("message") or datetime.fromisoformat(one["to"]) <= datetime.fromisoformat(one["from"]):
            raise _failed("invalid_argument", "message is required, and to after from")
        self.maintenances[one["id"]] = one

    def _update_maintenance(self, message: dict[str, Any]) -> dict[str, Any]:
        self._keep(self._maintenance(message["id"]), message)
        return {"maintenance": self.maintenances[message["id"]]}

    def _delete_maintenance(self, message: dict[str, Any]) -> dict[str, Any]:
        del self.maintenances[self._maintenance(message["id"])["id"]]
        return {"success": True}

    def _list_maintenances(self, message: dict[str, Any]) -> dict[str, Any]:
        self._limited(message)
        found = list(self.maintenances.values())[::-1]
        return {"maintenances": found, "totalSize": len(found)} if found else {}

    @staticmethod
    def _limited(message: dict[str, Any]) -> None:
        if not 1 <= message.get("limit", 50) <= 100:
            raise _failed("invalid_argument", "limit is 1 to 100")

    @staticmethod
    def _titled(message: dict[str, Any]) -> None:
        if not 1 <= len(message.get("title", "")) <= 256:
            raise _failed("invalid_argument", "title is 1 to 256 characters")

    @staticmethod
    def _page(page: str | None) -> None:
        if page != PAGE:
            raise _failed("not_found", "no such page")

    def _components(self, ids: list[str]) -> None:
        if not set(ids) <= {self.component}:
            raise _failed("not_found", "no such component")

    def _report(self, key: str) -> dict[str, Any]:
        if key not in self.reports:
            raise _failed("not_found", "no such report")
        return self.reports[key]

    def _maintenance(self, key: str) -> dict[str, Any]:
        if key not in self.maintenances:
            raise _failed("not_found", "no such maintenance")
        return self.maintenances[key]


def _stage(one: dict[str, Any]) -> str:
    begins, ends = (datetime.fromisoformat(one[name]).timestamp() for name in ("from", "to"))
    begun = "in_progress" if begins <= now_s() else "scheduled"
    return "completed" if ends <= now_s() else begun


def _utc(text: str | None) -> str:
    moment = datetime.fromisoformat(text) if text else datetime.fromtimestamp(now_s()).astimezone()
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
