"""`upbeat episodes`: an episode is taken, spoken of, given away and put off from the command line."""

from tests.rig.process import until
from tests.upbeat.conftest import Cli


async def test_an_episode_is_handled_from_the_command_line(remote: Cli) -> None:
    made = await remote("beats", "create", stdin="{slug: till, type: external}")
    assert made.code == 0, made.err
    await remote("report", "till", "--critical", "no paper")

    async def opened() -> str | None:
        items = (await remote("episodes", "--open", "--json")).json["items"]
        return next((item["id"] for item in items if item["owner"] == "till"), None)

    episode = await until(opened, "its episode is open")
    said = (await remote("episodes", "ack", episode)).out
    assert "till is acknowledged by" in said
    assert (await remote("episodes", "comment", episode, "paper is on its way")).code == 0
    assert (await remote("episodes", "escalate", episode)).code == 0
    assert "till is snoozed until" in (await remote("episodes", "snooze", episode, "--for", "2h")).out
    assert "no longer" in (await remote("episodes", "snooze", episode, "--end")).out
    assert (await remote("episodes", "snooze", episode)).code == 2
    denied = await remote("episodes", "assign", episode, "nobody@x.example")
    assert (denied.code, "there is no user" in denied.err) == (2, True)
    shown = (await remote("episodes", "show", episode)).out
    assert "paper is on its way" in shown
    assert episode in (await remote("episodes", "--state", "acknowledged", "-q")).out
    assert "nobody looks at till" in (await remote("episodes", "ack", episode, "--undo")).out
    assert (await remote("report", "till", "--ok")).code == 0


async def test_a_channel_shows_how_it_is_doing(remote: Cli) -> None:
    slug = (await remote("channels", "-q")).out.split()[0]
    assert (await remote("channels", "health", slug, "--json")).json["slug"] == slug
    assert "waiting" in (await remote("channels", "health", slug)).out
    assert f"0 will be sent again to {slug}" in (await remote("channels", "replay-dead", slug)).out
