"""TLS on a connected wire: the handshake, what the server showed in it, and whether to go on. Speaks nothing over it."""

import time
from typing import Final

from OpenSSL import SSL, crypto

from engine.probes.attempt import Watch
from engine.probes.certificate import read_certificate, read_staple
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from engine.probes.wire import Wire
from evaluators.certificate import date_fault, is_address, name_fault, strength_fault
from evaluators.model import Failure
from evaluators.observation import Certificate, Observation, TlsSeen
from rules.tls import TlsOptions

CHAIN_MAX: Final = 32  # certificates that are read of what a server sends


async def start_tls(
    context: Context,
    watch: Watch,
    wire: Wire,
    seen: Observation,
    options: TlsOptions,
    host: str,
    alpn: tuple[str, ...] = (),
) -> str:
    """Speak TLS on `wire` as a client of `host` from now on; the protocol that was chosen of `alpn`, or nothing.

    `seen.tls` is filled in. Raises `OSError`, or `TroubleError`, also where `options.verify` and a certificate is not
    to be believed: nothing has been sent to that server then.
    """
    watch.enter("tls")
    name = options.server_name or host.removesuffix(".")
    session = SSL.Connection(context.tls(options, alpn), wire.socket)
    session.set_connect_state()
    if not is_address(name):
        session.set_tlsext_host_name(name.encode())
    session.request_ocsp()
    await wire.shake_hands(session)
    seen.tls = shown = _shown(context, session, options, name)
    if options.verify and shown.faults:
        worst = shown.faults[0]
        raise TroubleError(worst.type, worst.message)
    return session.get_alpn_proto_negotiated().decode("latin-1")


def _shown(context: Context, session: SSL.Connection, options: TlsOptions, name: str) -> TlsSeen:
    at = time.time()
    chain = (session.get_peer_cert_chain() or [])[:CHAIN_MAX]
    sent = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in chain]
    try:
        certificates = tuple(map(read_certificate, sent))
    except ValueError as wrong:
        unread = Failure("tls.untrusted", f"a certificate cannot be read: {wrong}")
        return _seen(session, (), None, at, (unread,))
    if not certificates:
        return _seen(session, (), None, at, (Failure("tls.untrusted", "no certificate was sent"),))
    leaf = certificates[0]
    staple = session.get_app_data()
    ocsp = read_staple(staple, leaf, at) if staple else None
    faults = (
        date_fault(leaf, at),
        context.trust(options.ca).fault(sent, certificates, at),
        name_fault(leaf, name),
        Failure("tls.revoked", f"{leaf.subject} is revoked, says its stapled OCSP answer")
        if ocsp == "revoked"
        else None,
        strength_fault(certificates),
    )
    return _seen(session, certificates, ocsp, at, tuple(fault for fault in faults if fault is not None))


def _seen(
    session: SSL.Connection,
    certificates: tuple[Certificate, ...],
    ocsp: str | None,
    at: float,
    faults: tuple[Failure, ...],
) -> TlsSeen:
    version, cipher = session.get_protocol_version_name(), session.get_cipher_name() or ""
    return TlsSeen(version, cipher, certificates, ocsp, at, faults)
