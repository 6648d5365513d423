"""A simple rate limit per principal, in this process's memory, and the slower one of signing in. No quota over processes."""

from collections.abc import Hashable

from starlette.requests import Request

from api.context import services_of
from api.problems import ProblemError

_MOST_KEYS = 10_000


class Limiter:
    """At most `quota` in each window of `window_s` seconds, per key."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._windows: dict[Hashable, tuple[float, int]] = {}  # key -> (end, used)

    def take(self, key: Hashable, quota: int, now_s: float) -> tuple[int, float]:
        """(what is left after this one, or -1 when it is too much; seconds until the window ends)."""
        end_s, used = self._windows.get(key, (0.0, 0))
        if now_s >= end_s:
            self._windows.pop(key, None)  # so that the first is the one that ends first
            if len(self._windows) >= _MOST_KEYS:
                self._windows.pop(next(iter(self._windows)))  # bounded memory comes first
            end_s, used = now_s + self._window_s, 0
        self._windows[key] = (end_s, min(used + 1, quota + 1))
        return max(quota - used - 1, -1), end_s - now_s

    def spent_s(self, key: Hashable, quota: int, now_s: float) -> float:
        """Seconds until `key` may again, where it took `quota` already; 0 where it did not. Counts nothing."""
        end_s, used = self._windows.get(key, (0.0, 0))
        return end_s - now_s if used >= quota and now_s < end_s else 0.0

    def forget(self, key: Hashable) -> None:
        """A fresh start: they proved who they are."""
        self._windows.pop(key, None)


WINDOW_S = 60.0


def take(request: Request, key: str) -> dict[str, str]:
    """Count one request of `key`; the headers that say what is left. Raises 429."""
    services = services_of(request)
    quota = services.settings.requests_per_minute
    limiter: Limiter = request.app.state.limiter
    left, wait_s = limiter.take(key, quota, services.clock.monotonic_s())
    seconds = int(wait_s) + 1
    headers = {
        "RateLimit-Policy": f'"default";q={quota};w={WINDOW_S:.0f}',
        "RateLimit": f'"default";r={max(left, 0)};t={seconds}',
    }
    if left < 0:
        raise too_many(seconds, f"{quota} requests a minute are allowed", headers)
    return headers


def too_many(seconds: int, detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    """429."""
    return ProblemError(
        429,
        "too-many",
        f"{detail}; try again in {seconds} s",
        headers={**(headers or {}), "Retry-After": str(seconds)},
    )
