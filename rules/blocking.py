"""Which hosts a journey does not reach, by its `block`. Knows no addresses: those are `rules.address`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def is_blocked(host: str, block: Sequence[str], site: Sequence[str]) -> bool:
    """Whether `block` names `host`, in lower case; `site` are the journey's own hosts.

    Of a site are its host, a leading `www.` aside, what is below that, and what that is below: no list of public
    suffixes is asked, which would go stale.
    """
    host = host.removesuffix(".")  # names of the root, which a page may write with its dot
    return any(
        not any(_is_of(host, own) for own in site)
        if pattern == "third-party"
        else fnmatchcase(host, pattern.lower())
        for pattern in block
    )


def _is_of(host: str, own: str) -> bool:
    own = own.lower().removesuffix(".").removeprefix("www.")
    return host == own or host.endswith(f".{own}") or own.endswith(f".{host}")
