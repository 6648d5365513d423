"""A real Chromium, and what makes a page of it accessible. Nothing here knows what a page is about."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, async_playwright

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Playwright's own, or one that is installed."""
    async with async_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.exists() else next(filter(None, map(shutil.which, _NAMES)), None)
        if found is None:
            pytest.skip(f"no Chromium: none of {', '.join(_NAMES)} is on PATH")
        # Chromium's sandbox refuses to run as root, as containers do.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = await playwright.chromium.launch(executable_path=found, args=arguments)
        yield opened
        await opened.close()


async def barriers(
    page: Page, schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
) -> list[str]:
    """What axe-core finds on this page, in light and in dark."""
    found = []
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        response: Any = (await Axe().run(page)).response
        found += [
            f"{scheme}: {rule['id']}: {node['html'][:200]}"
            for rule in response["violations"]
            for node in rule["nodes"]
        ]
    return found
