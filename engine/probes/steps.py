"""The steps of an `http` check, in their order: captures into later ones, each judged, and what always runs at the end.

Steps share cookies and the trace, and no connection: a fresh one each, so that every phase is measured. A failed step
ends the run but for the `always` ones, for which a fifth of the attempt's time is held back.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from engine.probes.attempt import MESSAGE_MAX, Mark, Watch, failure_of
from engine.probes.context import Context
from engine.probes.exchange import Visit, ask
from engine.probes.request import Request, elsewhere, first_request, origin
from engine.probes.trouble import TroubleError, of_os_error, timed_out
from evaluators.assess import NOT_REACHED, assess, named
from evaluators.capture import capture
from evaluators.model import Failure, Outcome, Timings, Verdict
from evaluators.observation import Observation, StepSeen
from rules.kinds.http import HttpCheck, HttpStep, drafted
from rules.secret import hidden_forms

_HELD_BACK: Final = 0.2  # of the time, for `always`
_TO_END: Final = 0.02  # of it, so that a step is cut before the attempt is, and named
_OF_THE_ANSWER: Final = (
    "status", "reason", "headers", "body", "size_bytes", "is_truncated",
    "protocol", "address", "addresses", "tls",
)  # fmt: skip


async def walk(
    check: HttpCheck, context: Context, watch: Watch, seen: Observation, visit: Visit, token: str | None
) -> None:
    """Take the steps of `check`. `seen` is of the step that failed, or of the last; raises nothing but cancellation."""
    walker = _Walker(check, context, watch, seen, visit, token)
    share = _HELD_BACK if any(step.is_always for step in check.steps) else _TO_END
    spare_s = share * (watch.ends_s - context.clock())
    for number, step in enumerate(check.steps):
        if step.is_always:
            left = sum(later.is_always for later in check.steps[number:])
            share_s = (watch.ends_s - context.clock()) / (left + 1)  # and one more share to end in
        else:
            share_s = watch.ends_s - spare_s - context.clock()
        await walker.take(step, share_s)


class _Walker:
    """Where a run of several steps is."""

    def __init__(
        self,
        check: HttpCheck,
        context: Context,
        watch: Watch,
        seen: Observation,
        visit: Visit,
        token: str | None,
    ) -> None:
        self._context, self._watch, self._seen, self._visit = context, watch, seen, visit
        self._token = token
        self._captured: dict[str, str] = {}
        self._before = check.target
        self._own = {origin(step.check.target) for step in check.steps}

    async def take(self, step: HttpStep, within_s: float) -> None:
        """One step, in at most `within_s` seconds, if it is to be taken at all."""
        seen, failed = self._seen, self._seen.failure is not None
        if (failed and not step.is_always) or not self._can_fill(step):
            seen.steps.append(_unreached(step))
            return
        answer, since = Observation(), self._watch.mark()
        limit = asyncio.timeout(max(within_s, 0.0))
        try:
            async with limit:
                await self._ask(step, answer, since)
        except TroubleError as trouble:
            answer.failure = failure_of(trouble)
        except OSError as broken:
            phase = self._watch.phase
            answer.failure = failure_of(
                timed_out(phase or "dns", within_s) if limit.expired() else of_os_error(phase, broken)
            )
        finally:
            self._watch.enter("")
            answer.timings = self._watch.since(since)
            if not failed:
                self._show(answer)
        self._judge(step, answer, failed=failed)

    def _can_fill(self, step: HttpStep) -> bool:
        """Whether all it needs is captured; an `always` step may come without."""
        return step.draft is None or step.draft.needs <= self._captured.keys()

    async def _ask(self, step: HttpStep, answer: Observation, since: Mark) -> None:
        try:
            check = drafted(step, self._captured, self._before)
        except ValueError as wrong:
            raise TroubleError("capture.refused", str(wrong)) from None
        request: Request | None = first_request(check, self._visit.traceparent, self._token)
        if origin(check.target) not in self._own and request is not None:
            request = elsewhere(request, self._visit.secrets)
            if request is None:
                raise TroubleError(
                    "capture.refused", "captured URL of another origin, with a secret in the body"
                )
        assert request is not None
        last = await ask(check, self._context, self._watch, answer, self._visit, request, since)
        self._before = last.target

    def _judge(self, step: HttpStep, answer: Observation, *, failed: bool) -> None:
        seen = self._seen
        found, lacking = capture(step.takings, answer) if answer.failure is None else ({}, None)
        self._captured |= found
        seen.captured |= {
            taking.name: found[taking.name]
            for taking in step.takings
            if taking.is_public and taking.name in found
        }
        self._visit.secrets += hidden_forms(
            found[taking.name] for taking in step.takings if taking.is_secret and taking.name in found
        )
        verdict, outcomes, failure = assess(step.check, answer)
        if verdict in (Verdict.OK, Verdict.WARNING):
            failure = lacking
        seen.steps.append(
            StepSeen(step.name, answer.status, answer.timings, _of_step(step, outcomes), failure)
        )
        if failure is not None and not failed:
            seen.failure = Failure(failure.type, f"step {step.name}: {failure.message}"[:MESSAGE_MAX])

    def _show(self, answer: Observation) -> None:
        for name in _OF_THE_ANSWER:
            setattr(self._seen, name, getattr(answer, name))
        self._seen.hops += answer.hops
        self._seen.cookies |= answer.cookies


def _unreached(step: HttpStep) -> StepSeen:
    outcomes = [
        Outcome(e.of, False, None, NOT_REACHED, e.severity, key=named(e)) for e in step.check.expectations
    ]
    return StepSeen(step.name, None, Timings(), _of_step(step, outcomes))


def _of_step(step: HttpStep, outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    return tuple(replace(outcome, step=step.name) for outcome in outcomes)
