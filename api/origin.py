"""Where a request came from: client address, scheme and origin, believing only trusted proxies."""

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from api.context import services_of


def address_of(connection: HTTPConnection) -> str:
    """The client's address: the last hop of X-Forwarded-For that no trusted proxy is."""
    hop = connection.client.host if connection.client else "unknown"
    if not is_trusted(connection, hop):
        return hop
    # Some proxies add a header of their own below the one that they were sent: the last one is theirs.
    for said in reversed(",".join(connection.headers.getlist("x-forwarded-for")).split(",")):
        if not said.strip():
            break
        hop = said.strip()[:64]
        if not is_trusted(connection, hop):
            break
    return hop


def near(connection: HTTPConnection) -> str:
    """The address of who asks, as far as one of them has only one: of IPv6 its network. For what is counted."""
    found = _read(address := address_of(connection))
    return (
        str(ipaddress.IPv6Network((int(found), 64), False))
        if found and found.version == 6
        else str(found or address)
    )


def is_https(connection: HTTPConnection) -> bool:
    """Whether people reach us by https."""
    public_url = services_of(connection).settings.public_url
    if public_url is not None:
        return public_url.startswith("https://")
    if connection.client and is_trusted(connection, connection.client.host):
        return connection.headers.get("x-forwarded-proto", connection.url.scheme) == "https"
    return connection.url.scheme == "https"


def scheme_of(connection: HTTPConnection) -> str:
    """By which scheme it was asked for, in the words of a trusted proxy; where none says so, by which people reach us."""
    said = connection.headers.get("x-forwarded-proto", "")
    if said in ("http", "https") and connection.client and is_trusted(connection, connection.client.host):
        return said
    return "https" if is_https(connection) else "http"


def base_url(connection: HTTPConnection) -> str:
    """How people reach this installation, without a slash at the end."""
    public_url = services_of(connection).settings.public_url
    return public_url.rstrip("/") if public_url else f"{connection.url.scheme}://{connection.url.netloc}"


def is_foreign(connection: HTTPConnection) -> bool:
    """Whether a browser says that another site's page made this request."""
    if connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = connection.headers.get("origin")
    if origin is None:
        return False
    # The Host header too: an installation may be reached by several names, and the cookie is bound to its own.
    ours = {urlsplit(base_url(connection)).netloc, connection.headers.get("host", "")}
    return urlsplit(origin).netloc not in ours - {""}


def is_trusted(connection: HTTPConnection, hop: str) -> bool:
    """Whether this address is a proxy's whose word counts."""
    networks = services_of(connection).settings.trusted_proxies
    return bool(networks) and is_within(hop, networks)


@lru_cache(1024)
def is_within(hop: str, networks: tuple[str, ...]) -> bool:
    """Whether this is an address in one of these networks; one of IPv4 in the form of IPv6 is of IPv4."""
    address = _read(hop)
    return address is not None and any(address in ipaddress.ip_network(one, strict=False) for one in networks)


def _read(hop: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(hop)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # as a socket for both writes IPv4
