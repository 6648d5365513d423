"""Scripts in the real sandbox: their steps, what they print, and why they fail, with the line that is theirs."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engine.browser.find import find_chromium
from engine.browser.sandbox import confinement
from tests.rig.hostility import Attack, World, hostile_world

pytestmark = pytest.mark.browser

STEPS = """\
print("values", values["who"] if values else "none")
async with step("open"):
    await page.goto("$OUT/benign")
async with step("read"):
    await expect(page.locator("body")).to_have_text("calm")
"""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    chromium = find_chromium(os.environ | {"UPBEAT_CHROMIUM": os.environ["CHROMIUM"]})
    assert chromium is not None
    if not (confined := await confinement(chromium)).runs_scripts:
        pytest.skip("; ".join(confined.lacks))
    with TemporaryDirectory(prefix="script-") as folder:
        Path(folder).chmod(0o711)
        async with hostile_world(Path(folder)) as made:
            made.timeout_s = 30.0
            yield made
        assert made.problems == []


async def test_a_script_has_named_steps_and_what_it_prints_is_kept(world: World) -> None:
    outcome = await world.attack(Attack("script", ("",), script=STEPS))
    assert (outcome.verdict, outcome.failure) == ("ok", None)
    assert outcome.evidence is not None
    steps = outcome.evidence["journey"]["steps"]
    assert [(one["name"], one["state"]) for one in steps] == [("began", "ok"), ("open", "ok"), ("read", "ok")]
    assert {one.name: one.data for one in outcome.artifacts}["console.txt"] == b"values none"


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("async with step('pay'):\n    assert 1 == 2, 'sums'", "assertion.expect", "line 4: sums"),
        ("await expect(page.locator('b')).to_be_visible(timeout=50)", "assertion.expect", "line 3: Locator expected to be visible"),
        ("await page.locator('b').click(timeout=50)", "step.timeout", "line 3: Timeout 50ms exceeded."),
        ("x = 1\nraise LookupError('no basket')", "step.failed", "line 4: LookupError: no basket"),
        ("await page.goto('http://127.0.0.1:8080/')", "egress.refused", "127.0.0.1"),
    ],
    ids=["an assertion", "an expectation", "a time-out", "an exception", "a refused address"],
)  # fmt: skip
async def test_a_script_that_fails_says_where(world: World, script: str, kind: str, message: str) -> None:
    outcome = await world.attack(Attack("script", (kind,), script=script))
    assert outcome.verdict == "critical"
    assert outcome.failure is not None
    assert message in outcome.failure.message
    assert outcome.evidence is not None
    assert outcome.evidence["journey"]["steps"][-1]["state"] == "failed"
