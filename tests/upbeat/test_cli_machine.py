"""Commands for the server's own machine: login, passwords, backup and restore, doctor; running and stopped."""

from pathlib import Path
from typing import Any

import aiohttp

from tests.rig.process import Upbeat, fresh_folder
from tests.upbeat.conftest import Cli, Ran
from upbeat.demo.targets import Targets


def about(ran: Ran, topic: str) -> list[dict[str, Any]]:
    return [finding for finding in ran.json["findings"] if finding["about"] == topic]


async def link_works(server: Upbeat, link: str) -> bool:
    """Whether the secret in `link` signs somebody in."""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/api/v1/login/link"
        async with session.post(url, json={"secret": link.strip().rpartition("=")[2]}) as answer:
            return answer.status == 200


async def test_login_prints_a_link_that_works_once(local: Cli, server: Upbeat) -> None:
    ran = await local("login")
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"http://127.0.0.1:{server.port}/")
    assert await link_works(server, ran.out)
    assert not await link_works(server, ran.out)


async def test_login_for_nobody_says_so(local: Cli) -> None:
    ran = await local("login", "nobody@shop.example")
    assert ran.code == 2
    assert "no active user" in ran.err


async def test_a_password_is_set_and_signs_in(local: Cli, server: Upbeat) -> None:
    await local("login")
    short = await local("users", "password", "admin@localhost", stdin="short\n")
    assert (short.code, "at least" in short.err) == (2, True)
    words = "correct horse battery staple"
    assert (await local("users", "password", "admin@localhost", stdin=f"{words}\n")).code == 0
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}/api/v1/login"
        async with session.post(url, json={"email": "admin@localhost", "password": words}) as answer:
            assert answer.status == 200


async def test_doctor_on_a_running_installation(local: Cli, server: Upbeat) -> None:
    ran = await local("doctor", "--json")
    assert (ran.code, ran.json["ok"]) == (0, True), ran.out
    said = {finding["said"] for finding in about(ran, "durability")}
    assert "bus: R1, fsync always" in said
    assert any("fsync on, synchronous_commit on" in line for line in said)
    assert "one failure domain" in about(ran, "regions")[0]["said"]
    assert about(ran, "database")[0]["said"].startswith("PostgreSQL ")
    assert about(ran, "evidence")[0]["said"] == "0 of 2000 MB of files kept of browser runs"
    for topic in ("clock", "migrations", "members", "backlog", "deliveries", "disk", "open files", "uvloop"):
        assert about(ran, topic), topic
    assert (
        f":{server.port}, " in about(ran, "address")[0]["said"]
    )  # where it listens, whatever this shell says
    assert "durability" in (await local("doctor")).out


async def test_doctor_tells_a_bad_file_and_a_dead_database(
    local: Cli, cli: Cli, server: Upbeat, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "beats: [{slug: x, type: http, url: 'https://x', headers: {A: '${env:UNSET_HERE}'}}]", "utf-8"
    )
    ran = await local("doctor", "--config", bad, "--json")
    assert ran.code == 1
    assert "UNSET_HERE" in about(ran, "configuration")[0]["said"]
    away = await cli(
        "doctor",
        "--json",
        UPBEAT_DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x",
        UPBEAT_NATS_URL="nats://127.0.0.1:1",
    )
    assert away.code == 1
    assert "secret" not in away.out
    assert "127.0.0.1:1 does not answer" in about(away, "database")[0]["said"]


async def test_doctor_warns_of_an_open_address(local: Cli) -> None:
    assert about(await local("doctor", "--json", UPBEAT_HOST="0.0.0.0"), "address")[0]["level"] == "warn"


async def test_a_second_server_on_the_folder_says_what_to_do(local: Cli, server: Upbeat) -> None:
    ran = await local("serve", "--port", "0")
    assert ran.code == 2
    assert "in use" in ran.err
    assert (await local("beats", "-q")).code == 0  # and leaves the first one's address alone


async def test_a_backup_is_restored_into_a_new_folder(local: Cli, cli: Cli, server: Upbeat) -> None:
    with fresh_folder() as folder:
        made = await local("backup", folder / "file")
        assert made.code == 0, made.err
        assert (folder / "file").stat().st_mode & 0o777 == 0o600
        busy = await local("restore", folder / "file")
        assert (busy.code, "in use" in busy.err) == (2, True)
        data = folder / "data"
        assert (await cli("restore", folder / "file", "--data", data)).code == 0
        again = await cli("restore", folder / "file", "--data", data)
        assert (again.code, "not empty" in again.err) == (1, True)
        assert (await cli("restore", folder / "file", "--data", data, "--force")).code == 0
        # It is a stopped installation now.
        stopped = await cli("doctor", "--data", data, "--json")
        assert stopped.code == 0
        assert about(stopped, "server")[0]["said"] == "nothing runs on this data folder"
        link = await cli("login", "--data", data)
        assert (link.code, "start it" in link.err) == (0, True)
        async with Upbeat(data) as restored:
            await restored.start()
            assert {beat["slug"] for beat in await restored.items("/beats")} >= {"checkout", "db"}
            assert await link_works(restored, link.out)


async def test_a_folder_that_is_none_is_refused(cli: Cli, shop: Targets) -> None:
    for command in (("login",), ("backup", "file")):
        ran = await cli(*command)
        assert ran.code == 2
        assert "no data folder of Upbeat" in ran.err


async def test_settings_that_cannot_be_are_told(cli: Cli) -> None:
    ran = await cli("serve", "--roles", "api,cook")
    assert (ran.code, "unknown role cook" in ran.err) == (2, True)
    short = await cli("serve", UPBEAT_ADMIN_TOKEN="short")
    assert (short.code, "UPBEAT_ADMIN_TOKEN" in short.err) == (2, True)
