"""The slack_bot channel: a thread per episode and incident whose first message shows what is true now, and buttons to act.

Slack has no idempotency key. Every message carries the id of its notice as metadata: a try that was cut short is looked
for there before it is repeated. What the buttons do is `api.slack`'s.
"""

from typing import Any, Final

from evaluators.lifecycle import ENDED
from evaluators.model import Notice, Post, Stage
from exporters.channels.slack import MAX_SECTION, escaped, header, mrkdwn, of_blocks, payload
from exporters.channels.words import line
from exporters.outcome import FIRST, Delivered, Memory, Outcome
from exporters.publishing import TroubleError
from exporters.slack import SlackError, Web
from rules import markdown

Blocks = list[dict[str, Any]]
_STATES: Final = frozenset(
    {"open", "change", "recovery", "unknown", "flapping", "acknowledged", "assigned", "snoozed", "escalation"}
)
"""News after which the first message of a thread shows something else."""
_THREADLESS: Final = frozenset({"cannot_reply_to_message", "message_not_found", "thread_not_found"})
_UNCHANGEABLE: Final = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
_LOOK_BACK_S: Final = 900.0
_LOOK_PAGES, _LOOK_LIMIT = 10, 100
_ON_EPISODE: Final = (
    ("acknowledge", "Acknowledge"),
    ("assign", "Assign to me"),
    ("snooze", "Snooze 1 h"),
    ("escalate", "Escalate"),
    ("comment", "Comment"),
)
_MARKS: Final = {"resolved": "🟢", "completed": "🟢", "cancelled": "⚪", "monitoring": "🟠", "scheduled": "🗓️"}


class SlackBotExporter:
    """Tells one Slack channel, or the one that a line remembers."""

    def __init__(self, web: Web, channel: str) -> None:
        self._web, self._channel = web, channel

    async def export(self, item: Notice | Post, memory: Memory = FIRST) -> Outcome:
        """Say `item` once; `remote` holds channel, `ts` of the first message, and drafts with the messages that offer them."""
        try:
            if isinstance(item, Post):
                return Delivered(await self._post(item, memory))
            return Delivered(await self._notice(item, memory))
        except TroubleError as trouble:
            return trouble.outcome

    async def _notice(self, notice: Notice, memory: Memory) -> dict[str, Any] | None:
        remote = {"channel": self._channel, **memory.remote}
        drafts: dict[str, Any] = dict(remote.get("drafts", {}))
        draft = notice.action if notice.told == "draft" else None
        offered = drafts.get(draft, {}) if draft else {}
        message = payload(notice, _buttons(notice))
        if notice.told == "incident" and "announced" in remote:
            return None  # what was announced says it
        if offered:
            await self._change(remote["channel"], offered["ts"], message)
        if not offered or not (
            notice.by or offered["revision"] != notice.revision
        ):  # else it is no news but seen
            is_thread = bool(notice.episode or notice.incident or draft)
            said = payload(notice) if offered else message
            ts = await self._say(remote, notice.id, notice.at, said, memory, in_thread=is_thread)
            if not is_thread:
                return None
            if remote.setdefault("ts", ts) != ts and notice.told in _STATES:
                await self._change(remote["channel"], remote["ts"], message)
            offered = offered or {"ts": ts}
        if draft:
            drafts[draft] = {"ts": offered["ts"], "revision": notice.revision}
            if notice.by:
                del drafts[draft]
        return {name: value for name, value in (remote | {"drafts": drafts}).items() if value}

    async def _post(self, post: Post, memory: Memory) -> dict[str, Any] | None:
        remote = {"channel": self._channel, **memory.remote, "announced": True}
        picture = _picture(post)
        if "ts" not in remote:
            if not post.notify or post.step == "delete":
                return None
            remote["ts"] = await self._say(remote, post.id, post.at, picture, memory)
        else:
            if post.notify:
                await self._say(remote, post.id, post.at, _step(post), memory)
            await self._change(remote["channel"], remote["ts"], picture)
        return remote

    async def _say(
        self,
        remote: dict[str, Any],
        about: str,
        at: float,
        message: dict[str, Any],
        memory: Memory,
        *,
        in_thread: bool = True,
    ) -> str:
        """The `ts` of the message; one that an earlier try left is found. A thread that is gone begins anew."""
        channel, thread = remote["channel"], remote.get("ts") if in_thread else None
        if memory.is_repeat and (found := await self._found(channel, thread, about, at)):
            return found
        marked = {"event_type": "upbeat_notice", "event_payload": {"id": about}}
        body = message | {"channel": channel, "metadata": marked} | ({"thread_ts": thread} if thread else {})
        try:
            answer = await self._web.call("chat.postMessage", body)
        except SlackError as refused:
            if not thread or refused.code not in _THREADLESS:
                raise
            del remote["ts"]
            return await self._say(remote, about, at, message, memory, in_thread=in_thread)
        return str(answer["ts"])

    async def _found(self, channel: str, thread: str | None, about: str, at: float) -> str | None:
        query = {"channel": channel, "include_all_metadata": "true", "limit": str(_LOOK_LIMIT)}
        query |= {"oldest": f"{at - _LOOK_BACK_S:.6f}"} | ({"ts": thread} if thread else {})
        for _ in range(_LOOK_PAGES):
            method = "conversations.replies" if thread else "conversations.history"
            try:
                answer = await self._web.call(method, query)
            except SlackError as refused:
                if refused.code in _THREADLESS or refused.code == "missing_scope":
                    return None  # told twice is better than not at all
                raise
            for message in answer.get("messages", ()):
                if ((message.get("metadata") or {}).get("event_payload") or {}).get("id") == about:
                    return str(message["ts"])
            after = answer.get("response_metadata", {}).get("next_cursor")
            if not after:
                break
            query["cursor"] = after
        return None

    async def _change(self, channel: str, ts: str, message: dict[str, Any]) -> None:
        try:
            await self._web.call("chat.update", message | {"channel": channel, "ts": ts})
        except SlackError as refused:
            if refused.code not in _UNCHANGEABLE:  # removed by hand: so be it
                raise


def _buttons(notice: Notice) -> Blocks:
    if notice.told == "draft" and notice.action and not notice.by:
        value = f"{notice.action}:{notice.revision}"
        given = [button("approve", "Approve", value, "primary"), button("reject", "Reject", value, "danger")]
        if notice.link:
            given.append(button("open", "Open", value) | {"url": notice.link})
        return given
    if notice.told == "reminder" and notice.incident:
        return [button("update", "Update", notice.incident)]
    if notice.told in _STATES and notice.episode and notice.stage is not Stage.OK:
        return [button(name, label, notice.episode) for name, label in _ON_EPISODE]
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
        offered = [button("update", "Update", post.incident), button("resolve", "Resolve", post.incident)]
        blocks.append({"type": "actions", "elements": offered})
    return of_blocks(escaped(title, MAX_SECTION), blocks)


def _step(post: Post) -> dict[str, Any]:
    """A reply in its thread: what was said."""
    status = post.status.replace("_", " ").capitalize()
    said = f"*{status}*" + (f"\n{_text(post)}" if post.text else "")
    return of_blocks(f"{status}: {escaped(post.title, 200)}", [{"type": "section", "text": mrkdwn(said)}])


def _text(post: Post) -> str:
    return escaped(markdown.plain(post.text) if post.is_markdown else post.text, MAX_SECTION - 100)
