"""The s3 publisher: a page as objects of a bucket, with requests signed by Signature Version 4. Which objects is `exporters.static`'s."""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from exporters.answer import Answer, exchange, judge
from exporters.outcome import Delivered, Rejected, Retry
from exporters.publishing import TroubleError
from exporters.static import MANIFEST, MOST_MANIFEST, File
from rules.publishers.s3 import S3Publisher

AT_ONCE: Final = 8
KEPT: Final = "public, max-age=60"
IMMUTABLE: Final = "public, max-age=31536000, immutable"
_CODE: Final = re.compile(rb"<Code>(\w{1,60})</Code>")


class Bucket:
    """What of a bucket begins with the prefix."""

    def __init__(
        self, session: aiohttp.ClientSession, rule: S3Publisher, endpoint: str, key: tuple[str, str]
    ) -> None:
        self._session, self._rule, self._key = session, rule, key
        scheme, _, host = endpoint.rstrip("/").partition("://")
        in_path = rule.style == "path" or (rule.style is None and rule.endpoint is not None)
        self._root = f"{scheme}://{host}/{rule.bucket}" if in_path else f"{scheme}://{rule.bucket}.{host}"
        self.called = f"{rule.bucket}/{rule.prefix}"
        self._places = asyncio.Semaphore(AT_ONCE)

    async def manifest(self) -> bytes | None:
        """What is kept there."""
        answer = await self._ask("GET", MANIFEST, most_bytes=MOST_MANIFEST, missing=True)
        if answer.status != 404:
            return answer.body
        query = f"list-type=2&max-keys=1&prefix={quote(self._rule.prefix, safe='')}"
        if b"<Key>" in (await self._ask("GET", None, query=query, most_bytes=1 << 16)).body:
            raise TroubleError(
                Rejected(f"{self.called} has objects that are not Upbeat's: name an empty prefix")
            )
        return None

    async def put(self, files: Sequence[File]) -> None:
        """Write these, some at once."""
        await self._all([self._put(*file) for file in files])

    async def remove(self, paths: Collection[str]) -> None:
        """Take these away, some at once."""
        await self._all([self._ask("DELETE", path, missing=True) for path in paths])

    async def _all(self, asked: Sequence[Coroutine[Any, Any, Answer]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for one in asked:
                    group.create_task(one)
        except ExceptionGroup as several:
            troubles = [one for one in several.exceptions if isinstance(one, TroubleError)]
            raise (troubles[0] if len(troubles) == len(several.exceptions) else several) from None

    async def _put(self, path: str, body: bytes, media_type: str) -> Answer:
        cache = IMMUTABLE if path.startswith("assets/") else "no-store" if path == MANIFEST else KEPT
        return await self._ask("PUT", path, body, {"content-type": media_type, "cache-control": cache})

    async def _ask(
        self,
        method: str,
        path: str | None,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        *,
        query: str = "",
        most_bytes: int = 4096,
        missing: bool = False,
    ) -> Answer:
        """Of an object, or of the bucket. Raises `TroubleError`; `missing`: 404 is an answer."""
        key = "" if path is None else self._rule.prefix + path
        url = f"{self._root}/{quote(key, safe='/-._~')}" + (f"?{query}" if query else "")
        async with self._places:
            at = datetime.fromtimestamp(time.time(), UTC)
            sent = signed(method, url, headers, body, self._key, self._rule.region, at)
            answer = await exchange(
                self._session, method, URL(url, encoded=True), body or None, sent, most_bytes=most_bytes
            )
        if not isinstance(answer, Answer):
            raise TroubleError(answer)
        if not answer.is_whole:
            raise TroubleError(Retry("the answer broke off"))
        if missing and answer.status == 404 and b"NoSuchBucket" not in answer.body:
            return answer
        said = _CODE.search(answer.body) if answer.status >= 300 else None
        code = said[1].decode() if said else ""
        outcome = judge(answer.status, answer.retry_after, now_s=time.time(), code=code)
        if not isinstance(outcome, Delivered):
            raise TroubleError(outcome)  # type: ignore[arg-type]  # a judgement is never Removed
        return answer


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    key: tuple[str, str],
    region: str,
    at: datetime,
) -> dict[str, str]:
    """`headers` and those that sign the request: AWS Signature Version 4 for S3. Path and query of `url` are encoded already,
    the query with its names in order.
    """
    parts, (key_id, secret) = urlsplit(url), key
    moment, digest = f"{at:%Y%m%dT%H%M%SZ}", hashlib.sha256(body).hexdigest()
    sent = {
        **{name.lower(): value for name, value in headers.items()},
        "host": parts.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": moment,
    }
    names = ";".join(sorted(sent))
    lines = [method, parts.path or "/", parts.query]
    lines += [f"{name}:{' '.join(sent[name].split())}" for name in sorted(sent)]
    asked = "\n".join([*lines, "", names, digest])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    said = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    made = b"AWS4" + secret.encode()
    for part in (*scope.split("/"), said):
        made = hmac.digest(made, part.encode(), "sha256")
    credential = (
        f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={made.hex()}"
    )
    return {**sent, "authorization": credential}
