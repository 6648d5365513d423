"""Slack's Web API: one call, and what its error words mean for a delivery. Which calls are made is `exporters.channels.slack_bot`'s.

Error words are those of https://api.slack.com/methods; limits of https://api.slack.com/apis/rate-limits.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from exporters.outcome import Rejected, Retry
from exporters.publishing import Api, GoneError, Pace, TroubleError

_AGAIN: Final = {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "ratelimited"}
_CONNECT: Final = "connect the workspace again on /console/slack"
_INVITE: Final = "invite the bot to it: /invite @Upbeat"
READS: Final = frozenset(
    {"auth.revoke", "conversations.history", "conversations.replies", "oauth.v2.access", "users.info"}
)
"""Methods that take no JSON: they are asked with GET."""
_UNCONNECTED: Final = ("account_inactive", "invalid_auth", "not_authed", "token_revoked")
WHAT_TO_DO: Final[Mapping[str, str]] = dict.fromkeys(_UNCONNECTED, _CONNECT) | {
    "channel_not_found": f"check the channel's id, and if it is private {_INVITE}",
    "is_archived": "the channel is archived: choose another one, or unarchive it in Slack",
    "missing_scope": f"the app lacks a permission: update it from the manifest in docs/how-to/use-slack.md, and {_CONNECT}",
    "not_in_channel": _INVITE,
    "org_login_required": "the workspace moves to an organisation: wait, then " + _CONNECT,
    "restricted_action": "the workspace does not let apps post there: ask its admins",
    "token_expired": "turn token rotation off in the app's settings, and " + _CONNECT,
}


class SlackError(TroubleError):
    """Slack said no; `code` is its word for it."""

    def __init__(self, code: str, outcome: Retry | Rejected) -> None:
        super().__init__(outcome)
        self.code = code


class Web:
    """Calls of one workspace's bot, or with other `headers` of the app."""

    def __init__(self, session: aiohttp.ClientSession, base: str, headers: Mapping[str, str]) -> None:
        self._api = Api(session, base, headers, Pace())

    async def call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a method answers. Raises `TroubleError`."""
        try:
            if method in READS:
                answer = await self._api.get(f"/{method}", **body)
            else:
                answer = await self._api.send("POST", f"/{method}", body)
        except GoneError:
            raise TroubleError(Rejected("there is no Slack at this address: check `slack: {api}`")) from None
        if isinstance(answer, dict) and answer.get("ok") is True:
            return answer
        said = answer.get("error") if isinstance(answer, dict) else None
        code = said if isinstance(said, str) and re.fullmatch(r"[a-z_]{1,80}", said) else "no_answer_of_slack"
        if code in _AGAIN:
            raise SlackError(code, Retry(f"Slack says {code}"))
        do = WHAT_TO_DO.get(code)
        raise SlackError(code, Rejected(f"Slack says {code}" + (f": {do}" if do else "")))


def bearer(token: str) -> dict[str, str]:
    """How a bot says who it is."""
    return {"Authorization": f"Bearer {token}"}
