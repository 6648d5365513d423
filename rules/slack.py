"""What operators write of Slack: the installation's app, and what a page says where. The `slack_bot` channel is in `rules.channels`."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from rules.channels.channel import HttpUrl, Secret
from rules.duration import Duration
from rules.shape import Rule, Slug

SLACK_API: Final = "https://slack.com/api/"
ChannelId = Annotated[str, StringConstraints(pattern=r"^[CG][A-Z0-9]{2,20}$")]
"""As Slack shows it at the end of a channel's details."""
TeamId = Annotated[str, StringConstraints(pattern=r"^[TE][A-Z0-9]{2,20}$")]
Step = Literal["create", "update", "resolve", "edit"]
Confirm = Literal["always", "public", "never"]


class SlackApp(Rule):
    """`slack:` of an installation: the Slack app that workspaces are connected to."""

    client_id: Secret = Field(description="Of the app, from its Basic Information.")
    client_secret: Secret = Field(description="Best as `${env:NAME}`.")
    signing_secret: Secret = Field(description="What Slack signs its requests with; best as `${env:NAME}`.")
    api: HttpUrl = Field(
        default=SLACK_API, description="Another one for GovSlack: https://slack-gov.com/api/."
    )


class InChannel(Rule):
    """What is otherwise in one Slack channel."""

    on: list[Step] | None = Field(default=None, description="Which steps are told there.")
    reminders: bool | None = Field(default=None, description="Whether there are reminders.")
    reminder: Duration | None = Field(default=None, ge=300.0, le=7 * 86400.0, description="How often.")


class PageSlack(Rule):
    """`slack:` of a page: where its incidents are announced, and what is done from Slack."""

    channel: Slug = Field(
        description="Of its `slack_bot` channels the one that announces, and whose workspace it is."
    )
    announce: bool = Field(default=True, description="Whether every incident is announced there.")
    on: list[Step] = Field(
        default=["create", "update", "resolve"],
        description="Which steps are told in a thread; the first message always shows the present state.",
    )
    linking: Literal["none", "soft", "hard"] = Field(
        default="soft",
        description="Whether an incident begun in a channel is told there too. Where one is open already: soft warns, hard refuses.",
    )
    reminders: bool = Field(
        default=True, description="Whether channels are reminded of incidents without news."
    )
    reminder: Duration = Field(
        default=3600.0, ge=300.0, le=7 * 86400.0, description="After how long without news, and how often."
    )
    reminder_locked: bool = Field(
        default=False, description="Whether no channel may have another `reminder`."
    )
    confirm: Confirm = Field(
        default="public",
        description="Which buttons in Slack ask once more: all, those that customers notice, none.",
    )
    channels: dict[ChannelId, InChannel] = Field(
        default={}, max_length=200, description="What is otherwise in some channels, by their ids."
    )

    @model_validator(mode="after")
    def _is_locked(self) -> Self:
        for channel, there in self.channels.items():
            if self.reminder_locked and (there.reminder is not None or there.reminders is not None):
                raise ValueError(f"reminders are locked (reminder_locked): {channel} cannot have others")
        return self

    def tells(self, step: str, channel: str) -> bool:
        """Whether this step is told in that Slack channel."""
        there = self.channels.get(channel)
        return step in (self.on if there is None or there.on is None else there.on)

    def reminds_after(self, channel: str) -> float | None:
        """Seconds without news after which that channel is reminded; None: never."""
        there = self.channels.get(channel, InChannel())
        is_on = self.reminders if there.reminders is None else there.reminders
        return (there.reminder or self.reminder) if is_on else None
