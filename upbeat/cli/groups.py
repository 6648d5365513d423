"""`upbeat groups`: what is special to groups. Declaring is `upbeat.cli.objects`."""

from collections.abc import Mapping
from typing import Any, Final

import click

from upbeat.cli.beats import pausing
from upbeat.cli.objects import group_of, print_written, standing
from upbeat.cli.output import Columns, paint, print_items, when

MEMBER: Final[Columns] = {
    "MEMBER": lambda m: m["slug"],
    "STAGE": lambda m: paint(m["stage"]),
    "SINCE": lambda m: when(m["since"]),
    "": lambda m: "suppressed" if m["suppressed"] else "" if m["counts"] else "does not count",
}


def _show(group: Mapping[str, Any]) -> None:
    click.echo(f"{standing(group)}  {group['slug']}, since {when(group['since'])}")
    need = group["need"]
    click.echo(
        f"{need['available']} of {len(group['members'])} members have a stage; "
        f"critical takes {need['critical']}, warning {need['warning']}\n"
    )
    if group["members"]:
        print_items(MEMBER, group["members"])
        click.echo()
    print_written(group)


groups = group_of("group", show=_show)
for command in pausing(
    "group", "Freeze the group SLUG and its episode; its members go on", "Let the group SLUG go on"
):
    groups.add_command(command)
