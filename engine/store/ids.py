"""Ids: UUIDv7 inside, a kind's prefix and 32 hex digits outside. Also which partition an id belongs to."""

import os
import time
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid5

PREFIXES: Final = {
    "page": "page",
    "component": "comp",
    "region": "rgn",
    "beat": "beat",
    "channel": "chan",
    "publisher": "pub",
    "group": "grp",
    "maintenance": "mnt",
    "inbox": "inb",
    "trigger": "trg",
    "event": "evt",
    "run": "run",
    "episode": "epi",
    "incident": "inc",
    "action": "act",
    "update": "upd",
    "user": "user",
    "token": "tok",
    "replay": "rpl",
    "preview": "prv",
    "subscriber": "sub",
    "broadcast": "brd",
}
PARTITIONS: Final = 8
"""How many ways beats are split over evaluators and probes. Changing it needs a migration of `states`."""

NAMESPACE: Final = UUID("6f1c2f5e-2d0b-5a53-9d0e-3b8a8c1f0e75")
"""Namespace of every UUIDv5 that Upbeat derives."""


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562 section 5.7): milliseconds of now, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def new_run_id() -> str:
    """`str(new_id())` at a third of its cost: there is one for every run."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    digits = f"{value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(1 << 16)
def uuid_of(text: str) -> UUID:
    """`UUID(text)`, remembered: a beat's is read from each of its results."""
    return UUID(text)


def derived_id(*parts: object) -> UUID:
    """The UUIDv5 of `parts`: the same parts give the same id everywhere."""
    return uuid5(NAMESPACE, "\x1f".join(map(str, parts)))


def show(kind: str, value: UUID | str) -> str:
    """`value` as the API shows it: `beat_0192...`."""
    return f"{PREFIXES[kind]}_{(value if isinstance(value, UUID) else UUID(value)).hex}"


def read(kind: str, text: str) -> UUID | None:
    """The id in `text`, or None when it is none of this kind."""
    prefix, _, digits = text.rpartition("_")
    if prefix != PREFIXES[kind] or len(digits) != 32:
        return None
    try:
        return UUID(hex=digits)
    except ValueError:
        return None


def partition_of(value: UUID) -> int:
    """0 to PARTITIONS - 1, evenly: the low bits of a UUIDv7 are random."""
    return value.int % PARTITIONS
