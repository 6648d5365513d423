"""What goes wrong on the way to an answer, as the error types of docs/reference/errors.md. Decides no verdict."""

import errno
import ssl
from typing import Final

OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# Of a connect that fails at once; EACCES and EPERM are a local firewall's or policy's.
NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
_RESET: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

_TIMEOUTS: Final = {
    "dns": ("dns.timeout", "the name was not resolved"),
    "connect": ("connect.timeout", "no connection"),
    "tls": ("tls.timeout", "no TLS handshake"),
    "ttfb": ("http.timeout", "no answer"),
    "transfer": ("body.timeout", "the answer did not end"),
}
# OpenSSL's X509_V_ERR codes.
_CERTIFICATE: Final = {
    9: "tls.not_yet_valid",
    10: "tls.expired",
    18: "tls.self_signed",
    62: "tls.wrong_host",
    64: "tls.wrong_host",
}


class TroubleError(Exception):
    """An attempt ends here, with an error type and a sentence for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def timed_out(phase: str, timeout_s: float) -> TroubleError:
    """The attempt was cut in `phase` after `timeout_s` seconds."""
    kind, what = _TIMEOUTS[phase]
    return TroubleError(kind, f"{what} within {timeout_s:.3g} s")


def of_certificate(refused: ssl.SSLCertVerificationError) -> TroubleError:
    """A certificate that was not accepted, told apart by OpenSSL's reason."""
    return TroubleError(_CERTIFICATE.get(refused.verify_code, "tls.untrusted"), refused.verify_message)


def of_os_error(phase: str, failure: OSError) -> TroubleError:
    """What the operating system or the peer said in `phase`, told apart by its number."""
    number, said = failure.errno, failure.strerror or str(failure) or type(failure).__name__
    if isinstance(failure, ssl.SSLError):
        kind = "tls.handshake" if phase == "tls" else "http.reset"
        return TroubleError(kind, failure.reason or str(failure))
    if number in OUT_OF_FILES:
        return TroubleError("probe.no_files", f"this probe is out of sockets: {said}")
    if phase == "dns":
        return TroubleError("dns.refused", f"the resolver cannot be asked: {said}")
    if phase == "tls":
        return TroubleError("tls.handshake", f"the connection broke in the handshake: {said}")
    if phase != "connect":
        return TroubleError("http.reset", f"the connection broke: {said}")
    if number == errno.EAFNOSUPPORT:
        return TroubleError("probe.no_route", f"this machine cannot speak to such an address: {said}")
    if number == errno.ECONNREFUSED:
        return TroubleError("connect.refused", said)
    if number == errno.ETIMEDOUT:
        return TroubleError("connect.timeout", said)
    return TroubleError("connect.reset" if number in _RESET else "connect.unreachable", said)


def no_route(address: str, failure: OSError) -> TroubleError:
    """The machine we run on knows no way to `address`: said by the local kernel before anything was sent."""
    return TroubleError("probe.no_route", f"no local route to {address}: {failure.strerror}")
