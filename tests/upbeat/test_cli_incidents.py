"""`upbeat incidents`: begun, told, edited, merged, reported on and deleted in one line each."""

import asyncio
import os

import pytest
from click.testing import CliRunner

from tests.upbeat.conftest import Cli, Ran
from upbeat.cli import upbeat


class Here(Cli):
    """Runs `upbeat` in this process: a process of Python for every line takes longer than all that it does."""

    async def __call__(self, *arguments: object, stdin: str = "", **environment: str) -> Ran:
        ours: dict[str, str | None] = {name: None for name in os.environ if name.startswith("UPBEAT_")}
        runner = CliRunner(env={**ours, "NO_COLOR": "", **self.environment, **environment})
        ran = await asyncio.to_thread(runner.invoke, upbeat, [*map(str, arguments)], input=stdin)
        return Ran(ran.exit_code, ran.stdout, ran.stderr)


@pytest.fixture
def here(remote: Cli) -> Here:
    return Here(remote.environment)


async def _begun(here: Cli, title: str, *more: str) -> str:
    begun = await here(
        "incidents", "create", "--title", title, "--text", "We look.", "--no-notify", "--quiet", *more
    )
    assert begun.code == 0, begun.err
    return begun.out.strip()


async def test_an_incident_is_begun_told_and_resolved(remote: Cli, here: Cli) -> None:
    made = await remote(
        "incidents",
        "create",
        "--title",
        "Slow",
        "--text",
        "We look.",
        "--notify",
        "--component",
        "partners=partial_outage",
    )
    assert made.code == 0, made.err
    incident = made.out.split()[0]
    assert made.out.endswith("is investigating: Slow\nnotified: nobody\n")
    missing = await here("incidents", "update", incident, "--text", "More.")
    assert (missing.code, "whether subscribers are told" in missing.err) == (2, True), missing.err
    said = await here(
        "incidents", "update", incident, "--text", "More.", "--status", "identified", "--no-notify"
    )
    assert said.out.startswith(f"{incident} is identified")
    over = await here("incidents", "resolve", incident, "--no-notify")
    assert over.out.startswith(f"{incident} is resolved")
    again = await here(
        *("incidents", "update", incident, "--status", "investigating"), "--text", "Not yet.", "--no-notify"
    )
    assert again.out.startswith(f"{incident} is investigating")
    shown = await here("incidents", "show", incident)
    assert [line for line in shown.out.splitlines() if line.startswith("  ")] == [
        "  Not yet.",
        "  This is resolved.",
        "  More.",
        "  We look.",
    ]


async def test_who_is_notified_is_said(here: Cli) -> None:
    for name in ("ann", "bob"):
        told = ("subscribers", "add", f"{name}@told.example", "--reason", "they asked")
        assert (await here(*told)).code == 0
    incident = await _begun(here, "Told")
    said = await here("incidents", "resolve", incident, "--notify")
    assert said.out == f"{incident} is resolved: Told\nnotified: 2 subscribers\n"
    again = await here("incidents", "resolve", incident, "--notify")
    assert (again.code, "is resolved already" in again.err) == (2, True)
    for one in (await here("subscribers", "--search", "told.example", "--quiet")).out.split():
        assert (await here("subscribers", "remove", one, "--forget")).code == 0


async def test_an_incident_is_edited_merged_and_deleted(here: Cli) -> None:
    one, other = await _begun(here, "Solw"), await _begun(here, "Other")
    assert (await here("incidents", "edit", one, "--title", "Slow", "--impact", "critical")).code == 0
    item = (await here("incidents", "show", one, "--json")).json
    assert (item["title"], item["impact"]) == ("Slow", "critical")
    update = item["updates"][0]["id"]
    fixed = await here("incidents", "edit", one, "--update", update, "--text", "We see.", "--json")
    assert fixed.json["updates"][0]["text"] == "We see."
    merged = await here("incidents", "merge", one, other)
    assert (merged.code, merged.out) == (0, f"{one} goes on as {other}\n")
    assert (await here("incidents", "delete", other)).out == f"{other} deleted\n"


async def test_what_was_is_entered_and_reported_on(here: Cli) -> None:
    made = await here(
        *("incidents", "backfill", "--title", "It was", "--started", "2026-01-31T18:00Z"),
        *("--resolved", "2026-01-31T19:00Z", "--say", "2026-01-31T18:05Z", "investigating", "We look."),
        *("--say", "2026-01-31T19:00Z", "resolved", "Mended.", "--quiet"),
    )
    assert made.code == 0, made.err
    incident = made.out.strip()
    written = await here("incidents", "report", incident, "-f", "-", "--publish", stdin="A disk was full.")
    assert (written.code, written.out) == (0, "published\n  A disk was full.\n")
    assert (await here("incidents", "report", incident, "--delete")).out == "none\n"
    assert (await _begun(here, "Asked", "--draft")).startswith("act_")


async def test_what_is_changed_is_said(here: Cli) -> None:
    nothing = await here("incidents", "edit", "inc_1")
    assert (nothing.code, "Give --title" in nothing.err) == (2, True)
    wrong = await here("incidents", "edit", "inc_1", "--component", "shop")
    assert (wrong.code, "is not SLUG=STATUS" in wrong.err) == (2, True)
