"""The Teams channel: an Adaptive Card to a workflow, which posts it. It can neither edit nor thread what it posted.

Limits are those of https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook.
"""

from typing import Any, Final

from evaluators.model import Notice
from exporters.channels.words import body, facts, fitted, heading, json_bytes, level, link, packed

MAX_BYTES: Final = 28_000
"""Of the whole message; 28 KB are allowed."""
_PER_LINE: Final = 80
"""Bytes of what a line of text stands in, at most."""
_COLOURS: Final = {"ok": "Good", "warning": "Warning", "critical": "Attention"}


def payload(notice: Notice) -> dict[str, Any]:
    """The message of a notice. All data stands in text runs, which know neither Markdown nor mentions."""
    title = {"text": fitted(heading(notice), 500, json_bytes), "weight": "Bolder", "size": "Medium"}
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [
            _text(title | {"color": _COLOURS.get(level(notice), "Default")}),
            *(
                _text({"text": line})
                for line in packed(body(notice), MAX_BYTES - 6000, json_bytes, _PER_LINE)
            ),
            *(
                _text({"text": f"{name}: ", "weight": "Bolder"}, {"text": fitted(value, 500, json_bytes)})
                for name, value in facts(notice)
            ),
        ],
    }
    if where := link(notice):
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open in Upbeat", "url": where}]
    attached = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attached]}


def _text(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun"} | run for run in runs]}
