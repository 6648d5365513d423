"""`upbeat secrets`: stored values that beats and channels refer to. A value comes by stdin or prompt, never as an argument."""

import sys

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import Listed, listing
from upbeat.cli.output import Output, when

whose = click.option("--page", metavar="SLUG", help="Whose it is; the only page when not given.")
of_installation = click.option(
    "--installation", is_flag=True, help="The installation's, for ${secret:/NAME}, instead of a page's."
)


@click.group(cls=Listed)
def secrets() -> None:
    """Stored values, sealed in the database: `${secret:NAME}` in beats and channels of their page."""


secrets.add_command(
    listing(
        "/secrets",
        "List what is stored, never a value.",
        {
            "SECRET": lambda s: s["name"],
            "PAGE": lambda s: s["page"] or "installation",
            "REVISION": lambda s: s["revision"],
            "STORED": lambda s: when(s["updated_at"]),
            "BY": lambda s: s["updated_by"],
            "USED BY": lambda s: ", ".join(s["used_by"]),
        },
        brief="name",
        limit=None,
    )
)


@secrets.command("set")
@click.argument("name")
@whose
@of_installation
@remote
async def set_secret(api: Client, out: Output, name: str, page: str | None, installation: bool) -> None:
    """Store a value, asked for or all of stdin without one newline at its end. It is used within seconds."""
    if sys.stdin.isatty():
        value = click.prompt("Value", hide_input=True, confirmation_prompt=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    made = await api.put(at("/secrets", name), {"value": value}, page=page, installation=installation or None)
    reference = f"${{secret:{'/' if made['page'] is None else ''}{name}}}"
    out.done(made, f"{reference} is stored for {made['page'] or 'the installation'}")


@secrets.command("rm")
@click.argument("name")
@whose
@of_installation
@click.option("--force", is_flag=True, help="Although it is used.")
@remote
async def remove_secret(
    api: Client, out: Output, name: str, page: str | None, installation: bool, force: bool
) -> None:
    """Forget a stored value. Refused while something uses it."""
    await api.delete(at("/secrets", name), page=page, installation=installation or None, force=force or None)
    out.done({}, f"{name} was forgotten")


@secrets.command()
@remote
async def rotate(api: Client, out: Output) -> None:
    """Seal everything with the first key of UPBEAT_SECRET_KEY; after it the other keys may go."""
    made = await api.post("/secrets/rotate")
    out.done(made, f"{made['sealed']} sealed with the new key")
