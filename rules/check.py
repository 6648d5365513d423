"""Checks: beats compiled for the probes. Slotted values, one per beat, with nothing left to parse at run time."""

from collections.abc import Callable, Mapping
from typing import Any

from rules.beat import AnyBeat
from rules.kinds.dns import DnsBeat, DnsCheck, compile_dns
from rules.kinds.http import HttpBeat, HttpCheck, compile_http
from rules.kinds.tcp import TcpBeat, TcpCheck, compile_tcp

Check = HttpCheck | TcpCheck | DnsCheck

_COMPILERS: dict[type, Callable[[Any, Mapping[str, str]], Check]] = {
    HttpBeat: compile_http,
    TcpBeat: compile_tcp,
    DnsBeat: compile_dns,
}


def compile_check(beat: AnyBeat, environment: Mapping[str, str]) -> Check:
    """`beat` ready to run, its `${env:NAME}` replaced from `environment`.

    Raises `rules.secret.UnsetReferenceError`, or `ValueError` when a replaced value is not allowed where it stands.
    """
    return _COMPILERS[type(beat)](beat, environment)
