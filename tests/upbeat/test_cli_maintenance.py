"""`upbeat maintenance`: begun and ended in one line each, by anybody who may."""

from tests.upbeat.conftest import Cli


async def test_maintenance_is_begun_seen_and_ended(remote: Cli) -> None:
    begun = await remote(
        "maintenance", "start", "--for", "45m", "--beat", "db", "--beat", "dns", "--slug", "move"
    )
    assert begun.code == 0, begun.err
    assert begun.out.startswith("move covers db, dns: runs until 20")
    _, row = (await remote("maintenance")).out.splitlines()
    assert row.split()[:3] == ["move", "runs", "until"]
    shown = await remote("maintenance", "show", "move")
    assert "covers db, dns" in shown.out
    ended = await remote("maintenance", "end", "move")
    assert (ended.code, ended.out) == (0, "move is over\n")
    again = await remote("maintenance", "end", "move")
    assert (again.code, "move does not run now" in again.err) == (2, True)
    assert (await remote("maintenance", "delete", "move")).code == 0


async def test_a_whole_page_until_a_time_is_named_by_itself(remote: Cli) -> None:
    begun = await remote("maintenance", "start", "--until", "2099-01-01T00:00Z", "--name", "Move")
    assert (begun.code, "by a year at most" in begun.err) == (2, True)
    begun = await remote("maintenance", "start", "--for", "10m", "--quiet")
    assert begun.code == 0, begun.err
    slug = begun.out.strip()
    assert (await remote("maintenance", "list", "--quiet")).out.split() == [slug]
    assert (await remote("maintenance", "show", slug, "--json")).json["covers"] == ["page:shop"]
    assert (await remote("maintenance", "delete", slug)).code == 0


async def test_a_length_is_asked_for_once(remote: Cli) -> None:
    neither = await remote("maintenance", "start", "--beat", "db")
    assert (neither.code, "--for and --until" in neither.err) == (2, True)
    wrong = await remote("maintenance", "start", "--for", "soon")
    assert (wrong.code, "'soon' is not a duration" in wrong.err) == (2, True)


async def test_what_is_announced_is_extended_spoken_of_and_cancelled(remote: Cli) -> None:
    begun = await remote("maintenance", "start", "--for", "45m", "--slug", "disks", "--announce")
    assert begun.code == 0, begun.err
    longer = await remote("maintenance", "extend", "disks", "--by", "15m", "--json")
    (told,) = longer.json["announced"]  # if nobody looked before, this did
    assert told["status"] == "in_progress"
    said = await remote("maintenance", "say", "disks", "--text", "We look.", "--status", "verifying")
    assert (said.code, said.out) == (0, "said of disks\n")
    shown = (await remote("maintenance", "show", "disks")).out
    assert "verifying" in shown
    assert "We look." in shown
    over = await remote("maintenance", "cancel", "disks", "--json")
    assert [one["status"] for one in over.json["announced"]] == ["completed"]
    assert (await remote("maintenance", "extend", "disks")).code == 2
    assert (await remote("maintenance", "delete", "disks")).code == 0
