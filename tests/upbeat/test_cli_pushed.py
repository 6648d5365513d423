"""Commands for what others push: reports, pings and the URL they come to."""

from tests.rig.process import Upbeat, until
from tests.upbeat.conftest import Cli


async def test_a_heartbeat_shows_its_url_and_lines_to_copy(server: Upbeat, remote: Cli) -> None:
    spec = '{slug: nightly, type: heartbeat, cron: "30 2 * * *", timezone: Europe/Berlin}'
    assert (await remote("beats", "create", stdin=spec)).code == 0
    try:
        shown = (await remote("beats", "show", "nightly")).out
        url = (await remote("beats", "show", "nightly", "--json")).json["ping"]["url"]
        assert "waits for the first ping" in shown
        assert (
            f"30 2 * * * /path/to/job; curl -fsS -m 10 --retry 5 --retry-connrefused -o /dev/null {url}/$?"
            in shown
        )
        rotated = await remote("beats", "rotate-ping-key", "nightly", "--quiet")
        assert rotated.out.strip() != url
        assert (await server.call("GET", "//" + url.split("/", 3)[3]))[0] == 404
        assert (await server.call("POST", "//" + rotated.out.strip().split("/", 3)[3] + "/7"))[0] == 200

        async def is_listed() -> bool:
            return "fail, exit code 7" in (await remote("beats", "pings", "nightly")).out

        await until(is_listed, "the ping is listed")
        refused = await remote("run", "nightly")
        assert (refused.code, refused.err) == (
            2,
            "Error: no probe runs the beat nightly: it waits for pings of its URL\n",
        )
    finally:
        await remote("beats", "delete", "nightly")


async def test_a_report_moves_a_beat_until_it_is_over(remote: Cli) -> None:
    assert (await remote("beats", "create", stdin="{slug: supplier, type: external}")).code == 0
    try:
        bad = await remote(
            "report", "supplier", "--critical", "orders are refused", "--fingerprint", "orders"
        )
        assert bad.out == "supplier is critical, open signals: 1\n"
        assert "orders are refused" in (await remote("beats", "show", "supplier")).out
        over = await remote("report", "supplier", "--ok", "--fingerprint", "orders", "--json")
        assert (over.json["stage"], over.json["signals"]) == ("ok", [])
        assert (await remote("report", "supplier", "--ok", "--critical", "x")).code == 2
    finally:
        await remote("beats", "delete", "supplier")
