"""The tutorials, followed to the letter but for what takes long: every file is written, every command run, every promise seen."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.process import REPO, free_port, fresh_folder

TUTORIALS = REPO / "docs/tutorial"
PATIENCE_S = 120
HURRIED = {
    "regions: [eu-west, us-east, ap-south] ": "regions: [ap-south] ",
    "retries: 0\n": "retries: 0\n    quorum: {consecutive: {open: 1, close: 1}, confirm: off}\n",
    "timeout: 2s\n```": "timeout: 1s\n```",
}
"""What is shorter where journeys are: a browser has an interval of 10 s at least, and two of them are waited for."""
PART = re.compile(
    r"(?:<!-- (?P<word>\w+): (?P<value>.*?) -->)|(?:^```(?P<kind>\w+)\n(?P<body>.*?)^```)",
    re.MULTILINE | re.DOTALL,
)


class Reader:
    """Somebody with several terminals in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("8000", "8080", "9000")}
        programs = folder / "bin"
        programs.mkdir()
        (programs / "upbeat").write_text(
            f'#!/bin/sh\nPYTHONPATH={REPO} exec {sys.executable} -m upbeat.cli "$@"\n', "utf-8"
        )
        (programs / "upbeat").chmod(0o755)
        (programs / "python3").symlink_to(sys.executable)
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            "UPBEAT_PORT": self.ports["8000"],
            "UPBEAT_CHROMIUM": os.environ.get("CHROMIUM", "none"),
        }
        self.terminals: dict[str, subprocess.Popen[bytes]] = {}
        self.session = "set -e\n"  # what terminal 2 was told so far that lasts

    def mine(self, text: str) -> str:
        """`text` with ports that are free here."""
        return re.sub(r"\b(8000|8080|9000)\b", lambda found: self.ports[found[0]], text)

    def open(self, name: str, commands: str) -> None:
        """Run `commands` in a terminal of their own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.terminals[name] = subprocess.Popen(
                ["/bin/sh", "-c", commands],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def interrupt(self, name: str) -> None:
        """Ctrl-C in that terminal."""
        process = self.terminals.pop(name)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)

    def run(self, commands: str, promised: str | None) -> None:
        """Run `commands` in terminal 2, again until they show what is promised; they must succeed."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ran = subprocess.run(
                ["/bin/sh", "-c", self.session + commands],
                cwd=self.folder,
                env=self.environment,
                input="\n" * 20,  # Enter, wherever it waits for that
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode == 0 and (promised or "") in ran.stdout:
                break
            if time.monotonic() > deadline:
                log = (self.folder / "server.log").read_text("utf-8") if "server" in self.terminals else ""
                raise AssertionError(f"{commands}\nshows no {promised!r}:\n{ran.stdout}{ran.stderr}\n{log}")
            time.sleep(0.3)
        self.session += "".join(f"{line}\n" for line in commands.splitlines() if line.startswith("export "))

    def hears(self, line: str) -> None:
        """Wait until the chat says `line`."""
        deadline = time.monotonic() + PATIENCE_S
        while line not in (said := (self.folder / "chat.log").read_text("utf-8")):
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


@pytest.fixture
def reader() -> Iterator[Reader]:
    with fresh_folder() as folder:
        somebody = Reader(folder)
        try:
            yield somebody
        finally:
            for name in list(somebody.terminals):
                somebody.interrupt(name)


@pytest.mark.parametrize("page", ["first-alert", pytest.param("first-journey", marks=pytest.mark.browser)])
def test_the_tutorial_is_true(reader: Reader, page: str) -> None:
    text = (TUTORIALS / f"{page}.md").read_text("utf-8")
    for said, instead in HURRIED.items() if page == "first-journey" else ():
        assert said in text
        text = text.replace(said, instead)
    parts = [found.groupdict() for found in PART.finditer(text)]
    marks: dict[str, str] = {}
    for index, part in enumerate(parts):
        if part["word"]:
            marks[part["word"]] = part["value"]
            if part["word"] == "stop":
                reader.interrupt(part["value"])
            elif part["word"] == "chat":
                reader.hears(part["value"])
            continue
        body = reader.mine(part["body"])
        following = parts[index + 1] if index + 1 < len(parts) else {"word": None, "value": None}
        if "file" in marks:
            (reader.folder / marks.pop("file")).write_text(body, "utf-8")
        elif "terminal" in marks:
            reader.open(marks.pop("terminal"), body)
        elif part["kind"] == "sh":
            reader.run(body, following["value"] if following["word"] == "shows" else None)
