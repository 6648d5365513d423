"""`upbeat publishers` against a server and a local Statuspage: what it prints, and how it exits."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.exporters.publishers.site_server import KEY, Refusal
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from tests.upbeat.conftest import Cli


@pytest.fixture
async def site() -> AsyncIterator[StatuspageServer]:
    async with StatuspageServer.running() as running:
        yield running


async def test_a_publisher_is_made_checked_rehearsed_compared_and_deleted(
    remote: Cli, site: StatuspageServer
) -> None:
    spec = {
        "slug": "elsewhere",
        "type": "statuspage",
        "url": f"{site.url}/v1",
        "key": KEY,
        "page_id": PAGE,
        "components": {"storefront": site.component},
    }
    made = await remote("publishers", "create", stdin=json.dumps(spec))
    assert made.out == "publisher elsewhere created\n", made.err
    try:
        checked = await remote("publishers", "check", "elsewhere")
        assert checked.out == "elsewhere can be used: Shop status\n", checked.err
        ran = await remote("publishers", "dry-run", "elsewhere")
        assert ran.out.startswith(f"POST /pages/{PAGE}/incidents\n{{")
        assert KEY not in ran.out
        assert site.incidents == []
        drift = await remote("publishers", "drift", "elsewhere")
        assert (drift.code, drift.out) == (0, "nothing is open there\n")
        site.refuses = Refusal(401, {})
        refused = await remote("publishers", "check", "elsewhere")
        assert (refused.code, refused.err) == (1, "Error: elsewhere cannot be used: HTTP 401\n")
    finally:
        assert (await remote("publishers", "delete", "elsewhere")).code == 0
