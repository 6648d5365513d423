"""The slack_bot channel: a thread per episode and incident whose first message shows what is true now, and buttons to act.

Slack has no idempotency key. Every message carries the id of its notice as metadata: a try that was cut short is looked
for there before it is repeated. What the buttons do is `api.slack`'s.
"""

from typing import Any, Final

from evaluators.lifecycle import ENDED
from evaluators.model import Notice, Post, Stage
from exporters.channels.slack import MAX_SECTION, escaped, header, mrkdwn, of_blocks, payload
from exporters.channels.words import line, link
from exporters.outcome import FIRST, Delivered, Memory, Outcome
from exporters.publishing import TroubleError
from exporters.slack import SlackError, Web
from rules import markdown

Blocks = list[dict[str, Any]]
Remote = dict[str, Any]
_STATES: Final = frozenset(
    {"open", "change", "recovery", "unknown", "flapping", "acknowledged", "assigned", "snoozed", "escalation"}
)
"""News after which the first message of a thread shows something else."""
_THREADLESS: Final = frozenset({"cannot_reply_to_message", "message_not_found", "thread_not_found"})
_UNCHANGEABLE: Final = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
_LOOK_BACK_S: Final = 900.0
_LOOK_PAGES: Final = 10  # of 100 messages
_ON_EPISODE: Final = ("acknowledge", "assign to me", "snooze 1 h", "escalate", "comment")
_MARKS: Final = {"resolved": "🟢", "completed": "🟢", "cancelled": "⚪", "monitoring": "🟠", "scheduled": "🗓️"}


class SlackBotExporter:
    """Tells one Slack channel, or the one that a line remembers."""

    def __init__(self, web: Web, channel: str) -> None:
        self._web, self._channel = web, channel

    async def export(self, item: Notice | Post, memory: Memory = FIRST) -> Outcome:
        """Say `item` once; `remote` holds channel, `ts` of the first message, and drafts with the messages that offer them."""
        remote = {"channel": self._channel, **memory.remote}
        try:
            if isinstance(item, Post):
                return Delivered(await self._post(item, remote, memory.is_repeat))
            return Delivered(await self._notice(item, remote, memory.is_repeat))
        except TroubleError as trouble:
            return trouble.outcome

    async def _notice(self, notice: Notice, remote: Remote, is_repeat: bool) -> Remote | None:
        drafts = dict(remote.get("drafts", {}))
        draft = notice.action if notice.told == "draft" else None
        offered = drafts.get(draft, {})
        message = payload(notice, _buttons(notice))
        if notice.told == "incident" and "announced" in remote:
            return None  # what was announced says it
        if offered and not await self._change(remote, offered["ts"], message):
            offered = {}  # removed by hand: it is offered anew
        if not offered or not (
            notice.by or offered["revision"] != notice.revision
        ):  # else only seen, no news
            is_thread = bool(notice.episode or notice.incident or draft)
            said = payload(notice) if offered else message
            ts = await self._say(remote if is_thread else {**remote, "ts": None}, notice, said, is_repeat)
            if not is_thread:
                return None
            if remote.setdefault("ts", ts) != ts and notice.told in _STATES:
                await self._change(remote, remote["ts"], message)
            offered = offered or {"ts": ts}
        if draft and notice.by:
            drafts.pop(draft, None)
        elif draft:
            drafts[draft] = {"ts": offered["ts"], "revision": notice.revision}
        return {name: value for name, value in (remote | {"drafts": drafts}).items() if value}

    async def _post(self, post: Post, remote: Remote, is_repeat: bool) -> Remote | None:
        picture, remote["announced"] = _picture(post), True
        if "ts" in remote:
            if post.notify:
                remote.setdefault("ts", await self._say(remote, post, _step(post), is_repeat))
            await self._change(remote, remote["ts"], picture)
        elif not post.notify or post.step == "delete":
            return None
        remote["ts"] = remote.get("ts") or await self._say(remote, post, picture, is_repeat)
        return remote

    async def _say(
        self, remote: Remote, item: Notice | Post, message: dict[str, Any], is_repeat: bool
    ) -> str:
        """The `ts` of the message; one that an earlier try left is found. A thread that is gone begins anew."""
        where = {"channel": remote["channel"]}
        if is_repeat and (found := await self._found(remote, item)):
            return found
        where |= {"thread_ts": remote["ts"]} if remote.get("ts") else {}
        marked = {"event_type": "upbeat_notice", "event_payload": {"id": item.id}}
        try:
            answer = await self._web.call("chat.postMessage", message | where | {"metadata": marked})
        except SlackError as refused:
            if "thread_ts" not in where or refused.code not in _THREADLESS:
                raise
            del remote["ts"]
            return await self._say(remote, item, message, is_repeat)
        return str(answer["ts"])

    async def _found(self, remote: Remote, item: Notice | Post) -> str | None:
        thread = remote.get("ts")
        method = "conversations.replies" if thread else "conversations.history"
        query = {"channel": remote["channel"], "include_all_metadata": "true", "limit": "100"}
        query |= {"oldest": f"{item.at - _LOOK_BACK_S:.6f}"} | ({"ts": thread} if thread else {})
        for _ in range(_LOOK_PAGES):
            try:
                answer = await self._web.call(method, query)
            except SlackError as refused:
                if refused.code in _THREADLESS or refused.code == "missing_scope":
                    return None  # told twice is better than not at all
                raise
            for message in answer.get("messages", ()):
                if ((message.get("metadata") or {}).get("event_payload") or {}).get("id") == item.id:
                    return str(message["ts"])
            query["cursor"] = (answer.get("response_metadata") or {}).get("next_cursor")
            if not query["cursor"]:
                break
        return None

    async def _change(self, remote: Remote, ts: str, message: dict[str, Any]) -> bool:
        """Whether it could be; not what was removed by hand."""
        try:
            await self._web.call("chat.update", message | {"channel": remote["channel"], "ts": ts})
        except SlackError as refused:
            if refused.code not in _UNCHANGEABLE:
                raise
            return False
        return True


def _buttons(notice: Notice) -> Blocks:
    if notice.told == "draft" and notice.action and not notice.by:
        value, where = f"{notice.action}:{notice.revision}", link(notice)
        given = [button("approve", "Approve", value, "primary"), button("reject", "Reject", value, "danger")]
        return given + ([button("open", "Open", value) | {"url": where}] if where else [])
    if notice.told == "reminder" and notice.incident:
        return [button("update", "Update", notice.incident)]
    if notice.told in _STATES and notice.episode and notice.stage is not Stage.OK:
        return [button(said.split()[0], said.capitalize(), notice.episode) for said in _ON_EPISODE]
    return []


def button(name: str, label: str, value: str, style: str | None = None) -> dict[str, Any]:
    """A button; `name` is what `api.slack` knows it by."""
    text = {"type": "plain_text", "text": label}
    made = {"type": "button", "action_id": name, "text": text, "value": value}
    return made | ({"style": style} if style else {})


def _picture(post: Post) -> dict[str, Any]:
    """The first message of an announcement: what is true now."""
    is_gone = post.step == "delete"
    title = f"{_MARKS.get(post.status, '🔴')} {post.title}" + (" (removed)" if is_gone else "")
    facts = [f"{post.status.replace('_', ' ')} · impact {post.impact} · page {post.page}"]
    facts += [f"{path}: {status.replace('_', ' ')}" for path, status in list(post.components.items())[:20]]
    blocks: Blocks = [header(line(title))]
    if post.text and not is_gone:
        blocks.append({"type": "section", "text": mrkdwn(_text(post))})
    blocks.append({"type": "context", "elements": [mrkdwn(escaped("\n".join(facts), MAX_SECTION))]})
    if post.status not in ENDED and not is_gone and post.kind == "incident":
        offered = [button(name, name.capitalize(), post.incident) for name in ("update", "resolve")]
        blocks.append({"type": "actions", "elements": offered})
    return of_blocks(escaped(title, MAX_SECTION), blocks)


def _step(post: Post) -> dict[str, Any]:
    """A reply in its thread: what was said."""
    status = post.status.replace("_", " ").capitalize()
    said = f"*{status}*" + (f"\n{_text(post)}" if post.text else "")
    return of_blocks(f"{status}: {escaped(post.title, 200)}", [{"type": "section", "text": mrkdwn(said)}])


def _text(post: Post) -> str:
    return escaped(markdown.plain(post.text) if post.is_markdown else post.text, MAX_SECTION - 100)
