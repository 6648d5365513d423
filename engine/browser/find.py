"""Which Chromium is used: `UPBEAT_CHROMIUM`, else what the system has, else Playwright's own download. Starts none."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Chromium:
    """One that is there."""

    path: Path
    is_headless_only: bool  # chromium-headless-shell
    found: str  # how: UPBEAT_CHROMIUM, PATH, Playwright


def find_chromium(environment: Mapping[str, str], *, headed: bool = False) -> Chromium | None:
    """The first there is; `headed` needs one that can show itself."""
    raise NotImplementedError
