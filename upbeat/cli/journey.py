"""`upbeat check` of a browser beat at a terminal: steps as they are done, stepping through them, the files. It drives no browser."""

import asyncio
import os
import sys
import tempfile
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from engine.browser.find import find_chromium
from engine.browser.inside.words import said
from engine.browser.wire import Go, Stepped
from evaluators.observation import StepDone
from rules.check import Check
from rules.journey import Journey, Named, named
from rules.kinds.browser import BrowserCheck
from rules.secret import hide

STEP_S: Final = 10.0
"""Of a step that says nothing of its own."""

_DAY_S: Final = 86_400.0
_DISPLAY: Final = ("DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR")
_MARKS: Final = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "yellow")}
_KEYS: Final = "Enter does it, r the one before again, s skips it, q ends"
_KEYS_FAILED: Final = "mend the file and press Enter to do it again, s goes on without, q ends"
_WINDOW: Final = (
    "The window is shown by a process group of its own without bubblewrap, as you: open only what you trust."
)


def display(environment: Mapping[str, str]) -> dict[str, str]:
    """What a browser needs to show itself. Refuses, naming what is missing, where it cannot."""
    if find_chromium(environment, headed=True) is None:
        raise click.UsageError(
            "--headed needs a Chromium with a window, and chromium-headless-shell has none: `apt-get install chromium`, "
            "or name one by UPBEAT_CHROMIUM"
        )
    shown = {name: environment[name] for name in _DISPLAY if environment.get(name)}
    if not shown.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        raise click.UsageError("--headed needs a display: neither DISPLAY nor WAYLAND_DISPLAY is set")
    click.echo(_WINDOW, err=True)
    return shown


def unhurried(check: Check) -> Check:
    """For who thinks between the steps: once, and without an end but that of each step."""
    assert isinstance(check, BrowserCheck)
    return replace(check, pace=replace(check.pace, timeout_s=_DAY_S, deadline_s=_DAY_S, retries=0))


async def shown(done: Stepped | None) -> Go:
    """The guide of somebody who only looks on."""
    if done is not None:
        _show(done.step)
    return Go()


def _show(step: StepDone) -> None:
    mark, colour = _MARKS[step.state]
    click.echo(f"{click.style(mark, fg=colour)} {step.took_s:6.2f} s  {step.name}: {step.said}")
    if step.error:
        click.echo(f"             {click.style(step.error, fg='red')}")


class Stepper:
    """Somebody at a terminal who says which step is next. `read` gives the journey as it is in the file by now."""

    def __init__(self, read: Callable[[], BrowserCheck]) -> None:
        self._check, self._read = read(), read
        self._at = 0  # of the step that comes next; after a failure the one that failed
        self._has_failed = False
        self._done: set[str] = set()

    @property
    def left(self) -> str:
        """That somebody ended it before all was done and nothing had failed, in words; else empty."""
        names = {one.name for one in self._steps()}
        done = len(names & self._done)
        is_whole = self._has_failed or done == len(names)
        return "" if is_whole else f"ended by you after {done} of {len(names)} steps: no verdict"

    async def go(self, done: Stepped | None) -> Go:
        """Show what was done, and ask what comes."""
        if done is not None:
            _show(done.step)
            self._has_failed = done.step.state == "failed"
            if not self._has_failed:
                self._done.add(done.step.name)
            self._at += not self._has_failed
        while True:
            steps = self._steps()
            if self._at < len(steps):
                click.echo(f"{self._at + 1}/{len(steps)}  {self._said(steps[self._at])}")
                keys = _KEYS_FAILED if self._has_failed else _KEYS
            else:
                keys = "That was the last step. Enter ends, r does it again"
            click.echo(click.style(f"      {keys}: ", dim=True), nl=False)
            answer = await _line()
            if not sys.stdin.isatty():
                click.echo()
            key = answer.strip().lower()
            if not answer or key == "q" or (not key and self._at >= len(steps)):
                return Go()
            if key == "s":
                self._at, self._has_failed = min(self._at + 1, len(steps)), False
                continue
            if key not in ("", "r"):
                continue
            if key == "r" and not self._has_failed:
                self._at = max(self._at - 1, 0)
            if self._read_again() and self._at < len(steps := self._steps()):
                return self._order(steps[self._at])

    def _steps(self) -> list[Named]:
        return [one for one in named(Journey.model_validate(self._check.journey)) if not one.is_teardown]

    def _said(self, step: Named) -> str:
        text: str = hide(f"{step.name}: {said(step.step)}", self._check.secrets)
        return text

    def _read_again(self) -> bool:
        """Whether the file is right; where not, it says why."""
        try:
            self._check = self._read()
        except (click.UsageError, ValueError) as wrong:
            click.secho(str(wrong), fg="red")
            return False
        return True

    def _order(self, step: Named) -> Go:
        return Go(
            {"timeout": STEP_S, **step.step.model_dump(mode="json", exclude_defaults=True, by_alias=True)},
            step.name,
        )


async def _line() -> str:
    """A line of stdin, empty at its end. The thread may stay behind where this is cancelled; it holds nothing."""
    loop = asyncio.get_running_loop()
    read: asyncio.Future[str] = loop.create_future()

    def tell(line: str) -> None:
        if not read.done():
            read.set_result(line)

    def wait() -> None:
        line = sys.stdin.readline()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, line)

    threading.Thread(target=wait, daemon=True).start()
    return await read


def write_files(result: dict[str, Any], folder: Path | None) -> None:
    """The run's files, into `folder`, or a new one where it failed; `artifacts` of the result says where they are."""
    files = list({file["name"]: file for file in result.pop("artifacts", [])}.values())  # a step's last
    if not files or (folder is None and result["verdict"] == "ok"):
        return
    folder = folder or Path(tempfile.mkdtemp(prefix=f"upbeat-{result['beat']}-"))
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:  # whose names the pool allowed
        (folder / file["name"]).write_bytes(b64decode(file.pop("data")))
    result["artifacts"] = [{**file, "path": os.fspath(folder / file["name"])} for file in files]
