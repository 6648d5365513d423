"""What every probe shares on one event loop: sockets, names, address policy, certificates, clock. Holds no beat."""

import os
import ssl
import time
from collections.abc import Callable
from functools import lru_cache

from engine.probes.nameservice import NameService
from engine.probes.resolver import Resolver
from engine.probes.wire import Poller
from rules.address import EgressPolicy


def new_traceparent() -> str:
    """A random W3C `traceparent`, sampled, so that a run can be found in the target's traces."""
    random = os.urandom(24).hex()
    return f"00-{random[:32]}-{random[32:]}-01"


def client_tls(*, verify: bool) -> ssl.SSLContext:
    """A client context with the system's authorities. Loading them takes some 20 ms: make it once, never per check."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Context:
    """One per event loop; make it inside the running loop and `close()` it at the end.

    `verifying` replaces the system's authorities, e.g. by a private one. `clock` counts seconds for the timings.
    """

    __slots__ = ("clock", "poller", "refusal", "resolver", "tls", "traceparent")

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        names: NameService | None = None,
        verifying: ssl.SSLContext | None = None,
        traceparent: Callable[[], str] = new_traceparent,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.poller = Poller()
        self.resolver = Resolver(self.poller, names or NameService(), clock)
        self.tls = {True: verifying or client_tls(verify=True), False: client_tls(verify=False)}
        self.traceparent = traceparent
        self.clock = clock
        self.judge_by(egress)

    def judge_by(self, egress: EgressPolicy) -> None:
        """Judge addresses by `egress` from now on."""

        @lru_cache(maxsize=4096)  # the policy is pure, and judging takes longer than a connect call
        def refusal(address: str) -> str | None:
            return egress.refusal(address, "beat")

        self.refusal: Callable[[str], str | None] = refusal

    def close(self) -> None:
        """Give back what is held on the loop. Runs must have ended."""
        self.poller.close()
