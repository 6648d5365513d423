"""A local S3: keys, ETags, listings and refusals as documented, and signatures verified by botocore's own signer."""

import contextlib
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY_ID, SECRET, REGION, BUCKET = (
    "AKIDEXAMPLE",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "eu-test-1",
    "pages",
)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


class Refusal(Exception):  # noqa: N818  # an answer
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Kept:
    body: bytes
    headers: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'


def signature_of(method: str, url: str, headers: dict[str, str], region: str, secret: str = SECRET) -> str:
    """What botocore makes of a request with these headers, all of them signed."""
    asked = AWSRequest(method=method, url=url, headers=headers)
    asked.context["timestamp"] = headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials(KEY_ID, secret), "s3", region)
    return str(signer.signature(signer.string_to_sign(asked, signer.canonical_request(asked)), asked))


@dataclass
class S3Server:
    """One bucket, by path and by host name. `refuses`: what the n-th request from now on is answered;
    `breaks_off`: the next answer ends in its middle.
    """

    url: str = ""
    kept: dict[str, Kept] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuses: dict[int, Refusal] = field(default_factory=dict)
    breaks_off: bool = False

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        server = cls()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", server._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            await runner.cleanup()

    def put(self, path: str, body: bytes = b"x") -> None:
        """Somebody else's object."""
        self.kept[path] = Kept(body, {})

    @property
    def written(self) -> list[str]:
        """What was put and deleted, in order."""
        return [said for said in self.asked if not said.startswith("GET")]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            key = self._key(request)
            self.asked.append(f"{request.method} {key}")
            if refusal := self.refuses.pop(len(self.asked), None):
                raise refusal
            self._verify(request, body)
            done = self._done(request, key, body)
            if self.breaks_off and request.method == "GET":
                self.breaks_off = False
                return await _broken(request, done)
            return done
        except Refusal as no:
            said = f"<?xml version='1.0'?><Error><Code>{no.code}</Code><Message>no</Message></Error>"
            return web.Response(status=no.status, text=said, content_type="application/xml")

    def _key(self, request: web.Request) -> str:
        path = request.raw_path.partition("?")[0]
        if not request.host.startswith(f"{BUCKET}."):
            prefix = f"/{BUCKET}/"
            if not path.startswith(prefix):
                raise Refusal(404, "NoSuchBucket")
            path = "/" + path.removeprefix(prefix)
        return unquote(path[1:])

    def _verify(self, request: web.Request, body: bytes) -> None:
        found = _AUTHORIZATION.fullmatch(request.headers.get("Authorization", ""))
        if found is None:
            raise Refusal(403, "AccessDenied")
        key_id, day, region, names, signature = found.groups()
        if key_id != KEY_ID:
            raise Refusal(403, "InvalidAccessKeyId")
        if region != REGION:
            raise Refusal(400, "AuthorizationHeaderMalformed")
        headers = {name: request.headers[name] for name in names.split(";")}
        if not {"host", "x-amz-date", "x-amz-content-sha256"} <= headers.keys():
            raise Refusal(403, "AccessDenied")
        said = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(time.time() - said.timestamp()) > 900 or not headers["x-amz-date"].startswith(day):
            raise Refusal(403, "RequestTimeTooSkewed")
        if hashlib.sha256(body).hexdigest() != headers["x-amz-content-sha256"]:
            raise Refusal(400, "XAmzContentSHA256Mismatch")
        url = f"http://{request.host}{request.raw_path}"
        if not hmac.compare_digest(signature_of(request.method, url, headers, region), signature):
            raise Refusal(403, "SignatureDoesNotMatch")

    def _done(self, request: web.Request, key: str, body: bytes) -> web.Response:
        if request.method == "GET" and not key:
            return self._listed(request)
        if request.method == "PUT":
            shown = {name: request.headers[name] for name in ("Content-Type", "Cache-Control")}
            self.kept[key] = Kept(body, shown)
            return web.Response(headers={"ETag": self.kept[key].etag})
        if request.method == "DELETE":
            self.kept.pop(key, None)
            return web.Response(status=204)
        if request.method == "GET" and key in self.kept:
            found = self.kept[key]
            return web.Response(body=found.body, headers={**found.headers, "ETag": found.etag})
        raise Refusal(404, "NoSuchKey") if request.method == "GET" else Refusal(405, "MethodNotAllowed")

    def _listed(self, request: web.Request) -> web.Response:
        given: dict[str, Any] = dict(request.query)
        if given.pop("list-type") != "2":
            raise Refusal(400, "InvalidArgument")
        keys = sorted(key for key in self.kept if key.startswith(given["prefix"]))[: int(given["max-keys"])]
        inner = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>{escape(self.kept[key].etag)}</ETag></Contents>"
            for key in keys
        )
        said = f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{inner}</ListBucketResult>"
        return web.Response(text=said, content_type="application/xml")


async def _broken(request: web.Request, whole: web.Response) -> web.Response:
    body = whole.body
    assert isinstance(body, bytes)
    assert request.transport is not None
    part = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await part.prepare(request)
    await part.write(body[: len(body) // 2])
    request.transport.close()
    return whole
