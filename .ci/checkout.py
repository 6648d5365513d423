# ruff: noqa: INP001
"""Makes this checkout the `upbeat` of the Python that runs this: what is checked out is what runs, nothing is built.

A path file, the metadata that `importlib.metadata` reads, and the command. `pip install .` is for everybody else, and
takes these away again when it is used on the same Python.
"""

import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

COMMAND = """#!/bin/sh
exec "$(dirname "$0")/python" -P -m upbeat.cli "$@"
"""


def main() -> None:
    """Write everything anew."""
    root = Path.cwd()
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    packages = Path(sysconfig.get_path("purelib"))
    for old in packages.glob("upbeat-*.dist-info"):
        shutil.rmtree(old)
    info = packages / f"upbeat-{project['version']}.dist-info"
    command = Path(sys.executable).parent / "upbeat"
    written = {
        packages / "upbeat-checkout.pth": f"{root}\n",
        info / "METADATA": f"Metadata-Version: 2.1\nName: upbeat\nVersion: {project['version']}\n",
        info / "INSTALLER": "make\n",
        command: COMMAND,
    }
    info.mkdir()
    listed = "".join(f"{path},,\n" for path in (*written, info / "RECORD"))
    for path, text in {**written, info / "RECORD": listed}.items():
        path.write_text(text, "utf-8")
    command.chmod(0o755)


main()
