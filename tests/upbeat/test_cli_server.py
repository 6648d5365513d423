"""Commands that ask a server: what they do to it, what they print, and what they say when they may not or cannot."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig.process import Upbeat, free_port, until
from tests.upbeat.conftest import Cli
from upbeat.demo.targets import HOST, Targets


async def test_without_a_server_it_says_how_to_start_one(cli: Cli) -> None:
    ran = await cli("beats", UPBEAT_SERVER=f"http://127.0.0.1:{free_port()}")
    assert ran.code == 3
    assert "Connection refused" in ran.err
    assert "upbeat serve" in ran.err


async def test_something_else_that_answers_is_no_upbeat(cli: Cli, shop: Targets) -> None:
    ran = await cli("beats", UPBEAT_SERVER=f"http://{HOST}:{shop.http_port}")
    assert ran.code == 3
    assert "this is no Upbeat" in ran.err


async def test_without_a_token_it_is_denied_and_says_what_to_give(server: Upbeat, cli: Cli) -> None:
    ran = await cli("beats", UPBEAT_SERVER=f"http://127.0.0.1:{server.port}")
    assert ran.code == 4
    assert "--token" in ran.err


async def test_a_wrong_token_is_denied(remote: Cli) -> None:
    assert (await remote("beats", "--token", "upb_wrong")).code == 4


async def test_a_token_comes_from_a_file(server: Upbeat, remote: Cli, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text((await remote("tokens", "create", "from-file", "--quiet")).out, "utf-8")
    ran = await remote("beats", "-q", UPBEAT_TOKEN="", UPBEAT_TOKEN_FILE=str(file))
    assert (ran.code, "checkout" in ran.out) == (0, True)


async def test_the_data_folder_is_address_and_credential_enough(local: Cli) -> None:
    listed = (await local("beats", "--quiet")).out.split()  # other tests add theirs
    assert {"checkout", "db", "delivery", "dns", "search", "storefront"} <= {*listed}
    assert listed == sorted(listed)


async def test_lists_are_the_apis_json_or_an_aligned_table(server: Upbeat, remote: Cli) -> None:
    listed = (await remote("beats", "--json")).json
    assert listed["next"] is None
    assert {"slug", "type", "stage", "since", "votes"} <= set(listed["items"][0])
    heading, *rows = (await remote("pages")).out.splitlines()
    assert heading.split() == ["PAGE", "NAME"]
    assert heading.index("NAME") == rows[0].index("Shop")


async def test_a_stage_is_explained_in_words(server: Upbeat, remote: Cli) -> None:
    ran = await remote("explain", "db")
    assert ran.code == 0, ran.err
    assert "Its group Ordering owns its episodes." in ran.out
    assert "see its failures together" in ran.out
    assert {"WHO", "SAYS", "NOTE"} <= set(ran.out.split())
    assert (await remote("explain", "group:ordering", "--json")).json["kind"] == "group"
    assert (await remote("explain", "group:nobody")).code == 2


async def test_one_beat_has_the_shape_of_the_contract(server: Upbeat, remote: Cli) -> None:
    assert (await remote("beats", "show", "db", "--json")).json["slug"] == "db"
    votes = (await remote("beats", "votes", "db", "--json")).json["votes"]
    assert {vote["region"] for vote in votes} == {"eu-west", "us-east", "ap-south"}
    assert set(votes[0]) == {"region", "verdict", "at", "fresh"}
    shown = await remote("beats", "show", "checkout")
    assert "eu-west" in shown.out
    assert "/checkout/health" in shown.out


async def test_a_group_is_listed_shown_paused_and_resumed(remote: Cli) -> None:
    heading, row = (await remote("groups")).out.splitlines()
    assert heading.split() == ["GROUP", "STAGE", "SINCE", "MEMBERS", "BAD", "PAGE"]
    assert row.split()[0] == "ordering"
    shown = await remote("groups", "show", "ordering")
    assert "critical takes 1, warning 1" in shown.out
    assert {"checkout", "db"} <= set(shown.out.split())
    assert "is paused until it is resumed" in (await remote("groups", "pause", "ordering")).out
    assert (await remote("groups", "--json")).json["items"][0]["paused"] is True
    assert (await remote("groups", "resume", "ordering")).out == "ordering runs again\n"


async def test_a_run_is_awaited_and_shown(remote: Cli) -> None:
    ran = await remote("run", "db", "--wait", "--json")
    assert ran.code == 0, ran.err
    assert {result["kind"] for result in ran.json["results"]} == {"manual"}
    assert len(ran.json["results"]) == 3
    assert "runs in" in (await remote("run", "db")).out
    newest = (await remote("beats", "results", "db", "--limit", "1", "--json")).json
    assert len(newest["items"]) == 1
    assert newest["next"]


async def test_a_summary_has_a_line_for_each_region_and_one_for_all(remote: Cli) -> None:
    async with asyncio.timeout(60):  # until each region ran it once
        while len((said := (await remote("summary", "db", "--range", "1d", "--json")).json)["regions"]) < 3:
            await asyncio.sleep(0.2)
    assert said["all"]["runs"] == sum(region["runs"] for region in said["regions"])
    assert said["all"]["quantiles"]["total"]["p99"] > 0
    heading, *rows = (await remote("summary", "db")).out.splitlines()
    assert [row.split()[0] for row in rows] == ["ap-south", "eu-west", "us-east", "all"]
    assert heading.split()[-8:] == ["CRITICAL", "P50", "P75", "P90", "P95", "P99", "LAST", "RUN"]
    assert (await remote("summary", "db", "--range", "2d")).code == 2


async def test_uptime_is_a_share_of_what_is_known(remote: Cli) -> None:
    told = (await remote("uptime", "db", "--since", "1h", "--step", "10m", "--json")).json
    parts = told["seconds"]
    known = parts["up"] + parts["down"]
    assert told["uptime"] == (parts["up"] / known if known else None)
    assert sum(bar["seconds"]["up"] for bar in told["bars"]) == pytest.approx(parts["up"], abs=1e-3)
    shown = (await remote("uptime", "db", "--by", "requests", "--step", "1h")).out
    assert [line.split()[0] for line in shown.splitlines()[:4]] == ["uptime", "by", "since", "until"]
    assert " runs" in shown
    component = await remote("uptime", "search", "--component", "-q")
    assert (component.code, component.out) == (0, "100.00 %\n")
    assert (await remote("uptime", "db", "--since", "yesterday")).code == 2


async def test_a_beat_is_paused_and_resumed(remote: Cli) -> None:
    paused = (await remote("pause", "storefront", "--for", "45m", "--json")).json
    assert (paused["paused"], paused["paused_until"] is not None) == (True, True)
    until = await remote("pause", "storefront", "--until", "2099-01-31T18:00Z")
    assert until.out == "storefront is paused until 2099-01-31 18:00:00 UTC\n"
    assert "until it is resumed" in (await remote("pause", "storefront")).out
    assert (await remote("resume", "storefront", "--json")).json["paused"] is False
    assert (await remote("pause", "storefront", "--for", "soon")).code == 2
    assert (await remote("pause", "storefront", "--until", "2020-01-01T00:00Z")).code == 2


async def test_an_object_lives_from_create_to_delete(remote: Cli, tmp_path: Path) -> None:
    spec = {"slug": "made", "type": "tcp", "host": "127.0.0.1", "port": 9, "enabled": False}
    made = await remote("beats", "create", "--json", stdin=json.dumps(spec))
    assert (made.code, made.json["slug"]) == (0, "made"), made.err
    assert (await remote("beats", "create", stdin=json.dumps(spec))).code == 2
    edited = await remote(
        "beats", "edit", "made", "--set", "interval=30s", "--set", "quorum.critical=all", "--json"
    )
    assert (edited.json["interval"], edited.json["quorum"]["critical"]) != ("60s", "majority")
    assert edited.json["interval"] == "30s"
    file = tmp_path / "beat.yaml"
    file.write_text("{slug: made, type: tcp, host: 127.0.0.1, port: 10, enabled: false}", "utf-8")
    assert (await remote("beats", "edit", "made", "-f", file, "--json")).json["port"] == 10
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/"port": 10/"port": 11/\' "$1"\n', "utf-8")
    editor.chmod(0o755)
    assert (await remote("beats", "edit", "made", "--json", EDITOR=str(editor))).json["port"] == 11
    assert "nothing changed" in (await remote("beats", "edit", "made", EDITOR="true")).out
    assert (await remote("beats", "delete", "made")).out == "beat made deleted\n"
    assert (await remote("beats", "show", "made")).code == 2


async def test_mistakes_are_told_with_their_pointers(remote: Cli) -> None:
    ran = await remote("beats", "create", stdin="{slug: bad, type: tcp, host: x, port: 0, intervall: 5s}")
    assert ran.code == 2
    assert "/port: " in ran.err
    assert "did you mean interval?" in ran.err


async def test_what_a_file_declares_is_changed_there(remote: Cli) -> None:
    ran = await remote("beats", "edit", "db", "--set", "interval=9s")
    assert ran.code == 2
    assert "upbeat.yaml:" in ran.err


async def test_the_export_is_read_back(cli: Cli, remote: Cli, tmp_path: Path) -> None:
    file = tmp_path / "exported.yaml"
    assert (await remote("export", "-o", file)).code == 0
    assert (await cli("validate", file)).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("pages",),
        ("components",),
        ("regions",),
        ("channels",),
        ("incidents", "--status", "open"),
        ("episodes", "--open"),
        ("actions", "--status", "pending"),
        ("deliveries", "--status", "dead"),
        ("users",),
        ("tokens",),
        ("audit", "--limit", "5"),
    ],
    ids=" ".join,
)
async def test_every_listing_answers(remote: Cli, command: tuple[str, ...]) -> None:
    listed = await remote(*command, "--json")
    assert (listed.code, listed.err) == (0, "")
    assert set(listed.json) == {"items", "next"}
    assert (await remote(*command)).code == 0


async def test_people_get_roles_and_links(remote: Cli) -> None:
    made = await remote("users", "create", "ann@shop.example", "--role", "viewer", "--page", "shop", "--json")
    assert "/login/link?secret=" in made.json["login_link"]
    assert (
        "editor of shop"
        in (await remote("users", "role", "ann@shop.example", "editor", "--page", "shop")).out
    )
    assert (await remote("users", "disable", "ann@shop.example", "--json")).json["disabled"] is True
    assert (await remote("users", "disable", "ann@shop.example", "--undo", "--json")).json[
        "disabled"
    ] is False
    assert (await remote("users", "link", "ann@shop.example", "-q")).out.startswith("http")
    assert (await remote("users", "delete", "ann@shop.example")).code == 0


async def test_a_token_opens_until_it_is_revoked(remote: Cli) -> None:
    made = (await remote("tokens", "create", "ci", "--scope", "read", "--expires", "1d", "--json")).json
    assert (await remote("beats", "--token", made["token"])).code == 0
    assert (await remote("beats", "delete", "db", "--token", made["token"])).code == 4
    assert (await remote("tokens", "revoke", made["id"])).code == 0
    assert (await remote("beats", "--token", made["token"])).code == 4


async def test_a_channel_is_tested(remote: Cli, notices: list[dict[str, Any]]) -> None:
    assert (await remote("channels", "test", "ops")).out == "ops was told.\n"

    async def came() -> bool:
        return any(notice["type"] == "beat.test" for notice in notices)

    await until(came, "the test notice")


async def test_a_channel_is_tested_before_it_is_saved(remote: Cli, shop: Targets, tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text("slug: trial\ntype: webhook\nurl: http://127.0.0.1:9/nobody\n")
    ran = await remote("channels", "test", file)
    assert (ran.code, "was not told (retry): " in ran.err) == (1, True)


async def test_a_draft_is_edited_approved_and_becomes_an_incident(
    remote: Cli, shop: Targets, server: Upbeat
) -> None:
    async def opening() -> Any:
        items = (await server.get("/actions?status=pending"))["items"]
        return next((action for action in items if action["owner"] == "ordering"), None)

    async def is_ok() -> bool:
        return bool((await server.get("/beats/checkout"))["stage"] == "ok")

    await until(is_ok, "the checkout is well")
    await shop.become(slow=False, down=True)
    try:
        draft = await until(opening, "a draft")
        assert draft["id"] in (await remote("actions", "--status", "pending", "-q")).out
        shown = (await remote("actions", "show", draft["id"])).out
        assert "503" in shown
        assert "MEMBER" in shown, "of a group each line says whose it is"
        edited = (await remote("actions", "edit", draft["id"], "--text", "We are on it.", "--json")).json
        stale = await remote("actions", "approve", draft["id"], "--revision", draft["revision"])
        assert (stale.code, "revision" in stale.err) == (2, True)
        assert (await remote("actions", "edit", draft["id"], "--component", "x")).code == 2
        assert "first text" in (await remote("actions", "show", draft["id"])).out
        approved = (await remote("actions", "approve", draft["id"], "--page-only", "--json")).json
        assert (approved["text"], approved["revision"]) == ("We are on it.", edited["revision"])
        assert "We are on it." in (await remote("incidents", "show", approved["incident"])).out
    finally:
        await shop.become(slow=False, down=False)
    await until(is_ok, "the checkout is well again")
    ran = await remote("incidents", "show", approved["incident"], "-q")
    assert ran.out == "resolved\n"
    assert (await remote("actions", "reject", draft["id"])).code == 2
    tally = (await remote("actions", "tally", "--group", "ordering", "--json")).json
    assert tally["approved_edited"] == 1
