"""`upbeat demo`: how it is asked for and what it prints."""

from pathlib import Path

import click

from upbeat.settings import DEFAULT_HOST


@click.command()
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="8000 or any free one when not given.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep everything in this folder; a temporary one, removed at the end, when not given.",
)
@click.option("--approve", is_flag=True, help="Approve the draft itself, end when the incident is resolved.")
@click.option("--pace", type=click.FloatRange(0.05, 10), default=1.0, envvar="UPBEAT_DEMO_PACE", hidden=True)
def demo(host: str, port: int | None, data: Path | None, approve: bool, pace: float) -> None:
    """See the whole path in a minute: a small shop on this machine fails on cue, and you approve what customers are told.

    It prints one link. Open it, and the page says what is happening and what to click.
    """
    from upbeat.cli.local import run_loop
    from upbeat.demo.play import Demo, Options

    click.echo("Starting a PostgreSQL, a NATS, the server and a small shop ...")
    show = Demo(Options(host, port, data, approve, pace), click.echo)
    run_loop(show.run())
    if approve:
        click.echo(f"\nThe round, from the failure on:\n{show.summary()}")
        raise click.exceptions.Exit(0 if show.is_complete else 1)
