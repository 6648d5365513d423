"""Beats as operators write them: the kinds there are. A new kind is a module in `rules.kinds` and a line here and in `rules.check`."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from rules.kinds.browser import BrowserBeat
from rules.kinds.dns import DnsBeat
from rules.kinds.external import ExternalBeat
from rules.kinds.heartbeat import HeartbeatBeat
from rules.kinds.http import HttpBeat
from rules.kinds.icmp import IcmpBeat
from rules.kinds.tcp import TcpBeat
from rules.kinds.tls import TlsBeat

AnyBeat = HttpBeat | TcpBeat | TlsBeat | DnsBeat | IcmpBeat | BrowserBeat | HeartbeatBeat | ExternalBeat
Beat = Annotated[AnyBeat, Field(discriminator="type")]
BEAT: TypeAdapter[AnyBeat] = TypeAdapter(Beat)
