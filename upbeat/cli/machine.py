"""Commands for the server's own machine: `serve`, `login`, `backup`, `restore`, and `users password`."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from upbeat.cli.output import Output, with_output
from upbeat.settings import ServeSettings, SettingsError, serve_settings


def settings_of(**given: Any) -> ServeSettings:
    """Flags over the environment; a mistake in either is one in usage."""
    try:
        return serve_settings(os.environ, **given)
    except SettingsError as wrong:
        raise click.UsageError(str(wrong)) from None


CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What is measured and who is told: an upbeat.yaml. [env: UPBEAT_CONFIG]",
)
DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the embedded servers. [env: UPBEAT_DATA]",
)


@click.command()
@CONFIG
@DATA
@click.option("--host", help="Address to listen on; 127.0.0.1 when not given. [env: UPBEAT_HOST]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="0 is any free one; 8000 when not given. [env: UPBEAT_PORT]"
)
@click.option("--roles", help="Of api,evaluator,exporter,probe; all when not given. [env: UPBEAT_ROLES]")
@click.option("--regions", help="Which regions run here; all when not given. [env: UPBEAT_REGIONS]")
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Processes, to use more cores. [env: UPBEAT_WORKERS]"
)
def serve(**given: Any) -> None:
    """Start the server. Without settings it runs its own PostgreSQL and NATS in one private folder.

    UPBEAT_DATABASE_URL and UPBEAT_NATS_URL name servers of your own. The configuration is applied again when it is saved, and on SIGHUP.
    """
    settings = settings_of(**given)
    from upbeat.cli.local import run_loop, serving

    run_loop(serving(settings))


@click.command()
@click.argument("email", required=False)
@DATA
@click.option("--url", help="How the console is reached, when the link should begin otherwise.")
@with_output
def login(email: str | None, data: Path | None, url: str | None, out: Output) -> None:
    """Print a link that signs EMAIL in, once and within an hour; without EMAIL the first admin, who is made if need be.

    It needs no password but access to the data folder, or to UPBEAT_DATABASE_URL: use it on the server's machine.
    """
    from upbeat.cli import local

    settings = settings_of(data=data)
    link = local.run_loop(local.login_link(settings, email, url))
    out.done({"login_link": link}, link, brief=[link])


@click.command()
@click.argument("email")
@DATA
@with_output
def password(email: str, data: Path | None, out: Output) -> None:
    """Set a person's password, asked for or the first line of stdin. This ends their sessions.

    It works on the server's machine, like `upbeat login`.
    """
    from upbeat.cli import local

    settings = settings_of(data=data)
    if sys.stdin.isatty():
        given = click.prompt("New password", hide_input=True, confirmation_prompt=True)
    else:
        given = sys.stdin.readline().rstrip("\n")
    local.run_loop(local.set_password(settings, email, given))
    out.done({"email": email}, f"{email} has a new password")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@DATA
@with_output
def backup(file: Path, data: Path | None, out: Output) -> None:
    """Write the whole database to FILE, consistent also while the server runs. FILE holds secrets: it is only yours to read.

    Stored secrets are in it sealed, without their key: keep secret.key of the data folder, or UPBEAT_SECRET_KEY, elsewhere.
    """
    from upbeat.cli import local

    made = local.run_loop(local.back_up(settings_of(data=data), file))
    said = f"{file}: {made.size_bytes / 1e3:.0f} kB, from PostgreSQL {made.postgres}; without the key of stored secrets"
    out.done({"file": str(file), **asdict(made)}, said)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@DATA
@click.option("--force", is_flag=True, help="Replace what the database holds.")
@with_output
def restore(file: Path, data: Path | None, force: bool, out: Output) -> None:
    """Fill an empty database from a backup FILE: all of it, or nothing. Stop the server first.

    Stored secrets need the key they were sealed with: put secret.key back into the data folder, or set UPBEAT_SECRET_KEY.
    """
    from upbeat.cli import local

    made = local.run_loop(local.restore_from(settings_of(data=data), file, force))
    said = f"restored {made.size_bytes / 1e3:.0f} kB, written on {made.created}"
    out.done({"file": str(file), **asdict(made)}, said)
