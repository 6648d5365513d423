"""`upbeat completion`: the script that lets a shell complete `upbeat`. It changes no file of yours."""

import click
from click.shell_completion import get_completion_class

from upbeat.cli import upbeat


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
      bash  eval "$(upbeat completion bash)"         in ~/.bashrc
      zsh   eval "$(upbeat completion zsh)"          in ~/.zshrc
      fish  upbeat completion fish | source          in ~/.config/fish/config.fish
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(upbeat, {}, "upbeat", "_UPBEAT_COMPLETE").source())
