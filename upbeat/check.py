"""One run here and now, outside any schedule: what `upbeat check` and the console's form show."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import structs

from engine.probes.context import Context
from engine.probes.run import run, troubled
from evaluators.model import PHASES
from rules.beat import AnyBeat
from rules.check import Check, compile_check
from rules.secret import Sources, UnsetReferenceError


async def check_now(
    rule: AnyBeat,
    context: Context,
    sources: Sources,
    *,
    tuned: Callable[[Check], Check] = lambda check: check,
    has_files: bool = False,
) -> dict[str, Any]:
    """Run `rule` once, as `tuned`; the answer has the shape of a result in the API, without region and time.

    Pictures of a journey are in it as Base64, with `has_files` its other files, too.
    """
    try:
        outcome = await run(tuned(compile_check(rule, sources)), context, keeps_all=True)
    except (UnsetReferenceError, ValueError) as wrong:
        outcome = troubled("probe.config", str(wrong))
    files = [one for one in outcome.artifacts if has_files or one.type.startswith("image/")]
    return {
        "verdict": outcome.verdict.value,
        "attempts": outcome.attempts,
        "timings": {phase: getattr(outcome.timings, phase) for phase in PHASES},
        "tried": [
            {
                "after": one.after_s,
                "timings": structs.asdict(one.timings),
                "error": msgspec.to_builtins(one.failure),
            }
            for one in outcome.tried
        ],
        "assertions": [msgspec.to_builtins(one) for one in outcome.outcomes],
        "error": msgspec.to_builtins(outcome.failure) if outcome.failure else None,
        "evidence": outcome.evidence,
        "certificate_days": outcome.certificate_days,
        "trace_id": outcome.trace_id,
        **(
            {"artifacts": [structs.asdict(one) | {"data": b64encode(one.data).decode()} for one in files]}
            if files
            else {}
        ),
    }
