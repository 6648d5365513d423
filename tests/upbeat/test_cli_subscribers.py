"""`upbeat subscribers` against a server: added, imported, exported, ended, and told something that was shown first."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.upbeat.test_cli_incidents import Here

if TYPE_CHECKING:
    from tests.rig.process import Upbeat
    from tests.upbeat.conftest import Cli


@pytest.fixture
def here(remote: "Cli") -> Here:
    return Here(remote.environment)


async def test_subscribers_are_added_imported_exported_and_ended(
    remote: "Cli", here: Here, tmp_path: Path
) -> None:
    added = await remote("subscribers", "add", "ann@shop.example")
    assert (added.code, added.out) == (0, "ann@shop.example is pending\n"), added.err
    file = tmp_path / "list.csv"
    file.write_text("email,name\nbob@shop.example,Bob\nnobody,\n")
    tried = await here("subscribers", "import", file, "--dry-run", "--confirmed", "--reason", "they asked")
    assert (tried.code, tried.out.splitlines()[0].partition(":")[0]) == (1, "line 3 email")
    assert tried.out.splitlines()[1].startswith("would be: 1 told from now on")
    refused = await here("subscribers", "import", file, "--confirmed", "--reason", "they asked")
    assert (refused.code, "line 3 email" in refused.err) == (2, True)
    done = await here("subscribers", "import", file, "--confirmed", "--reason", "they asked", "--skip-bad")
    assert (done.code, done.out.splitlines()[-1].startswith("1 told")) == (0, True), done.err
    listed = await here("subscribers", "--status", "active", "--json")
    (bob,) = listed.json["items"]
    assert bob["address"] == "bob@shop.example"
    copy = await here("subscribers", "export")
    assert (copy.code, "email,bob@shop.example,,,,Bob,yes,active" in copy.out) == (0, True)
    ended = await here("subscribers", "remove", bob["id"])
    assert (ended.code, "is unsubscribed" in ended.out) == (0, True)
    left = await here("subscribers", "add", "bob@shop.example", "--reason", "they asked")
    assert (
        left.code,
        f"in the console: {here.environment['UPBEAT_SERVER']}/console/subscribers" in left.out,
    ) == (1, True), left.out
    for one in (await here("subscribers", "--quiet")).out.split():
        assert (await here("subscribers", "remove", one, "--forget")).code == 0
    assert (await here("subscribers")).out == "none\n"


async def test_what_is_shown_of_a_message_keeps_its_lines(here: Here) -> None:
    shown = await here("subscribers", "broadcast", "--subject", "S", "--text", "one\n\ntwo", "--dry-run")
    assert "\none\n\ntwo\n" in shown.out


async def test_a_refusal_names_options_as_they_are_typed(here: Here, server: "Upbeat") -> None:
    made = await server.call(
        "POST", "/pages", {"slug": "inner", "name": "Inner", "access": {"password": "x"}}
    )
    assert made[0] == 201
    said = ("--title", "Slow", "--text", "We look.", "--no-notify")
    several = await here("incidents", "create", *said)
    several_too = await here("subscribers", "add", "ann@shop.example")
    unknown = await here(
        "subscribers", "add", "ann@shop.example", "--page", "inner", "--component", "nothing"
    )
    shut = await here("page", "export", "inner", "--zip", "nowhere.zip")
    assert (await server.call("DELETE", "/pages/inner"))[0] == 204
    for ran in (several, several_too):
        assert (
            ran.code,
            ran.err.startswith("Error: --page is missing: there are several, such as inner"),
        ) == (2, True)
    assert (unknown.code, unknown.err) == (2, "Error: --component is 'nothing'; allowed are none\n")
    assert (shut.code, "say `--public`" in shut.err) == (2, True)


async def test_a_message_is_shown_agreed_to_and_followed(here: Here) -> None:
    say = ("subscribers", "broadcast", "--subject", "We move", "--text", "To **Berlin**.", "--markdown")
    shown = await here(*say, "--dry-run")
    assert (shown.code, "We move" in shown.out, "Berlin" in shown.out) == (0, True, True), shown.err
    assert (await here(*say, stdin="n\n")).code == 1
    sent = await here(*say, "--yes", "--wait", 60)
    assert (sent.code, sent.out.endswith(": 0 sent\n")) == (0, True), sent.err
    assert (await here(*say, "--component", "nothing", "--yes")).code == 2
