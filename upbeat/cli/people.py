"""`upbeat users`, `tokens` and `audit`: who may do what, and who did."""

import json
from collections.abc import Mapping
from typing import Any

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.listed import Listed, listing
from upbeat.cli.machine import password
from upbeat.cli.output import Output, when

ROLES = click.Choice(("viewer", "reviewer", "editor", "admin"))


def _roles(user: Mapping[str, Any]) -> str:
    return ", ".join(f"{r['role']} of {r['page'] or 'everything'}" for r in user["roles"]) or "without a role"


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked_at"]:
        return f"revoked {when(token['revoked_at'])}"
    return f"ends {when(token['expires_at'])}" if token["expires_at"] else "never ends"


@click.group(cls=Listed)
def users() -> None:
    """People and their roles: on one page each, or everywhere."""


users.add_command(password)


users.add_command(
    listing(
        "/users",
        "List people, by e-mail address.",
        {
            "E-MAIL": lambda u: u["email"],
            "NAME": lambda u: u["name"],
            "ROLES": lambda u: "disabled" if u["disabled"] else _roles(u),
            "USER": lambda u: u["id"],
        },
        brief="email",
        limit=None,
    )
)


@users.command("create")
@click.argument("email")
@click.option("--name", help="The address before the @ when not given.")
@click.option("--role", type=ROLES, help="None when not given.")
@click.option("--page", metavar="SLUG", help="Where the role holds; everywhere when not given.")
@remote
async def create_user(
    api: Client, out: Output, email: str, name: str | None, role: str | None, page: str | None
) -> None:
    """Add a person. Prints the link with which they sign in first, valid for an hour."""
    roles = [{"page": page, "role": role}] if role else []
    body = {"email": email, "name": name or email.partition("@")[0], "roles": roles}
    made = await api.post("/users", body)
    said = f"{email} was added. They sign in once, within an hour, with\n{made['login_link']}"
    out.done(made, said, brief=[made["login_link"]])


@users.command()
@click.argument("email")
@click.argument("role", type=click.Choice(("viewer", "reviewer", "editor", "admin", "none")))
@click.option("--page", metavar="SLUG", help="Where the role holds; everywhere when not given.")
@remote
async def role(api: Client, out: Output, email: str, role: str, page: str | None) -> None:
    """Give a person a role, on one page or everywhere. This ends their sessions."""
    user = await api.get(at("/users", email))
    roles = [given for given in user["roles"] if given["page"] != page]
    if role != "none":
        roles.append({"page": page, "role": role})
    user = await api.patch(at("/users", email), {"roles": roles})
    out.done(user, f"{email} is now {_roles(user)}")


@users.command()
@click.argument("email")
@click.option("--undo", is_flag=True, help="Let them in again.")
@remote
async def disable(api: Client, out: Output, email: str, undo: bool) -> None:
    """Keep a person out: ends their sessions and tokens at once."""
    user = await api.patch(at("/users", email), {"disabled": not undo})
    out.done(user, f"{email} is {'disabled' if user['disabled'] else 'let in again'}")


@users.command("delete")
@click.argument("email")
@remote
async def delete_user(api: Client, out: Output, email: str) -> None:
    """Take a person away, with their sessions and tokens."""
    await api.delete(at("/users", email))
    out.done({}, f"{email} was removed")


@users.command()
@click.argument("email")
@remote
async def link(api: Client, out: Output, email: str) -> None:
    """Print a new link that signs a person in once, within an hour."""
    made = await api.post(f"{at('/users', email)}/login-link")
    out.done(made, made["login_link"], brief=[made["login_link"]])


@click.group(cls=Listed)
def tokens() -> None:
    """Tokens for the API: no more than their maker may, on one page or everywhere."""


tokens.add_command(
    listing(
        "/tokens",
        "List tokens, oldest first.",
        {
            "TOKEN": lambda t: t["id"],
            "NAME": lambda t: t["name"],
            "SCOPE": lambda t: t["scope"],
            "ROLE": lambda t: t["role"],
            "PAGE": lambda t: t["page"] or "everywhere",
            "MADE BY": lambda t: t["created_by"],
            "STATE": _state,
        },
        limit=None,
    )
)


@tokens.command("create")
@click.argument("name")
@click.option("--scope", type=click.Choice(("read", "write", "admin")), default="read", show_default=True)
@click.option("--role", type=ROLES, help="The least that does the job; what the scope allows when not given.")
@click.option("--page", metavar="SLUG", help="Where it holds; everywhere when not given.")
@click.option("--expires", metavar="DURATION", help="Such as 30d; 90 days when not given, `never` for never.")
@remote
async def create_token(
    api: Client, out: Output, name: str, scope: str, role: str | None, page: str | None, expires: str | None
) -> None:
    """Make a token. Its text is printed this once."""
    body: dict[str, Any] = {"name": name, "scope": scope, "role": role, "page": page}
    if expires is not None:
        body["expires"] = None if expires == "never" else expires
    made = await api.post("/tokens", body)
    out.done(made, made["token"], brief=[made["token"]])


@tokens.command()
@click.argument("token_id", metavar="TOKEN")
@remote
async def revoke(api: Client, out: Output, token_id: str) -> None:
    """End a token now. TOKEN is its id."""
    await api.delete(at("/tokens", token_id))
    out.done({}, f"{token_id} no longer opens anything")


audit = listing(
    "/audit",
    "List who changed what, newest first.",
    {
        "AT": lambda a: when(a["at"]),
        "WHO": lambda a: a["actor"],
        "BY": lambda a: a["surface"],
        "DID": lambda a: a["verb"],
        "TO": lambda a: a["object"],
        "AFTER": lambda a: json.dumps(a["after"])[:60] if a["after"] else "",
    },
    name="audit",
)
