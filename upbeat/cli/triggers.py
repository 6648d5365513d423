"""`upbeat triggers`: rules are tried on what was received, compared and applied. What they have open and did is `upbeat.cli.signals`'."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from upbeat.cli.client import Client, at, remote
from upbeat.cli.files import FILE, read_text, read_yaml
from upbeat.cli.inboxes import with_headers, with_query
from upbeat.cli.listed import with_page
from upbeat.cli.objects import SHOWN_ONLY, group_of
from upbeat.cli.output import Output, harmless, paint, print_table, span, until
from upbeat.cli.replay import done
from upbeat.cli.signals import COMMANDS, show

_WIDTH: Final = 40
_EPISODES: Final = 20
_DRAFTS: Final = 10
_SAID: Final = {
    "only_old": "Only the old rule does something",
    "only_new": "Only the new rule does something",
    "changed": "Both do something else",
}

triggers = group_of("trigger", show=show)
for command in COMMANDS:
    triggers.add_command(command)

_since = click.option(
    "--since", metavar="TIME", default="30d", show_default=True, help="From when: a time, or so long ago."
)
_until = click.option("--until", metavar="TIME", default="0s", help="Until when; now when not given.")
_inbox = click.option("--inbox", metavar="SLUG", help="Another inbox than the rule's.")
_budget = click.option(
    "--budget",
    metavar="DURATION",
    default="30s",
    show_default=True,
    help="How long it may take; what was found by then is shown.",
)


@triggers.command()
@click.argument("file", metavar="RULE.yaml", type=FILE)
@_since
@_until
@_inbox
@click.option(
    "--sample",
    "samples",
    metavar="FILE",
    type=FILE,
    multiple=True,
    help="A body that comes after the stored events.",
)
@with_headers
@with_query
@click.option("--stored/--no-stored", default=True, help="Over stored events, or over the samples alone.")
@_budget
@click.option(
    "--lines", type=click.IntRange(0, 1000), default=0, show_default=True, help="How many events to list."
)
@with_page
@remote
async def preview(
    api: Client,
    out: Output,
    file: Path,
    samples: Sequence[Path],
    headers: Mapping[str, str],
    query: str,
    lines: int,
    page: str | None,
    **asked: Any,
) -> None:
    """Say what a rule would have made of what was received: nothing comes of it, whatever the rule says.

    RULE.yaml is a trigger, a list of them, or an upbeat.yaml with `triggers`. Headers and query are those of every sample. It
    exits with 1 where the rule could not judge an event.

    \b
      upbeat triggers preview rule.yaml --since 7d
      upbeat triggers preview rule.yaml --no-stored --sample alert.json --lines 10
      upbeat triggers preview rule.yaml --no-stored --sample ping.json -H X-GitHub-Event:ping
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    posted = [{"body": _sample(one), "headers": headers, "query": query} for one in samples]
    body = asked | {"samples": posted, "page": page}
    found = [await done(api, "preview", body | {"rule": rule}, out, "events") for rule in _rules(file)]

    def render(_: Any) -> None:
        for one in found:
            _print(one, lines)

    document = found[0] if len(found) == 1 else {"items": found, "next": None}
    out.show(document, render, brief=[str(one["findings"] and one["findings"]["opened"]) for one in found])
    if any(one["findings"] and one["findings"]["verdicts"].get("error") for one in found):
        raise click.exceptions.Exit(1)


@triggers.command()
@click.argument("old", metavar="A.yaml|SLUG")
@click.argument("new", metavar="B.yaml", type=FILE, required=False)
@click.option(
    "--revision", type=click.IntRange(1), help="Of the trigger SLUG: the version that it is compared with."
)
@_since
@_until
@_inbox
@_budget
@with_page
@remote
async def diff(
    api: Client,
    out: Output,
    old: str,
    new: Path | None,
    revision: int | None,
    **asked: Any,
) -> None:
    """Say what another rule would have made of the same events: two files, a file and what is declared, or two versions.

    \b
      upbeat triggers diff old.yaml new.yaml
      upbeat triggers diff new.yaml
      upbeat triggers diff shop-down --revision 3
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    if revision is not None:
        if new is not None:
            raise click.UsageError("Give either two files or --revision.")
        body: dict[str, Any] = {"trigger": old, "against": {"revision": revision}}
    elif new is not None:
        body = {"rule": _rule(new), "against": {"rule": _rule(Path(old))}}
    else:
        body = {"rule": _rule(Path(old)), "against": "saved"}
    found = await done(api, "preview", asked | body, out, "events")
    counts = found["difference"]["counts"] if found["difference"] else {}
    out.show(found, _print_difference, brief=[str(sum(counts.values()))])


@triggers.command()
@click.argument("file", metavar="RULE.yaml", type=FILE)
@with_page
@remote
async def apply(api: Client, out: Output, file: Path, page: str | None) -> None:
    """Create the triggers of a file, or replace those of the same slug, and say what that changed.

    What the file does not say is its default: a trigger is only enabled, and only posts, where the file says so.
    """
    made, lines = [], list[str]()
    for rule in _rules(file):
        slug, home = str(rule.get("slug", "")), rule.get("page") or page
        listed = await api.items("/triggers", page=home, search=slug)
        before = next((one for one in listed["items"] if one["slug"] == slug), None)
        if before is None:
            made.append(await api.post("/triggers", rule, page=home))
            lines.append(f"trigger {slug} created: {made[-1]['sentence']}")
            continue
        made.append(await api.put(at("/triggers", slug), rule, page=home))
        changed = [key for key in made[-1] if key not in SHOWN_ONLY and made[-1][key] != before.get(key)]
        is_at = f"at revision {made[-1]['revision']}: {made[-1]['sentence']}"
        lines.append(f"trigger {slug} is {is_at if changed else 'as it was'}")
        lines += (f"  {key}: {_short(before.get(key))} becomes {_short(made[-1][key])}" for key in changed)
    document = made[0] if len(made) == 1 else {"items": made, "next": None}
    said = "\n".join(map(harmless, lines))  # they steer no terminal
    out.done(document, said, brief=[one["slug"] for one in made])


# ---- what is asked


def _rules(file: Path) -> list[Any]:
    """The triggers in a file."""
    plain = read_yaml(file).plain()
    if isinstance(plain, dict) and "slug" not in plain:
        plain = plain.get("triggers")
    rules = [plain] if isinstance(plain, dict) else plain
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, dict) for rule in rules):
        raise click.UsageError(f"{file}: there is no trigger in it; write one, a list, or `triggers:`")
    return rules


def _rule(file: Path) -> Any:
    rules = _rules(file)
    if len(rules) > 1:
        raise click.UsageError(f"{file}: it has {len(rules)} triggers; two are compared, one of each file")
    return rules[0]


def _sample(file: Path) -> Any:
    text = read_text(file)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}..."


# ---- what is shown


def _print(shown: Mapping[str, Any], most_lines: int) -> None:
    found = shown["findings"]
    slug = (shown["asked"]["rule"] or {}).get("slug", "")
    if found is None:
        click.echo(f"{slug}: its time was over before anything was found")
        return
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found["verdicts"].items())
    cut = ", until its time was over" if shown["is_cut"] else ""
    click.echo(harmless(f"{slug}: {found['events']} events{cut}: {verdicts or 'nothing'}"))
    for one in found["advice"]:
        events = f" ({', '.join(one['examples'][:2])})" if one["examples"] else ""
        click.echo(f"{paint(one['severity'])}: {harmless(one['text'] + events)}")
    _print_episodes(found)
    for draft in found["drafts"][-_DRAFTS:]:
        how = "posted by policy" if draft["mode"] == "auto" else "a draft to review"
        click.echo(harmless(f"\n{_time(draft['at'])}  {draft['step']}, {how}: {draft['title']}"))
        click.echo(f"  {harmless(draft['text'])}")
    if found["drafted"] > _DRAFTS:
        click.echo(f"\n{found['drafted'] - _DRAFTS} more before them")
    if most_lines:
        click.echo()
        rows = [(_time(one["at"]), one["id"], one["verdict"], _outcomes(one)) for one in found["lines"]]
        print_table(("AT", "EVENT", "VERDICT", "WHAT"), rows[-most_lines:])
    for said in found["assumed"]:
        click.echo(click.style(said, dim=True))


def _print_episodes(found: Mapping[str, Any]) -> None:
    still = f"; signals open at the end: {found['open_signals']}" if found["open_signals"] else ""
    click.echo(f"\nepisodes that would have opened: {found['opened']}{still}")
    begin, end = (_epoch(found[name]) for name in ("since", "until"))
    rows = []
    for one in found["episodes"][-_EPISODES:]:
        opened, closed = _epoch(one["opened"]), _epoch(one["closed"]) if one["closed"] else end
        first, last = (int(_WIDTH * (one_at - begin) / max(end - begin, 1.0)) for one_at in (opened, closed))
        bar = "." * first + "#" * (min(last, _WIDTH - 1) - first + 1)
        lasted = span(closed - opened) if one["closed"] else "open"
        of = one["beat"] or ", ".join(one["fingerprints"])
        rows.append((_time(one["opened"]), paint(one["severity"]), lasted, f"{bar:.<{_WIDTH}}", of))
    if rows:
        print_table(("OPENED", "WORST", "LASTED", "WHEN", "OF"), rows)


def _print_difference(shown: Mapping[str, Any]) -> None:
    found = shown["difference"]
    if found is None:
        click.echo("Its time was over before anything was found.")
        return
    cut = ", until its time was over" if shown["is_cut"] else ""
    click.echo(f"{found['new']['events']} events{cut}")
    for name, said in _SAID.items():
        click.echo(f"{said}: {found['counts'].get(name, 0)} events")
        for one in found[name][:_DRAFTS]:
            what = (
                f"{_outcomes(one, 'old')} becomes {_outcomes(one, 'new')}"
                if name == "changed"
                else _outcomes(one)
            )
            click.echo(harmless(f"  {_time(one['at'])}  {one['id']}  {what}"))
    for side, other in (("old", "new"), ("new", "old")):
        of = {one["number"]: one for one in found[side]["episodes"]}
        for number in found["episodes"][f"only_{side}"]:
            one = of[number]
            click.echo(f"only {side}: {paint(one['severity'])} episode, opened {_time(one['opened'])}")
        for draft in found[f"drafts_only_{side}"][:_DRAFTS]:
            click.echo(harmless(f"only {side}: {draft['step']}, {_time(draft['at'])}: {draft['text']}"))
        known = {one["text"] for one in found[other]["advice"]}
        for one in found[side]["advice"]:
            if one["text"] not in known:
                click.echo(f"{side} {paint(one['severity'])}: {harmless(one['text'])}")


def _outcomes(line: Mapping[str, Any], key: str = "outcomes") -> str:
    said = [
        " ".join(filter(None, (one["kind"], one["reason"], one["severity"], one["fingerprint"])))
        for one in line[key][:3]
    ]
    return "; ".join(said) or "nothing"


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _time(text: str) -> str:
    return until(text).removeprefix("until ").removesuffix(" UTC")
