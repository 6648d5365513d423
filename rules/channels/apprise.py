"""The apprise channel as operators write it."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from rules.channels.channel import ChannelRule
from rules.secret import REFERENCE

_OTHERS: Final = re.compile(
    r"amqps?|aprs|blink1|dbus|kde|qt|deltachats?|gio|glib|gnome|growl|ircs?|macosx|mqtts?|nostr|rsyslog|smpps?"
    r"|syslog|windows|xmpps?"
)
"""Schemes of Apprise that do not speak HTTP: no policy would judge what they reach. mailto is another channel's."""


def refusal(url: str) -> str | None:
    """Why no channel sends there; None when one may."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("mailto", "mailtos"):
        return f"{scheme}:// is not allowed: use a channel of type smtp"
    return (
        f"{scheme}:// is not allowed: only services reached by HTTP are, whose connections can be judged"
        if _OTHERS.fullmatch(scheme)
        else None
    )


def _judged(url: str) -> str:
    if said := refusal(url):
        raise ValueError(said)
    return url


AppriseUrl = Annotated[
    str,
    StringConstraints(pattern=rf"^([A-Za-z][A-Za-z0-9+.-]*://\S+|{REFERENCE}\S*)$", max_length=2000),
    AfterValidator(_judged),
]


class AppriseChannel(ChannelRule):
    """Telegram, Google Chat, ntfy, SMS, WhatsApp and more than a hundred others, through the library Apprise."""

    type: Literal["apprise"] = Field(description="The kind of channel.")
    urls: list[AppriseUrl] = Field(
        min_length=1,
        max_length=10,
        description="As Apprise writes them, such as `tgram://${env:BOT_TOKEN}/-100123`.",
    )
