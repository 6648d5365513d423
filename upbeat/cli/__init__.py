"""The command `upbeat`: names every command and loads a command's module only when it is used."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

from upbeat import __version__

SECTIONS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Run Upbeat": {
        "serve": ("machine", "Start the server: console, status pages, API and checks."),
        "demo": ("demo", "See the whole path on local targets that fail on cue."),
        "doctor": ("doctor", "Say what is used, where, how durable it is, and what is wrong."),
        "login": ("machine", "Print a link that signs in once, for a server on this machine."),
        "backup": ("machine", "Write the whole database to one file."),
        "restore": ("machine", "Fill an empty database from such a file."),
    },
    "Try and write beats": {
        "check": ("check", "Check a URL or a beat now, from here, without a server."),
        "validate": ("files", "Say everything that is wrong with an upbeat.yaml."),
        "simulate": ("simulate", "See what a policy makes of months that are made up."),
        "size": ("simulate", "Estimate what a fleet of beats needs."),
        "schema": ("files", "Print the JSON Schema of upbeat.yaml, for editors."),
        "import": ("import_", "Turn another monitor's file into an upbeat.yaml."),
        "export": ("files", "Print what a server holds as an upbeat.yaml."),
    },
    "Work with a server": {
        "beats": ("beats", "Beats: what is measured, what their regions say."),
        "groups": ("groups", "Groups: beats that are one outage together."),
        "replay": ("replay", "Try another policy on the past, or check the past against its log."),
        "explain": ("explain", "Say why a beat or group is what it is, and what would change it."),
        "run": ("beats", "Run a beat now, in all its regions."),
        "evidence": ("evidence", "What is kept of a browser beat's runs: pictures, traces; fetch them."),
        "summary": ("beats", "Count a beat's runs: verdicts, percentiles, the last one."),
        "uptime": ("uptime", "The share of a time in which something was up."),
        "pause": ("beats", "Stop running a beat for a while."),
        "resume": ("beats", "Run a paused beat again."),
        "report": ("beats", "Say that a beat is bad, or no longer."),
        "inboxes": ("inboxes", "Inboxes: where other systems post what they know."),
        "inbox": ("inboxes", "What an inbox received."),
        "triggers": ("triggers", "Triggers: rules that turn received events into signals; previews of them."),
        "maintenance": ("maintenance", "Maintenance: when what is worked on opens nothing."),
        "incidents": ("incidents", "Incidents: what customers are told."),
        "episodes": ("episodes", "Episodes: what was wrong, and who looks at it."),
        "templates": ("templates", "Templates: what customers read, in words of your own."),
        "actions": ("actions", "Drafts and decisions about what customers are told."),
        "pages": ("objects", "Status pages."),
        "page": ("page", "What is on a status page: pictures, host name, all of it as files."),
        "components": ("objects", "Components of status pages."),
        "subscribers": ("subscribers", "Subscribers: who is told by a status page itself."),
        "regions": ("objects", "Regions beats run in."),
        "channels": ("channels", "Channels: where operators are told."),
        "publishers": ("publishers", "Publishers: where incidents are posted besides the page."),
        "deliveries": ("channels", "What channels were told, and what is stuck."),
        "users": ("people", "People and their roles."),
        "tokens": ("people", "Tokens for the API."),
        "secrets": ("secrets", "Stored values that beats and channels refer to; written, never shown."),
        "audit": ("people", "Who changed what."),
    },
    "Your shell": {
        "completion": ("completion", "Print completion for bash, zsh or fish."),
    },
}
ATTRIBUTES: Final = {"import": "import_"}  # a keyword is no name
_COMMANDS: Final = {name: place for section in SECTIONS.values() for name, place in section.items()}


class Commands(click.Group):
    """A group whose help needs no command's module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, said = _COMMANDS[cmd_name]
        command: click.Command = getattr(
            import_module(f"upbeat.cli.{module}"), ATTRIBUTES.get(cmd_name, cmd_name)
        )
        command.short_help = said
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), said) for name, (_, said) in commands.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="upbeat %(version)s")
@click.pass_context
def upbeat(context: click.Context) -> None:
    """Event-driven synthetic monitoring: beats from several regions, decided by quorum, told to operators at once,
    reviewed before customers read them.

    Exit codes: 0 done, 1 a check failed, 2 it cannot be done as asked, 3 no server answers, 4 not allowed.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


def main() -> None:
    """The console script."""
    try:
        code = upbeat.main(prog_name="upbeat", standalone_mode=False)
    except click.ClickException as refused:
        refused.show()
        raise SystemExit(refused.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None  # as a shell counts SIGINT; 1 would be a failed check
    raise SystemExit(code if isinstance(code, int) else 0)
