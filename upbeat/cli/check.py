"""`upbeat check`: one run of a beat or URL, made here and now by the probes the server uses. It records nothing."""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from engine.probes.context import Context
from engine.secrets import Secrets
from evaluators.model import Kind
from rules.address import EgressPolicy
from rules.assertion import in_words
from rules.beat import BEAT, AnyBeat
from rules.kinds.kind import ProbedRule
from rules.pasted import ACCEPTED, check_of
from upbeat.check import check_now
from upbeat.cli.files import read_document
from upbeat.cli.output import Output, milliseconds, paint, print_table, with_output

AT_ONCE: Final = 20
_WIDTH: Final = 60  # characters of what an assertion saw
_SLUG = re.compile(r"[a-z0-9-]+")


@click.command()
@click.argument("target", required=False)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Where beats are declared.")
@click.option("--all", "everything", is_flag=True, help="Check every enabled beat of the file.")
@click.option("--timeout", metavar="DURATION", help="Per attempt, instead of the beat's own.")
@click.option(
    "--retries", type=click.IntRange(0, 5), help="Attempts after the first, instead of the beat's own."
)
@click.option("--strict", is_flag=True, help="A warning fails the check, too.")
@with_output
def check(
    target: str | None,
    config: Path | None,
    everything: bool,
    timeout: str | None,
    retries: int | None,
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
      upbeat check --all --config upbeat.yaml

    Exits with 0 when all is well, 1 when a check failed, 2 when there was nothing to check.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if (target is None) != everything:
        raise click.UsageError("Name one target, or give --all with --config.")
    given = {"timeout": timeout, "retries": retries}
    beats, egress = _beats(target, config, {key: value for key, value in given.items() if value is not None})
    results = asyncio.run(_run(beats, egress))
    if everything:
        out.show({"items": results, "next": None}, lambda _: _print_all(results))
    else:
        out.show(results[0], _print_one)
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


async def _run(beats: Sequence[AnyBeat], egress: EgressPolicy) -> list[dict[str, Any]]:
    """The result of each, as `GET /api/v1/beats/{slug}/results` shows a run, with what was run."""
    context, slots = Context(egress), asyncio.Semaphore(AT_ONCE)
    sources = Secrets(os.environ).of(None)

    async def one(beat: AnyBeat) -> dict[str, Any]:
        async with slots:
            result = await check_now(beat, context, sources)
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
        context.close()


def _print_one(result: Mapping[str, Any]) -> None:
    attempts = f", {result['attempts']} attempts" if result["attempts"] > 1 else ""
    click.echo(f"{paint(result['verdict'])}  {result['target']}{attempts}")
    if result["error"]:
        click.echo(f"{result['error']['type']}: {result['error']['message']}")
    evidence = result["evidence"] or {}
    if address := evidence.get("address"):
        click.echo(f"from {address}{_status(evidence)}")
    if evidence.get("unverified"):
        click.echo("not verified: who answered may have been anybody (`verify: false`)")
    click.echo()
    taken = [
        (phase, milliseconds(seconds)) for phase, seconds in result["timings"].items() if seconds is not None
    ]
    print_table(("PHASE", "TIME"), taken)
    for headings, rows in _tables(result["assertions"], evidence):
        if rows:
            click.echo()
            print_table(headings, rows)


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
) -> Iterator[tuple[Sequence[str], list[Sequence[object]]]]:
    """What a run showed, as tables: those it has nothing for are empty."""
    yield (
        ("STEP", "STATUS", "TOTAL", "WHY"),
        [
            (one["name"], one["status"], milliseconds(one["timings"]["total"]), one["error"])
            for one in evidence.get("steps") or ()
        ],
    )
    yield (
        ("ASSERTION", "OUTCOME", "SAW", "WHY"),
        [
            (
                " ".join(filter(None, (a["step"], a["of"], a["key"]))),
                paint("ok" if a["ok"] else a["severity"]),
                _seen(a["of"], a["actual"]),
                a["message"],
            )
            for a in sorted(assertions, key=lambda one: bool(one["ok"]))
        ],
    )
    chain = (evidence.get("tls") or {}).get("certificates") or ()
    yield ("CERTIFICATE", "FOR", "ISSUER", "EXPIRES"), [_certificate(one) for one in chain]
    answers = evidence.get("answers") or (
        [{**evidence, "server": evidence.get("address")}] if evidence.get("records") else []
    )
    yield (
        ("SERVER", "ANSWER", "TYPE", "RECORD", "TTL"),
        [
            (
                one["server"],
                one.get("error") or one["rcode"],
                record.get("type"),
                record.get("text"),
                _ttl(record),
            )
            for one in answers
            for record in one.get("records") or [{}]
        ],
    )
    packets = enumerate(evidence.get("packets") or (), 1)
    yield ("PACKET", "ROUND TRIP"), [(n, "lost" if rtt is None else milliseconds(rtt)) for n, rtt in packets]


def _seen(of: str, actual: object) -> str | None:
    text = actual if isinstance(actual, str) else json.dumps(actual, ensure_ascii=False)
    return (
        None
        if actual is None
        else in_words(of, actual) or (text if len(text) <= _WIDTH else text[:_WIDTH] + "…")
    )


def _certificate(one: Mapping[str, Any]) -> Sequence[object]:
    left_d = (one["not_after"] - time.time()) // 86_400
    until = datetime.fromtimestamp(one["not_after"], UTC)
    return (
        one["subject"],
        ", ".join(one["names"][:5]),
        one["issuer"],
        f"{until:%Y-%m-%d}, {left_d:.0f} days left",
    )


def _ttl(record: Mapping[str, Any]) -> str:
    return f"{record['ttl_s']} s" if record.get("ttl_s") is not None else ""


def _print_all(results: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        ("BEAT", "VERDICT", "TOTAL", "TARGET", "ERROR"),
        [
            (
                result["beat"],
                paint(result["verdict"]),
                milliseconds(result["timings"]["total"]),
                result["target"],
                result["error"]["message"] if result["error"] else "",
            )
            for result in results
        ],
    )
