"""Better Stack's status reports, API v2: manual ones and maintenance, with status updates. Not its incidents, which alert whoever is on call.

A report has no status: it lasts while one of its resources is not resolved; maintenance lasts as long as it says. It has no
room for a marker: a report is ours that is called the same and starts at the same moment, which Upbeat sets.
From memory: `published_at` of later updates, `page` and `per_page`, DELETE, which resources a page lists.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from evaluators.model import Post
from exporters.publishing import Api, began_at, differing, epoch_s, is_since, is_then, rfc3339, window
from rules.publishers.betterstack import BetterStackPublisher

RESOURCE: Final = {"operational": "resolved", "major_outage": "downtime"}
"""All else is degraded."""
MANY: Final = "50"


class BetterStack:
    """One page there."""

    def __init__(self, api: Api, rule: BetterStackPublisher) -> None:
        self._api, self._page = api, f"/status-pages/{rule.page_id}"
        self._reports = f"{self._page}/status-reports"

    async def find(self, post: Post) -> str | None:
        """The one so called that starts when ours does: a moment that Upbeat said to the millisecond."""
        async for there in self._listed(self._reports):
            said = there["attributes"]
            if said["title"] == post.title and is_then(said["starts_at"], began_at(post)):
                return str(there["id"])
        return None

    async def create(self, post: Post) -> str:
        """Make it, with its first update."""
        kind = "manual" if post.kind == "incident" else "maintenance"
        body = (
            self._said(post) | self._changed(post) | {"report_type": kind, "message": post.text or post.title}
        )
        there = await self._api.send("POST", self._reports, body)
        return self._api.named(there.get("data", {}).get("id"))

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since."""
        async for there in self._listed(f"{self._reports}/{remote}/status-updates"):
            said = there["attributes"]
            if said["message"] == post.text and is_since(epoch_s(said["published_at"]), post):
                return True
        return False

    async def update(self, remote: str, post: Post) -> None:
        """The title and when it is, then what is said: resources can be set only by saying something."""
        await self._api.send("PATCH", f"{self._reports}/{remote}", self._changed(post))
        if post.step != "edit":
            body = self._said(post) | {"message": post.text}
            await self._api.send("POST", f"{self._reports}/{remote}/status-updates", body)

    async def delete(self, remote: str) -> None:
        """Take it away."""
        await self._api.send("DELETE", f"{self._reports}/{remote}")

    async def check(self) -> tuple[str, Collection[str] | None]:
        """The company that the page names, and its resources where the list has all of them."""
        page = await self._api.get(self._page)
        listed = await self._api.get(f"{self._page}/resources", per_page="250")
        called = str(page["data"]["attributes"]["company_name"])
        is_part = (listed.get("pagination") or {}).get("next")
        return called, None if is_part else [str(one["id"]) for one in listed["data"]]

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Title, and what its resources are shown as."""
        there = (await self._api.get(f"{self._reports}/{remote}"))["data"]["attributes"]
        shown, wanted = _affected(there), _affected(self._said(post))
        return differing(
            ("title", there["title"], post.title),
            *((f"resource {one}", shown.get(one), status) for one, status in wanted.items()),
        )

    def _said(self, post: Post) -> dict[str, Any]:
        """What every update says besides its message. Who is notified is always said: what is left out differs by request."""
        is_maintenance = post.kind == "maintenance"
        return {
            "affected_resources": [
                {
                    "status_page_resource_id": one,
                    "status": "maintenance" if is_maintenance else RESOURCE.get(status, "degraded"),
                }
                for one, status in post.components.items()
            ],
            "notify_subscribers": post.notify,
            "published_at": rfc3339(post.at),
        }

    def _changed(self, post: Post) -> dict[str, Any]:
        """What can be set without saying anything."""
        ends_at = {"ends_at": rfc3339(window(post)[1])} if post.kind == "maintenance" else {}
        return {"title": post.title, "starts_at": rfc3339(began_at(post))} | ends_at

    async def _listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The first part of a list and its last two: whichever way it is sorted, the newest are among them."""
        first = await self._api.get(path, per_page=MANY)
        for there in first["data"]:
            yield there
        last = int(
            parse_qs(urlsplit((first.get("pagination") or {}).get("last") or "").query).get("page", ["1"])[0]
        )
        for page in range(max(last - 1, 2), last + 1):
            for there in (await self._api.get(path, per_page=MANY, page=str(page)))["data"]:
                yield there


def _affected(said: Mapping[str, Any]) -> dict[str, str]:
    return {str(one["status_page_resource_id"]): one["status"] for one in said["affected_resources"]}
