"""The demo running: the shop, the real server in this process, and the story that goes on with what the server says."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api.context import Guide
from api.people import LOGIN_PATH
from engine.browser.find import find_chromium
from engine.browser.sandbox import confinement
from engine.store import people
from engine.store.audit import Actor
from engine.store.database import transaction
from upbeat.cli.client import Client, with_client
from upbeat.cli.local import serving
from upbeat.demo.script import APPROVED, Pace, Phase, Seen, Story, advance, is_down, is_mute, is_slow, tell
from upbeat.demo.shop import BEFORE, GROUP, INBOX, JOURNEY, LATE, ON_TIME, config_text
from upbeat.demo.targets import Targets
from upbeat.serve import Running
from upbeat.settings import DEFAULT_PORT, ServeSettings

LOOK_S: Final = 0.25
INTERVAL_S: Final = 5.0
APPROVING_S: Final = 120.0
"""How long `--approve` waits for the end of the first round."""

_OF_BROWSERS: Final = ("PATH", "HOME", "PLAYWRIGHT_BROWSERS_PATH", "UPBEAT_CHROMIUM")
_ACTOR: Final = Actor("demo", "cli")
_SAID: Final = {
    Phase.HELLO: "The page is open. All is well, for a moment.",
    Phase.SLOW: "The search becomes slow.",
    Phase.OUTAGE: "The database stops answering, and the checkout fails.",
    Phase.RECOVERING: "The shop is back.",
    Phase.REPORTED: "The parcel service posts that it is late.",
    Phase.CALM: "It is over. It begins again soon.",
    Phase.UNATTENDED: "Nobody approved the draft. The shop is back.",
}
_MUTE: Final = "A release breaks the pay button: every address answers as before, and nobody can buy."
_NO_BROWSER: Final = "No browser beat today: {}. The story goes on without; for it: apt-get install chromium-headless-shell bubblewrap"
_POSTED: Final[dict[Phase, dict[str, str]]] = {Phase.REPORTED: LATE, Phase.CALM: ON_TIME}
"""By the parcel service, when a phase begins."""

_TOLD: Final = {"open": "operators told", "recovery": "operators told of recovery"}
_DECIDED: Final = dict.fromkeys(APPROVED, "approved: customers are told on the status page")


@dataclass(frozen=True, slots=True)
class Options:
    """How the demo was asked for. `folder` None: a temporary one, removed at the end."""

    host: str
    port: int | None = None
    folder: Path | None = None
    approve: bool = False
    factor: float = 1.0


class Demo:
    """One demo. `say` gets calm lines about what happens."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.moments: dict[str, float] = {}  # of the last round
        self.is_complete = False
        self._options, self._say = options, say
        self._pace = Pace().scaled(options.factor)
        self._targets = Targets(self._heard)
        self._story, self._is_open = Story(), options.approve
        self._told: list[str] = []  # in this round, without drafts: those the guide tells itself
        self._seen, self._has_browser = Seen(0.0), False

    async def run(self) -> None:
        """Until Ctrl-C; with `approve` until the first incident is resolved. Leaves nothing behind."""
        try:
            await self._targets.start()
            self._has_browser = await self._find_browser()
            with _place(self._options.folder) as folder:
                config = folder / "upbeat.yaml"
                interval_s = max(1.0, INTERVAL_S * self._options.factor)
                config.write_text(
                    config_text(self._targets, interval_s, has_browser=self._has_browser), "utf-8"
                )
                settings = ServeSettings(
                    config=config,
                    data=folder / "data",
                    host=self._options.host,
                    port=_port(self._options),
                    log_format="text",
                    environment={name: os.environ[name] for name in _OF_BROWSERS if name in os.environ},
                )
                with (folder / "demo.log").open("a") as log, contextlib.redirect_stderr(log):
                    await serving(settings, guide=self.guide, then=self._play)
        finally:
            await self._targets.stop()

    async def _find_browser(self) -> bool:
        """Whether a browser starts here; where not, it says why."""
        found = find_chromium(os.environ)
        try:
            if found is not None:
                await confinement(found)
        except OSError as trouble:
            self._say(_NO_BROWSER.format(str(trouble).splitlines()[0]))
            return False
        if found is None:
            self._say(_NO_BROWSER.format("no Chromium is installed"))
        return found is not None

    def guide(self) -> Guide:
        """What the console shows on top; asking for it means that somebody has opened the page."""
        self._is_open = True
        return tell(self._story, self._told)

    def summary(self) -> str:
        """How long after the failure each step of the last round came."""
        began_s = self.moments.get("failure", 0.0)
        return "\n".join(f"{at_s - began_s:6.1f} s  {step}" for step, at_s in self.moments.items())

    def _note(self, line: str) -> None:
        self._say(f"{time.strftime('%H:%M:%S')}  {line}")

    def _mark(self, step: str) -> None:
        self.moments[step] = time.monotonic()

    def _heard(self, payload: dict[str, Any]) -> None:
        news = payload["data"]
        self._note(f"  operators are told: {news['title']}")
        if news["told"] != "draft":
            self._told.append(news["title"])
        if news["group"] == GROUP and news["told"] in _TOLD:
            self._mark(_TOLD[news["told"]])

    async def _play(self, running: Running) -> None:
        # A closed terminal ends the demo; a server would read its configuration again.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, running.stop)
        async with _login_link(running) as link:
            self._say(
                f"\nOpen this in your browser; it signs you in as often as you like while the demo runs:\n\n  {link}\n"
            )
            self._say("The story begins when the page is open. Ctrl-C ends it and leaves nothing behind.\n")
            try:
                limit_s = APPROVING_S if self._options.approve else None
                async with asyncio.timeout(limit_s):
                    await with_client(running.base_url, running.node.local_token, self._follow)
            except TimeoutError:
                self._note(f"It did not end within {APPROVING_S:.0f} s.")
        running.stop()

    async def _follow(self, api: Client) -> None:
        token = (await api.post(f"/inboxes/{INBOX}/token", {}))["token"]
        for body in BEFORE:
            await api.post(f"/external-events/ingest/{token}", body)
        while not self.is_complete:
            before, seen = self._seen, await self._look(api)
            story = advance(self._pace, self._story, seen)
            await self._targets.become(slow=is_slow(story), down=is_down(story), mute=is_mute(story))
            if story.phase is not self._story.phase and story.phase in _POSTED:
                await api.post(f"/external-events/ingest/{token}", _POSTED[story.phase])
            self._tell_changes(before, seen, story, api.server)
            if self._options.approve:
                await self._approve(api, seen, story)
            self._seen, self._story = seen, story
            is_over = story.phase is Phase.CALM and _TOLD["recovery"] in self.moments
            self.is_complete = self._options.approve and is_over
            await asyncio.sleep(LOOK_S)

    async def _look(self, api: Client) -> Seen:
        beat = await api.get("/beats/checkout")
        journey = (await api.get(f"/beats/{JOURNEY}"))["stage"] if self._has_browser else None
        actions = (await api.get("/actions", limit=20))["items"]
        opening = next((a for a in actions if a["step"] == "open" and a["owner"] == GROUP), None)
        incidents = (await api.get("/incidents", limit=1))["items"]
        return Seen(
            time.monotonic(),
            self._is_open,
            beat["stage"],
            journey,
            opening["id"] if opening else None,
            opening["status"] if opening else None,
            incidents[0]["status"] if incidents else None,
        )

    async def _approve(self, api: Client, seen: Seen, story: Story) -> None:
        if story.phase is Phase.OUTAGE and seen.draft == story.draft and seen.status == "pending":
            action = await api.get(f"/actions/{seen.draft}")
            await api.post(f"/actions/{seen.draft}/approve", {"revision": action["revision"]})

    def _tell_changes(self, before: Seen, seen: Seen, story: Story, base_url: str) -> None:
        if (seen.draft, seen.status) != (before.draft, before.status) and seen.draft == story.draft:
            if seen.status == "pending":
                self._mark("draft")
                self._note(f"  a draft for customers waits: {base_url}/console/actions/{seen.draft}")
            else:
                self._mark(f"draft {'approved' if seen.status in APPROVED else seen.status}")
                self._note(f"  the draft is {_DECIDED.get(seen.status or '', seen.status)}")
        if seen.incident == "resolved" and before.incident not in (None, "resolved"):
            self._mark("incident resolved")
            self._note(f"  the incident is resolved: {base_url}/p/shop")
        if story.phase is not self._story.phase and story.phase in _SAID:
            self._note(_MUTE if is_mute(story) and story.phase is Phase.OUTAGE else _SAID[story.phase])
            if story.phase is Phase.SLOW:
                self._told.clear()
            elif story.phase is Phase.OUTAGE:
                self.moments.clear()
                self._mark("failure")
            elif story.phase is Phase.RECOVERING:
                self._mark("shop back")


@contextlib.contextmanager
def _place(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="upbeat-demo-"))
    folder.chmod(0o711)  # started by root, PostgreSQL runs as another user who must get through
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _port(options: Options) -> int:
    """The port asked for; else the usual one, or any where that is taken."""
    if options.port is not None:
        return options.port
    try:
        socket.create_server((options.host, DEFAULT_PORT)).close()
    except OSError:
        return 0
    return DEFAULT_PORT


@contextlib.asynccontextmanager
async def _login_link(running: Running) -> AsyncIterator[str]:
    """A link that signs the admin in, as often as it is opened, for as long as the block lasts."""
    pool = running.node.pool
    async with transaction(pool) as connection:
        secret = await people.make_login_link(connection, _ACTOR, lasting=True)
    try:
        yield f"{running.base_url}{LOGIN_PATH}?secret={secret}"
    finally:
        async with pool.acquire() as connection:
            await people.remove_login_link(connection, secret)
