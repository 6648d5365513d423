"""The REST API as the command line asks it: one server, one token, refusals in plain words. It knows no object."""

import asyncio
import contextlib
import functools
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import click

from upbeat import __version__
from upbeat.cli.output import with_output
from upbeat.settings import DEFAULT_HOST, DEFAULT_PORT, SettingsError, default_data, secret

DEFAULT_SERVER: Final = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
LOCAL_TOKEN: Final = "local-token"  # noqa: S105 - a file name: `serve` writes it into its data folder
LOCAL_URL: Final = "local-url"
TIMEOUT_S: Final = 60.0
PAGE: Final = 200
_QUOTED: Final = re.compile(r"`(\w+)`")
T = TypeVar("T")


class RefusedError(click.ClickException):
    """The server understood and says no: the request cannot be done as asked."""

    exit_code = 2


class UnreachableError(click.ClickException):
    """No server that can answer."""

    exit_code = 3


class DeniedError(click.ClickException):
    """Not with this token."""

    exit_code = 4


class Client:
    """One server's API below `/api/v1`, or below its object `slug`. Every method raises one of the three errors above, and nothing else."""

    def __init__(self, session: aiohttp.ClientSession, server: str, *, has_token: bool) -> None:
        self._session, self.server, self._has_token = session, server, has_token
        self._root, self.slug = "/api/v1", ""
        self._page: str | None = None

    def one(self, path: str, slug: str, page: str | None) -> "Client":
        """The same server from the object `slug` on, of the kind at `path`."""
        of_one = Client(self._session, self.server, has_token=self._has_token)
        of_one._root, of_one.slug, of_one._page = self._root + at(path, slug), slug, page
        return of_one

    async def get(self, path: str = "", **query: object) -> Any:
        """The JSON document at `path`; parameters that are None are not sent."""
        return await self._json("GET", path, query)

    async def post(self, path: str, body: Any = None, **query: object) -> Any:
        """What the server answers to `body` at `path`."""
        return await self._json("POST", path, query, body)

    async def put(self, path: str, body: Any, **query: object) -> Any:
        """Replace what is at `path`; bytes are sent as they are."""
        return await self._json("PUT", path, query, body)

    async def patch(self, path: str, body: Any, **query: object) -> Any:
        """Merge `body` into what is at `path` (RFC 7396)."""
        return await self._json("PATCH", path, query, body)

    async def delete(self, path: str = "", **query: object) -> Any:
        """Take away what is at `path`."""
        return await self._json("DELETE", path, query)

    async def text(self, path: str, **query: object) -> str:
        """What is at `path`, as it is."""
        return (await self.content(path, **query)).decode()

    async def content(self, path: str, **query: object) -> bytes:
        """The same, of what may be no text."""
        return (await self._ask("GET", path, query))[1]

    async def items(self, path: str, *, limit: int | None = None, **query: object) -> dict[str, Any]:
        """A whole listing, or its first `limit` items, in the shape of one page."""
        found: list[Any] = []
        cursor: str | None = None
        while True:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = await self.get(path, limit=size, cursor=cursor, **query)
            found += page["items"]
            cursor = page["next"]
            if cursor is None or (limit is not None and len(found) >= limit):
                return {"items": found, "next": cursor}

    async def _json(self, method: str, path: str, query: Mapping[str, object], body: Any = None) -> Any:
        answer, content = await self._ask(method, path, query, body)
        if not content:
            return {}
        if answer.content_type != "application/json":
            raise _no_upbeat(self.server, answer)
        return await answer.json()

    async def _ask(
        self, method: str, path: str, query: Mapping[str, object], body: Any = None
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        sent = {key: str(value) for key, value in {"page": self._page, **query}.items() if value is not None}
        try:
            async with self._session.request(
                method, f"{self.server}{self._root}{path}", params=sent, allow_redirects=False, **given
            ) as answer:
                content = await answer.read()
                is_problem = answer.content_type == "application/problem+json"
                problem = await answer.json(content_type=None) if is_problem else None
        except aiohttp.InvalidURL:
            raise click.UsageError(f"{self.server!r} is no server; write http://host:port") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
            raise UnreachableError(
                f"No answer from {self.server}: {_why(failure)}.\n"
                "Start one with `upbeat serve`, or name another with --server or UPBEAT_SERVER."
            ) from None
        if answer.ok:
            return answer, content
        if problem is None:
            raise _no_upbeat(self.server, answer)
        raise self._refusal(answer.status, problem)

    def _refusal(self, status: int, problem: Mapping[str, Any]) -> click.ClickException:
        said = _in_words(problem)
        if status >= 500:  # what its log has the details under
            said += f" ({problem.get('request_id')})"
        if status in (401, 403):
            hint = (
                "" if self._has_token else "\nGive a token with --token, UPBEAT_TOKEN or UPBEAT_TOKEN_FILE."
            )
            return DeniedError(f"Not allowed: {said}{hint}")
        return UnreachableError(said) if status >= 500 or status == 429 else RefusedError(said)


def at(path: str, ref: str) -> str:
    """The path of one object."""
    return f"{path}/{quote(ref, safe='')}"


def _why(failure: Exception) -> str:
    number = failure.errno if isinstance(failure, OSError) else None
    return os.strerror(number) if number else str(failure) or "it took too long"


def _no_upbeat(server: str, answer: aiohttp.ClientResponse) -> UnreachableError:
    return UnreachableError(
        f"{server} answers HTTP {answer.status} {answer.content_type}: this is no Upbeat."
    )


def _in_words(problem: Mapping[str, Any]) -> str:
    found = [(error["pointer"] or "/", error["message"]) for error in problem.get("errors", ())]
    errors = [_at_option(pointer, message) for pointer, message in found]
    detail = str(problem.get("detail") or problem.get("title") or "refused")
    if detail in (f"{pointer}: {message}" for pointer, message in found):  # a 422's repeats its first error
        return "\n".join(errors)
    options = _options()
    said = _QUOTED.sub(lambda name: f"`{options[name[1]]}`" if name[1] in options else name[0], detail)
    return "\n".join([said, *errors])


def _at_option(pointer: str, message: str) -> str:
    """What is wrong, at the option that it was given by, or was not; else where it is in what was sent."""
    name = pointer.strip("/").split("/")[0]
    context, option = click.get_current_context(silent=True), _options().get(name)
    is_given = context is not None and context.params.get(name) not in (None, (), "")
    if option is None or not (is_given or message.startswith("is missing")):
        return f"{pointer}: {message}"
    return f"{option}{'' if message.startswith('is ') else ':'} {message}"


def _options() -> dict[str, str]:
    """How each option of the command that runs is written, by its name in the API."""
    context = click.get_current_context(silent=True)
    options = context.command.params if context is not None else ()
    return {one.name or "": one.opts[0] for one in options if isinstance(one, click.Option)}


def remote(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a command of `async def command(api: Client, out: Output, ...)`: options for the server, token and output."""

    @click.option(
        "--server",
        envvar="UPBEAT_SERVER",
        help=f"Its URL; when not given, the server's on this machine, else {DEFAULT_SERVER}. [env: UPBEAT_SERVER]",
    )
    @click.option("--token", help="A token of that server. [env: UPBEAT_TOKEN, UPBEAT_TOKEN_FILE]")
    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="UPBEAT_DATA",
        help="Data folder of a server on this machine, for its address and its own token. [env: UPBEAT_DATA]",
    )
    @with_output
    @functools.wraps(command)
    def run(server: str | None, token: str | None, data: Path | None, **given: Any) -> None:
        data = data or default_data(os.environ)
        server = (server or local_url(data) or DEFAULT_SERVER).rstrip("/")
        token = token or _known_token(server, data)
        asyncio.run(with_client(server, token, functools.partial(command, **given)))

    return run


async def with_client(server: str, token: str | None, work: Callable[[Client], Awaitable[T]]) -> T:
    """What `work` returns, given a client of `server` that lives as long as it."""
    headers = {"User-Agent": f"upbeat-cli/{__version__}"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    # Of silence: what takes longer to be made or sent is waited for.
    timeout = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=TIMEOUT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        return await work(Client(session, server, has_token=bool(token)))


def _known_token(server: str, data: Path) -> str | None:
    try:
        found = secret(os.environ, "UPBEAT_TOKEN") or secret(os.environ, "UPBEAT_ADMIN_TOKEN")
    except SettingsError as wrong:
        raise click.UsageError(str(wrong)) from None
    return found or (_left(data / LOCAL_TOKEN) if is_here(server) else None)


def is_here(server: str) -> bool:
    """Whether `server` can only be on this machine: its local token must not be sent anywhere else."""
    host = urlsplit(server).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def local_url(data: Path) -> str | None:
    """Where the server of this data folder said it is."""
    return _left(data / LOCAL_URL)


def _left(path: Path) -> str | None:
    """What a server on this machine left in its data folder for who may read it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text("utf-8").strip() or None
    return None
