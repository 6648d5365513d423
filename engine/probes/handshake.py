"""TLS on a connected wire: the handshake, what the server showed in it, and whether to go on. Speaks nothing over it."""

import time
from typing import Final

from OpenSSL import SSL, crypto

from engine.probes.attempt import Watch
from engine.probes.certificate import read_certificate, read_staple
from engine.probes.context import Context
from engine.probes.trouble import TroubleError
from engine.probes.wire import Wire
from evaluators.certificate import agreed_fault, date_fault, is_address, name_fault, strength_fault
from evaluators.model import Failure
from evaluators.observation import Observation, TlsSeen
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
    *,
    lenient: bool = False,
) -> str:
    """Speak TLS on `wire` as a client of `host` from now on; the protocol that was chosen of `alpn`, or nothing.

    `seen.tls` is filled in. Raises `OSError`, or `TroubleError`, also where `options.verify` and a certificate is not
    to be believed: nothing has been sent to that server then. `lenient` takes whatever there is, and leaves judging
    it to the evaluators.
    """
    watch.enter("tls")
    name = options.server_name or host.removesuffix(".")
    session = SSL.Connection(context.tls(options, alpn, lenient=lenient))
    session.set_connect_state()
    if not is_address(name):
        session.set_tlsext_host_name(name.encode())
    session.request_ocsp()
    await wire.shake_hands(session)
    seen.tls = shown = _shown(context, session, options, name, lenient=lenient)
    if options.verify and shown.faults and not lenient:
        worst = shown.faults[0]
        raise TroubleError(worst.type, worst.message)
    return session.get_alpn_proto_negotiated().decode("latin-1")


def _shown(
    context: Context, session: SSL.Connection, options: TlsOptions, name: str, *, lenient: bool
) -> TlsSeen:
    at, version, cipher = (
        time.time(),
        session.get_protocol_version_name(),
        session.get_cipher_name() or "",
    )
    agreed = agreed_fault(version, cipher, options.min_version) if lenient else None
    chain = (session.get_peer_cert_chain() or [])[:CHAIN_MAX]
    sent = [crypto.dump_certificate(crypto.FILETYPE_ASN1, one) for one in chain]
    try:
        certificates = tuple(map(read_certificate, sent))
    except ValueError as wrong:
        certificates, unread = (), f"a certificate cannot be read: {wrong}"
    else:
        unread = "no certificate was sent"
    if not certificates:
        untold = Failure("tls.untrusted", unread)
        return TlsSeen(version, cipher, at=at, faults=(untold, agreed) if agreed else (untold,))
    leaf, staple = certificates[0], session.get_app_data()
    ocsp = read_staple(staple, leaf, at) if staple else None
    revoked = Failure("tls.revoked", f"{leaf.subject} is revoked, says its stapled OCSP answer")
    untrusted, expires = context.trust(options.ca).judge(sent, certificates, at)
    dated = date_fault(leaf, at)
    faults = (
        dated,
        untrusted if untrusted is None or dated is None or untrusted.type != dated.type else None,
        name_fault(leaf, name),
        revoked if ocsp == "revoked" else None,
        strength_fault(certificates),
        agreed,
    )
    return TlsSeen(version, cipher, certificates, ocsp, at, tuple(filter(None, faults)), expires)
