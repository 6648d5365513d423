"""What the API answers about previews, for its description. Nothing is made of these."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from api.shapes import ShownCompared, ShownJob
from evaluators.advice import Advice, Count, Unmapped
from evaluators.facts import Cause
from evaluators.review import Status
from evaluators.trigger import Outcome, Verdict
from rules.incident import Step

Severity = Literal["warning", "critical"]


class ShownLine(Struct):
    """What became of one event, or `sample 1`; of many `items` the telling ones."""

    id: str
    at: datetime
    verdict: Verdict
    outcomes: list[Outcome]
    items: int
    is_repeat: bool


class ShownPreviewEpisode(Struct):
    """An episode of the target, or of the `beat` of one fingerprint; `event` opened it."""

    number: int
    opened: datetime
    severity: Severity
    event: str
    closed: datetime | None
    cause: Cause | None
    beat: str
    fingerprints: list[str]
    signals: int
    reopened: int
    is_flapping: bool


class ShownPreviewDraft(Struct):
    """A step in public of an episode: it waits for a person, or (`auto`) policy approves it."""

    episode: int
    at: datetime
    step: Step
    severity: Severity
    mode: Literal["draft", "auto"]
    title: str
    text: str
    status: Status
    revisions: int
    ended_at: datetime | None
    why: str


class ShownFindings(Struct):
    """What came of a rule. Lists are cut, what counts them is not; `left_out` events have no line."""

    since: datetime
    until: datetime
    events: int
    verdicts: dict[str, int]
    counts: list[Count]
    lines: list[ShownLine]
    left_out: int
    episodes: list[ShownPreviewEpisode]
    opened: int
    drafts: list[ShownPreviewDraft]
    drafted: int
    open_signals: int
    unmapped: list[Unmapped]
    advice: list[Advice]
    assumed: list[str]


class ShownChanged(Struct):
    """An event of which two rules make something else."""

    id: str
    at: datetime
    old: list[Outcome]
    new: list[Outcome]


class ShownDifference(Struct):
    """Two rules over the same events; `counts` is of events that did something under one only, or something else."""

    old: ShownFindings
    new: ShownFindings
    only_old: list[ShownLine]
    only_new: list[ShownLine]
    changed: list[ShownChanged]
    counts: dict[str, int]
    episodes: ShownCompared
    drafts_only_old: list[ShownPreviewDraft]
    drafts_only_new: list[ShownPreviewDraft]


class ShownPreview(ShownJob):
    """A preview, and what it found by now. `is_cut`: its budget was spent before it was done."""

    is_cut: bool
    findings: ShownFindings | None
    difference: ShownDifference | None
