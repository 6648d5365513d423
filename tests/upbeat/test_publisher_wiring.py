"""From what operators wrote of a publisher to requests with its key: the real builders against local servers."""

from typing import Any

import pytest

from engine.delivery import Target
from engine.secrets import Secrets
from exporters.outcome import Delivered, Rejected, Retry
from rules.address import EgressPolicy
from tests.exporters.publishers import (
    betterstack_server,
    incident_io_server,
    instatus_server,
    openstatus_server,
)
from tests.exporters.publishers.betterstack_server import BetterStackServer
from tests.exporters.publishers.cachet_server import Cachet2Server, Cachet3Server
from tests.exporters.publishers.incident_io_server import IncidentIoServer
from tests.exporters.publishers.instatus_server import InstatusServer
from tests.exporters.publishers.openstatus_server import OpenStatusServer
from tests.exporters.publishers.site_server import KEY, SiteServer
from tests.exporters.publishers.statusapi_server import StatusApiServer
from tests.exporters.publishers.statuspage_server import PAGE, StatuspageServer
from upbeat import publishers
from upbeat.targets import Targets

POLICY = EgressPolicy(("127.0.0.0/8",))
BASES: dict[type[SiteServer], str] = {
    StatuspageServer: "/v1",
    BetterStackServer: "/api/v2",
    OpenStatusServer: "/rpc",
}


def statuspage(server: StatuspageServer, slug: str, key: str = KEY) -> Target:
    spec = {"type": "statuspage", "slug": slug, "url": f"{server.url}/v1", "key": key, "page_id": PAGE}
    return Target("publisher", spec, None)


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        (StatuspageServer, {"type": "statuspage", "page_id": PAGE}, "Shop status"),
        (Cachet2Server, {"type": "cachet", "version": 2}, "Cachet answers"),
        (Cachet3Server, {"type": "cachet"}, "Cachet answers"),
        (StatusApiServer, {"type": "statusapi"}, "Acme Corp"),
        (BetterStackServer, {"type": "betterstack", "page_id": betterstack_server.PAGE}, "Shop"),
        (
            IncidentIoServer,
            {"type": "incident_io", "page_id": incident_io_server.PAGE},
            "incident.io answers",
        ),
        (InstatusServer, {"type": "instatus", "page_id": instatus_server.PAGE}, "Nasa"),
        (OpenStatusServer, {"type": "openstatus", "page_id": openstatus_server.PAGE}, "Shop"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
async def test_a_publisher_is_reached_with_its_key_which_may_be_a_reference(
    kind: type[SiteServer], spec: dict[str, Any], said: str
) -> None:
    sender = Targets(POLICY, Secrets({"STATUS_KEY": KEY}))
    async with kind.running() as server:
        url = server.url + BASES.get(kind, "")
        target = Target("publisher", {"slug": "p", "url": url, "key": "${env:STATUS_KEY}", **spec}, None)
        report = await sender.check(target)
        assert (report.outcome, report.lines) == (Delivered(), (said,))
        unset = Target("publisher", {**target.spec, "key": "${env:NO_KEY}"}, None)
        assert isinstance((await sender.check(unset)).outcome, Rejected)
        await sender.close()


async def test_publishers_with_one_key_share_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "STATUSPAGE_S", 0.0)
    sender = Targets(POLICY, Secrets({}))
    async with StatuspageServer.running() as server:
        server.waits = ["60"]
        assert isinstance((await sender.check(statuspage(server, "one"))).outcome, Retry)
        held = await sender.check(statuspage(server, "two"))
        assert isinstance(held.outcome, Retry)
        assert held.outcome.reason == "it takes no more requests for now"
        assert len(server.asked) == 1
        other = await sender.check(statuspage(server, "three", "another-key"))
        assert other.outcome == Rejected("HTTP 401")
        await sender.close()
