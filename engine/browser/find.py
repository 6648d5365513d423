"""Which Chromium is used: `UPBEAT_CHROMIUM`, else what the system has, else Playwright's own download. Starts none."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAMES: Final = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
_PLACES: Final = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_DOWNLOADS: Final = (
    "chromium_headless_shell-*/*/*headless*shell",
    "chromium-*/*/chrome",
    "chromium-*/*/*.app/Contents/MacOS/*",
)


@dataclass(frozen=True, slots=True)
class Chromium:
    """One that is there."""

    path: Path
    is_headless_only: bool  # chromium-headless-shell
    found: str  # how: UPBEAT_CHROMIUM, PATH, Playwright


def find_chromium(environment: Mapping[str, str], *, headed: bool = False) -> Chromium | None:
    """The first there is; `headed` needs one that can show itself. What `UPBEAT_CHROMIUM` names is the only one."""
    found = (
        Chromium(path, re.search("headless.shell", path.name) is not None, how)
        for path, how in _candidates(environment)
        if os.access(path, os.X_OK) and path.is_file() and not _is_snap(path)
    )
    return next((one for one in found if not (headed and one.is_headless_only)), None)


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    if named := environment.get("UPBEAT_CHROMIUM"):
        yield Path(shutil.which(named, path=environment.get("PATH")) or named), "UPBEAT_CHROMIUM"
        return
    for name in _NAMES:
        if found := shutil.which(name, path=environment.get("PATH")):
            yield Path(found), "PATH"
    for place in _PLACES:
        yield Path(place), "Applications"
    home = Path(environment.get("HOME") or "/")
    named = environment.get("PLAYWRIGHT_BROWSERS_PATH")
    for folder in (
        [Path(named)] if named else [home / ".cache/ms-playwright", home / "Library/Caches/ms-playwright"]
    ):
        for pattern in _DOWNLOADS if os.access(folder, os.R_OK) else ():
            for path in sorted(folder.glob(pattern), key=_revision, reverse=True):
                yield path, "Playwright"


def _revision(path: Path) -> int:
    return next(
        (int(part.rpartition("-")[2]) for part in path.parts if re.fullmatch(r"chromium\w*-\d+", part)), 0
    )


def _is_snap(path: Path) -> bool:
    """Ubuntu's, which is confined by snapd, and starts in no other sandbox; some are scripts that lead to it."""
    real = path.resolve()
    if real.parts[1:2] == ("snap",) or real.name == "snap":
        return True
    return os.access(real, os.R_OK) and real.stat().st_size < 1 << 16 and b"/snap/bin/" in real.read_bytes()
