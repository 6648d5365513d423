"""Host names of pages under /api/v1/pages/{page}/domain: the records to set, and whether they prove whose the name is. How DNS is asked is upbeat/'s.

What was proved stays so until the page names another host, or somebody else proves that it is theirs: a name server that is away
takes no page away.
"""

import ipaddress
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Query
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Asking, Permission, Router, permits
from api.body import reply
from api.context import services_of
from api.named import named
from api.problems import ProblemError, missing
from api.shapes import gives
from api.status import Addresses
from engine.store import hosts
from engine.store.audit import record
from engine.store.database import transaction
from engine.store.ids import show
from engine.store.objects import Stored
from engine.store.signing import signature, signing_key
from exporters.outcome import Retry

router = Router(prefix="/api/v1", tags=["pages"])

NamedPage = Annotated[Stored, named("page")]
MOST_FOUND: Final = 10


class Record(Struct):
    """To be set where the name's DNS is."""

    type: str
    name: str
    value: str
    why: str


class ShownDomain(Struct):
    """The host name that a page names. `found`: what the check just found in the place of the proof; `problem`: why it could not look."""

    domain: str | None
    is_verified: bool
    verified_at: datetime | None
    records: list[Record]
    found: list[str] = []
    problem: str | None = None


@router.get("/pages/{ref}/domain")
@permits(Permission.WRITE)
@gives(ShownDomain)
async def read_domain(request: Request, asking: Asking, page: NamedPage) -> Response:
    """The records that lead the page's host name here, and the one that proves whose it is."""
    asking.require(Permission.WRITE, page.id)
    return reply(await _shown(request, page))


@router.post("/pages/{ref}/domain/check")
@permits(Permission.WRITE)
@gives(ShownDomain)
async def check_domain(request: Request, asking: Asking, page: NamedPage) -> Response:
    """Look for the TXT record now; once it is there the page is shown on its host name, whoever had it before."""
    asking.require(Permission.WRITE, page.id)
    shown = await _shown(request, page)
    if shown.domain is None:
        raise ProblemError(409, "no-domain", "the page names no domain; set it first")
    services, proof = services_of(request), shown.records[0]
    if shown.domain == urlsplit(services.settings.public_url or "").hostname:
        said = f"{shown.domain} is where Upbeat itself is reached; a page needs a name of its own"
        raise ProblemError(409, "no-domain", said)
    answered = await services.txt(proof.name)
    if isinstance(answered, Retry):
        shown.problem = answered.reason
    elif proof.value not in answered:
        shown.found = [text[:200] for text in answered[:MOST_FOUND]]
        shown.problem = f"{proof.name} has no TXT record with that value yet"
    else:
        async with transaction(services.pool) as db:
            await hosts.verify(db, shown.domain, page.id, services.clock.epoch_s())
            after = {"domain": shown.domain}
            await record(db, asking.actor, "verify", f"page {page.slug}", page.id, None, after)
        _addresses(request).read_s = float("-inf")
        shown = await _shown(request, page)
    return reply(shown)


@router.get("/hosts")
@permits(Permission.PUBLIC)
async def read_host(
    request: Request, domain: Annotated[str, Query(max_length=253, description="A host name.")]
) -> Response:
    """Whether a page is shown on this host name, for a proxy that asks before it gets a certificate. From memory."""
    name = domain.lower().rstrip(".")
    if await _addresses(request).shown_at(name, services_of(request).clock.monotonic_s()) is None:
        raise missing("no page is shown there")
    return reply({"host": name})


def _addresses(request: Request) -> Addresses:
    found: Addresses = request.app.state.addresses
    return found


async def _shown(request: Request, page: Stored) -> ShownDomain:
    domain, services = page.spec.get("domain"), services_of(request)
    if domain is None:
        return ShownDomain(None, False, None, [])
    async with services.pool.acquire() as db:
        at = await hosts.verified_at(db, domain, page.id)
        key = await signing_key(db)
    here = urlsplit(services.settings.public_url or "").hostname or "the address of your proxy"
    try:
        kind = "A" if ipaddress.ip_address(here).version == 4 else "AAAA"
    except ValueError:
        kind = "CNAME"
    said = "Leads visitors here."
    if kind == "CNAME":
        said += " A bare domain can have none: set ALIAS, or A and AAAA as your proxy has them."
    proof = f"upbeat-verify={signature(key, 'domain', show('page', page.id), domain)}"
    records = [
        Record("TXT", f"_upbeat.{domain}", proof, "Proves that the name is yours, for this page."),
        Record(kind, domain, here, said),
    ]
    return ShownDomain(domain, at is not None, at, records)
