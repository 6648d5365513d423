"""Public pages as operators write them: what they are called, how they look, who is let in, who may be told."""

from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from rules.component import ComponentStatus, Network
from rules.duration import Duration
from rules.incident import Review
from rules.language import LANGUAGES
from rules.mail import Mailbox
from rules.otlp import Otlp
from rules.quorum import DurationOrOff
from rules.shape import Name, Rule, Slug, Text
from rules.slack import PageSlack
from rules.stylesheet import refused
from rules.wording import Templates
from rules.zone import zone_name

Homepage = Annotated[str, StringConstraints(pattern=r"^(https?://\S+)?$", max_length=500)]
Contact = Annotated[str, StringConstraints(pattern=r"^((https?://|mailto:)\S+)?$", max_length=500)]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=253
    ),
]
"""A host name in lower-case letters; names of other scripts in their xn-- form."""
FrameOrigin = Annotated[
    str, StringConstraints(pattern=r"^https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?$", max_length=300)
]
PictureUse = Literal["logo", "logo-dark", "favicon"]
MOST_PICTURE_BYTES: Final = 1_000_000
"""Of an upload; what is made of it is smaller."""
SubscriberKind = Literal["email", "webhook", "slack"]
MOST_CSS: Final = 20_000


def _language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"there is no language {code!r}; allowed are {', '.join(LANGUAGES)}")
    return code


class Look(Rule):
    """`look:` of a page. Pictures are uploaded: `upbeat page upload`, or the console."""

    theme: Literal["auto", "light", "dark"] = Field(
        default="auto", description="`auto` is what the reader's system asks for."
    )
    style: Literal["bars", "cards"] = Field(
        default="bars",
        description="Components one below the other with their bars, or as cards side by side.",
    )
    accent: Colour | None = Field(default=None, description="Colour of links, buttons and the head.")
    colours: dict[ComponentStatus, Colour] = Field(
        default={}, description="Colours of statuses, instead of Upbeat's own."
    )
    css: Annotated[str, StringConstraints(max_length=MOST_CSS)] = Field(
        default="", description="Style rules of your own. They may load nothing: no @import, no url()."
    )
    branded: bool = Field(default=True, description="Whether the foot says that Upbeat watches.")

    @field_validator("css")
    @classmethod
    def _loads_nothing(cls, css: str) -> str:
        if why := refused(css):
            raise ValueError(f"css {why}")
        return css


class Access(Rule):
    """`access:` of a page: any one of these lets in. With none of them the page is public."""

    password: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = Field(
        default=None, description="Best as `${env:NAME}`. A link that carries its proof is made for feeds."
    )
    networks: list[Network] = Field(
        default=[],
        max_length=200,
        description="Addresses and networks that are let in as they are; behind a proxy `trusted_proxies` says who is.",
    )
    emails: list[HostName] = Field(
        default=[],
        max_length=50,
        description="Domains, not those below them, whose mailboxes may ask for a link that lets in; needs `mail`.",
    )

    @property
    def is_public(self) -> bool:
        """Whether everybody is let in."""
        return self == Access()


class Subscribing(Rule):
    """`subscribers:` of a page: who may ask to be told, and how they are mailed."""

    kinds: list[SubscriberKind] = Field(
        default=["email", "webhook", "slack"],
        max_length=3,
        description="Ways that the page offers; feeds are always there. An empty list offers none.",
    )
    sender: Mailbox | None = Field(
        default=None, description="The From address of its mails, instead of the installation's."
    )
    reply_to: Mailbox | None = Field(default=None, description="Where answers go.")


class Page(Rule):
    """A public status page at `/p/{slug}`, and on a host name of its own."""

    slug: Slug = Field(description="Its name in URLs and references.")
    name: Name = Field(description="Its title.")
    description: Text = Field(default="", description="Shown below the title.")
    homepage: Homepage = Field(default="", description="Where its logo leads.")
    contact: Contact = Field(default="", description="How to reach you: a URL, or mailto:.")
    domain: HostName | None = Field(
        default=None,
        description="A host name that shows this page, once its TXT record proves that it is yours.",
    )
    languages: list[Annotated[str, AfterValidator(_language)]] = Field(
        default=["en"],
        min_length=1,
        max_length=50,
        description="That it is shown in; the first has no prefix in URLs. What people write is shown as they wrote it.",
    )
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="In which moments are shown, such as `Europe/Berlin`."
    )
    look: Look = Field(default=Look(), description="How it looks.")
    access: Access = Field(default=Access(), description="Who is let in.")
    frames: Annotated[list[FrameOrigin], Field(max_length=50)] | Literal["any"] = Field(
        default=[],
        description="Sites whose pages may show its `/embed` in a frame, such as `https://*.example.com`; or `any`.",
    )
    indexed: bool = Field(
        default=True, description="Whether search engines may list it; one that is not public never is."
    )
    subscribers: Subscribing = Field(default=Subscribing(), description="Who may ask to be told.")
    otlp: Otlp | None = Field(
        default=None,
        description="Where measurements of its beats are exported to, instead of the installation's.",
    )
    templates: Templates = Field(
        default=Templates(), description="What customers read, instead of the default words."
    )
    reopen_within: Duration = Field(
        default=7 * 86400.0,
        le=366 * 86400.0,
        description="So long after its end people may open an incident again; later a new one is begun.",
    )
    speak_every: DurationOrOff = Field(
        default=3600.0,
        ge=60,
        description="Once customers heard nothing of an open incident for so long, operators are told; `off` never.",
    )
    review: Review = Field(default=Review(), description="How what customers are told is reviewed.")
    slack: PageSlack | None = Field(default=None, description="What Slack hears of its incidents, and does.")

    @field_validator("languages")
    @classmethod
    def _once_each(cls, languages: list[str]) -> list[str]:
        if twice := next((code for code in languages if languages.count(code) > 1), None):
            raise ValueError(f"languages name {twice!r} twice")
        return languages

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.timezone)
