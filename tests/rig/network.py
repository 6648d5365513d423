"""A network namespace of a test's own, with nothing but a loopback: it can be hurt and listened to. Linux, and root."""

import ctypes
import errno
import fcntl
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(
            any_socket, 0x8914, struct.pack("16sh", b"lo", 0x49)
        )  # SIOCSIFFLAGS: up, loopback, running


def apart(work: Callable[[], Any]) -> Any:
    """What `work` gives in a network namespace of its own, which has nothing but a loopback."""
    found: list[Any] = []

    def worked() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            found.append(OSError(ctypes.get_errno(), "no network of our own"))
            return
        try:
            _bring_up_loopback()
            found.append(work())
        except BaseException as failure:
            found.append(failure)

    thread = threading.Thread(target=worked)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError) and found[0].errno in (errno.EPERM, errno.ENOSYS):
        pytest.skip("no network of our own without privileges")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def put(name: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
