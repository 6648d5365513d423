"""The default words: what customers and operators read when nobody wrote a template. No counters, no ages: text that changes by itself would ask for review again."""

from collections.abc import Iterable, Sequence

from evaluators.facts import Cause, Of
from evaluators.model import Severity, Stage
from rules.incident import Step

_PUBLIC = {
    "warning": "We are seeing degraded performance of {what}. We are looking into it.",
    "critical": "{what} is currently unavailable or failing for some customers. We are investigating.",
}
_CHANGED = {
    "warning": "{what} is working again with degraded performance. We continue to work on it.",
    "critical": "The problem has become worse: {what} is currently unavailable or failing for some customers.",
}
_MORE = {
    "warning": "More of {what} is affected: we are seeing degraded performance. We continue to work on it.",
    "critical": "More of {what} is affected: it is currently unavailable or failing for some customers. "
    "We continue to work on it.",
}
_AGAIN = {
    "warning": "The problem has come back: we are seeing degraded performance of {what}. We are looking into it.",
    "critical": "The problem has come back: {what} is currently unavailable or failing for some customers. "
    "We are investigating.",
}
_UPDATES = {"severity": _CHANGED, "member": _MORE, "reopened": _AGAIN}
_HEADLINE = {"warning": "Degraded performance: {what}", "critical": "Outage: {what}"}


def public_title(severity: Severity, subject: str, components: Sequence[str]) -> str:
    """An incident's title, from the names of the components it affects, or the beat's where it feeds none."""
    return _HEADLINE[severity].format(what=joined(subject, components))[:200]


def public_text(
    step: Step, severity: Severity, subject: str, components: Sequence[str], of: Of = "severity"
) -> str:
    """The text of one step. It names no member of a group: customers know components."""
    what = joined(subject, components)
    if step == "resolve":
        return f"{what} is working normally again. This incident is resolved."
    return (_PUBLIC if step == "open" else _UPDATES[of])[severity].format(what=what)


def headline(stage: Stage, subject: str) -> str:
    """An operator's headline for a stage."""
    said = {
        Stage.OK: "has recovered",
        Stage.WARNING: "is degraded",
        Stage.CRITICAL: "is down",
        Stage.UNKNOWN: "sends no data",
    }
    return f"{subject} {said[stage]}"


def ended(cause: Cause, subject: str) -> str:
    """An operator's headline for an episode that ended without recovery."""
    said = {
        "removed": "was removed while it was bad",
        "left": "is bad no more, but nothing recovered: what was bad was taken away",
        "inactive": "has sent no data for so long that its episode ends; whether it recovered is not known",
        "recovered": "has recovered",
    }
    return f"{subject} {said[cause]}"


def joined(subject: str, components: Sequence[str]) -> str:
    """What is spoken of, as in a sentence."""
    names = list(components) or [subject]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_REASONS = {
    "dns": "its name is not found",
    "icmp": "it cannot be reached",
    "connect": "no connection",
    "tls": "no secure connection",
    "status": "it answers with an error",
    "degraded": "it is slow",
    "heartbeat": "a job did not report",
}


def reason(errors: Iterable[str], *, is_reported: bool) -> str:
    """Why, from types of errors: in words of ours alone, for what a target or a sender said is not for customers."""
    found = [
        _REASONS.get(error.partition(".")[0], "its answer is not as it should be")
        for error in errors
        if error
    ]
    return ", ".join(dict.fromkeys([*found, *(["it was reported to us"] if is_reported else [])]))


def region_is_sick(beats: int, lonely: int) -> str:
    """Why a region is suspended."""
    return f"{lonely} of {beats} beats are bad there and nowhere else"
