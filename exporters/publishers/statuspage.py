"""Atlassian Statuspage, API v1: realtime incidents and scheduled maintenance, marked as ours in their metadata. Not other pages' formats."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from evaluators.model import Post
from exporters.publishing import Api, differing, is_since, rfc3339
from rules.publishers.statuspage import StatuspagePublisher

RECENT: Final = "30"
"""Incidents of the list that a create may be among when nobody knows whether it arrived."""


class Statuspage:
    """One page there. Its incidents say in `metadata.upbeat` which of ours they are, and which step they were last told."""

    def __init__(self, api: Api, rule: StatuspagePublisher) -> None:
        self._api, self._page = api, f"/pages/{rule.page_id}"

    async def find(self, post: Post) -> str | None:
        """The one that carries our id: among the unresolved, then among the newest of all."""
        for path, query in (("/incidents/unresolved", {}), ("/incidents", {"limit": RECENT})):
            for there in await self._api.get(self._page + path, **query):
                if _marker(there).get("incident") == post.incident:
                    return str(there["id"])
        return None

    async def create(self, post: Post) -> str:
        """Make it, with its first update."""
        there = await self._api.send("POST", f"{self._page}/incidents", {"incident": self._created(post)})
        return self._api.named(there.get("id"))

    async def has(self, remote: str, post: Post) -> bool:
        """Whether the step it was last told is this one, or, if it lost that, one of its updates says the same since."""
        there = await self._api.get(f"{self._page}/incidents/{remote}")
        return _marker(there).get("step") == post.id or any(
            (said["status"], said["body"]) == (post.status, post.text)
            and is_since(datetime.fromisoformat(said["created_at"]).timestamp(), post)
            for said in there["incident_updates"]
        )

    async def update(self, remote: str, post: Post) -> None:
        """An update where something is said; of an edit only the name and the components."""
        await self._api.send("PATCH", f"{self._page}/incidents/{remote}", {"incident": self._changed(post)})

    async def delete(self, remote: str) -> None:
        """Take it away."""
        await self._api.send("DELETE", f"{self._page}/incidents/{remote}")

    async def check(self) -> tuple[str, Collection[str]]:
        """The page's name, and its components."""
        page = await self._api.get(self._page)
        components = await self._api.get(f"{self._page}/components", per_page="500")
        return str(page.get("name")), [one["id"] for one in components]

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Name, status, and what its components are shown as."""
        there = await self._api.get(f"{self._page}/incidents/{remote}")
        shown = {one["id"]: one["status"] for one in there.get("components", ())}
        return differing(
            ("title", there["name"], post.title),
            ("status", there["status"], post.status),
            *(
                (one, shown.get(one), status)
                for one, status in post.components.items()
                if not post.is_backfilled  # it took none then
            ),
        )

    def _created(self, post: Post) -> dict[str, Any]:
        incident = self._changed(post)
        if post.is_backfilled:  # components are not taken then
            day = datetime.fromtimestamp(post.began_at, UTC).date()
            incident |= {"backfilled": True, "backfill_date": day.isoformat()}
            del incident["components"], incident["component_ids"]
        return incident

    def _changed(self, post: Post) -> dict[str, Any]:
        incident: dict[str, Any] = {
            "name": post.title,
            "components": post.components,
            "component_ids": list(post.components),
            "deliver_notifications": post.notify,
            "metadata": {"upbeat": {"incident": post.incident, "step": post.id}},
        }
        if post.step != "edit":
            incident |= {"status": post.status, "body": post.text}
        if post.kind == "incident":
            incident["impact_override"] = post.impact
        elif post.starts_at is not None and post.ends_at is not None:
            incident |= {
                "scheduled_for": rfc3339(post.starts_at),
                "scheduled_until": rfc3339(post.ends_at),
                "scheduled_auto_in_progress": False,  # Upbeat says when it begins and ends
                "scheduled_auto_completed": False,
                "scheduled_remind_prior": False,
            }
        return incident


def _marker(there: dict[str, Any]) -> dict[str, Any]:
    return (there.get("metadata") or {}).get("upbeat") or {}
