"""What the image does, done outside of one: a wheel into an empty environment with the locked packages, and it serves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from upbeat import __version__
from upbeat.cli.client import LOCAL_URL

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "engine", "evaluators", "exporters", "rules", "upbeat")


@pytest.fixture(scope="module")
def place(data_place: Path) -> Iterator[Path]:
    """A folder the embedded servers may enter when we are root."""
    made = Path(tempfile.mkdtemp(prefix="upbeat-install-", dir=data_place))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Files of the packages that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(place: Path, files: list[Path]) -> Path:
    source = place / "source"
    for file in (*files, Path("pyproject.toml"), Path("README.md"), Path("LICENSE")):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)
    _run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--no-deps",
        "--wheel-dir",
        str(place),
        str(source),
        cwd=place,
    )
    (built,) = place.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(wheel) as opened:
        held = set(opened.namelist())
    assert {str(file) for file in files} - held == set()
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == set(PACKAGES)


def test_an_empty_environment_with_the_locked_packages_serves(wheel: Path, place: Path) -> None:
    venv, empty = place / "venv", place / "empty"
    empty.mkdir()
    _run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=empty)
    # As the image installs it; without byte code, which halves the time.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin/python"),
        "install",
        "-qq",
        "--no-compile",
    ]
    _run(*pip, "--require-hashes", "-r", str(ROOT / "requirements.txt"), cwd=empty)
    _run(*pip, "--no-deps", "--no-index", str(wheel), cwd=empty)
    upbeat = str(venv / "bin/upbeat")
    assert _run(upbeat, "--version", cwd=empty) == f"upbeat {__version__}\n"
    _serves(upbeat, empty, place / "data")
    assert list(empty.iterdir()) == []


def _serves(upbeat: str, cwd: Path, data: Path) -> None:
    options = ["serve", "--data", str(data), "--port", "0"]
    with (data.parent / "log").open("w+") as log:
        server = subprocess.Popen([upbeat, *options], cwd=cwd, env=_environment(), stderr=log)
        try:
            base = _base_url(server, data)
            assert _get(f"{base}/healthz") == "ok\n"
            assert json.loads(_get(f"{base}/api/v1/openapi.json"))["openapi"].startswith("3.1")
            page = _get(f"{base}/console/login")
            static = re.findall(r'"(/static/[^"]+)"', page)
            assert static
            assert all(_get(base + path) for path in static)
            assert "PostgreSQL" in _run(upbeat, "doctor", "--data", str(data), cwd=cwd)
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0, log.seek(0) or log.read()
        finally:
            if server.poll() is None:
                server.terminate()
                server.wait(20)


def _base_url(server: subprocess.Popen[bytes], data: Path) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        if (data / LOCAL_URL).exists() and (said := (data / LOCAL_URL).read_text("utf-8")):
            return said
        time.sleep(0.05)
    raise AssertionError((data.parent / "log").read_text("utf-8"))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def _environment() -> dict[str, str]:
    """Ours, without what would let the checkout in or settings of Upbeat."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UPBEAT_"))}


def _run(*command: str, cwd: Path) -> str:
    ran = subprocess.run(
        command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False, timeout=110
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
