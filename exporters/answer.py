"""One HTTP request and what its answer means for delivery. Shared by HTTP exporters; retrying is the engine's."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Final

import aiohttp
from yarl import URL

from exporters.outcome import Delivered, Outcome, Rejected, Retry
from rules.address import EgressRefusedError

LONGEST_WAIT_S = 3600.0
"""A Retry-After beyond this is cut to it: nobody outside may silence a channel for a day."""
TOO_MANY_S: Final = 30.0
"""What too many requests wait where nobody says how long."""
JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `body` is at most what was asked for, and goes no further than the exporter."""

    status: int
    retry_after: str | None
    body: bytes = b""
    is_whole: bool = True  # nothing broke off while it was read

    def json(self) -> dict[str, Any]:
        """The JSON object in it; empty where there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    most_bytes: int = 0,
) -> Answer | Retry | Rejected:
    """Ask once, following no redirect, and read `most_bytes` of the answer. Raises nothing but cancellation."""
    read, is_whole = b"", True
    try:
        async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            try:
                while len(read) < most_bytes and (more := await answer.content.read(most_bytes - len(read))):
                    read += more
            except (aiohttp.ClientError, OSError):  # its status is known: it has the request
                is_whole = False
            return Answer(answer.status, answer.headers.get("Retry-After"), read, is_whole)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        return Rejected("the URL is not a usable http or https address")  # not quoted: it may hold a secret
    except ValueError:
        return Rejected("the URL or the key has characters that no request may have")
    except TimeoutError:
        return Retry("no answer in time")
    except (aiohttp.ClientError, OSError) as failure:
        return failed(failure)


async def send(
    session: aiohttp.ClientSession,
    url: str,
    document: Any,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    now_s: float,
    codes: re.Pattern[str] | None = None,
    method: str = "POST",
) -> Outcome:
    """Send JSON once, which may be encoded already, following no redirect. Raises nothing but cancellation.

    The answer's body never leaves this function, except as one of the known `codes`, and is not read without them.
    """
    body = document if isinstance(document, bytes) else encoded(document)
    answer = await exchange(session, method, url, body, {**JSON, **headers}, most_bytes=64 if codes else 0)
    if not isinstance(answer, Answer):
        return answer
    code = answer.body.decode("latin-1").strip()
    return judge(
        answer.status, answer.retry_after, now_s=now_s, code=code if codes and codes.fullmatch(code) else ""
    )


def encoded(document: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def failed(failure: Exception) -> Retry | Rejected:
    """What a failure before any answer means: final when the address is refused by policy, else another try."""
    cause = failure.os_error if isinstance(failure, aiohttp.ClientConnectorError) else failure
    if isinstance(cause, EgressRefusedError):
        return Rejected(str(cause))
    if isinstance(cause, aiohttp.ClientError):
        return Retry(type(cause).__name__)  # its text may quote the URL or what the other side sent
    number = cause.errno if isinstance(cause, OSError) else None
    said = os.strerror(number) if number and number > 0 else str(cause)
    return Retry(said or type(cause).__name__)


def judge(status: int, retry_after: str | None = None, *, now_s: float, code: str = "") -> Outcome:
    """The outcome an HTTP status asks for. `code` is added to the reason."""
    if 200 <= status < 300:
        return Delivered()
    reason = f"HTTP {status} {code}".rstrip()
    if status in (420, 429):
        asked_s = wait_s(retry_after, now_s)
        return Retry(reason, TOO_MANY_S if asked_s is None else asked_s)
    if status in (408, 425) or status >= 500:
        return Retry(reason, wait_s(retry_after, now_s))
    if 300 <= status < 400:
        return Rejected(f"{reason}: redirects are not followed")
    is_gone = status == 410 and not code
    return Rejected(f"{reason}: gone for good" if is_gone else reason, for_good=is_gone)


def wait_s(retry_after: str | None, now_s: float) -> float | None:
    """Seconds a Retry-After header asks for, 0 to `LONGEST_WAIT_S`; None when it is missing or unreadable."""
    if not retry_after:
        return None
    try:
        asked_s = float(retry_after)
    except ValueError:
        try:
            asked_s = parsedate_to_datetime(retry_after).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return min(max(asked_s, 0.0), LONGEST_WAIT_S) if math.isfinite(asked_s) else None
