"""A beat as a probe needs it: its check compiled, and little else, because there may be ten thousand of them."""

import json
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from engine.catalog import Declared
from engine.secrets import Secrets
from evaluators.model import Failure
from evaluators.policy import Bound
from rules.beat import BEAT
from rules.check import Check, compile_check
from rules.kinds.http import HttpCheck
from rules.kinds.kind import ProbedRule
from rules.secret import UnsetReferenceError

V = TypeVar("V")
_SHARED_MOST = 20_000


@dataclass(frozen=True, slots=True)
class ProbedBeat:
    """`check` is None where it cannot be run here, for `failure`. No regions: it is not run now (paused, disabled)."""

    revision: int
    interval_s: float
    regions: tuple[str, ...]
    check: Check | None
    failure: Failure | None


class Compiler:
    """Compiles beats for a probe that has these `secrets`; equal parts of beats are shared."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._shared: dict[Hashable, Any] = {}

    def __call__(self, beat: Declared, bound: Bound) -> ProbedBeat:
        """The beat compiled; what is wrong with it becomes its `failure`."""
        rule = BEAT.validate_python(beat.spec)
        if not isinstance(rule, ProbedRule):
            return ProbedBeat(beat.revision, 0.0, (), None, None)
        runs = rule.enabled and beat.paused_until_s is None
        where = tuple(rule.regions) if rule.regions is not None else bound.regions
        check, failure = None, None
        try:
            check = self._share_parts(compile_check(rule, self._secrets.of(beat.page_id)), beat.spec)
        except (UnsetReferenceError, ValueError) as wrong:
            failure = Failure("probe.config", str(wrong))
        interval_s = check.pace.interval_s if check is not None else rule.interval
        return ProbedBeat(beat.revision, interval_s, self._share(where) if runs else (), check, failure)

    def _share_parts(self, check: Check, spec: Mapping[str, Any]) -> Check:
        # Expectations hold compiled functions, which are never equal: what they were compiled from is.
        written = json.dumps(spec.get("assertions", ()), sort_keys=True)
        pace = self._share(check.pace)
        expectations = self._share(check.expectations, ("assertions", written))
        if isinstance(check, HttpCheck):
            target = check.target
            target = replace(
                target,
                scheme=sys.intern(target.scheme),
                host=sys.intern(target.host),
                authority=sys.intern(target.authority),
                path=sys.intern(target.path),
            )
            return replace(
                check,
                pace=pace,
                expectations=expectations,
                target=self._share(target),
                method=sys.intern(check.method),
                headers=self._share(check.headers),
                body=self._share(check.body),
                way=self._share(check.way),
                secrets=self._share(check.secrets),
            )
        return replace(check, pace=pace, expectations=expectations, host=sys.intern(check.host))

    def _share(self, value: V, key: Hashable = None) -> V:
        if len(self._shared) > _SHARED_MOST:
            self._shared.clear()  # what is in use stays with those who use it
        shared: V = self._shared.setdefault(value if key is None else key, value)
        return shared
