"""What triggers have open, did and may do, for `upbeat triggers`. Previews and writing rules are `upbeat.cli.triggers`'."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from upbeat.cli.client import Client, RefusedError
from upbeat.cli.listed import listing, on_one
from upbeat.cli.objects import print_written
from upbeat.cli.output import Output, paint, print_fields, when

_COUNTED: Final = ("matches", "opened", "resolved", "errors", "real_firings", "real_recoveries")
_DECIDED: Final = ("approved_unedited", "approved_edited", "rejected", "expired")


def show(trigger: Mapping[str, Any]) -> None:
    """A trigger: the rule in words, what it may do, and everything that is set."""
    click.echo(f"{trigger['name'] or trigger['slug']}: {trigger['sentence']}\n")
    may = ", ".join(f"{step} {mode}" for step, mode in trigger["effective"].items())
    beside = {"may": may, "open": trigger["open_signals"], "last matched": when(trigger["last_matched_at"])}
    if (promoted := trigger["promoted"]) is not None:
        void = "" if promoted["holds"] else ", void since the rule was changed"
        beside["promoted"] = (
            f"{', '.join(promoted['steps'])} by {promoted['by']}, {when(promoted['at'])}{void}"
        )
    print_written(trigger, beside)


signals = listing(
    "/signals",
    "List what a trigger has open.",
    {
        "FINGERPRINT": lambda s: s["fingerprint"] or "(absence)",
        "SEVERITY": lambda s: paint(s["severity"]),
        "SINCE": lambda s: when(s["since"]),
        "TARGET": lambda s: s["target"],
        "EVENT": lambda s: s["event"],
        "MESSAGE": lambda s: s["message"],
    },
    of="/triggers",
    name="signals",
    brief="fingerprint",
    limit=None,
)
versions = listing(
    "/versions",
    "List every version of a trigger, newest first.",
    {
        "REVISION": lambda v: v["revision"],
        "AT": lambda v: when(v["at"]),
        "BY": lambda v: v["by"],
        "RULE": lambda v: v["sentence"],
    },
    of="/triggers",
    name="versions",
    brief="revision",
)


@click.command()
@on_one("/triggers", click.argument("fingerprint"))
async def end(api: Client, out: Output, fingerprint: str) -> None:
    """Say that the signal FINGERPRINT is over. The next event that fires opens it again."""
    await api.post("/signals/end", {"fingerprint": fingerprint})
    out.done({}, f"{fingerprint} of {api.slug} is over")


@click.command()
@on_one("/triggers")
async def record(api: Client, out: Output) -> None:
    """Show what a trigger did since it has its rule, and what people made of what it proposed."""
    found = await api.get("/record")
    out.show(found, _show_record, brief=[found["record"]])


def _show_record(found: Mapping[str, Any]) -> None:
    counts = {name.replace("_", " "): str(found[name]) for name in (*_COUNTED, *_DECIDED)}
    print_fields({"since": when(found["since"]), **counts, "may be promoted": found["why_not"] or "yes"})


@click.command()
@on_one(
    "/triggers",
    click.option(
        "--step", "steps", multiple=True, required=True, type=click.Choice(["open", "update", "resolve"])
    ),
    click.option("--yes", is_flag=True, help="Do not ask, having seen its record."),
)
async def promote(api: Client, out: Output, steps: Sequence[str], yes: bool) -> None:
    """Let steps be taken without review: shows the record, and asks.

    \b
      upbeat triggers promote shop-down --step open --step resolve
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    found = await api.get("/record")
    if not found["may_promote"]:
        raise RefusedError(f"{api.slug} cannot be promoted: {found['why_not']}")
    if not yes:
        _show_record(found)
        click.confirm(f"Let {api.slug} {', '.join(steps)} incidents without review?", abort=True)
    body = {"steps": list(dict.fromkeys(steps)), "record": found["record"]}
    made = await api.post("/promote", body)
    may = [step for step, mode in made["effective"].items() if mode == "auto"]
    said = f"{api.slug} may {', '.join(may) or 'do nothing'} without review"
    if lacks := [step for step in steps if step not in may]:
        said += f"; {', '.join(lacks)} once {made['source']} says auto"
    out.done(made, said, brief=[api.slug])


COMMANDS: Final = (signals, versions, end, record, promote)
