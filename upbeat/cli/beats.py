"""`upbeat beats`, `run`, `summary`, `pause` and `resume`: what is special to beats. Declaring is `upbeat.cli.objects`."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import click

from rules.duration import parse_duration_s
from upbeat.cli.client import Client, UnreachableError, remote
from upbeat.cli.listed import Columns, listing, with_page
from upbeat.cli.objects import SHOWN_ONLY, at, group_of, standing
from upbeat.cli.output import Output, milliseconds, paint, print_fields, print_table, when
from upbeat.cli.output import until as lasts

WAIT_MOST_S: Final = 60
RESULT: Final[Columns] = {
    "AT": lambda r: when(r["at"]),
    "REGION": lambda r: r["region"],
    "KIND": lambda r: r["kind"],
    "VERDICT": lambda r: paint(r["verdict"]),
    "TOTAL": lambda r: milliseconds(r["timings"]["total"]),
    "ERROR": lambda r: r["error"]["message"] if r["error"] else "",
}
RANGES: Final = ("1d", "7d", "14d", "30d", "90d", "365d")


def _percentile(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda r: milliseconds(r["quantiles"].get("total", {}).get(name))


SUM: Final[Columns] = {
    "REGION": lambda r: r["region"],
    **{name.upper(): itemgetter(name) for name in ("runs", "ok", "warning", "critical", "error")},
    "NOT CRITICAL": lambda r: _share(r["runs_up_ratio"]),
    **{name.upper(): _percentile(name) for name in ("p50", "p75", "p90", "p95", "p99")},
    "LAST RUN": lambda r: f"{paint(r['last']['verdict'])} {when(r['last']['at'])}" if r["last"] else "",
}


def _show(beat: Mapping[str, Any]) -> None:
    click.echo(f"{standing(beat)}  {beat['slug']}, since {when(beat['since'])}")
    if beat["paused"]:
        click.echo(f"paused {lasts(beat['paused_until'])}")
    click.echo()
    _print_votes(beat["votes"])
    click.echo()
    written = {key: value for key, value in beat.items() if key not in SHOWN_ONLY}
    print_fields(written | {"managed by": f"{beat['managed_by']} {beat['source'] or ''}".strip()})


beats = group_of("beat", show=_show)


@beats.command()
@click.argument("slug")
@with_page
@remote
async def votes(api: Client, out: Output, slug: str, page: str | None) -> None:
    """Show what each region says of a beat now."""
    beat = await api.get(at("/beats", slug), page=page)
    shown = {key: beat[key] for key in ("slug", "stage", "since", "votes")}
    out.show(shown, lambda _: _print_votes(beat["votes"]), brief=[beat["stage"]])


beats.add_command(
    listing(
        lambda query: f"{at('/beats', query.pop('slug'))}/results",
        "List a beat's runs, newest first.",
        RESULT,
        click.argument("slug"),
        click.option("--region", metavar="SLUG", help="Only of this region."),
        with_page,
        name="results",
        brief="verdict",
        limit=20,
    )
)


@click.command()
@click.argument("slug")
@click.option("--wait", is_flag=True, help="Wait for the results; exit with 1 when one of them is not ok.")
@with_page
@remote
async def run(api: Client, out: Output, slug: str, wait: bool, page: str | None) -> None:
    """Run the beat SLUG now, once in each of its regions. Such a run is shown as manual and never votes."""
    asked = await api.post(f"{at('/beats', slug)}/run", wait=WAIT_MOST_S - 5 if wait else None, page=page)
    if not wait:
        out.done(asked, f"{slug} runs in {', '.join(asked['regions'])}")
        return
    rows = [[column(result) for column in RESULT.values()] for result in asked["results"]]
    out.show(asked, lambda _: print_table(list(RESULT), rows))
    if missing := set(asked["regions"]) - {result["region"] for result in asked["results"]}:
        raise UnreachableError(f"No answer from {', '.join(sorted(missing))}: is a probe running there?")
    if any(result["verdict"] not in ("ok", "warning") for result in asked["results"]):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("slug")
@click.option(
    "--range", "span", type=click.Choice(RANGES), default="7d", show_default=True, help="How far back."
)
@click.option("--region", metavar="SLUG", help="Only of this region.")
@with_page
@remote
async def summary(
    api: Client, out: Output, slug: str, span: str, region: str | None, page: str | None
) -> None:
    """Sum up the scheduled runs of the beat SLUG: verdicts, percentiles of the run time, the last run, per region."""
    found = await api.get(f"{at('/beats', slug)}/summary", range=span, region=region, page=page)
    shown = [*found["regions"], found["all"] | {"region": "all"}]
    rows = [[column(part) for column in SUM.values()] for part in shown]
    out.show(found, lambda _: print_table(list(SUM), rows))


@click.command()
@click.argument("slug")
@click.option("--for", "for_", metavar="DURATION", help="Such as 45m or 2h.")
@click.option("--until", metavar="TIME", help="Such as 2026-01-31T18:00Z; without a zone it is UTC.")
@with_page
@remote
async def pause(
    api: Client, out: Output, slug: str, for_: str | None, until: str | None, page: str | None
) -> None:
    """Stop running the beat SLUG: for a while, until a time, or until it is resumed."""
    if for_ and until:
        raise click.UsageError("Give either --for or --until.")
    body = {"for": _duration(for_)} if for_ else {"until": _moment(until)} if until else {}
    beat = await api.post(f"{at('/beats', slug)}/pause", body, page=page)
    out.done(beat, f"{slug} is paused {lasts(beat['paused_until'])}")


@click.command()
@click.argument("slug")
@with_page
@remote
async def resume(api: Client, out: Output, slug: str, page: str | None) -> None:
    """Run the beat SLUG again."""
    beat = await api.post(f"{at('/beats', slug)}/resume", page=page)
    out.done(beat, f"{slug} runs again")


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{int(ratio * 10_000 + 1e-6) / 100:.2f} %"  # never rounded up to 100


def _duration(text: str) -> str:
    try:
        parse_duration_s(text)
    except ValueError as wrong:
        raise click.UsageError(f"--for: {wrong}") from None
    return text


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--until: {text!r} is not a time such as 2026-01-31T18:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment.timestamp() <= time.time():
        raise click.UsageError(f"--until: {text} is in the past")
    return moment.isoformat()


def _print_votes(given: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        ("REGION", "VOTE", "SEEN"),
        [
            (
                vote["region"],
                paint(vote["verdict"] or "none yet"),
                when(vote["at"]) + ("" if vote["fresh"] else ", stale"),
            )
            for vote in given
        ],
    )
