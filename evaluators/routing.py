"""Which channel wants which notice. Pure: time is the notice's."""

from evaluators.model import Notice
from rules.channels.channel import ChannelRule, Told


def wants(channel: ChannelRule, notice: Notice, *, is_listed: bool, also: Told | None = None) -> bool:
    """Whether `channel` is told; `is_listed`: what it is about names it. `also`: what else the notice tells."""
    return is_listed and channel.enabled and not {notice.told, also}.isdisjoint(channel.on)
