"""What hostile code in a sandbox can read, reach, use up and leave behind. It is Python here; Chromium is no better."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from engine.browser.sandbox import _last

ROOT: Final = Path(__file__).parents[3]
IS_ROOT: Final = os.geteuid() == 0
NOBODY: Final = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
USERS: Final = ("root", "nobody") if IS_ROOT else ("own",)
WAYS: Final = [(level, user) for level in ("bubblewrap", "process") for user in USERS]
APART: Final = [way for way in WAYS if way[0] == "bubblewrap"]
ALIVE_S: Final = 60.0

# Stands for a probe: starts what it is given, says what it heard, and whatever is left when all was ended.
PROBE: Final = """
import asyncio, json, os, resource, sys, tempfile
given = json.loads(sys.argv[1])
sys.path.append(given["root"])
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
busy = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
from pathlib import Path
from engine.browser.find import Chromium
from engine.browser import sandbox as ours
from engine.browser.sandbox import Confinement, place, start
ours.PROCESSES = 300

async def main():
    folder = Path(tempfile.mkdtemp(dir=place()))
    gate = folder / "gate"
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), gate)
    sandbox = await start(
        Chromium(Path("/usr/bin/true"), True, "test"), Confinement(given["level"], True), gate,
        is_script=False, memory_bytes=given["memory_bytes"], code=given["code"],
    )
    said = await (sandbox.reader.readline() if given["is_endless"] else sandbox.reader.read())
    print(json.dumps({"said": json.loads(said or "null")}), flush=True)
    if given["is_endless"]:
        sys.stdin.readline()
    await sandbox.kill()
    await sandbox.kill()
    server.close()
    gate.unlink(missing_ok=True)
    folder.rmdir()
    print(json.dumps({"ended": sandbox.ended}), flush=True)

asyncio.run(main())
"""


def _python() -> str:
    """One that another user can read too."""
    if not IS_ROOT or Path(sys.base_prefix).is_relative_to("/usr") or Path(sys.base_prefix).parts[1] == "opt":
        return os.path.realpath(sys.executable)
    found = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    is_new = found and subprocess.run([found, "-c", "import enum; enum.StrEnum"], check=False).returncode == 0
    return (
        str(found)
        if is_new
        else pytest.skip(f"{sys.base_prefix} is root's alone, and there is no other Python")
    )


def _command(
    way: tuple[str, str], code: str, *, memory_mib: int = 1024, is_endless: bool = False
) -> list[str]:
    level, user = way
    if level == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("no bubblewrap: apt-get install bubblewrap")
    if sys.platform != "linux":
        pytest.skip("what it can use and see is measured on Linux")
    given = {"root": str(ROOT), "level": level, "code": code, "is_endless": is_endless}
    given["memory_bytes"] = memory_mib << 20
    return [*(NOBODY if user == "nobody" else ()), _python(), "-c", PROBE, json.dumps(given)]


def _run(way: tuple[str, str], code: str, memory_mib: int = 1024) -> tuple[Any, str]:
    """What the code said, and how its sandbox ended."""
    ran = subprocess.run(
        _command(way, code, memory_mib=memory_mib),
        env={"UPBEAT_CANARY": "a-canary-flew", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=ALIVE_S,
    )
    assert ran.returncode == 0, ran.stderr
    first, last = ran.stdout.splitlines()
    return json.loads(first)["said"], json.loads(last)["ended"]


def _alive(mark: str) -> list[int]:
    """Processes whose command has this mark."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


# ---- what it sees

LOOKED: Final = """
import ctypes, fcntl, glob, os, resource, socket
def tried(do, *given):
    try:
        return repr(do(*given))[:200] or "done"
    except OSError as failure:
        return failure.strerror
def dial(family, address):
    with socket.socket(family) as dialed:
        dialed.settimeout(5)
        dialed.connect(address)
def read(path):
    return open(path, "rb").read().decode("utf-8", "replace")
def write(path):
    open(path, "w").close()
    os.unlink(path)
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *given):
    if libc.syscall(number, *given) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
numbers = json.loads(NUMBERS)
status = dict(line.split(":", 1) for line in read("/proc/self/status").splitlines())
mounts = [line.split() for line in read("/proc/self/mounts").splitlines()]
writable = [one[1] for one in mounts if "rw" in one[3].split(",") and tried(write, one[1] + "/x") == "None"]
print(json.dumps({
    "environment": dict(os.environ),
    "environments": "".join(tried(read, path) for path in glob.glob("/proc/[0-9]*/environ")),
    "commands": [tried(read, path) for path in glob.glob("/proc/[0-9]*/cmdline")],
    "handles": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "files": {path: tried(read, path) for path in FILES},
    "dialed": {str(address): tried(dial, family, address) for family, address in PEERS},
    "interfaces": [line.split(":")[0].strip() for line in read("/proc/net/dev").splitlines()[2:]],
    "written": {path: tried(write, path) for path in WRITTEN},
    "writable": writable,
    "status": {key: value.strip() for key, value in status.items()},
    "calls": {name: tried(call, number, *given) for name, number, *given in numbers},
    "first": [line.split()[1] for line in read("/proc/1/status").splitlines() if line.startswith("Seccomp:")],
    "routes": tried(call, SOCKET, 16, 3, 0),
    "forged": tried(fcntl.ioctl, 0, 0x5412, b"x"),
    "user": os.getresuid(), "groups": os.getgroups(), "session": os.getsid(0) == os.getpid() or os.getsid(0),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "oom": read("/proc/self/oom_score_adj").strip(), "nice": os.nice(0),
    "gate": tried(dial, socket.AF_UNIX, json.loads(sys.argv[1])["gate"]),
}), flush=True)
"""
CALLS: Final = {  # name: (x86-64, aarch64, arguments)
    "ptrace": (101, 117, (16, 1)),
    "keyctl": (250, 219, (0, 0, 0)),
    "bpf": (321, 280, (0, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, -1, -1, 0)),
    "userfaultfd": (323, 282, (0,)),
    "io_uring_setup": (425, 425, (1, 0)),
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "setns": (308, 268, (0, 0)),
    "shmget": (29, 194, (0, 4096, 0o1600)),
    "pidfd_getfd": (438, 438, (0, 0, 0)),
    "kcmp": (312, 272, (0, 0, 0, 0, 0)),
    "fsmount": (432, 432, (0, 0, 0)),
    "semget": (64, 190, (0, 1, 0o1600)),
    "mq_open": (240, 180, (0, 0, 0, 0)),
    "memfd_create": (319, 279, (0, 0)),
    "syslog": (103, 116, (10, 0, 0)),
    "socket of a virtual machine's host": (41, 198, (40, 1, 0)),
    "socket of the kernel's algorithms": (41, 198, (38, 5, 0)),
    "socket of the packet filter": (41, 198, (16, 3, 12)),
}


@pytest.fixture(scope="module", params=WAYS, ids=" as ".join)
def looked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What hostile code finds, with canaries of every kind laid out for it."""
    way = request.param
    folder = tmp_path_factory.mktemp("data")
    canary = folder / "token"
    canary.write_text("a-canary-flew")
    canary.chmod(0o600)
    column = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)
    if column is None:
        pytest.skip(f"system calls of {os.uname().machine} are not known here")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as path,
    ):
        name = f"\0canary-{uuid.uuid4()}"
        abstract.bind(name)
        path.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        for one in (abstract, path):
            one.listen()
        peers = [(2, tcp.getsockname()), (1, name), (1, str(folder / "socket")), (2, ("169.254.169.254", 80))]
        files = [
            str(canary),
            str(ROOT / "pyproject.toml"),
            str(ROOT / "upbeat/cli.py"),
            "/etc/shadow",
            "/etc/hostname",
        ]
        written = ["/usr/bin/x", "/etc/passwd", str(ROOT / "engine/browser/x"), "/x", "/dev/x"]
        written += [str(Path(one, "x")) for one in sys.path if one.endswith("site-packages")]
        numbers = json.dumps([(name, one[column], *one[2]) for name, one in CALLS.items()])
        head = f"FILES, WRITTEN, NUMBERS = {files!r}, {written!r}, {numbers!r}\n"
        head += f"PEERS, SOCKET = {peers!r}, {(41, 198)[column]}\n"
        found, ended = _run(way, head + LOOKED)
        assert found, ended
        yield {**found, "way": way}


def _only(looked: dict[str, Any], level: str) -> None:
    if looked["way"][0] != level:
        pytest.skip(f"a fact of {level}")


def test_it_has_the_gate(looked: dict[str, Any]) -> None:
    assert looked["gate"] == "None"


def test_nothing_of_the_probes_environment_is_in_its_own_or_anybodys(looked: dict[str, Any]) -> None:
    assert looked["environment"].keys() <= {"HOME", "PATH", "LANG", "TZ", "TMPDIR", "LC_CTYPE", "PWD"}
    if looked["way"] != ("process", "nobody") and looked["way"] != ("process", "own"):
        assert "canary" not in looked["environments"]


def test_it_holds_three_handles(looked: dict[str, Any]) -> None:
    assert [one for one in looked["handles"] if not one.startswith(("pipe:", "socket:"))] == []
    assert len(looked["handles"]) == 3


def test_it_can_become_nobody_else(looked: dict[str, Any]) -> None:
    status = looked["status"]
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if looked["way"][1] == "root":
        assert status["CapBnd"] == "0" * 16
        assert 0 not in looked["user"]
        assert looked["groups"] == []


def test_files_of_others_are_not_read(looked: dict[str, Any]) -> None:
    assert "canary" not in json.dumps(looked["files"])
    if looked["way"][0] == "bubblewrap":
        assert set(looked["files"].values()) == {"No such file or directory"}


def test_only_its_own_folders_are_written(looked: dict[str, Any]) -> None:
    assert set(looked["written"].values()) <= {
        "Permission denied",
        "Read-only file system",
        "No such file or directory",
    }
    if looked["way"][0] == "bubblewrap":
        assert sorted(looked["writable"]) == ["/dev/shm", "/tmp"]


def test_no_network_but_its_own_loopback(looked: dict[str, Any]) -> None:
    _only(looked, "bubblewrap")
    assert looked["interfaces"] == ["lo"]
    assert "None" not in looked["dialed"].values()


def test_no_process_but_its_own_is_seen(looked: dict[str, Any]) -> None:
    _only(looked, "bubblewrap")
    assert 1 <= len(looked["commands"]) <= 3
    assert all("bwrap" in one or "engine.browser.limits" in one for one in looked["commands"])


def test_what_no_browser_needs_the_kernel_refuses(looked: dict[str, Any]) -> None:
    assert set(looked["calls"].values()) | {looked["forged"]} == {"Operation not permitted"}
    assert looked["routes"] == "None"
    if (
        looked["way"][0] == "bubblewrap"
    ):  # as an ordinary user, what runs in it may write to its first process
        assert looked["first"] == ["2"]


def test_it_comes_after_everything_else(looked: dict[str, Any]) -> None:
    assert looked["core"] in ([1, 1], [0, 0])
    assert int(looked["oom"]) >= 900
    assert looked["nice"] >= 10


# ---- what it uses up

DAEMONS: Final = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        os._exit(0)
"""


@pytest.mark.parametrize("way", WAYS, ids=" as ".join)
def test_what_detaches_is_ended_with_the_rest(way: tuple[str, str]) -> None:
    mark = f"mark_{uuid.uuid4().hex}"
    said, _ = _run(way, f"{mark} = 0\n{DAEMONS}\nprint(json.dumps('on its own'), flush=True)\nos._exit(0)")
    assert said == "on its own"
    assert _alive(mark) == []


@pytest.mark.parametrize("way", [APART[-1], *(("process", "root") for _ in range(IS_ROOT))], ids=" as ".join)
def test_a_fork_bomb_is_bounded_and_ended(way: tuple[str, str]) -> None:
    mark = f"mark_{uuid.uuid4().hex}"
    bomb = """
import os, time
made = 0
try:
    while made < 2000:
        if os.fork() == 0:
            time.sleep(1000)
        made += 1
except OSError:
    pass
print(json.dumps(made), flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    process = subprocess.Popen(
        _command(way, f"{mark} = 0\n{bomb}", is_endless=True, memory_mib=65536),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate("\n", timeout=ALIVE_S)
    assert 100 < json.loads(said.splitlines()[0])["said"] < 300
    assert _alive(mark) == []


@pytest.mark.parametrize("way", WAYS, ids=" as ".join)
def test_memory_is_held_whatever_a_process_calls_itself(way: tuple[str, str]) -> None:
    take = """
import ctypes, os, time
if os.fork() == 0:  # a line of its own in the list of processes, and it stays there
    ctypes.CDLL(None).prctl(15, b"\\rRssAnon: x")
    os._exit(0)
held = []
for _ in range(64):
    held.append(b"x" * (16 << 20))
    time.sleep(0.02)
time.sleep(1000)
"""
    said, ended = _run(way, take, memory_mib=256)
    assert said is None
    assert ended == "more than 256 MiB of memory were used"


def test_files_are_bounded_and_count_as_memory() -> None:
    fill = """
import os, time
sizes = {folder: os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize for folder in ("/tmp", "/dev/shm")}
print(json.dumps(sizes), flush=True)
for number in range(32):
    with open(f"/tmp/{number}", "wb") as file:
        file.write(bytes(8 << 20))
time.sleep(1000)
"""
    said, ended = _run(APART[-1], fill, memory_mib=192)
    assert set(said.values()) == {512 << 20}
    assert ended == "more than 192 MiB of memory were used"


@pytest.mark.parametrize("way", WAYS, ids=" as ".join)
def test_it_dies_with_the_probe(way: tuple[str, str]) -> None:
    mark = f"mark_{uuid.uuid4().hex}"
    code = f"{mark} = 0\n{DAEMONS}\nprint(json.dumps('here'), flush=True)\ntime.sleep(1000)"
    process = subprocess.Popen(
        _command(way, code, is_endless=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert b"here" in process.stdout.readline()
        assert len(_alive(mark)) >= 4
        probe = [pid for pid in _alive(mark) if pid == process.pid]
        os.kill(probe[0], signal.SIGKILL)

    async def gone() -> None:
        async with asyncio.timeout(ALIVE_S):
            while _alive(mark):
                await asyncio.sleep(0.02)

    asyncio.run(gone())


def test_what_a_dead_probe_left_is_swept_whatever_else_is_called_so(tmp_path: Path) -> None:
    left, mine, linked = (tmp_path / f"upbeat-browser-{name}" for name in ("left", "mine", "linked"))
    others = [linked, tmp_path / "upbeat-browsers"]
    for folder in (left, mine, others[1]):
        (folder / "profile").mkdir(parents=True)
    linked.symlink_to(tmp_path / "upbeat-browsers")
    if IS_ROOT:
        others.append(tmp_path / "upbeat-browser-theirs")
        others[-1].mkdir()
        os.chown(others[-1], 65534, 65534)
    locked = os.open(mine, os.O_RDONLY)
    fcntl.flock(locked, fcntl.LOCK_EX)
    code = f"""
import os, sys
sys.path.append({str(ROOT)!r})
os.chdir({str(left)!r})
for _ in range(1100):
    os.mkdir("a")
    os.chdir("a")
os.chdir("/")
from engine.browser.sandbox import _sweep
_sweep()
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
    os.close(locked)
    assert set(tmp_path.iterdir()) == {mine, *others}


def test_what_a_worker_said_last_is_one_line_for_people() -> None:
    trace = 'Traceback (most recent call last):\n  File "x.py", line 1, in y\n    return z\n'
    assert _last(trace + "OSError: [Errno 2] gone\nbrowser logs:\n  - pid 3\n") == "OSError: [Errno 2] gone"
    assert (
        _last("bwrap: No permissions to create new namespace\n")
        == "bwrap: No permissions to create new namespace"
    )
    assert _last("[1:1:0101:FATAL:zygote.cc(1)] No usable sandbox!\n#0 0x55\n").endswith("No usable sandbox!")
    assert _last(" \n") == ""
