"""Real Prometheus Alertmanagers: the one on this machine, or Debian's package, taken apart in a folder. Nothing is installed."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from tests.rig.process import free_port, until

CACHE: Final = Path.home() / ".cache" / "upbeat-tests"
_SHARED: Final = b"/usr/share/prometheus/alertmanager"
_HERE: Final = b"./" * 17
"""As long as `_SHARED`: Debian's build opens its templates there and nowhere else. A copy opens them where it was started."""
_CONFIG: Final = """\
route: {{receiver: upbeat, group_by: [alertname], group_wait: 0s, group_interval: 500ms, repeat_interval: 1h}}
receivers:
  - {{name: upbeat, webhook_configs: [{{url: "{url}", send_resolved: true}}]}}
"""


class UnavailableError(Exception):
    """There is no Alertmanager here, and none can be had; the message says why."""


def program() -> Path:
    """A folder with an Alertmanager and what it reads. Raises `UnavailableError`."""
    folder = CACHE / "alertmanager"
    if (folder / "alertmanager").exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise UnavailableError("there is no apt-get to have Debian's prometheus-alertmanager from")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        _run(
            ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "prometheus-alertmanager"], place
        )
        (package,) = Path(place).glob("*.deb")
        _run(["dpkg", "-x", package.name, "taken"], place)
        taken, made = Path(place, "taken"), Path(place, "made")
        made.mkdir()
        for template in (taken / "usr/share/prometheus/alertmanager").glob("*.tmpl"):
            shutil.copy(template, made)
        patched = (taken / "usr/bin/prometheus-alertmanager").read_bytes().replace(_SHARED, _HERE)
        (made / "alertmanager").write_bytes(patched)
        (made / "alertmanager").chmod(0o755)
        try:
            made.rename(folder)
        except OSError:
            if not folder.exists():  # another worker was faster
                raise
    return folder


def _run(command: Sequence[str], folder: str) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise UnavailableError(f"{' '.join(command[:2])} of prometheus-alertmanager: {' '.join(said[-2:])}")


class Alertmanager:
    """One that posts to `url`, in a cluster with `peers`."""

    def __init__(self, program: Path, folder: Path, url: str, peers: Sequence[str] = ()) -> None:
        self.cluster, self._port = f"127.0.0.1:{free_port()}", free_port()
        self._program, self._folder, self._peers = program, folder, peers
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        (folder / "alertmanager.yml").write_text(_CONFIG.format(url=url), "utf-8")

    async def __aenter__(self) -> Self:
        self._launch()
        await until(self._is_ready, f"an Alertmanager is ready, see {self._folder}", 60.0)
        return self

    def _launch(self) -> None:
        peers = [f"--cluster.peer={peer}" for peer in self._peers]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program / "alertmanager",
                    f"--config.file={self._folder / 'alertmanager.yml'}",
                    f"--storage.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    f"--cluster.listen-address={self.cluster}",
                    "--cluster.settle-timeout=1s",
                    "--cluster.peer-timeout=2s",
                    *peers,
                ],
                cwd=self._program,
                env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
                stdout=log,
                stderr=log,
            )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def _is_ready(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(self._url("/-/ready")) as answer:
            return answer.status == 200

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    async def tell(self, name: str, instance: str, severity: str, *, is_over: bool = False) -> None:
        """What Prometheus posts of an alert."""
        labels = {"alertname": name, "instance": instance, "severity": severity}
        alert = {"labels": labels, "annotations": {"summary": f"{instance} is in trouble"}}
        now = time.time()
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        ends = {"endsAt": stamp} if is_over else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url("/api/v2/alerts"), json=[{**alert, **ends}]) as answer,
        ):
            assert answer.status == 200, await answer.text()
