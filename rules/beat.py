"""Beats as operators write them: the kinds there are. A new kind is a module in `rules.kinds` and a line here and in `rules.check`."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from rules.kinds.dns import DnsBeat
from rules.kinds.http import HttpBeat
from rules.kinds.tcp import TcpBeat

AnyBeat = HttpBeat | TcpBeat | DnsBeat
Beat = Annotated[AnyBeat, Field(discriminator="type")]
BEAT: TypeAdapter[AnyBeat] = TypeAdapter(Beat)
