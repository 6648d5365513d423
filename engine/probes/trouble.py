"""What goes wrong on the way to an answer, as the error types of docs/reference/errors.md. Decides no verdict."""

import errno
from typing import Final

from OpenSSL import SSL

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
    "auth": ("auth.token", "no token"),
    "": ("http.timeout", "no step was under way"),  # between two of them
}
# Parts of OpenSSL's reasons, the first that fits; an alert is what the server said. Anything else is not TLS.
_HANDSHAKE: Final = (
    ("tls.old_version", ("unsupported protocol", "protocol version", "no protocols available")),
    ("tls.unrecognized_name", ("unrecognized name",)),
    (
        "tls.client_certificate",
        ("alert certificate", "alert bad certificate", "alert unsupported certificate"),
    ),
    ("tls.client_certificate", ("alert no certificate", "alert unknown ca", "alert access denied")),
    ("tls.too_large", ("excessive message size",)),
    ("tls.handshake", ("alert", "tlsv1 ", "no shared cipher", "too small", "wrong signature type")),
)


class TroubleError(Exception):
    """An attempt ends here, with an error type and a sentence for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def timed_out(phase: str, timeout_s: float, speaks: str = "http") -> TroubleError:
    """The attempt was cut in `phase` after `timeout_s` seconds."""
    kind, what = _TIMEOUTS[phase]
    if speaks == "tcp" and phase in ("ttfb", "transfer"):
        kind = "tcp.timeout"
    if speaks == "icmp" and not phase:  # packets take turns, in no phase
        kind, what = "icmp.timeout", "the packets were not all sent"
    return TroubleError(kind, f"{what} within {timeout_s:.3g} s")


class TlsError(OSError):
    """What OpenSSL said when TLS broke."""


def of_tls(broken: SSL.Error) -> TlsError:
    """What pyOpenSSL raised, as an `OSError`."""
    reasons = [reason for _, _, reason in broken.args[0]] if broken.args else []
    return TlsError(next(filter(None, reasons), "TLS broke"))


def _of_handshake(reason: str) -> str:
    fitting = (kind for kind, parts in _HANDSHAKE if any(part in reason for part in parts))
    return next(fitting, "tls.protocol")


def of_os_error(phase: str, failure: OSError, speaks: str = "http") -> TroubleError:
    """What the operating system or the peer said in `phase`, told apart by its number."""
    number, said = failure.errno, failure.strerror or str(failure) or type(failure).__name__
    if isinstance(failure, TlsError):
        kind = _of_handshake(str(failure))
        if phase != "tls" and kind != "tls.client_certificate":  # TLS 1.3 refuses ours after the handshake
            kind = f"{speaks}.reset"
        return TroubleError(kind, str(failure))
    if number in OUT_OF_FILES:
        return TroubleError("probe.no_files", f"this probe is out of sockets: {said}")
    if phase == "dns":
        return TroubleError("dns.refused", f"the resolver cannot be asked: {said}")
    if phase == "tls":
        return TroubleError("tls.handshake", f"the connection broke in the handshake: {said}")
    if phase != "connect":
        return TroubleError(f"{speaks}.reset", f"the connection broke: {said}")
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
