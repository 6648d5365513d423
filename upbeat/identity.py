"""Who a process is to others: a name that a restart gets back, and that no second process has at the same time."""

import fcntl
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from engine.store.ids import derived_id

MOST = 64


class Identity:
    """The first free place of this host, data folder and roles, held by a lock until the process ends.

    Leases are taken up again by their holder at once: two processes with one name would both do all the work. Where
    the folder cannot be written to, the name is a new one each time, and leases run out before they are had back.
    """

    def __init__(self, data: Path, roles: Iterable[str]) -> None:
        self._lock_fd: int | None = None
        place = self._take(data, "-".join(sorted(roles)))
        self.holder = str(derived_id("node", socket.gethostname(), data, sorted(roles), place))

    def _take(self, data: Path, roles: str) -> str:
        for place in range(MOST):
            try:
                data.mkdir(parents=True, exist_ok=True)
                lock_fd = os.open(
                    data / f"node-{roles}-{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
            except OSError:
                break
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock_fd)
                continue
            self._lock_fd = lock_fd
            return str(place)
        return str(uuid4())

    def close(self) -> None:
        """Somebody else may have the name."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
