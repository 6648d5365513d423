"""Pages, components, regions, channels and beats: listed, shown, created, edited and deleted by one implementation."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from rules.known import plural, with_article
from rules.node import read
from rules.problem import ConfigError
from upbeat.cli.client import Client, RefusedError, remote
from upbeat.cli.files import read_yaml
from upbeat.cli.listed import Listed, listing, of_page, on_one
from upbeat.cli.output import Columns, Output, paint, print_fields, until, when

SHOWN_ONLY: Final = frozenset(
    {"id", "managed_by", "source", "revision", "created_at", "updated_at"}
    | {"stage", "since", "paused", "paused_until", "episode", "votes", "signals", "ping"}
    | {"suppressed_by", "flapping", "advisories", "need", "members"}
    | {"active", "next", "covers", "announced", "sick"}
    | {"tokens", "token", "ingest_url", "events_24h", "last_event_at"}
    | {"sentence", "effective", "promoted", "open_signals", "last_matched_at", "counts"}
)
"""What the API shows beside what was written."""


def standing(subject: Mapping[str, Any]) -> str:
    """A beat's or group's stage and what stands beside it."""
    if not subject["enabled"]:
        return "disabled"
    beside = {"paused": subject["paused"], "flapping": subject["flapping"]}
    words = [word for word, is_so in beside.items() if is_so]
    words += [f"{why['kind']} {why['slug'] or ''}".strip() for why in subject["suppressed_by"]]
    return " ".join([paint(subject["stage"]), *words])


def print_written(item: Mapping[str, Any], beside: Mapping[str, object] | None = None) -> None:
    """What was written of an object, after what stands beside it, and who manages it."""
    written = {key: value for key, value in item.items() if key not in SHOWN_ONLY}
    managed = f"{item['managed_by']} {item['source'] or ''}".strip()
    print_fields({**(beside or {}), **written, "managed by": managed})


def runs_when(window: Mapping[str, Any]) -> str:
    """Whether a maintenance window runs, and until when; or when it does next."""
    if not (span := window["next"]):
        return "over"
    return f"runs {until(span['end'])}" if window["active"] else f"next {when(span['start'])}"


_COLUMNS: Final[dict[str, Columns]] = {
    "page": {"PAGE": lambda o: o["slug"], "NAME": lambda o: o["name"]},
    "component": {
        "COMPONENT": lambda o: o["slug"],
        "NAME": lambda o: o["name"],
        "GROUP": lambda o: o["group"],
        "PAGE": lambda o: o["page"],
        "SET TO": lambda o: paint(o["status"] or ""),
    },
    "region": {
        "REGION": lambda o: o["slug"],
        "NAME": lambda o: o["name"],
        "REFERENCE": lambda o: ", ".join(o["reference"]),
        "SUSPENDED": lambda o: f"since {when(o['sick']['since'])}: {o['sick']['why']}" if o["sick"] else "",
    },
    "channel": {
        "CHANNEL": lambda o: o["slug"],
        "TYPE": lambda o: o["type"],
        "PAGE": lambda o: o["page"],
        "TOLD": lambda o: ", ".join(o["on"]) if o["enabled"] else "nothing: disabled",
    },
    "publisher": {
        "PUBLISHER": lambda o: o["slug"],
        "TYPE": lambda o: o["type"],
        "PAGE": lambda o: o["page"],
        "COMPONENTS": lambda o: len(o["components"]),
        "ENABLED": lambda o: "yes" if o["enabled"] else "no",
    },
    "beat": {
        "BEAT": lambda o: o["slug"],
        "TYPE": lambda o: o["type"],
        "STAGE": standing,
        "SINCE": lambda o: when(o["since"]),
        "GROUP": lambda o: o["group"] or "",
        "PAGE": lambda o: o["page"],
    },
    "group": {
        "GROUP": lambda o: o["slug"],
        "STAGE": standing,
        "SINCE": lambda o: when(o["since"]),
        "MEMBERS": lambda o: len(o["members"]),
        "BAD": lambda o: ", ".join(m["slug"] for m in o["members"] if m["stage"] in ("warning", "critical")),
        "PAGE": lambda o: o["page"],
    },
    "maintenance": {
        "MAINTENANCE": lambda o: o["slug"],
        "WHEN": runs_when,
        "RULE": lambda o: o["rrule"] or "once",
        "COVERS": lambda o: ", ".join(o["covers"]),
        "PAGE": lambda o: o["page"],
    },
    "inbox": {
        "INBOX": lambda o: o["slug"],
        "SIGNED": lambda o: (o["signature"] and (o["signature"]["preset"] or "yes")) or "no",
        "ENABLED": lambda o: "yes" if o["enabled"] else "no",
        "EVENTS IN 24 H": lambda o: o["events_24h"],
        "LAST": lambda o: when(o["last_event_at"]),
        "PAGE": lambda o: o["page"],
    },
    "trigger": {
        "TRIGGER": lambda o: o["slug"],
        "INBOX": lambda o: o["inbox"],
        "TARGET": lambda o: " ".join(
            f"{kind} {slug}" for kind, slug in o["target"].items() if kind != "per_fingerprint" and slug
        ),
        "ENABLED": lambda o: "yes" if o["enabled"] else "no",
        "OPEN": lambda o: o["open_signals"],
        "LAST MATCHED": lambda o: when(o["last_matched_at"]),
        "PAGE": lambda o: o["page"],
    },
}


def group_of(kind: str, *, show: Callable[[Mapping[str, Any]], None] | None = None) -> click.Group:
    """The commands of one kind. `show` renders one object, where fields and values are not enough."""
    kinds, columns = plural(kind), _COLUMNS[kind]
    path = f"/{kinds}"

    @click.group(name=kinds, cls=Listed)
    def group() -> None:
        pass

    group.help = f"Work with {kinds}. What a file declares is changed in the file."

    search = click.option("--search", help="Part of a slug or name.")
    group.add_command(listing(path, f"List {kinds}.", columns, search, of_page, brief="slug", limit=None))

    @group.command("show")
    @on_one(path)
    async def show_one(api: Client, out: Output) -> None:
        item = await api.get()
        out.show(item, show or print_fields, brief=[item["slug"]])

    @group.command("create")
    @click.option(
        "-f",
        "--file",
        "file",
        default="-",
        show_default=True,
        help="YAML or JSON of one, or a list; - is stdin.",
    )
    @click.option("--page", metavar="SLUG", help="Its page, where the file names none.")
    @remote
    async def create(api: Client, out: Output, file: str, page: str | None) -> None:
        documents = read_yaml(Path(file)).plain()
        many = documents if isinstance(documents, list) else [documents]
        made = [await api.post(path, document, page=page) for document in many]
        said = f"{kind} {', '.join(item['slug'] for item in made)} created"
        said += "".join(f"\nits token, told this once: {item['token']}" for item in made if "token" in item)
        document = {"items": made, "next": None} if isinstance(documents, list) else made[0]
        out.done(document, said, brief=[item["slug"] for item in made])

    @group.command("edit")
    @on_one(
        path,
        click.option("-f", "--file", "file", help="Replace it by this YAML or JSON; - is stdin."),
        click.option(
            "--set",
            "changes",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change one key; the value is YAML, null its default.",
        ),
    )
    async def edit(api: Client, out: Output, file: str | None, changes: Sequence[str]) -> None:
        if file is not None and changes:
            raise click.UsageError("Give either --file or --set.")
        if changes:
            item = await api.patch("", _changes(changes))
        else:
            before = await api.get()
            document = read_yaml(Path(file)).plain() if file is not None else _edited(before)
            if document is None:
                out.done(before, "nothing changed")
                return
            item = await api.put("", document)
        out.done(item, f"{kind} {item['slug']} is at revision {item['revision']}")

    @group.command("delete")
    @on_one(path)
    async def delete(api: Client, out: Output) -> None:
        await api.delete()
        out.done({}, f"{kind} {api.slug} deleted")

    for name, said in (
        ("show", f"Show one {kind} with everything that is set."),
        ("create", f"Create {with_article(kind)} from YAML or JSON."),
        ("edit", f"Change {with_article(kind)}: by --set, by a file, or in your editor."),
        ("delete", f"Delete {with_article(kind)}."),
    ):
        group.commands[name].help = said
    return group


def _changes(given: Sequence[str]) -> dict[str, Any]:
    """The merge patch that `a.b=1 c=null` stands for."""
    patch: dict[str, Any] = {}
    for change in given:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set {change!r} is not KEY=VALUE.")
        *outer, last = name.split(".")
        inner = patch
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = _value(text)
    return patch


def _value(text: str) -> Any:
    if not text.strip():
        return ""
    try:
        node, problems = read(text, "--set")
    except ConfigError:
        return text
    return text if problems else node.plain()


def _edited(before: Mapping[str, Any]) -> Any:
    """What the person at the editor made of an object; None when nothing changed."""
    shown = {key: value for key, value in before.items() if key not in SHOWN_ONLY}
    text = click.edit(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", extension=".json")
    if text is None:
        return None
    try:
        document = json.loads(text)
    except ValueError as wrong:
        raise RefusedError(f"This is no JSON, nothing was changed: {wrong}") from None
    return None if document == shown else document


pages = group_of("page")
components = group_of("component")
regions = group_of("region")
