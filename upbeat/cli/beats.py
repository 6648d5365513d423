"""`upbeat beats`, `run`, `report`, `summary`, `pause` and `resume`: what is special to beats. Declaring is `upbeat.cli.objects`."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import click

from rules.duration import parse_duration_s
from rules.kinds.heartbeat import examples
from upbeat.cli.client import Client, UnreachableError
from upbeat.cli.listed import listing, on_one
from upbeat.cli.objects import group_of, print_written, standing
from upbeat.cli.output import Columns, Output, milliseconds, paint, print_items, when
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
VOTE: Final[Columns] = {
    "REGION": lambda v: v["region"],
    "VOTE": lambda v: paint(v["verdict"] or "none yet"),
    "SEEN": lambda v: when(v["at"]) + ("" if v["fresh"] else ", stale"),
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
        print_items(VOTE, beat["votes"])
        click.echo()
    if beat["signals"]:
        print_items(SIGNAL, beat["signals"])
        click.echo()
    if beat["ping"]:
        _print_heartbeat(beat)
    print_written(beat)


beats = group_of("beat", show=_show)


@beats.command()
@on_one("/beats")
async def votes(api: Client, out: Output) -> None:
    """Show what each region says of a beat now."""
    beat = await api.get()
    shown = {key: beat[key] for key in ("slug", "stage", "since", "votes")}
    out.show(shown, lambda _: print_items(VOTE, beat["votes"]), brief=[beat["stage"]])


beats.add_command(
    listing(
        "/results",
        "List a beat's runs, newest first.",
        RESULT,
        click.option("--region", metavar="SLUG", help="Only of this region."),
        of="/beats",
        name="results",
        brief="verdict",
        limit=20,
    )
)


beats.add_command(
    listing(
        "/pings",
        "List what pinged a heartbeat, newest first.",
        {
            "AT": lambda p: when(p["at"]),
            "PING": lambda p: p["signal"] if p["code"] is None else f"{p['signal']}, exit code {p['code']}",
            "RUN": lambda p: p["run"] or "",
            "FROM": lambda p: p["address"],
            "BODY": lambda p: next(iter(p["body"].splitlines()), "")[:60],
            "": lambda p: "" if p["counted"] else "not counted: paused",
        },
        of="/beats",
        name="pings",
        brief="signal",
        limit=20,
    )
)


@beats.command("rotate-ping-key")
@on_one("/beats")
async def rotate_ping_key(api: Client, out: Output) -> None:
    """Give a heartbeat another URL; the old one stops at once."""
    beat = await api.post("/ping-key/rotate")
    out.show(beat, _print_heartbeat, brief=[beat["ping"]["url"]])


@click.command()
@on_one(
    "/beats",
    click.option("--critical", "critical", metavar="MESSAGE", help="It is critical."),
    click.option("--warning", "warning", metavar="MESSAGE", help="It is a warning."),
    click.option("--ok", "ok", is_flag=True, help="It is over."),
    click.option("--fingerprint", help="What it is about: each has a signal of its own."),
)
async def report(
    api: Client,
    out: Output,
    critical: str | None,
    warning: str | None,
    ok: bool,
    fingerprint: str | None,
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
    told = await api.post("/report", body)
    stands = (
        f"{api.slug} is {paint(told['stage'])}" if told["decided"] else "kept; nobody evaluates beats now"
    )
    out.done(told, f"{stands}, open signals: {len(told['signals'])}")


@click.command()
@on_one(
    "/beats",
    click.option(
        "--wait", is_flag=True, help="Wait for the results; exit with 1 when one of them is not ok."
    ),
)
async def run(api: Client, out: Output, wait: bool) -> None:
    """Run the beat SLUG now, once in each of its regions. Such a run is shown as manual and never votes."""
    asked = await api.post("/run", wait=WAIT_MOST_S - 5 if wait else None)
    if not wait:
        out.done(asked, f"{api.slug} runs in {', '.join(asked['regions'])}")
        return
    out.show(asked, lambda _: print_items(RESULT, asked["results"]))
    if missing := set(asked["regions"]) - {result["region"] for result in asked["results"]}:
        raise UnreachableError(f"No answer from {', '.join(sorted(missing))}: is a probe running there?")
    if any(result["verdict"] not in ("ok", "warning") for result in asked["results"]):
        raise click.exceptions.Exit(1)


@click.command()
@on_one(
    "/beats",
    click.option(
        "--range", "span", type=click.Choice(RANGES), default="7d", show_default=True, help="How far back."
    ),
    click.option("--region", metavar="SLUG", help="Only of this region."),
)
async def summary(api: Client, out: Output, span: str, region: str | None) -> None:
    """Sum up the scheduled runs of the beat SLUG: verdicts, percentiles of the run time, the last run, per region."""
    found = await api.get("/summary", range=span, region=region)
    shown = [*found["regions"], found["all"] | {"region": "all"}]
    out.show(found, lambda _: print_items(SUM, shown))


def pausing(kind: str, stop: str, go: str) -> tuple[click.Command, click.Command]:
    """`pause` and `resume` of beats, or of groups."""

    @click.command(help=f"{stop}: for a while, until a time, or until it is resumed.")
    @on_one(
        f"/{kind}s",
        click.option("--for", "for_", metavar="DURATION", help="Such as 45m or 2h."),
        click.option("--until", metavar="TIME", help="Such as 2026-01-31T18:00Z; without a zone it is UTC."),
    )
    async def pause(api: Client, out: Output, for_: str | None, until: str | None) -> None:
        if for_ and until:
            raise click.UsageError("Give either --for or --until.")
        body = {"for": _duration(for_)} if for_ else {"until": _moment(until)} if until else {}
        paused = await api.post("/pause", body)
        out.done(paused, f"{api.slug} is paused {lasts(paused['paused_until'])}")

    @click.command(help=f"{go}.")
    @on_one(f"/{kind}s")
    async def resume(api: Client, out: Output) -> None:
        resumed = await api.post("/resume")
        out.done(resumed, f"{api.slug} runs again")

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
