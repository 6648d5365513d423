"""What operators write of Slack: the installation's app, and what a page says where. The `slack_bot` channel is in `rules.channels`."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from rules.channels.channel import HttpUrl, Secret
from rules.duration import Duration
from rules.quorum import off
from rules.shape import Rule, Slug

SLACK_API: Final = "https://slack.com/api/"
ChannelId = Annotated[str, StringConstraints(pattern=r"^[CG][A-Z0-9]{2,20}$")]
"""As Slack shows it at the end of a channel's details."""
TeamId = Annotated[str, StringConstraints(pattern=r"^[TE][A-Z0-9]{2,20}$")]
Step = Literal["create", "update", "resolve"]
Confirm = Literal["always", "public", "never"]
Linking = Literal["none", "soft", "hard"]
_Interval = Annotated[Duration, Field(ge=300.0, le=7 * 86400.0)]
Interval = Annotated[
    _Interval | None, BeforeValidator(off, json_schema_input_type=_Interval | Literal["off", False] | None)
]


class SlackApp(Rule):
    """`slack:` of an installation: the Slack app that workspaces are connected to."""

    client_id: Secret = Field(description="Of the app, from its Basic Information.")
    client_secret: Secret = Field(description="Best as `${env:NAME}`.")
    signing_secret: Secret = Field(description="What Slack signs its requests with; best as `${env:NAME}`.")
    api: HttpUrl = Field(default=SLACK_API, description="For GovSlack: https://slack-gov.com/api/.")


class InChannel(Rule):
    """What is otherwise in one Slack channel."""

    on: list[Step] | None = Field(default=None, description="Which steps are told there.")
    reminder: Interval = Field(default=None, description="How often it is reminded, or `off`.")


class PageSlack(Rule):
    """`slack:` of a page: where its incidents are announced, and what is done from Slack."""

    channel: Slug = Field(description="Which `slack_bot` channel of the page announces, and whose workspace.")
    announce: bool = Field(default=True, description="Whether every incident is announced there.")
    on: list[Step] = Field(default=["create", "update", "resolve"], description="What is told in a thread.")
    linking: Linking = Field(
        default="soft",
        description="Whether an incident begun in a channel is told there too. Where one is open already: soft warns, hard refuses.",
    )
    reminder: Interval = Field(
        default=3600.0,
        description="After how long without news, and how often, channels are reminded, or `off`.",
    )
    reminder_locked: bool = Field(
        default=False, description="Whether no channel may have another `reminder`."
    )
    confirm: Confirm = Field(
        default="public", description="Which buttons ask once more: all, those that customers notice, none."
    )
    channels: dict[ChannelId, InChannel] = Field(
        default={}, max_length=200, description="What is otherwise in some channels, by their ids."
    )

    @model_validator(mode="after")
    def _is_locked(self) -> Self:
        for channel, there in self.channels.items():
            if self.reminder_locked and "reminder" in there.model_fields_set:
                raise ValueError(f"reminders are locked (reminder_locked): {channel} cannot have others")
        return self

    def tells(self, step: str, channel: str) -> bool:
        """Whether this step is told in that Slack channel."""
        there = self.channels.get(channel)
        return step in (self.on if there is None or there.on is None else there.on)

    def reminds_after(self, channel: str) -> float | None:
        """Seconds without news after which that channel is reminded; None: never."""
        there = self.channels.get(channel)
        return there.reminder if there and "reminder" in there.model_fields_set else self.reminder
