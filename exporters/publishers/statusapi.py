"""The small status API: incidents that are told and resolved, and what components are shown as. It knows no edit, removal or maintenance.

It has no room for a marker: what an earlier try made is looked up by title and time.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from evaluators.model import Post
from exporters.publishing import Api, differing, is_since
from rules.publishers.statusapi import StatusApiPublisher

COMPONENT: Final = {"degraded_performance": "degraded", "under_maintenance": "maintenance"}
"""All else it calls as we do."""
NOTHING: Final = "components"
"""What maintenance is called there: it is no incident, its components are shown so."""


class StatusApi:
    """The page that the key is for."""

    def __init__(self, api: Api, _: StatusApiPublisher) -> None:
        self._api = api

    async def find(self, post: Post) -> str | None:
        """The newest of those that last that is so called and was made since this step was taken."""
        if post.kind == "maintenance":
            return None
        listed = (await self._api.get("/api/v1/incidents", status="active"))["incidents"]
        alike = [one for one in listed if one["title"] == post.title and is_since(_made_s(one), post)]
        return str(max(alike, key=_made_s)["_id"]) if alike else None

    async def create(self, post: Post) -> str:
        """Make it: it begins as `investigating`, whatever it is by now; the next update says that."""
        await self._show(post)
        if post.kind == "maintenance":
            return NOTHING
        body = {
            "title": post.title,
            "severity": "minor" if post.impact == "none" else post.impact,
            "message": post.text or post.title,
            "affectedComponentIds": list(post.components),
        }
        there = await self._api.send("POST", "/api/v1/incidents", body)
        return self._api.named(there.get("incident", {}).get("_id"))

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since. Components are the same in every try."""
        if remote == NOTHING:
            return False
        updates = (await self._there(remote))["updates"]
        return any(one["message"] == post.text and is_since(_made_s(one), post) for one in updates)

    async def update(self, remote: str, post: Post) -> None:
        """What components are shown as, then what is said."""
        await self._show(post)
        if post.step == "edit" or remote == NOTHING:
            return
        if post.status == "resolved":
            await self._resolve(remote, {"message": post.text})
        else:
            body = {"status": post.status, "message": post.text}
            await self._api.send("POST", "/api/v1/incidents/updates", body, incidentId=remote)

    async def delete(self, remote: str) -> None:
        """Nothing can be taken away: what is not over is resolved without a word, once, as that is told to all."""
        if remote != NOTHING and (await self._there(remote))["incident"]["status"] != "resolved":
            await self._resolve(remote, {})

    async def check(self) -> tuple[str, Collection[str]]:
        """The page's name, and its components."""
        page = await self._api.get("/api/v1/status")
        return str(page.get("name")), list(await self._shown())

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Title, status, and what its components are shown as."""
        shown = await self._shown()
        lines = differing(
            *((one, shown.get(one), COMPONENT.get(status, status)) for one, status in post.components.items())
        )
        if remote == NOTHING:
            return lines
        there = (await self._there(remote))["incident"]
        status = ("status", there["status"], post.status)
        return [*differing(("title", there["title"], post.title), status), *lines]

    async def _show(self, post: Post) -> None:
        for one, status in post.components.items():
            body = {"status": COMPONENT.get(status, status)}
            await self._api.set(
                "PATCH", "/api/v1/components/status", body, f"component {one}", componentId=one
            )

    async def _shown(self) -> dict[str, Any]:
        listed = (await self._api.get("/api/v1/components"))["components"]
        return {one["_id"]: one["status"] for one in listed}

    async def _there(self, remote: str) -> dict[str, Any]:
        return dict(await self._api.get("/api/v1/incidents/detail", id=remote))

    async def _resolve(self, remote: str, body: dict[str, str]) -> None:
        await self._api.send("POST", "/api/v1/incidents/resolve", body, incidentId=remote)


def _made_s(there: dict[str, Any]) -> float:
    return float(there["createdAt"]) / 1000
