"""The locks: every dependency is there with its hashes, and nothing tracked names where packages come from."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt", "docker/requirements-build.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
# Put together here, so that this file does not hold what it looks for.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def _locked(name: str) -> dict[str, str]:
    """Version by normalised name."""
    pinned = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", (ROOT / name).read_text("utf-8"), re.MULTILINE
    )
    return {_normal(package): version for package, version in pinned}


def _normal(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(index|extra|find|trusted)", text, re.MULTILINE)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_every_dependency_is_locked() -> None:
    users = {_normal(requirement) for requirement in PROJECT["project"]["dependencies"]}
    developers = users | {_normal(requirement) for requirement in PROJECT["dependency-groups"]["dev"]}
    assert users - _locked("requirements.txt").keys() == set()
    assert developers - _locked("requirements-dev.txt").keys() == set()


def test_developers_run_what_users_run() -> None:
    users, developers = _locked("requirements.txt"), _locked("requirements-dev.txt")
    assert {name: version for name, version in users.items() if developers.get(name) != version} == {}


def test_what_builds_is_what_the_image_locks() -> None:
    needed = {_normal(requirement) for requirement in PROJECT["build-system"]["requires"]}
    assert needed == _locked("docker/requirements-build.txt").keys()


def test_no_lock_of_another_kind_and_no_registry_is_tracked() -> None:
    assert [path for path in _tracked() if path.name in ("uv.lock", "poetry.lock", "Pipfile.lock")] == []
    naming = []
    for path in _tracked():
        text = path.read_bytes()
        naming += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRIES if host.encode() in text]
    assert naming == []
