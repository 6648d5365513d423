"""What a sandbox may use, and what it does use: set from within before the worker runs, measured and ended from without.

`enter` is the first that runs in a sandbox, and imports nothing but Python's own library.
"""

import contextlib
import ctypes
import os
import platform
import re
import resource
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE_BYTES: Final = 256 << 20
FOLDER_BYTES: Final = 512 << 20  # of /tmp, and of /dev/shm
PROCESSES: Final = 1000  # threads count; Chromium has some 150 for a page
_OPEN_FILES: Final = 4096
_CPU_S: Final = 1800  # of one process
_NICE: Final = 10  # behind the probes of networks
_OOM_SCORE: Final = 900  # the kernel ends a browser before anything of ours
_END_S: Final = 10.0
_QUIET: Final = 2  # looks that find nobody: one may miss who is forked meanwhile

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP = 1, 4, 22
_CAPBSET_DROP, _SET_SUBREAPER, _SET_NO_NEW_PRIVS = 24, 36, 38
_CAPABILITIES: Final = 64

# System calls that neither Chromium's own sandbox nor node needs, most where kernels had holes, some whose memory is in no
# process or stays: name, x86-64, aarch64.
_DENIED: Final = re.findall(
    r"(\w+)\s+(\d+)\s+(\d+)",
    """
    ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, pidfd_getfd 438 438, kcmp 312
    272, add_key 248 217, request_key 249 218, keyctl 250 219, bpf 321 280, perf_event_open 298 241,
    userfaultfd 323 282, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427,
    kexec_load 246 104, kexec_file_load 320 294, init_module 175 105, finit_module 313 273,
    open_by_handle_at 304 265, fanotify_init 300 262, mount 165 40, umount2 166 39, pivot_root 155 41,
    setns 308 268, open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432
    432, fspick 433 433, mount_setattr 442 442, shmget 29 194, msgget 68 186, semget 64 190, mq_open 240
    180, syslog 103 116, memfd_create 319 279, memfd_secret 447 447
    """,
)
_MACHINES: Final = {
    "x86_64": (1, 0xC000003E, 16, 41),
    "aarch64": (2, 0xC00000B7, 29, 198),
}  # AUDIT_ARCH, ioctl, socket
_INPUT_FORGED: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_FAMILIES: Final = (1, 2, 10)  # UNIX, INET, INET6; no network namespace holds those of virtual machines
_NETLINK: Final = 16


class Member(NamedTuple):
    """A process in a sandbox."""

    pid: int
    cpu_s: float  # with the children that it has waited for
    memory_bytes: int  # its own and shared memory, not what it maps of files


def enter(given: dict[str, Any]) -> None:
    """Give up, before the worker runs, all it has no use for. As `init` of the rest where there is no PID namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = {
        "CORE": 1,  # byte: none is written, and unlike at 0 none goes to the machine's collector
        "CPU": _CPU_S,
        "FSIZE": FILE_BYTES,
        "NOFILE": _OPEN_FILES,
        "NPROC": given["processes"],
    }
    for name, most in wanted.items():
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]
        if most is not None and (hard == resource.RLIM_INFINITY or most < hard):
            resource.setrlimit(limit, (most, most))
    os.nice(_NICE)
    if sys.platform == "linux":
        for file, value in (("oom_score_adj", _OOM_SCORE), ("autogroup", _NICE)):
            with contextlib.suppress(OSError):
                Path("/proc/self", file).write_text(str(value))
        if (user := given["user"]) is not None:
            for capability in range(_CAPABILITIES):
                libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            _must(libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24)))  # what is inheritable stayed
        _must(libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    if given["is_init"]:  # else bubblewrap did, for its own first process too
        if sys.platform == "linux":
            _filter(libc)
        _be_init(libc, given["parent"])


def _must(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused to confine the worker")


def program() -> bytes:
    """A seccomp filter: what is denied says EPERM, other ABIs are not there. Empty for machines that are not known."""
    if platform.machine() not in _MACHINES:
        return b""
    column, architecture, ioctl, socket = _MACHINES[platform.machine()]
    load, equal, at_least = 0x20, 0x15, 0x35
    allow, deny, missing = ((0x06, 0, 0, answer) for answer in (0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38))
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), missing, (load, 0, 0, 0)]
    code += [(at_least, 0, 1, 0x40000000), missing]  # x32
    for one in _DENIED:
        code += [(equal, 0, 1, int(one[column])), deny]
    forged = [(load, 0, 0, 24)]
    for request in _INPUT_FORGED:
        forged += [(equal, 0, 1, request), deny]
    opened = [(load, 0, 0, 16)]
    for family in _FAMILIES:
        opened += [(equal, 0, 1, family), allow]
    opened += [(equal, 1, 0, _NETLINK), deny, (load, 0, 0, 32), (equal, 1, 0, 0), deny]  # but that of routes
    for call, block in ((ioctl, forged), (socket, opened)):
        code += [(equal, 0, len(block) + 1, call), *block, allow]
    return b"".join(struct.pack("HBBI", *one) for one in [*code, allow])


def _filter(libc: ctypes.CDLL) -> None:
    if code := program():
        packed = ctypes.create_string_buffer(code)
        given = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(packed)))
        _must(libc.prctl(_SET_SECCOMP, 2, given, 0, 0))


def _be_init(libc: ctypes.CDLL, parent: int) -> None:
    """Stay as the ancestor of whatever is started, also of what detaches, and end it all with the worker or the probe."""

    def end(*_: object) -> None:
        end_all("/proc", os.getpid(), spared=os.getpid())
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    if sys.platform == "linux":
        _must(libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0))
        _must(libc.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return
    os.closerange(0, 2)  # what the worker says is the worker's alone
    while True:
        ended, status = os.wait()
        if ended == worker:
            end_all("/proc", os.getpid(), spared=os.getpid())
            os._exit(min(255, abs(os.waitstatus_to_exitcode(status))))


def members(proc: str, root: int, user: int | None = None) -> list[Member]:
    """The process `root` of this /proc and all its descendants, and whatever is `user`'s. Those that end meanwhile are left out."""
    seen: dict[int, tuple[int, int, int]] = {}  # parent, user, memory
    over = set()
    for folder in Path(proc).iterdir() if sys.platform == "linux" else ():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, KeyError):
                # What a process calls itself is a line of this, in which only the end of a line is escaped.
                lines = Path(folder, "status").read_bytes().split(b"\n")[1:]
                said = dict(line.split(b":", 1) for line in lines if line)
                kib = sum(int(said[key].split()[0]) for key in (b"RssAnon", b"RssShmem") if key in said)
                pid = int(folder.name)
                seen[pid] = int(said[b"PPid"]), int(said[b"Uid"].split()[0]), kib << 10
                # A process whose first thread ended is a zombie that lives.
                if said[b"State"].strip().startswith((b"Z", b"X")) and int(said[b"Threads"]) == 1:
                    over.add(pid)
    ours = {root} & seen.keys()
    ours |= {pid for pid, (_, owner, _) in seen.items() if owner == user}
    while more := {pid for pid, (parent, _, _) in seen.items() if parent in ours} - ours:
        ours |= more
    return [Member(pid, _cpu_s(proc, pid), seen[pid][2]) for pid in sorted(ours - over)]


def _cpu_s(proc: str, pid: int) -> float:
    with contextlib.suppress(OSError):
        words = Path(proc, str(pid), "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def end_all(proc: str, root: int, user: int | None = None, spared: int = 0) -> bool:
    """Kill these until none is left; stopped first, so that none can multiply meanwhile. False where some live on."""
    until, quiet = time.monotonic() + _END_S, 0
    while time.monotonic() < until and quiet < _QUIET:
        left = {one.pid for one in members(proc, root, user)} - {spared}
        quiet = 0 if left else quiet + 1
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, sent)
        time.sleep(0.005)
    return quiet == _QUIET
