"""The beat that a pasted URL stands for, such as `tls://shop.example:8443`. It asks nobody."""

from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

ACCEPTED: Final = (
    "write https://host/path, tcp://host:port, tls://host, icmp://host, dns:name or dns://server/name?type=MX"
)


def check_of(target: str) -> dict[str, Any]:
    """Type and target of a beat. `dns:` is RFC 4501, as far as it says what to ask.

    Raises `ValueError` that says what is accepted.
    """
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        raise ValueError(ACCEPTED) from None
    if parts.scheme in ("http", "https") and parts.hostname:
        return {"type": "http", "url": target}
    if parts.scheme == "dns":
        return _dns(parts.netloc, unquote(parts.path).strip("/"), parts.query)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{target!r} has more than host and port; {ACCEPTED}")
    if parts.scheme == "tcp" and parts.hostname and port:
        return {"type": "tcp", "host": parts.hostname, "port": port}
    if parts.scheme == "tls" and parts.hostname:
        return {"type": "tls", "host": parts.hostname} | ({"port": port} if port else {})
    if parts.scheme == "icmp" and parts.hostname and not port:
        return {"type": "icmp", "host": parts.hostname}
    raise ValueError(f"{target!r} cannot be checked; {ACCEPTED}")


def _dns(server: str, name: str, query: str) -> dict[str, Any]:
    asked = dict(parse_qsl(query, keep_blank_values=True))
    if not name and server:  # dns://shop.example, as people write it
        server, name = "", server
    if not name:
        raise ValueError(ACCEPTED)
    if others := sorted(asked.keys() - {"type"}):
        raise ValueError(f"dns: takes ?type=, not {', '.join(others)}")
    check = {"type": "dns", "host": name} | ({"resolver": server} if server else {})
    return check | ({"record": asked["type"].upper()} if "type" in asked else {})
