"""Whether a delivery is signed with a key of its inbox. Where the signature stands and what is signed is `rules.signature`'s."""

import base64
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Final

from rules.signature import Signature, key_bytes

MOST_SIGNATURES: Final = 10
"""In one header; a sender that rotates its keys sends two."""
_MILLISECONDS: Final = 100_000_000_000  # as seconds that is in the year 5138
_PLACE: Final = re.compile(r"\{(body|timestamp|id)\}")
_DIGITS: Final = re.compile(r"\d{1,15}", re.ASCII)


class Verifier:
    """`signature:` with what its secrets stand for. Raises `ValueError` where one of them is no key."""

    def __init__(self, rule: Signature, secrets: Sequence[str]) -> None:
        self._scheme, self._tolerance_s = rule.scheme, rule.tolerance
        self._keys = [key_bytes(secret, self._scheme.key_encoding) for secret in secrets]
        if not all(self._keys):
            raise ValueError("a secret is empty: anybody could sign with it")
        self._signed = _PLACE.split(self._scheme.signed)  # text and names of places in turn
        self.names = (self._scheme.id_header,) if self._scheme.id_header is not None else ()
        """The headers whose values are signed and name a delivery."""

    def is_signed(self, headers: Sequence[tuple[str, str]], body: bytes, now: float) -> bool:
        """Whether one of the signatures is one of ours, and its time within the tolerance of `now`. Total."""
        prefix = self._scheme.prefix
        given = [part.removeprefix(prefix) for part in self._parts(headers) if part.startswith(prefix)]
        values = {
            "body": body,
            "id": _bytes(_first(headers, self._scheme.id_header)),
            "timestamp": _bytes(time := self.time_of(headers)),
        }
        if not all(values[place] for place in self._signed[1::2] if place != "body"):
            return False
        if "timestamp" in self._signed[1::2] and not self._is_near(time, now):
            return False
        signed = b"".join(values[part] if n % 2 else part.encode() for n, part in enumerate(self._signed))
        expected = [self._encoded(hmac.digest(key, signed, self._scheme.algorithm)) for key in self._keys]
        compared = [
            hmac.compare_digest(one, self._canonical(other))
            for one in expected
            for other in given[:MOST_SIGNATURES]
        ]
        return any(compared)

    def _parts(self, headers: Sequence[tuple[str, str]]) -> Iterator[str]:
        wanted, separator = self._scheme.header.lower(), self._scheme.separator
        for name, value in headers:
            if name.lower() == wanted:
                yield from (part.strip() for part in (value.split(separator) if separator else [value]))

    def time_of(self, headers: Sequence[tuple[str, str]]) -> str:
        """The time that is signed, as it is written; "" where none is."""
        if (prefix := self._scheme.timestamp_prefix) is not None:
            parts = self._parts(headers)
            return next((part.removeprefix(prefix) for part in parts if part.startswith(prefix)), "")
        return _first(headers, self._scheme.timestamp_header)

    def _is_near(self, said: str, now: float) -> bool:
        if _DIGITS.fullmatch(said) is None:
            return False
        at = int(said)
        return abs((at / 1000 if at >= _MILLISECONDS else at) - now) <= self._tolerance_s

    def _encoded(self, digest: bytes) -> bytes:
        return digest.hex().encode() if self._scheme.encoding == "hex" else base64.b64encode(digest)

    def _canonical(self, given: str) -> bytes:
        return _bytes(given.lower() if self._scheme.encoding == "hex" else given)


def _first(headers: Sequence[tuple[str, str]], wanted: str | None) -> str:
    return next((value for name, value in headers if wanted and name.lower() == wanted.lower()), "")


def _bytes(value: str) -> bytes:
    """A header's bytes as they came: they are read as latin-1."""
    return value.encode("latin-1", "replace")
