"""The top level of `upbeat.yaml`: settings of the installation, defaults for beats, lists of objects. Not the objects."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, create_model

from rules.beat import Beat
from rules.channel import Channel
from rules.channels.channel import HttpUrl
from rules.component import Component, Egress, Network, Region
from rules.duration import Duration
from rules.group import Group
from rules.inbox import Inbox
from rules.journey import Lists
from rules.kinds.http import HttpBeat
from rules.mail import Mail
from rules.maintenance import Maintenance
from rules.otlp import Otlp
from rules.page import Page
from rules.publisher import Publisher
from rules.shape import Rule, Slug
from rules.size import Size
from rules.slack import SlackApp
from rules.trigger import Trigger

PublicUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=500)]


class Watchdog(Rule):
    """A URL of somebody else's that is fetched while results commit, so that silence is noticed there."""

    url: HttpUrl = Field(description="Fetched with GET.")
    every: Duration = Field(default=60.0, ge=10, le=86400, description="How often.")


class Retention(Rule):
    """How long is kept what was measured. Past `size` the oldest days go earlier, their evidence before their results."""

    days: int = Field(default=30, ge=1, le=3650, description="Days of raw results.")
    size: Size = Field(default=20 * 10**9, ge=10**8, description="Of the tables of raw results and evidence.")
    evidence_days: int = Field(
        default=7, ge=1, le=3650, description="Days of the evidence of failed runs; never longer than `days`."
    )
    artifact_days: int = Field(
        default=14, ge=1, le=3650, description="Days of the files kept of browser runs: pictures, traces."
    )
    artifact_size: Size = Field(
        default=2 * 10**9,
        ge=10**7,
        description="Of these files; past it those of the oldest runs go earlier.",
    )
    event_days: int = Field(default=30, ge=1, le=3650, description="Days of received events.")
    event_size: Size = Field(
        default=5 * 10**9,
        ge=10**8,
        description="Of the tables of received events; past it the oldest days go earlier.",
    )
    rollup_days: int = Field(
        default=400,
        ge=32,
        le=3650,
        description="Days of the sums that summaries and long charts are read from.",
    )


class Lending(Rule):
    """What of this machine may be referred to by API and console. A file, and the admin token, may refer to all of it."""

    env: list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$")]] = Field(
        default=[],
        max_length=200,
        description="Variables for `${env:NAME}`, such as `SHOP_TOKEN` or `SHOP_*`.",
    )
    files: list[Annotated[str, StringConstraints(pattern=r"^/", max_length=1000)]] = Field(
        default=[], max_length=200, description="Folders for `${file:/path}`, such as `/run/secrets`."
    )
    folders: list[Annotated[str, StringConstraints(pattern=r"^/", max_length=1000)]] = Field(
        default=[],
        max_length=200,
        description="Folders below which publishers of the type `folder` may write, such as `/srv/status`.",
    )


class Settings(Rule):
    """Settings of the installation; each is optional."""

    public_url: PublicUrl | None = Field(
        default=None, description="How people reach this installation; links are made from it."
    )
    trusted_proxies: list[Network] = Field(
        default=[], max_length=100, description="Networks whose X-Forwarded-For is believed."
    )
    egress: Egress = Field(default=Egress(), description="Which addresses may be reached.")
    watchdog: Watchdog | None = Field(default=None, description="Who notices when Upbeat itself is silent.")
    otlp: Otlp | None = Field(default=None, description="Where measurements are exported to.")
    retention: Retention = Field(default=Retention(), description="How long is kept what was measured.")
    mail: Mail | None = Field(
        default=None, description="The relay through which subscribers of pages are mailed."
    )
    slack: SlackApp | None = Field(default=None, description="The Slack app of this installation.")
    secrets: Lending = Field(
        default=Lending(), description="What of this machine the API and the console may refer to."
    )


BEAT_WIDE = (
    "page",
    "interval",
    "timeout",
    "retries",
    "degraded_after",
    "regions",
    "quorum",
    "incidents",
    "episodes",
    "channels",
    "components",
    "tags",
)
"""Fields that `defaults` may hold; each beat takes those that its kind has."""

_WIDE: dict[str, Any] = {
    name: (HttpBeat.model_fields[name].annotation, HttpBeat.model_fields[name]) for name in BEAT_WIDE
}
Defaults: type[Rule] = create_model(
    "Defaults",
    __base__=Rule,
    __module__=__name__,
    __doc__="What every beat of the file has unless it says otherwise. A beat's own key replaces the whole default; "
    "`quorum`, `incidents` and `episodes` are merged key by key.",
    **_WIDE,
)


class DocumentShape(Settings):
    """`upbeat.yaml`: what is measured, from where, who is told. Several pages: every object below names its `page`."""

    version: Literal[1] = Field(default=1, description="Of this format.")
    page: Page | None = Field(default=None, description="The only page: short for `pages` with one entry.")
    pages: list[Page] = Field(
        default=[], description="A page {slug: status, name: Status} when there is none."
    )
    regions: list[Region | Slug] = Field(
        default=[], description="In the order shown. One region `local` when there is none."
    )
    components: list[Component] = Field(default=[], description="What customers see.")
    defaults: Defaults = Field(
        default=Defaults(), description="What every beat has unless it says otherwise."
    )
    channels: list[Channel] = Field(default=[], description="Where operators are told.")
    publishers: list[Publisher] = Field(
        default=[], description="Where incidents are posted, besides the page itself."
    )
    groups: list[Group] = Field(
        default=[], description="Beats that fail together, each of which names its `group`."
    )
    lists: Lists = Field(
        default={}, max_length=200, description="Steps that `use` names in any `browser` beat of the file."
    )
    beats: list[Beat] = Field(default=[], description="What is measured.")
    maintenances: list[Maintenance] = Field(default=[], description="When what is worked on.")
    inboxes: list[Inbox] = Field(default=[], description="Where other systems post events.")
    triggers: list[Trigger] = Field(default=[], description="What received events say of beats and groups.")


Shared: type[Rule] = create_model(
    "Shared", __base__=Rule, __module__=__name__, lists=(Lists, DocumentShape.model_fields["lists"])
)
"""What beats of the file take from its top."""
