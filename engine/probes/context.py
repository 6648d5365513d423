"""What every probe shares on one event loop: sockets, names, address policy, certificates, clock. Holds no beat."""

import copy
import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from engine.probes.nameservice import NameService
from engine.probes.resolver import Resolver
from engine.probes.trust import Trust
from engine.probes.wire import Poller
from rules.address import EgressPolicy
from rules.tls import TlsOptions

if TYPE_CHECKING:
    from engine.browser.pool import Browsers, Turn

_CONTEXTS: Final = 1024
_VERSIONS: Final = {
    "1.0": SSL.TLS1_VERSION,
    "1.1": SSL.TLS1_1_VERSION,
    "1.2": SSL.TLS1_2_VERSION,
    "1.3": SSL.TLS1_3_VERSION,
}
_ALL_CIPHERS: Final = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"  # what is weak comes last


def new_traceparent() -> str:
    """A random W3C `traceparent`, sampled, so that a run can be found in the target's traces.

    The parent is the second half of the trace id: who has a result, which keeps the latter, knows the run's span.
    """
    trace_id = os.urandom(16).hex()
    return f"00-{trace_id}-{trace_id[16:]}-01"


def client_tls(options: TlsOptions, alpn: tuple[str, ...] = (), *, lenient: bool = False) -> SSL.Context:
    """A client's TLS that verifies nothing itself. `lenient`: it takes whatever this OpenSSL can, to tell what that is."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_ocsp_client_callback(_keep_staple)
    context.set_min_proto_version(_VERSIONS["1.0" if lenient else options.min_version])
    if lenient or options.min_version < "1.2":
        context.set_cipher_list(_ALL_CIPHERS)
    if alpn:
        context.set_alpn_protos([protocol.encode() for protocol in alpn])
    if options.certificate:
        first, *above = x509.load_pem_x509_certificates(options.certificate.encode())
        context.use_certificate(first)
        for certificate in above:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(load_pem_private_key(options.key.encode(), None))  # type: ignore[arg-type]
    return context


def _keep_staple(session: SSL.Connection, staple: bytes, _: None) -> bool:
    session.set_app_data(staple)
    return True


class Context:
    """One per event loop; make it inside the running loop and `close()` it at the end.

    `authorities` (PEM) are trusted instead of the system's, e.g. a private one. `clock` counts seconds for the timings.
    """

    __slots__ = (
        "browsers",
        "clock",
        "poller",
        "refusal",
        "resolver",
        "tls",
        "tokens",
        "traceparent",
        "trust",
        "turn",
    )

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        names: NameService | None = None,
        authorities: str = "",
        traceparent: Callable[[], str] = new_traceparent,
        clock: Callable[[], float] = time.perf_counter,
        browsers: "Browsers | None" = None,
    ) -> None:
        self.poller = Poller()
        self.resolver = Resolver(self.poller, names or NameService(), clock)
        self.tls = lru_cache(maxsize=_CONTEXTS)(client_tls)  # made once per options: it takes some 200 us
        self.trust = lru_cache(maxsize=_CONTEXTS)(
            lambda ca: Trust(ca or authorities)
        )  # 20 ms for the system's
        self.tokens: dict[Any, Any] = {}  # of OAuth 2; engine.probes.token
        self.traceparent = traceparent
        self.clock = clock
        self.browsers = browsers
        self.turn: Turn | None = None  # of a run of a browser beat
        self.judge_by(egress)

    def judged_by(self, egress: EgressPolicy) -> Self:
        """The same, of which it shares everything, but for the policy; not to be closed."""
        other = copy.copy(self)
        other.judge_by(egress)
        return other

    def in_turn(self, turn: "Turn") -> Self:
        """The same, for one run, which holds a browser; not to be closed."""
        other = copy.copy(self)
        other.turn = turn
        return other

    def judge_by(self, egress: EgressPolicy) -> None:
        """Judge addresses by `egress` from now on."""

        @lru_cache(maxsize=4096)  # the policy is pure, and judging takes longer than a connect call
        def refusal(address: str) -> str | None:
            return egress.refusal(address, "beat")

        self.refusal: Callable[[str], str | None] = refusal

    def close(self) -> None:
        """Give back what is held on the loop. Runs must have ended."""
        self.poller.close()
