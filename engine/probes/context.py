"""What every probe shares on one event loop: name resolution, address policy, certificates, clock. Holds no beat."""

from rules.address import EgressPolicy


class Context:
    """One per event loop; make it inside the running loop and `close()` it at the end."""

    __slots__ = ("egress",)

    def __init__(self, egress: EgressPolicy) -> None:
        self.egress = egress

    def close(self) -> None:
        """Give back what is held on the loop. Runs must have ended."""
