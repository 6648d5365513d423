"""Instatus, API v1: incidents and maintenances with updates, and what components are shown as in each. Not its templates or subscribers.

It has no room for a marker: an incident is ours that is called the same and began at the same moment, which Upbeat sets.
From memory: which of `PUT`'s fields may be left out, that lists begin with the newest, VERIFYING as a status of maintenance,
that minutes of `duration` are whole.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from evaluators.model import Post
from exporters.publishing import Api, began_at, differing, epoch_s, is_since, is_then, rfc3339, window
from rules.publishers.instatus import InstatusPublisher

MAINTENANCE: Final = {
    "scheduled": "NOTSTARTEDYET",
    "in_progress": "INPROGRESS",
    "verifying": "VERIFYING",
    "completed": "COMPLETED",
}
KEPT: Final = {
    "incident": ("incidents", "started", "RESOLVED"),
    "maintenance": ("maintenances", "start", "COMPLETED"),
}
"""Of each kind: its path, when it began, what it is once it is over."""
RECENT: Final = "50"


class Instatus:
    """One page there. What it calls an incident is its path, `incidents/x` or `maintenances/x`."""

    def __init__(self, api: Api, rule: InstatusPublisher) -> None:
        self._api, self._id, self._page = api, rule.page_id, f"/v1/{rule.page_id}"

    async def find(self, post: Post) -> str | None:
        """The one so called that began when ours did: a moment that Upbeat said to the millisecond."""
        kind, began, over = KEPT[post.kind]
        # What lasts, however the list is sorted; then the newest of all.
        for query in ({"!status": over}, {}):
            for there in await self._api.get(f"{self._page}/{kind}", page="1", per_page=RECENT, **query):
                if there["name"] == post.title and is_then(there[began], began_at(post)):
                    return f"{kind}/{there['id']}"
        return None

    async def create(self, post: Post) -> str:
        """Make it; its message is the first update."""
        body = self._said(post) | self._changed(post) | {"message": post.text or post.title}
        there = await self._api.send("POST", f"{self._page}/{post.kind}s", body)
        return f"{post.kind}s/{self._api.named(there.get('id'))}"

    async def has(self, remote: str, post: Post) -> bool:
        """Whether one of its updates says the same since."""
        updates = (await self._api.get(f"{self._page}/{remote}"))["updates"]
        return any(one["message"] == post.text and is_since(epoch_s(one["started"]), post) for one in updates)

    async def update(self, remote: str, post: Post) -> None:
        """The name, when it is and what components are shown as, then what is said."""
        silent = {"notify": False, **self._changed(post)}
        await self._api.send("PUT", f"{self._page}/{remote}", silent)
        if post.step != "edit":
            body = self._said(post) | {"message": post.text, "started": rfc3339(post.at)}
            await self._api.send("POST", f"{self._page}/{remote}/{post.kind}-updates", body)

    async def delete(self, remote: str) -> None:
        """Take it away."""
        await self._api.send("DELETE", f"{self._page}/{remote}")

    async def check(self) -> tuple[str, Collection[str] | None]:
        """The page's name, and its components where the list has all of them."""
        pages = await self._api.get("/v1/pages", page="1", per_page="100")
        components = await self._api.get(f"{self._page}/components", page="1", per_page="100")
        called = next((page["name"] for page in pages if page["id"] == self._id), "Instatus answers")
        return called, [one["id"] for one in components] if len(components) < 100 else None

    async def differences(self, remote: str, post: Post) -> Sequence[str]:
        """Name, status, and what its components are shown as."""
        there = await self._api.get(f"{self._page}/{remote}")
        shown = {one["id"]: one["status"] for one in there["components"]}
        return differing(
            ("title", there["name"], post.title),
            ("status", there["status"], _status(post)),
            *((one["id"], shown.get(one["id"]), one["status"]) for one in _statuses(post)),
        )

    def _said(self, post: Post) -> dict[str, Any]:
        """What every update says besides its message."""
        return {
            "status": _status(post),
            "notify": post.notify,
            "components": list(post.components),
            "statuses": _statuses(post),
        }

    def _changed(self, post: Post) -> dict[str, Any]:
        """What can be set without saying anything."""
        body = {"name": post.title, "components": list(post.components), "statuses": _statuses(post)}
        if post.kind == "incident":
            return body | {"started": rfc3339(post.began_at)}
        starts_at, ends_at = window(post)
        minutes = max(round((ends_at - starts_at) / 60), 1)
        # Upbeat says when it begins and ends, and to whom.
        alone = dict.fromkeys(("autoStart", "autoEnd", "notifyStart", "notifyEnd", "notifyEarly"), False)
        return body | alone | {"start": rfc3339(starts_at), "duration": minutes}


def _status(post: Post) -> str:
    return post.status.upper() if post.kind == "incident" else MAINTENANCE[post.status]


def _statuses(post: Post) -> list[dict[str, str]]:
    """DEGRADEDPERFORMANCE and the like: our words without the line between."""
    return [{"id": one, "status": status.replace("_", "").upper()} for one, status in post.components.items()]
