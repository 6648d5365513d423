"""DNS messages: a question written, an answer taken apart. Asks nobody, and reads no record's data.

Our own, because every uncached run reads one: dnspython's reader takes several times as long as the lookup around it.
Whatever the answer, the work is bounded: its records are counted, and a name ends after 255 bytes (RFC 1035, 4.1.4).
"""

import ipaddress
import os
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import dns.rcode
import dns.rdatatype

from engine.probes.trouble import TroubleError
from rules.secret import cut

RECORDS_MAX: Final = 1000
UDP_BYTES: Final = 1232  # what DNS flag day 2020 says no network cuts
_ALIAS, _SIGNATURE = 5, 46
_CHAIN_MAX: Final = 16
_FLAGS: Final = ((0x0400, "aa"), (0x0200, "tc"), (0x0080, "ra"), (0x0020, "ad"))
_HEADER: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")


@dataclass(frozen=True, slots=True)
class Question:
    """One question on the wire. `name` is in lower case, as every name here."""

    name: bytes
    type: int
    wire: bytes


class Part(NamedTuple):
    """One record of an answer; its data is at `start`."""

    owner: bytes
    type: int
    ttl_s: int
    start: int
    size: int


@dataclass(slots=True)
class Answer:
    """An answer to a `Question`, its answer section taken apart."""

    data: bytes
    rcode: int
    flags: tuple[str, ...]
    parts: list[Part]

    @property
    def rcode_text(self) -> str:
        """As people write it: NXDOMAIN."""
        return dns.rcode.to_text(dns.rcode.Rcode.make(self.rcode))

    def chain(self, question: Question) -> list[Part]:
        """What answers the question: aliases in their order, then the records and their signatures.

        What else is in the answer is nobody's. Raises `TroubleError` where aliases go in circles.
        """
        found, name = list[Part](), question.name
        for _ in range(_CHAIN_MAX):
            own = [part for part in self.parts if part.owner == name]
            last = [part for part in own if part.type == question.type]
            alias = next((part for part in own if part.type == _ALIAS), None)
            if last or alias is None:
                return found + last + [part for part in own if last and part.type == _SIGNATURE]
            found.append(alias)
            try:
                name, _ = _read_name(self.data, alias.start)
            except IndexError:
                raise _too_short() from None
        raise TroubleError("dns.malformed", f"the answer's aliases go on after {_CHAIN_MAX}")


def ask_for(name: bytes, kind: str, *, dnssec: bool = False) -> Question:
    """The question for records of `kind`; `dnssec` asks for signatures too (DO), and what the server thinks of them (AD)."""
    number = int(dns.rdatatype.from_text(kind))
    asked = name + struct.pack("!HH", number, 1)
    head = os.urandom(2) + struct.pack("!HHHHH", 0x0120 if dnssec else 0x0100, 1, 0, 0, int(dnssec))
    options = b"\0" + struct.pack("!HHIH", 41, UDP_BYTES, 0x8000, 0) if dnssec else b""
    return Question(name, number, head + asked + options)


def to_wire(host: str) -> bytes:
    """The name of `host`, in ASCII, with the last dot or without. Raises `TroubleError` for what no name server could know."""
    bare = host.lower().removesuffix(".")
    labels = [label.encode() for label in bare.split(".")] if bare else []
    name = b"".join(bytes((len(label),)) + label for label in labels if 0 < len(label) < 64) + b"\0"
    if len(name) != len(bare) + (2 if labels else 1) or len(name) > 255:
        raise TroubleError(
            "dns.malformed", f"{cut(host, 100)!r} is not a domain name: labels have 1 to 63 characters"
        )
    return name


def turned_round(address: str) -> str:
    """The name under which `address` is looked up."""
    return ipaddress.ip_address(address).reverse_pointer


def read(question: Question, data: bytes) -> Answer:
    """The answer to `question`. Raises `TroubleError` for what cannot be read or answers another one."""
    try:
        number, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
        if not flags & 0x8000 or questions > 1 or number != int.from_bytes(question.wire[:2], "big"):
            raise _another()
        at = 12
        if questions:
            name, at = _read_name(data, at)
            if name != question.name or data[at : at + 4] != struct.pack("!HH", question.type, 1):
                raise _another()
            at += 4
        elif flags & 0x0F == 0:  # some servers repeat no question in an error
            raise _another()
        if answers > RECORDS_MAX:
            raise TroubleError("dns.malformed", f"the answer has {answers} records; {RECORDS_MAX} are read")
        parts = []
        for _ in range(0 if flags & 0x0200 else answers):  # one that was cut may end anywhere
            owner, at = _read_name(data, at)
            kind, _, ttl_s, size = _RECORD.unpack_from(data, at)
            at += 10
            if at + size > len(data):
                raise IndexError
            parts.append(Part(owner, kind, ttl_s if ttl_s < 1 << 31 else 0, at, size))
            at += size
    except (struct.error, IndexError):
        raise _too_short() from None
    return Answer(data, flags & 0x0F, tuple(word for bit, word in _FLAGS if flags & bit), parts)


def _read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """The name at `at`, and where it ends. Raises `IndexError` and `TroubleError`."""
    name, end = b"", 0
    while (size := data[at]) != 0:
        if size < 64:
            name += data[at : at + 1 + size]
            at += 1 + size
            if len(name) > 254:
                break
        else:
            target = (size & 0x3F) << 8 | data[at + 1]
            if size < 0xC0 or target >= at:  # only backwards, so that it ends
                break
            end, at = end or at + 2, target
    else:
        return name.lower() + b"\0", end or at + 1
    raise TroubleError("dns.malformed", "the answer cannot be read: a name in it does not end")


def _too_short() -> TroubleError:
    return TroubleError("dns.malformed", "the answer cannot be read: it ends too early")


def _another() -> TroubleError:
    return TroubleError("dns.malformed", "the answer is to another question")
