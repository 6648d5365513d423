"""`upbeat beats`, `run`, `report`, `summary`, `pause` and `resume`: what is special to beats. Declaring is `upbeat.cli.objects`."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import click

from rules.duration import parse_duration_s
from rules.kinds.heartbeat import examples
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
SIGNAL: Final[Columns] = {
    "SIGNAL": lambda s: s["fingerprint"],
    "BY": lambda s: s["by"],
    "SAYS": lambda s: paint(s["severity"]),
    "SINCE": lambda s: when(s["since"]),
    "MESSAGE": lambda s: s["message"],
}
RANGES: Final = ("1d", "7d", "14d", "30d", "90d", "365d")


def _percentile(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda r: milliseconds(r["quantiles"].get("total", {}).get(name))


SUM: Final[Columns] = {
    "REGION": lambda r: r["region"],
    **{name.upper(): itemgetter(name) for name in ("runs", "ok", "warning", "critical", "error")},
    "NOT CRITICAL": lambda r: share(r["runs_up_ratio"]),
    **{name.upper(): _percentile(name) for name in ("p50", "p75", "p90", "p95", "p99")},
    "LAST RUN": lambda r: f"{paint(r['last']['verdict'])} {when(r['last']['at'])}" if r["last"] else "",
}


def _show(beat: Mapping[str, Any]) -> None:
    click.echo(f"{standing(beat)}  {beat['slug']}, since {when(beat['since'])}")
    if beat["paused"]:
        click.echo(f"paused {lasts(beat['paused_until'])}")
    click.echo()
    if beat["votes"]:
        _print_votes(beat["votes"])
        click.echo()
    if beat["signals"]:
        print_table(
            list(SIGNAL), [[column(signal) for column in SIGNAL.values()] for signal in beat["signals"]]
        )
        click.echo()
    if beat["ping"]:
        _print_heartbeat(beat)
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


beats.add_command(
    listing(
        lambda query: f"{at('/beats', query.pop('slug'))}/pings",
        "List what pinged a heartbeat, newest first.",
        {
            "AT": lambda p: when(p["at"]),
            "PING": lambda p: p["signal"] if p["code"] is None else f"{p['signal']}, exit code {p['code']}",
            "RUN": lambda p: p["run"] or "",
            "FROM": lambda p: p["address"],
            "BODY": lambda p: next(iter(p["body"].splitlines()), "")[:60],
            "": lambda p: "" if p["counted"] else "not counted: paused",
        },
        click.argument("slug"),
        with_page,
        name="pings",
        brief="signal",
        limit=20,
    )
)


@beats.command("rotate-ping-key")
@click.argument("slug")
@with_page
@remote
async def rotate_ping_key(api: Client, out: Output, slug: str, page: str | None) -> None:
    """Give a heartbeat another URL; the old one stops at once."""
    beat = await api.post(f"{at('/beats', slug)}/ping-key/rotate", page=page)
    out.show(beat, _print_heartbeat, brief=[beat["ping"]["url"]])


@click.command()
@click.argument("slug")
@click.option("--critical", "critical", metavar="MESSAGE", help="It is critical.")
@click.option("--warning", "warning", metavar="MESSAGE", help="It is a warning.")
@click.option("--ok", "ok", is_flag=True, help="It is over.")
@click.option("--fingerprint", help="What it is about: each has a signal of its own.")
@with_page
@remote
async def report(
    api: Client,
    out: Output,
    slug: str,
    critical: str | None,
    warning: str | None,
    ok: bool,
    fingerprint: str | None,
    page: str | None,
) -> None:
    """Say of the beat SLUG, of whatever type, that it is bad, or no longer.

    \b
      upbeat report supplier --critical "orders are refused" --fingerprint orders
      upbeat report supplier --ok --fingerprint orders
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    given = {"critical": critical, "warning": warning, "ok": "" if ok else None}
    said = {verdict: message for verdict, message in given.items() if message is not None}
    if len(said) != 1:
        raise click.UsageError("Give one of --critical MESSAGE, --warning MESSAGE and --ok.")
    ((verdict, message),) = said.items()
    body = {"verdict": verdict, "message": message} | ({"fingerprint": fingerprint} if fingerprint else {})
    told = await api.post(f"{at('/beats', slug)}/report", body, page=page)
    stands = f"{slug} is {paint(told['stage'])}" if told["decided"] else "kept; nobody evaluates beats now"
    out.done(told, f"{stands}, open signals: {len(told['signals'])}")


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


def pausing(kind: str, stop: str, go: str) -> tuple[click.Command, click.Command]:
    """`pause` and `resume` of beats, or of groups."""

    @click.command(help=f"{stop}: for a while, until a time, or until it is resumed.")
    @click.argument("slug")
    @click.option("--for", "for_", metavar="DURATION", help="Such as 45m or 2h.")
    @click.option("--until", metavar="TIME", help="Such as 2026-01-31T18:00Z; without a zone it is UTC.")
    @with_page
    @remote
    async def pause(
        api: Client, out: Output, slug: str, for_: str | None, until: str | None, page: str | None
    ) -> None:
        if for_ and until:
            raise click.UsageError("Give either --for or --until.")
        body = {"for": _duration(for_)} if for_ else {"until": _moment(until)} if until else {}
        paused = await api.post(f"{at(f'/{kind}s', slug)}/pause", body, page=page)
        out.done(paused, f"{slug} is paused {lasts(paused['paused_until'])}")

    @click.command(help=f"{go}.")
    @click.argument("slug")
    @with_page
    @remote
    async def resume(api: Client, out: Output, slug: str, page: str | None) -> None:
        resumed = await api.post(f"{at(f'/{kind}s', slug)}/resume", page=page)
        out.done(resumed, f"{slug} runs again")

    return pause, resume


pause, resume = pausing("beat", "Stop running the beat SLUG", "Run the beat SLUG again")


def share(ratio: float | None) -> str:
    """A ratio in per cent, never rounded up to 100."""
    return "-" if ratio is None else f"{int(ratio * 10_000 + 1e-6) / 100:.2f} %"


def _print_heartbeat(beat: Mapping[str, Any]) -> None:
    ping = beat["ping"]
    due = "waits for the first ping" if not ping["due"] else f"next ping due {when(ping['due'])}"
    click.echo(f"{due}, last {when(ping['last'])}" + (", missed" if ping["missed"] else ""))
    for run, since in ping["running"].items():
        click.echo(f"running {run} since {when(since)}")
    click.echo()
    if ping["url"]:
        every_s = parse_duration_s(beat["every"]) if beat["every"] else None
        for title, text in (("URL", ping["url"]), *examples(every_s, beat["cron"], ping["url"])):
            click.echo(f"{title}:\n  {text}")
        click.echo()


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
