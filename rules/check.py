"""Checks: beats compiled for the probes. Slotted values, one per beat, with nothing left to parse at run time."""

from collections.abc import Callable
from typing import Any

from rules.kinds.browser import BrowserBeat, BrowserCheck, compile_browser
from rules.kinds.dns import DnsBeat, DnsCheck, compile_dns
from rules.kinds.http import HttpBeat, HttpCheck, compile_http
from rules.kinds.icmp import IcmpBeat, IcmpCheck, compile_icmp
from rules.kinds.kind import BeatRule, ProbedRule
from rules.kinds.tcp import TcpBeat, TcpCheck, compile_tcp
from rules.kinds.tls import TlsBeat, TlsCheck, compile_tls_beat
from rules.secret import Sources

Check = HttpCheck | TcpCheck | TlsCheck | DnsCheck | IcmpCheck | BrowserCheck

_COMPILERS: dict[type, Callable[[Any, Sources], Check]] = {
    HttpBeat: compile_http,
    TcpBeat: compile_tcp,
    TlsBeat: compile_tls_beat,
    DnsBeat: compile_dns,
    IcmpBeat: compile_icmp,
    BrowserBeat: compile_browser,
}


def compile_check(beat: BeatRule, sources: Sources) -> Check:
    """`beat` ready to run, its references replaced from `sources`.

    Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands, and
    for a beat that no probe runs.
    """
    if not isinstance(beat, ProbedRule):
        raise ValueError(beat.not_run())  # noqa: TRY004 - a mistake in what was asked, not in the program
    return _COMPILERS[type(beat)](beat, sources)
