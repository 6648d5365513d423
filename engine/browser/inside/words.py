"""What a step does and why it failed, in words that a person understands. Playwright's call logs are read here, and end here."""

import re
from typing import Final

from evaluators.model import Failure
from rules.journey import JourneyStep

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX: Final = re.compile(r"^(?:\w+\.\w+: )?(?:Error: )*")
_STRICT: Final = re.compile(r"strict mode violation: .* resolved to (\d+) elements:\n(.*)", re.DOTALL)
_MATCHED: Final = re.compile(r"^\s*\d+\) (<.*?>)(?: aka .*)?$", re.MULTILINE)
_NET: Final = re.compile(r"net::ERR_([A-Z0-9_]+)")
_ELEMENT_CHARS: Final = 120
_SHOWN: Final = 3

# The last of these in a call log is why Playwright still waited.
_WAITED: Final = {
    "element is not visible": "is there, but not visible",
    "element is not enabled": "is there, but disabled",
    "element is not editable": "is there, but cannot be edited",
    "element is not stable": "is there, but keeps moving",
    "element is outside of the viewport": "is there, but outside of the window",
    "element was detached": "is taken away again and again",
    "did not find some options": "has no such option",
}
_COVERED: Final = re.compile(r"- (<.*>)(?: from .*)? intercepts pointer events")

_NET_TYPES: Final = {
    code: kind
    for kind, codes in {
        "tls.expired": "CERT_DATE_INVALID",
        "tls.wrong_host": "CERT_COMMON_NAME_INVALID",
        "tls.untrusted": "CERT_AUTHORITY_INVALID",
        "tls.revoked": "CERT_REVOKED",
        "tls.weak_key": "CERT_WEAK_KEY",
        "tls.weak_signature": "CERT_WEAK_SIGNATURE_ALGORITHM",
        "tls.old_version": "SSL_VERSION_OR_CIPHER_MISMATCH SSL_OBSOLETE_VERSION",
        "tls.client_certificate": "SSL_CLIENT_AUTH_CERT_NEEDED BAD_SSL_CLIENT_AUTH_CERT",
        "tls.unrecognized_name": "SSL_UNRECOGNIZED_NAME_ALERT",
        "dns.nxdomain": "NAME_NOT_RESOLVED",
        "connect.refused": "CONNECTION_REFUSED",
        "connect.timeout": "CONNECTION_TIMED_OUT",
        "http.timeout": "TIMED_OUT",
        "http.closed": "EMPTY_RESPONSE CONNECTION_CLOSED CONTENT_LENGTH_MISMATCH INCOMPLETE_CHUNKED_ENCODING",
        "http.reset": "CONNECTION_RESET CONNECTION_ABORTED",
        "connect.unreachable": "TUNNEL_CONNECTION_FAILED ADDRESS_UNREACHABLE INTERNET_DISCONNECTED",
        "probe.browser": "PROXY_CONNECTION_FAILED INSUFFICIENT_RESOURCES OUT_OF_MEMORY",  # the first: the gate is not there
    }.items()
    for code in codes.split()
}
_NET_FAMILIES: Final = (
    ("CERT_", "tls.untrusted"),
    ("SSL_", "tls.handshake"),
    ("NAME_", "dns.servfail"),
)
_NET_WORDS: Final = {
    "tls.expired": "its certificate has expired, or is not valid yet",
    "tls.wrong_host": "its certificate is for other names",
    "tls.untrusted": "its certificate is not trusted",
    "connect.unreachable": "it cannot be reached",
}


def said(step: JourneyStep) -> str:
    """What it does: `click button "Buy now"`. What is put into fields is not said."""
    if step.goto is not None:
        return f"goto {step.goto}"
    for name in ("click", "select", "check", "hover", "upload", "fill"):
        if (what := getattr(step, name)) is not None:
            verb = "uncheck" if name == "check" and not what.on else name
            return f"{verb} {what}" + (f": {_listed(what.option)}" if name == "select" else "")
    if step.press is not None:
        return f"press {step.press.key}" + (f" in {step.press.at}" if step.press.at else "")
    if step.wait is not None:
        given = next(iter(step.wait.model_fields_set))
        value = getattr(step.wait, given)
        return f"wait {value:g} s" if given == "duration" else f"wait until {given} {value}"
    if (expect := step.expect) is not None:
        what = expect.url or expect.at
        subject = f"{expect.of} {what}" if what else expect.of
        if not (written := expect.model_fields_set & set(expect.operators)) and not expect.not_:
            return f"expect {f'{what} to be {expect.of}' if expect.at else subject}"
        return (
            f"expect {subject} {'not ' * expect.not_}{expect.operator} {expect.expected!r}"
            if written
            else subject
        )
    if (store := step.store) is not None:
        of = f'attribute "{store.attribute}"' if store.attribute else store.of
        return f"store {of}{f' of {store.at}' if store.at else ''} as {store.name}"
    return f"screenshot {step.screenshot}"


def _listed(option: str | list[str]) -> str:
    return option if isinstance(option, str) else ", ".join(option)


def first_line(message: str) -> str:
    """The first line of what Playwright says, without where it was said."""
    line = _ANSI.sub("", message).strip().partition("\n")[0]
    return _PREFIX.sub("", line)[:500]


def of_net(message: str) -> Failure | None:
    """A failed navigation as one of our types; None where the network has no part in it."""
    found = _NET.search(message)
    if found is None:
        return None
    code = found[1]
    family = next((kind for prefix, kind in _NET_FAMILIES if code.startswith(prefix)), "http.protocol")
    kind = _NET_TYPES.get(code, family)
    plain = code.replace("_", " ").lower()
    return Failure(kind, f"{_NET_WORDS[kind]} ({plain})" if kind in _NET_WORDS else plain)


def of_several(message: str, what: object) -> str:
    """That several elements match, and the first of them; empty where it is not that."""
    found = _STRICT.search(_ANSI.sub("", message))
    if found is None:
        return ""
    shown = ", ".join(one[:_ELEMENT_CHARS] for one in _MATCHED.findall(found[2])[:_SHOWN])
    return f"{found[1]} elements match {what}: {shown}{', ...' if int(found[1]) > _SHOWN else ''}"


def of_waiting(message: str, what: object) -> str:
    """Why an element could not be used in time."""
    log = _ANSI.sub("", message)
    why, at = "", -1
    for sign, words in _WAITED.items():
        if (last := log.rfind(sign)) > at:
            why, at = words, last
    for found in _COVERED.finditer(log):
        if found.start() > at:
            why, at = f"is covered by {found[1][:_ELEMENT_CHARS]}", found.start()
    if not why:
        why = "is there, but not as it is wanted" if "locator resolved to" in log else "is not there"
    return f"{what} {why}"
