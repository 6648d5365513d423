"""The image, the compose files and the unit, read as text: nothing of Docker is needed to see that they fit the program."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from engine.embedded.nats import Program
from upbeat.cli import upbeat
from upbeat.settings import DEFAULT_PORT, serve_settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
IMAGE = (DOCKER / "Dockerfile").read_text("utf-8")
COMPOSE = {
    name: yaml.safe_load((DOCKER / name).read_text("utf-8"))
    for name in ("compose.yaml", "compose.split.yaml")
}
SERVICES = [
    (file, name, service) for file, whole in COMPOSE.items() for name, service in whole["services"].items()
]
OURS = [one for one in SERVICES if one[2]["image"] == "upbeat"]
UNIT = (DOCKER / "upbeat.service").read_text("utf-8")
SETTINGS = set(re.findall(r"UPBEAT_\w+", (ROOT / "upbeat/settings.py").read_text("utf-8")))
SECRETS = {"UPBEAT_ADMIN_TOKEN", "UPBEAT_DATABASE_URL", "UPBEAT_NATS_URL", "UPBEAT_SECRET_KEY"}


def _steps(keyword: str) -> list[str]:
    """What follows this keyword, in order, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", IMAGE, flags=re.MULTILINE))
    return re.findall(rf"^\s*{keyword} (.+)$", joined, re.MULTILINE)


def _parse(words: list[str]) -> dict[str, Any]:
    """Options of one command of `upbeat`, read by it."""
    command = upbeat.get_command(click.Context(upbeat), words[0])
    assert command is not None, f"there is no upbeat {words[0]}"
    return command.make_context(words[0], list(words[1:])).params


def _known(name: str) -> bool:
    return name in SETTINGS or (name.endswith("_FILE") and name.removesuffix("_FILE") in SECRETS)


def _ids(one: tuple[str, str, Any]) -> str:
    return f"{one[0]}:{one[1]}"


# ---- the image


def test_it_runs_as_a_named_user() -> None:
    (user,) = _steps("USER")
    assert re.fullmatch(r"[a-z]+", user)
    assert user != "root"
    assert any(re.search(rf"useradd .*\b{user}\b", step) for step in _steps("RUN"))
    assert IMAGE.index("USER") > IMAGE.rindex("\nCOPY")  # what is installed is not its to change


def test_it_is_built_on_glibc_from_hashes() -> None:
    assert [step for step in _steps("FROM") if "slim" not in step or "alpine" in step] == []
    installs = [part for step in _steps("RUN") for part in step.split("&&") if "pip install" in part]
    assert installs
    assert [part for part in installs if "--require-hashes" not in part and "--no-index" not in part] == []
    assert not re.search(r"^ADD |curl|wget|--no-check|pip install \.", IMAGE, re.MULTILINE)


def test_whatever_is_copied_exists_and_is_let_through() -> None:
    ignore = (DOCKER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for step in _steps("COPY"):
        if step.startswith("--from=build"):
            continue
        for source in step.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignore


def test_every_package_is_copied() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    copied = {source for step in _steps("COPY") for source in step.split()[:-1]}
    assert packages - copied == set()


def test_its_commands_and_settings_are_known() -> None:
    (entry,), (command,) = _steps("ENTRYPOINT"), _steps("CMD")[-1:]
    assert json.loads(entry) == ["upbeat"]
    _parse(json.loads(command))
    health = json.loads(_steps("HEALTHCHECK")[0].partition("CMD ")[2])
    assert health[0] == "upbeat"
    _parse(health[1:])
    named = dict(re.findall(r"(UPBEAT_\w+)=(\S+)", IMAGE))
    assert [name for name in named if not _known(name)] == []
    assert serve_settings(named).port == DEFAULT_PORT == int(_steps("EXPOSE")[0])
    assert [named["UPBEAT_DATA"]] == _steps("VOLUME") == _steps("WORKDIR")[-1:]


# ---- compose


@pytest.mark.parametrize("one", SERVICES, ids=_ids)
def test_a_service_may_do_little(one: tuple[str, str, Any]) -> None:
    service = one[2]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert ":" in service["image"] or service["image"] == "upbeat"


@pytest.mark.parametrize("one", SERVICES, ids=_ids)
def test_files_secrets_and_volumes_are_there(one: tuple[str, str, Any]) -> None:
    file, _, service = one
    whole = COMPOSE[file]
    given = {secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", [])}
    assert given <= whole["secrets"].keys()
    for name, value in service.get("environment", {}).items():
        if name.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in given
        else:
            assert not re.search("PASSWORD|TOKEN|URL", name), "secrets are files"
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists() or source == "./upbeat.yaml"  # the reader's own
        else:
            assert source in whole["volumes"]


@pytest.mark.parametrize("one", OURS, ids=_ids)
def test_our_services_are_told_what_they_understand(one: tuple[str, str, Any]) -> None:
    service = one[2]
    given = service["environment"]
    assert [name for name in given if not _known(name)] == []
    options = _parse(service.get("command", ["serve"]))
    settings = serve_settings(
        {name: value for name, value in given.items() if not name.endswith("_FILE")},
        roles=options["roles"],
        regions=options["regions"],
    )
    assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    health = " ".join(service["healthcheck"]["test"])
    if "api" in settings.roles:
        assert service["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"]
        assert f"127.0.0.1:{DEFAULT_PORT}/readyz" in health
    else:
        assert "ports" not in service  # it listens on nothing
        _parse(service["healthcheck"]["test"][2:])


def test_split_roles_cover_everything_once() -> None:
    services = COMPOSE["compose.split.yaml"]["services"]
    ours = [_parse(service["command"]) for service in services.values() if service["image"] == "upbeat"]
    assert {role for options in ours for role in options["roles"].split(",")} == {
        "api",
        "evaluator",
        "exporter",
        "probe",
    }
    regions = [options["regions"] for options in ours if options["roles"] == "probe"]
    assert len(set(regions)) == len(regions) >= 3


def test_what_is_stored_is_on_three_servers_and_synced() -> None:
    services = COMPOSE["compose.split.yaml"]["services"]
    servers = [name for name, service in services.items() if service["image"].startswith("nats:")]
    text = (DOCKER / "nats.conf").read_text("utf-8")
    assert re.findall(r"nats://([\w-]+):6222", text) == servers
    assert [services[name]["command"][-1] for name in servers] == servers
    assert services["api"]["environment"]["UPBEAT_NATS_REPLICAS"] == str(len(servers)) == "3"
    assert re.search(r"^\s*sync_interval: always$", text, re.MULTILINE)
    assert services["postgres"]["image"] == "postgres:18"


def test_nats_accepts_its_configuration(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "nats.conf", tmp_path)
    (tmp_path / "auth.conf").write_text('authorization { user: upbeat, password: "x" }\n')
    command = [str(Program.find().path), "--config", str(tmp_path / "nats.conf"), "--name", "nats-1", "-t"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert ran.returncode == 0, ran.stderr


def test_a_browser_is_asked_for() -> None:
    (plain,) = [step for step in _steps("RUN") if "chromium" in step]
    assert plain.startswith('[ -z "$BROWSER" ] ||')
    assert {"bubblewrap", "chromium-headless-shell"} <= set(plain.split())
    whole = yaml.safe_load((DOCKER / "compose.browser.yaml").read_text("utf-8"))
    (name, service), *more = whole["services"].items()
    assert more == []
    assert name in COMPOSE["compose.yaml"]["services"]
    assert service["build"]["args"] == {"BROWSER": "1"}
    options = dict(option.split("=") for option in service["security_opt"])
    assert (ROOT / options["seccomp"]).exists()  # from the project's folder, as the command at its head says
    assert options | {"seccomp": ""} == {"seccomp": "", "apparmor": "unconfined", "systempaths": "unconfined"}
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "user"}


# ---- the seccomp profile of a container with browsers

PROFILE = json.loads((DOCKER / "seccomp-browser.json").read_text("utf-8"))
NAMESPACES = {"clone", "clone3", "unshare", "mount", "umount2", "pivot_root", "chroot", "sethostname"}
FORBIDDEN = {
    *(
        "add_key",
        "bpf",
        "fsmount",
        "init_module",
        "io_uring_setup",
        "kcmp",
        "kexec_load",
        "keyctl",
        "move_mount",
    ),
    *(
        "open_by_handle_at",
        "perf_event_open",
        "personality",
        "process_vm_readv",
        "ptrace",
        "reboot",
        "request_key",
    ),
    *("setns", "settimeofday", "swapon", "syslog", "userfaultfd"),
}


def _allowed() -> set[str]:
    return {name for rule in PROFILE["syscalls"] for name in rule["names"]}


def test_the_profile_is_a_list_of_what_is_allowed() -> None:
    assert (PROFILE["defaultAction"], PROFILE["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert {rule["action"] for rule in PROFILE["syscalls"]} == {"SCMP_ACT_ALLOW"}
    assert _allowed() >= NAMESPACES
    assert _allowed() & FORBIDDEN == set()
    names = PROFILE["syscalls"][-1]["names"]
    assert names == sorted(set(names))


# Becomes one that may call what the profile allows, and nothing else.
BECOME = """
import ctypes, json, os, struct, sys
numbers = json.loads(sys.argv[1])
code = [(0x20, 0, 0, 0)]
for number in numbers:
    code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x7FFF0000)]
code.append((0x06, 0, 0, 0x00050000 | 38))
packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(packed)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""
TRIED = """
import asyncio, os, sys
sys.path.append(sys.argv[1])
from engine.browser.find import find_chromium
from engine.browser.sandbox import confinement
found = asyncio.run(confinement(find_chromium(os.environ)))
print(found.level, found.has_browser_sandbox, found.lacks)
"""
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def _run_with(calls: set[str]) -> str:
    """How a browser is confined by who may call only these: an ordinary user without capabilities."""
    if not HEADER.exists() or os.uname().machine != "x86_64" or shutil.which("bwrap") is None:
        pytest.skip(
            "needs bubblewrap, and the numbers of x86-64's system calls: apt-get install linux-libc-dev"
        )
    known = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", HEADER.read_text("ascii")))
    numbers = json.dumps(sorted(int(known[name]) for name in calls & known.keys()))
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    python = [
        "/usr/bin/python3" if os.geteuid() == 0 else sys.executable,
        "-c",
    ]  # one that nobody can read too
    command = [*(nobody if os.geteuid() == 0 else ()), *python, BECOME, numbers, *python, TRIED, str(ROOT)]
    ran = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "UPBEAT_CHROMIUM": os.environ["CHROMIUM"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.browser
def test_a_browser_is_confined_under_the_profile() -> None:
    if _run_with(_allowed() | NAMESPACES | FORBIDDEN) != "bubblewrap True ()":
        pytest.skip("an ordinary user has no sandbox here, with any profile")
    assert _run_with(_allowed()) == "bubblewrap True ()"


# ---- the unit


def _unit() -> dict[str, str]:
    return dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))


def test_the_unit_starts_reloads_and_stops_it() -> None:
    unit = _unit()
    program, *words = unit["ExecStart"].split()
    assert program.endswith("/bin/upbeat")
    options = _parse(words)
    assert str(options["data"]) == f"/var/lib/{unit['StateDirectory']}"
    assert unit["ExecReload"].endswith("-HUP $MAINPID")
    assert unit["KillMode"] == "mixed"  # its servers are its own to stop


def test_the_unit_may_do_little() -> None:
    expected = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "SystemCallFilter": "@system-service",
    }
    assert expected.items() <= _unit().items()
    assert set(_unit()["RestrictAddressFamilies"].split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}


def _with_browser() -> dict[str, str]:
    """What the file for browsers changes."""
    text = (DOCKER / "upbeat-browser.conf").read_text("utf-8")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def test_a_unit_with_browsers_gives_up_what_namespaces_need_and_no_more() -> None:
    changed = _with_browser()
    off = {name for name, value in changed.items() if value == "no"}
    assert off == {"RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname"}
    assert {name for name in off if _unit().get(name) != "yes"} == set()
    assert changed.keys() - off == {"SystemCallFilter", "MemoryMax", "OOMPolicy", "TasksMax"}


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_a_browser_is_confined_under_the_units_filter() -> None:
    allowed = set[str]()
    words = [*_unit()["SystemCallFilter"].split(), *_with_browser()["SystemCallFilter"].split()]
    while words:
        word = words.pop()
        if word.startswith("@"):
            command = ["systemd-analyze", "--no-pager", "syscall-filter", word]
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[
                1:
            ]
            words += [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
        else:
            allowed.add(word)
    if _run_with(_allowed() | NAMESPACES | FORBIDDEN) != "bubblewrap True ()":
        pytest.skip("an ordinary user has no sandbox here, with any filter")
    assert _run_with(allowed) == "bubblewrap True ()"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("has_browser", [False, True], ids=["plain", "with a browser"])
def test_systemd_reads_the_unit(tmp_path: Path, *, has_browser: bool) -> None:
    unit = tmp_path / "upbeat.service"
    unit.write_text(UNIT.replace("/opt/upbeat/bin/upbeat", "/bin/true"))
    if has_browser:
        (tmp_path / "upbeat.service.d").mkdir()
        shutil.copy(DOCKER / "upbeat-browser.conf", tmp_path / "upbeat.service.d/browser.conf")
    ran = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=30
    )
    assert (ran.returncode, "upbeat.service" in ran.stderr) == (0, False), ran.stderr
