"""`upbeat secrets` against a server: a value goes in by stdin, and is never printed."""

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.rig.process import Upbeat
    from tests.upbeat.conftest import Cli


async def test_a_secret_is_stored_listed_sealed_anew_and_forgotten(remote: "Cli", server: "Upbeat") -> None:
    stored = await remote("secrets", "set", "CLI_TOKEN", stdin="canary7731\n")
    assert (stored.code, stored.out) == (0, "${secret:CLI_TOKEN} is stored for shop\n"), stored.err
    shared = await remote("secrets", "set", "CLI_TOKEN", "--installation", stdin="canary7732\n")
    assert shared.out == "${secret:/CLI_TOKEN} is stored for the installation\n"
    listed = await remote("secrets")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == [
        ["CLI_TOKEN", "installation"],
        ["CLI_TOKEN", "shop"],
    ]
    rotated = await remote("secrets", "rotate", "--json")
    assert rotated.json == {"sealed": 0}
    doctor = await remote("doctor", "--data", str(server.data))
    assert "2 stored, sealed with the key" in doctor.out
    for of in ("--page=shop", "--installation"):
        assert (await remote("secrets", "rm", "CLI_TOKEN", of)).code == 0
    assert "canary" not in f"{stored}{shared}{listed}{rotated}{doctor}{server.log.read_text()}"
    assert stat.S_IMODE((server.data / "secret.key").stat().st_mode) == 0o600


async def test_a_value_that_could_not_be_hidden_is_refused(remote: "Cli") -> None:
    refused = await remote("secrets", "set", "SHORT", stdin="tiny\n")
    assert (refused.code, "6 characters" in refused.err) == (2, True)
    assert "tiny" not in refused.err
