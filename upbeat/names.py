"""What the DNS says of a name to who has to prove that it is theirs: TXT records, as this machine's name servers answer. Judges nothing."""

from collections.abc import Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from exporters.outcome import Retry

WAIT_S: Final = 5.0


async def txt(name: str, servers: Sequence[str] | None = None, port: int = 53) -> list[str] | Retry:
    """The texts at `name`; none is an empty list. `servers` (addresses) instead of this machine's."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=servers is None)
        if servers is not None:
            resolver.nameservers, resolver.port = list(servers), port
        answer = await resolver.resolve(f"{name}.", "TXT", lifetime=WAIT_S)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as trouble:
        return Retry(f"{name} cannot be looked up: {trouble}"[:500])
    return [b"".join(one.strings).decode("utf-8", "replace") for one in answer if isinstance(one, TXT)]
