"""`upbeat doctor`: how it is asked for and what it prints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from upbeat.cli.machine import CONFIG, DATA, settings_of
from upbeat.cli.output import Output, paint, print_table, with_output


@click.command()
@CONFIG
@DATA
@with_output
def doctor(config: Path | None, data: Path | None, out: Output) -> None:
    """Say what is used, where, how durable it is, and what is wrong. Exits with 1 when anything fails.

    It looks at this machine's installation: the data folder, or UPBEAT_DATABASE_URL and UPBEAT_NATS_URL.
    """
    from upbeat.cli.client import local_url
    from upbeat.cli.local import run_loop, running
    from upbeat.doctor import Finding, examine

    settings = settings_of(config=config, data=data)

    async def look() -> list[Finding]:
        found = await running(settings)
        urls = (found.database_url, found.nats_url, local_url(settings.data)) if found else (None, None)
        return await examine(settings, *urls, starts_browser=not out.quiet)

    findings = run_loop(look())
    failed = any(finding.level == "fail" for finding in findings)

    def render(_: Any) -> None:
        print_table(("", "ABOUT", ""), [(paint(f.level), f.about, f.said) for f in findings])
        for finding in findings:
            if finding.todo:
                click.echo(f"\n{paint(finding.level)} {finding.about}: {finding.todo}")

    shown = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
    out.show(shown, render)
    raise click.exceptions.Exit(1 if failed else 0)
