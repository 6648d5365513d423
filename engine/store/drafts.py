"""Telling operators of what waits for a review: that it does, that it still does, and what became of it. Deciding is `reviews`'."""

from typing import Final

import msgspec
from msgspec.structs import replace

from engine.store import outbox
from engine.store.database import Connection, Row
from engine.store.ids import derived_id, show
from engine.store.telling import Telling
from evaluators.model import Notice, Stage
from evaluators.routing import Place
from rules.markdown import plain

_SHOWN: Final = 2000
"""Characters that are read as Markdown; a longer text is told as it is written."""


def line_of(action: Row) -> str:
    """Where its news stay in order: with those of its episode; of one by hand, by itself."""
    return show("episode", action["episode_id"]) if action["episode_id"] else show("action", action["id"])


def waiting(action: Row, at: float, public_url: str, *, again: int = 0) -> Telling:
    """That this action (a row of `reviews.one`) waits; `again`: how often operators were told so before."""
    shown, is_group = show("action", action["id"]), action["owner_kind"] == "group"
    title = action["owner_name"] or action["owner"]
    said = f"A draft still waits since {action['created_at']:%H:%M} UTC" if again else "A draft waits"
    notice = Notice(
        id=str(derived_id("notice", "draft", action["id"], action["revision"], again)),
        told="draft",
        title=f"{said}: {action['title']}",
        at=at,
        beat=None if is_group else action["owner"],
        beat_title=None if is_group else title,
        group=action["owner"] if is_group else None,
        group_title=title if is_group else None,
        page=action["page"],
        stage=None if action["step"] == "resolve" else Stage(action["severity"]),
        severity=action["severity"],
        why=(_text(action), *action["warnings"]),
        episode=show("episode", action["episode_id"]) if action["episode_id"] else None,
        since=action["opened_at"].timestamp() if action["opened_at"] else None,
        action=shown,
        revision=action["revision"],
        tags=tuple(action["tags"] or ()),
        link=f"{public_url}/console/actions/{shown}",
    )
    listed = (action["channels"] or ()) if action["owner_id"] else None
    return Telling(action["page_id"], listed, line_of(action), notice)


def _text(action: Row) -> str:
    text: str = action["text"]
    return plain(text) if action["is_markdown"] and len(text) <= _SHOWN else text


async def follow(connection: Connection, action: Row, said: str, at: float, by: str | None = None) -> None:
    """Tell whoever was told that it waits what became of it, in the same place. `by`: who decided; None: it still waits."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (o.target_id) o.target_id, o.item, CASE WHEN o.status = 'pending' THEN o.waits END AS waits "
        "FROM outbox o JOIN objects t ON t.id = o.target_id WHERE o.line = $1 AND o.item->>'action' = $2 "
        "AND o.item->>'told' = 'draft' AND o.status <> 'dropped' AND t.removed_at IS NULL ORDER BY o.target_id, o.id DESC",
        line_of(action),
        show("action", action["id"]),
    )
    if not rows:
        return
    notice = replace(
        msgspec.convert(rows[0]["item"], Notice),
        id=str(derived_id("notice", "draft", action["id"], action["revision"], said)),
        title=f"{said}: {action['title']}",
        at=at,
        severity=action["severity"],
        why=(_text(action), action["reason"]) if action["reason"] else (_text(action),),
        revision=action["revision"],
        by=by,
    )
    entries = [
        outbox.Entry(row["target_id"], line_of(action), notice, Place(waits=row["waits"])) for row in rows
    ]
    await outbox.put_all(connection, entries)
