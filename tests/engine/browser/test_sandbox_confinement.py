"""How a browser is confined is tried, with the real one, and what is missing is said."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.browser.find import find_chromium
from engine.browser.sandbox import Confinement, confinement
from upbeat.doctor import examine
from upbeat.settings import ServeSettings

ROOT = Path(__file__).parents[3]
TRIED = """
import asyncio, json, os, sys
sys.path.append(sys.argv[1])
from engine.browser.find import find_chromium
from engine.browser.sandbox import confinement
chromium = find_chromium(os.environ)
found = asyncio.run(confinement(chromium))
print(json.dumps([found.level, found.has_browser_sandbox, found.runs_scripts, found.lacks]))
"""


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap: apt-get install bubblewrap")
async def test_bubblewrap_and_chromiums_own_sandbox_nest(tmp_path: Path) -> None:
    environment = os.environ | {"UPBEAT_CHROMIUM": os.environ["CHROMIUM"], "UPBEAT_BROWSER_SCRIPTS": "1"}
    chromium = find_chromium(environment)
    assert chromium is not None
    confined = await confinement(chromium)
    if not confined.runs_scripts:
        pytest.skip("; ".join(confined.lacks))
    assert (confined.level, confined.lacks) == ("bubblewrap", ())
    assert "hrom" in confined.version
    assert await confinement(chromium) is confined  # remembered
    settings = ServeSettings(data=tmp_path, environment=environment)
    said = {one.about: one for one in await examine(settings, None, None) if one.about.startswith("browser")}
    assert [one.level for one in said.values()] == ["ok", "ok", "ok"]
    assert str(chromium.path) in said["browser"].said
    assert said["browser scripts"].said == "allowed"


def _tried(path: Path, *command: str) -> tuple[str, bool, bool, str]:
    """What is found where programs are looked for here."""
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    ran = subprocess.run(
        [*command, python, "-c", TRIED, str(ROOT)],
        env={"PATH": str(path), "UPBEAT_CHROMIUM": os.environ["CHROMIUM"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if ran.returncode and any(
        why in ran.stderr for why in ("unshare failed", "Permission denied", "StrEnum")
    ):
        pytest.skip(f"not to be tried here: {ran.stderr[-200:]}")
    assert ran.returncode == 0, ran.stderr
    level, has_browser_sandbox, runs_scripts, lacks = json.loads(ran.stdout)
    return level, has_browser_sandbox, runs_scripts, "; ".join(lacks)


@pytest.mark.browser
@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux only")
def test_without_bubblewrap_scripts_do_not_run_and_it_says_what_to_install(tmp_path: Path) -> None:
    level, _, runs_scripts, lacks = _tried(tmp_path)
    assert (level, runs_scripts) == ("process", False)
    assert "apt-get install bubblewrap" in lacks


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="no bubblewrap: apt-get install bubblewrap")
def test_without_user_namespaces_it_names_the_sysctl() -> None:
    nobody = (
        ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    )
    off = [
        "/usr/bin/unshare",
        "-Ur",
        "/bin/sh",
        "-c",
        'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"',
        "-",
    ]
    level, has_browser_sandbox, runs_scripts, lacks = _tried(
        Path(shutil.which("bwrap") or "").parent, *nobody, *off
    )
    assert (level, has_browser_sandbox, runs_scripts) == ("process", False, False)
    assert lacks.startswith("bubblewrap does not start it")
    assert "user.max_user_namespaces is 0" in lacks


@pytest.mark.parametrize(
    ("confined", "runs_scripts"),
    [
        (Confinement("bubblewrap", has_browser_sandbox=True), True),
        (Confinement("bubblewrap", has_browser_sandbox=False), False),
        (Confinement("process", has_browser_sandbox=True), False),
    ],
    ids=["both", "without Chromium's own", "without bubblewrap"],
)
def test_scripts_want_both_sandboxes(confined: Confinement, *, runs_scripts: bool) -> None:
    assert confined.runs_scripts is runs_scripts


async def test_what_is_named_and_not_there_fails_the_doctor(tmp_path: Path) -> None:
    settings = ServeSettings(data=tmp_path, environment={"UPBEAT_CHROMIUM": "/gone", "PATH": ""})
    (said,) = [one for one in await examine(settings, None, None) if one.about == "browser"]
    assert (said.level, said.said) == ("fail", "UPBEAT_CHROMIUM=/gone is no program")
