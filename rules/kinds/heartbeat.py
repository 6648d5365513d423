"""The `heartbeat` beat: a job that calls us, when it is due to, and what each way of failing to is worth. No probe runs it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from rules.duration import Duration, format_duration
from rules.kinds.kind import BeatRule
from rules.shape import Rule
from rules.zone import zone_name

EARLY_S: Final = 5.0
"""A ping so much before its cron time is that one's: the clock of the machine that sent it is not ours."""

Weight = Literal["ignore", "warning", "critical"]


def _cron(text: str) -> str:
    fields = text.split()
    try:
        if len(fields) != 5:  # the library takes a sixth for seconds, which no crontab has
            raise ValueError("it has five fields: minute, hour, day, month, weekday")
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as wrong:
        raise ValueError(f"{text!r} is no cron expression: {str(wrong).lower()}") from None
    except StopIteration:
        raise ValueError(f"{text!r} never comes") from None
    except ValueError as wrong:
        raise ValueError(f"{text!r} is no cron expression: {wrong}") from None
    return " ".join(fields)


class HeartbeatSeverity(Rule):
    """What each way of going wrong is worth."""

    missed: Literal["warning", "critical"] = Field(
        default="critical", description="No ping until the grace was over."
    )
    late: Weight = Field(default="ignore", description="No ping when it was due, while the grace lasts.")
    overlong: Weight = Field(default="warning", description="A run that takes longer than max_duration.")
    failed: Literal["warning", "critical"] = Field(
        default="critical", description="A ping of /fail, or of an exit code other than 0."
    )


class HeartbeatBeat(BeatRule):
    """A job that pings a URL of ours; silence is what is alarming."""

    waits_for = "pings of its URL"

    type: Literal["heartbeat"] = Field(description="The kind of beat.")
    every: Duration | None = Field(
        default=None, ge=1.0, le=366 * 86400.0, description="Longest time between two pings; this or cron."
    )
    cron: Annotated[str, StringConstraints(max_length=200), AfterValidator(_cron)] | None = Field(
        default=None, description="When pings are due, as in a crontab: minute, hour, day, month, weekday."
    )
    timezone: Annotated[str, AfterValidator(zone_name)] = Field(
        default="UTC", description="Of cron, such as Europe/Berlin."
    )
    grace: Duration = Field(
        default=60.0, ge=0, le=31 * 86400.0, description="How late a ping may be before it is missed."
    )
    max_duration: Duration | None = Field(
        default=None,
        gt=0,
        le=31 * 86400.0,
        description="From /start to the end of the same run; until the next is due, and its grace, when not given.",
    )
    severity: HeartbeatSeverity = Field(
        default=HeartbeatSeverity(), description="How bad it is to be missed, late, overlong, failed."
    )

    @model_validator(mode="after")
    def _has_one_schedule(self) -> Self:
        if (self.every is None) == (self.cron is None):
            raise ValueError('a heartbeat has either every: 5m or cron: "*/5 * * * *"')
        if self.cron is None and self.timezone != "UTC":
            raise ValueError("timezone is of cron; every: counts from one ping to the next")
        return self

    @property
    def target(self) -> str:
        """What is awaited."""
        return f"a ping {self.schedule}" if self.cron is None else f"a ping at {self.schedule}"

    @property
    def schedule(self) -> "Schedule":
        """When pings are due."""
        return Schedule(self.every, self.cron, ZoneInfo(self.timezone))


@dataclass(frozen=True, slots=True)
class Schedule:
    """When pings are due: so long after each, or at the times of a crontab."""

    every_s: float | None
    cron: str | None
    zone: ZoneInfo

    def due_after(self, at: float) -> float:
        """When the next ping is due after one at `at`; seconds since the epoch.

        As Debian's cron does it: a time that the clocks skip comes right after the gap, one that comes twice counts
        once, unless minute or hour is a `*`.
        """
        if self.cron is None:
            assert self.every_s is not None
            return at + self.every_s
        for local in CronSim(self.cron, datetime.fromtimestamp(at + EARLY_S, self.zone)):
            if (due := local.timestamp()) > at + EARLY_S:  # in a doubled hour the first may lie behind
                return due
        return at + 366 * 86400.0  # after the library's fifty years: nobody waits so long

    def __str__(self) -> str:
        """As people say it."""
        if self.cron is None:
            assert self.every_s is not None
            return f"every {format_duration(self.every_s)}"
        return f"{self.cron} ({self.zone.key})"


def examples(every: float | None, cron: str | None, url: str) -> tuple[tuple[str, str], ...]:
    """Lines to copy that ping `url`, each with what it is for."""
    curl = "curl -fsS -m 10 --retry 5 --retry-connrefused -o /dev/null"
    begin = f"id=$$-$(date +%s); {curl} '{url}/start?rid='$id"
    end = f'printf %s "$out" | tail -c 10000 | {curl} --data-binary @- "{url}/$??rid=$id"'
    return (
        ("When it is done", f"{curl} {url}"),
        ("In a crontab, with the exit code", f"{cron or _as_cron(every)} /path/to/job; {curl} {url}/$?"),
        ("In a script, with start, end and output", f"{begin}; out=$(/path/to/job 2>&1); {end}"),
    )


def _as_cron(every_s: float | None) -> str:
    """The crontab's nearest to so often, and not less often."""
    minutes = max(int(every_s or 0) // 60, 1)
    if minutes < 60:
        step = max(n for n in range(1, minutes + 1) if 60 % n == 0)
        return f"*/{step} * * * *" if step > 1 else "* * * * *"
    hours = min(minutes // 60, 24)
    step = max(n for n in range(1, hours + 1) if 24 % n == 0)
    return {1: "0 * * * *", 24: "0 0 * * *"}.get(step, f"0 */{step} * * *")
