"""What the ways in are handed by upbeat/: the pool, the bus and callables. It builds none of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from starlette.requests import HTTPConnection

from engine.bus import Bus
from engine.clock import Clock
from engine.secrets import Secrets
from engine.store.database import Pool
from engine.store.jobs import JobKind
from engine.store.objects import Stored
from evaluators.model import Envelope, Post
from exporters.outcome import FIRST, Memory, Outcome, Rejected, Report, Retry
from rules.beat import AnyBeat
from rules.slack import SlackApp


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What an operator may set of the ways in."""

    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For and -Proto are believed
    admin_token: str | None = None  # UPBEAT_ADMIN_TOKEN
    local_token: str | None = None  # of the command line on this machine, new with every start
    metrics_public: bool = False
    can_mail: bool = False  # whether the installation has a relay for what subscribers are sent
    requests_per_minute: int = 3000  # per principal, or address while nobody is signed in


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the asked roles do their work; `reasons` say why not, `detail` is for who may read."""

    ready: bool
    reasons: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Guide:
    """What the demo tells a newcomer at this moment: the console shows it on top."""

    step: str
    title: str
    text: str
    link: str | None = None
    link_label: str | None = None


class Publishers(Protocol):
    """What may be asked of a publisher; nothing there is changed. `upbeat.targets` answers."""

    async def rehearse(self, target: Stored, post: Post, memory: Memory = FIRST) -> Report:
        """The requests that this step would become, and what it would lose."""
        ...

    async def check(self, target: Stored) -> Report:
        """Whether it can be used."""
        ...

    async def differences(self, target: Stored, post: Post, memory: Memory) -> Report:
        """What is otherwise there than this newest step says."""
        ...


class Slack(Protocol):
    """The installation's Slack app. `upbeat.slack` answers."""

    @property
    def api(self) -> str:
        """Where Slack's methods are."""
        ...

    def app(self) -> SlackApp | None:
        """The app with its secrets in place; None: there is none."""
        ...

    async def call(
        self, team: str | None, method: str, body: Mapping[str, Any]
    ) -> dict[str, Any] | Retry | Rejected:
        """What a method answers to the bot of this workspace; None: to the app itself."""
        ...

    async def respond(self, url: str, body: Mapping[str, Any]) -> None:
        """Answer an interaction at its URL."""
        ...


@dataclass(slots=True)
class Services:
    """Everything a route may use. `settings` may be replaced while serving (SIGHUP)."""

    pool: Pool
    bus: Bus
    clock: Clock
    settings: ApiSettings
    test_channel: Callable[[Mapping[str, Any], UUID | None], Awaitable[Outcome]]  # as declared, on this page
    check_now: Callable[[AnyBeat, UUID | None], Awaitable[dict[str, Any]]]
    health: Callable[[str | None, bool], Awaitable[Health]]
    metrics_text: Callable[[], Awaitable[str]]
    secrets: Secrets
    start_job: Callable[[JobKind, UUID, int, float], None]  # in so many workers, for so many seconds
    publishers: Publishers
    slack: Slack
    txt: Callable[[str], Awaitable[list[str] | Retry]]  # the DNS' texts at a name
    preview_mail: Callable[[Envelope], Mapping[str, str]]  # subject, text, html
    recorded: Callable[[str], tuple[dict[str, Any], list[str]]]  # a beat, and notes; or ValueError
    guide: Callable[[], Guide | None] = lambda: None


def services_of(connection: HTTPConnection) -> Services:
    """The services of the app that answers `connection`."""
    services: Services = connection.app.state.services
    return services
