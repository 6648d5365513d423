"""`upbeat check`: one run of a beat or URL, made here and now by the probes the server uses. It records nothing."""

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from engine.browser.find import find_chromium
from engine.browser.pool import Browsers
from engine.probes.context import Context
from engine.secrets import Secrets
from evaluators.model import Kind
from rules.address import EgressPolicy
from rules.assertion import in_words
from rules.beat import BEAT, AnyBeat
from rules.check import Check, compile_check
from rules.kinds.browser import BrowserBeat, BrowserCheck
from rules.kinds.kind import ProbedRule
from rules.pasted import ACCEPTED, check_of
from rules.secret import Sources
from upbeat.check import check_now
from upbeat.cli.files import FILE, read_document
from upbeat.cli.journey import Stepper, display, shown, unhurried, write_files
from upbeat.cli.output import Columns, Output, milliseconds, paint, print_items, print_table, with_output

AT_ONCE: Final = 20
_WIDTH: Final = 60  # characters of what an assertion saw
_BEAT: Final[Columns] = {
    "BEAT": lambda r: r["beat"],
    "VERDICT": lambda r: paint(r["verdict"]),
    "TOTAL": lambda r: milliseconds(r["timings"]["total"]),
    "TARGET": lambda r: r["target"],
    "ERROR": lambda r: r["error"]["message"] if r["error"] else "",
}
_STEP: Final[Columns] = {
    "STEP": lambda s: s["name"],
    "STATUS": lambda s: s["status"],
    "TOTAL": lambda s: milliseconds(s["timings"]["total"]),
    "WHY": lambda s: s["error"],
}
_ASSERTION: Final[Columns] = {
    "ASSERTION": lambda a: " ".join(filter(None, (a["step"], a["of"], a["key"]))),
    "OUTCOME": lambda a: paint("ok" if a["ok"] else a["severity"]),
    "SAW": lambda a: _seen(a["of"], a["actual"]),
    "WHY": lambda a: a["message"],
}
_PAGE: Final[Columns] = {
    "PAGE": lambda d: d["url"],
    "TTFB": lambda d: milliseconds(d.get("ttfb")),
    "FCP": lambda d: milliseconds(d.get("fcp")),
    "LCP": lambda d: milliseconds(d.get("lcp")),
    "CLS": lambda d: f"{d['cls']:.3f}" if d.get("cls") is not None else "",
}
_LINE: Final = {
    key: {heading: str} for key, heading in (("console", "CONSOLE"), ("failures", "FAILED REQUEST"))
}
_FILE: Final[Columns] = {"FILE": lambda f: f["path"], "TYPE": lambda f: f["type"]}
_CERTIFICATE: Final[Columns] = {
    "CERTIFICATE": lambda c: c["subject"],
    "FOR": lambda c: ", ".join(c["names"][:5]),
    "ISSUER": lambda c: c["issuer"],
    "EXPIRES": lambda c: (
        f"{datetime.fromtimestamp(c['not_after'], UTC):%Y-%m-%d}, "
        f"{(c['not_after'] - time.time()) // 86_400:.0f} days left"
    ),
}
_RECORD: Final[Columns] = {
    "SERVER": lambda r: r["server"],
    "ANSWER": lambda r: r.get("error") or r["rcode"],
    "TYPE": lambda r: r.get("type"),
    "RECORD": lambda r: r.get("text"),
    "TTL": lambda r: f"{r['ttl_s']} s" if r.get("ttl_s") is not None else "",
}
_PACKET: Final[Columns] = {
    "PACKET": lambda p: p[0],
    "ROUND TRIP": lambda p: "lost" if p[1] is None else milliseconds(p[1]),
}
_SLUG = re.compile(r"[a-z0-9-]+")


@click.command()
@click.argument("target", required=False)
@click.option("--config", type=FILE, help="Where beats are declared.")
@click.option("--all", "everything", is_flag=True, help="Check every enabled beat of the file.")
@click.option("--timeout", metavar="DURATION", help="Per attempt, instead of the beat's own.")
@click.option(
    "--retries", type=click.IntRange(0, 5), help="Attempts after the first, instead of the beat's own."
)
@click.option(
    "--evidence",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where files of a browser beat go; a temporary folder where it failed.",
)
@click.option("--headed", is_flag=True, help="Show the browser's window; it is confined less then.")
@click.option("--step", "stepped", is_flag=True, help="Ask before each step of a browser beat.")
@click.option("--strict", is_flag=True, help="A warning fails the check, too.")
@with_output
def check(
    target: str | None,
    config: Path | None,
    everything: bool,
    timeout: str | None,
    retries: int | None,
    folder: Path | None,
    headed: bool,
    stepped: bool,
    strict: bool,
    out: Output,
) -> None:
    """Check TARGET now, from this machine: a URL, or the slug of a beat in a file.

    \b
      upbeat check https://shop.example/health
      upbeat check tcp://db.internal:5432
      upbeat check tls://shop.example      (port 443, or tls://host:port)
      upbeat check dns:shop.example        (or dns:shop.example?type=MX, dns://9.9.9.9/shop.example)
      upbeat check icmp://gateway.internal
      upbeat check checkout-api --config upbeat.yaml
      upbeat check purchase --config upbeat.yaml --step --headed      (a browser beat, step by step)
      upbeat check --all --config upbeat.yaml

    Exits with 0 when all is well, 1 when a check failed, 2 when there was nothing to check.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if (target is None) != everything:
        raise click.UsageError("Name one target, or give --all with --config.")
    given = {"timeout": timeout, "retries": retries}
    beats, egress = _beats(target, config, {key: value for key, value in given.items() if value is not None})
    is_journey = isinstance(beats[0], BrowserBeat) and len(beats) == 1
    if (headed or stepped) and not is_journey:
        raise click.UsageError("--headed and --step are for one browser beat.")
    if stepped and (out.json or out.quiet):
        raise click.UsageError("--step shows each step; it goes with neither --json nor --quiet.")
    browsers = Browsers(os.environ, shown=display(os.environ) if headed else None)
    sources = Secrets(os.environ).of(None)
    tuned: Callable[[Check], Check] = lambda check: check  # noqa: E731 - that of most
    stepper = None
    if is_journey and not (out.json or out.quiet) and (chromium := find_chromium(os.environ, headed=headed)):
        click.echo(f"Starting {chromium.path} ...")
    if stepped:

        def read() -> BrowserCheck:
            (beat,), _ = _beats(target, config, {})
            check = compile_check(beat, sources)
            assert isinstance(check, BrowserCheck)
            return check

        stepper = Stepper(read)
        browsers.guide, browsers.is_stepped, tuned = stepper.go, True, unhurried
    elif is_journey and not (out.json or out.quiet):
        browsers.guide = shown
    results = asyncio.run(_run(beats, egress, browsers, sources, tuned))
    for result in results:
        write_files(result, folder / result["beat"] if folder and everything else folder)
    if (
        stepper is not None
        and stepper.left
        and not (results[0]["error"] or {}).get("type", "").startswith("probe.")
    ):
        click.echo(stepper.left)
        raise click.exceptions.Exit(1)
    if everything:
        out.show({"items": results, "next": None}, lambda _: print_items(_BEAT, results))
    else:
        out.show(results[0], partial(_print_one, start_s=browsers.start_s))
    allowed = ("ok",) if strict else ("ok", "warning")
    raise click.exceptions.Exit(0 if all(result["verdict"] in allowed for result in results) else 1)


def _beats(
    target: str | None, config: Path | None, given: Mapping[str, Any]
) -> tuple[list[AnyBeat], EgressPolicy]:
    """What is to be run, and where it may connect to."""
    if target is not None and not _SLUG.fullmatch(target):
        return [_beat({"slug": "check", **_parsed(target)}, given)], EgressPolicy()
    if config is None:
        raise click.UsageError(f"{target or '--all'} needs --config, the file where beats are declared.")
    document = read_document(config)
    declared = [one.spec for one in document.objects if isinstance(one.spec, AnyBeat)]
    chosen = [beat for beat in declared if (beat.enabled if target is None else beat.slug == target)]
    if target is not None and chosen and not isinstance(chosen[0], ProbedRule):
        raise click.UsageError(f"{chosen[0].not_run()}, which only a server can take.")
    for beat in chosen:
        if not isinstance(beat, ProbedRule):
            click.echo(f"not run: {beat.slug} waits for {beat.waits_for}", err=True)
    chosen = [beat for beat in chosen if isinstance(beat, ProbedRule)]
    if not chosen:
        slugs = ", ".join(beat.slug for beat in declared) or "none"
        raise click.UsageError(f"{config} declares no beat {target or 'that is enabled'}; there are: {slugs}")
    egress = document.settings.egress.policy()
    return [
        _beat(beat.model_dump(mode="json", exclude_unset=True), given) if given else beat for beat in chosen
    ], egress


def _parsed(target: str) -> dict[str, Any]:
    try:
        return check_of(target)
    except ValueError as refused:
        said = str(refused).replace(ACCEPTED, f"{ACCEPTED}, or the slug of a beat in --config")
        raise click.UsageError(f"{said}.") from None


def _beat(spec: Mapping[str, Any], given: Mapping[str, Any]) -> AnyBeat:
    try:
        return BEAT.validate_python({**spec, **given})
    except ValidationError as refused:
        said = "; ".join(
            f"{error['loc'][-1] if error['loc'] else 'it'}: {error['msg'].removeprefix('Value error, ')}"
            for error in refused.errors(include_url=False)
        )
        raise click.UsageError(said) from None


async def _run(
    beats: Sequence[AnyBeat],
    egress: EgressPolicy,
    browsers: Browsers,
    sources: Sources,
    tuned: Callable[[Check], Check],
) -> list[dict[str, Any]]:
    """The result of each, as `GET /api/v1/beats/{slug}/results` shows a run, with what was run."""
    context, slots = Context(egress, browsers=browsers), asyncio.Semaphore(AT_ONCE)

    async def one(beat: AnyBeat) -> dict[str, Any]:
        async with slots:
            result = await check_now(beat, context, sources, tuned=tuned, has_files=True)
        at = (
            datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        unsaid = {"actual": None, "message": "", "severity": "critical", "step": "", "key": ""}
        judged = [unsaid | assertion for assertion in result["assertions"]]
        seen = {"kind": str(Kind.MANUAL), "region": None, "at": at, "assertions": judged}
        return {"beat": beat.slug, "target": beat.target} | result | seen

    try:
        return await asyncio.gather(*map(one, beats))
    finally:
        await browsers.close()
        context.close()


def _print_one(result: Mapping[str, Any], start_s: float) -> None:
    attempts = f", {result['attempts']} attempts" if result["attempts"] > 1 else ""
    click.echo(f"{paint(result['verdict'])}  {result['target']}{attempts}")
    if result["error"]:
        click.echo(f"{result['error']['type']}: {result['error']['message']}")
    evidence = result["evidence"] or {}
    if address := evidence.get("address"):
        click.echo(f"from {address}{_status(evidence)}")
    if journey := evidence.get("journey"):
        click.echo(
            f"{_journey(journey)}; the browser had started in {start_s:.1f} s, which counts as no time"
        )
    if evidence.get("unverified"):
        click.echo("not verified: who answered may have been anybody (`verify: false`)")
    click.echo()
    taken = [
        (phase, milliseconds(seconds)) for phase, seconds in result["timings"].items() if seconds is not None
    ]
    print_table(("PHASE", "TIME"), taken)
    for columns, items in (*_tables(result["assertions"], evidence), (_FILE, result.get("artifacts") or ())):
        if items:
            click.echo()
            print_items(columns, items)


def _journey(journey: Mapping[str, Any]) -> str:
    size = f"{journey.get('weight_bytes', 0) / 1000:.0f} kB in {journey.get('requests', 0)} requests"
    return f"{journey.get('browser')} in {journey.get('isolation')}, {size}"


def _status(evidence: Mapping[str, Any]) -> str:
    tls = evidence.get("tls") or {}
    said = [
        f"{evidence.get('protocol') or 'HTTP'} {evidence['status']} {evidence.get('reason') or ''}".strip()
        if evidence.get("status") and not evidence.get("steps")
        else "",
        " ".join(filter(None, (tls.get("version"), tls.get("cipher")))),
        f"stapled status {tls['ocsp']}" if tls.get("ocsp") else "",
    ]
    return "".join(f", {one}" for one in said if one)


def _tables(
    assertions: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any]
) -> Iterator[tuple[Columns, Sequence[Any]]]:
    """What a run showed, as tables: those it has nothing for are empty."""
    yield _STEP, evidence.get("steps") or ()
    yield _ASSERTION, sorted(assertions, key=lambda one: bool(one["ok"]))
    journey = evidence.get("journey") or {}
    yield _PAGE, journey.get("documents") or ()
    for key, columns in _LINE.items():
        yield columns, journey.get(key) or ()
    yield _CERTIFICATE, (evidence.get("tls") or {}).get("certificates") or ()
    answers = evidence.get("answers") or (
        [{**evidence, "server": evidence.get("address")}] if evidence.get("records") else []
    )
    yield _RECORD, [answer | record for answer in answers for record in answer.get("records") or [{}]]
    yield _PACKET, [*enumerate(evidence.get("packets") or (), 1)]


def _seen(of: str, actual: object) -> str | None:
    text = actual if isinstance(actual, str) else json.dumps(actual, ensure_ascii=False)
    return (
        None
        if actual is None
        else in_words(of, actual) or (text if len(text) <= _WIDTH else text[:_WIDTH] + "…")
    )
