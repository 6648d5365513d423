"""Which Chromium is taken where there are several, and what is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.browser.find import find_chromium


def _program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with nothing in it."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}


def _found(environment: dict[str, str], *, headed: bool = False) -> tuple[str, str] | None:
    found = find_chromium(environment, headed=headed)
    return (found.path.name, found.found) if found else None


def test_none_is_none(home: dict[str, str]) -> None:
    if any(
        Path(place).exists() for place in ("/Applications/Google Chrome.app", "/Applications/Chromium.app")
    ):
        pytest.skip("macOS, with a browser that is found wherever it is")
    assert find_chromium(home) is None


def test_what_is_named_is_the_only_one(home: dict[str, str], tmp_path: Path) -> None:
    _program(tmp_path / "bin/chromium")
    mine = _program(tmp_path / "mine/headless_shell")
    assert _found(home | {"UPBEAT_CHROMIUM": str(mine)}) == ("headless_shell", "UPBEAT_CHROMIUM")
    assert _found(home | {"UPBEAT_CHROMIUM": "chromium"}) == ("chromium", "UPBEAT_CHROMIUM")
    assert _found(home | {"UPBEAT_CHROMIUM": str(tmp_path / "gone")}) is None
    assert _found(home | {"UPBEAT_CHROMIUM": str(mine)}, headed=True) is None  # it cannot show itself


def test_the_smallest_of_the_system_comes_first(home: dict[str, str], tmp_path: Path) -> None:
    for name in ("google-chrome", "chromium", "chromium-headless-shell"):
        _program(tmp_path / "bin" / name)
    assert _found(home) == ("chromium-headless-shell", "PATH")
    assert _found(home, headed=True) == ("chromium", "PATH")


def test_a_snap_is_passed_over(home: dict[str, str], tmp_path: Path) -> None:
    _program(tmp_path / "bin/chromium-browser", "#!/bin/sh\nexec /snap/bin/chromium $@\n")
    _program(tmp_path / "snap")
    (tmp_path / "bin/chromium").symlink_to(tmp_path / "snap")
    _program(tmp_path / "bin/google-chrome")
    assert _found(home) == ("google-chrome", "PATH")


@pytest.mark.parametrize("folder", [".cache/ms-playwright", "elsewhere"])
def test_the_newest_of_playwrights_downloads(home: dict[str, str], tmp_path: Path, folder: str) -> None:
    downloads = tmp_path / folder
    if folder == "elsewhere":
        home["PLAYWRIGHT_BROWSERS_PATH"] = str(downloads)
    for revision in (999, 1187):
        _program(downloads / f"chromium_headless_shell-{revision}/chrome-linux/headless_shell")
        _program(downloads / f"chromium-{revision}/chrome-linux64/chrome")
    found = find_chromium(home)
    assert found is not None
    assert (found.found, found.is_headless_only, "1187" in str(found.path)) == ("Playwright", True, True)
    found = find_chromium(home, headed=True)
    assert found is not None
    assert (found.path.name, "1187" in str(found.path)) == ("chrome", True)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read all")
def test_what_may_not_be_looked_at_is_none(home: dict[str, str], tmp_path: Path) -> None:
    shut = tmp_path / ".cache"
    mine = _program(shut / "ms-playwright/chromium-1/chrome-linux/chrome")
    shut.chmod(0)
    tmp_path.chmod(0o755)
    code = f"""
import sys
sys.path.append({str(Path(__file__).parents[3])!r})
from engine.browser.find import find_chromium
print([find_chromium({home!r} | more) for more in ({{}}, {{"UPBEAT_CHROMIUM": {str(mine)!r}}})])
"""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    ran = subprocess.run([*other, python, "-c", code], capture_output=True, text=True, check=False)
    shut.chmod(0o755)
    assert (ran.stdout, ran.stderr) == ("[None, None]\n", "")
