"""What the tests of OTLP share: results, a process's totals, and destinations as a process opens them."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from engine.egress import connect, open_session
from evaluators.model import Kind, Result, Timings, Verdict
from exporters.measurement import Named, Totals
from exporters.otlp import Destination, HttpSender, OtlpSettings, Sender, Tally, resource
from exporters.otlp_grpc import GrpcSender
from rules.address import EgressPolicy

BEGAN_NS = 1_000_000_000
POLICY = EgressPolicy(["127.0.0.0/8"])


def result(beat_id: str = "bea_1", region: str = "eu-west", **changed: Any) -> Result:
    made = Result(
        run_id="0190b6e0-0000-7000-8000-000000000001",
        beat_id=beat_id,
        region=region,
        kind=Kind.SCHEDULED,
        verdict=Verdict.OK,
        scheduled_at=0.0,
        at=100.0,
        seq=0,
        attempts=1,
        timings=Timings(0.002, 0.01, 0.02, 0.1, 0.001, 0.133),
    )
    return replace(made, **changed)


class Process:
    """Totals and destinations of one process. Every flush comes a second after the one before."""

    def __init__(self, settings: OtlpSettings, *, began_ns: int = BEGAN_NS) -> None:
        self.now_ns = began_ns
        self.settings = settings
        self.tally = Tally()
        self.totals = Totals(self.named, now_ns=lambda: self.now_ns)
        self.totals.keeps_exemplars = self.totals.keeps_newest = True
        self.destination = self.open(settings)

    def named(self, beat_id: str) -> Named | None:
        return Named(f"slug-{beat_id}", "shop", "http", "https://shop.example/a", "GET", self.settings)

    def open(self, settings: OtlpSettings, policy: EgressPolicy = POLICY, **more: Any) -> Destination:
        async def locate(host: str, port: int, timeout_s: float) -> str:
            with await connect(policy, "relay", host, port, timeout_s) as sock:
                return str(sock.getpeername()[0])

        sender: Sender
        if settings.protocol == "grpc":
            sender = GrpcSender(locate, settings, self.tally)
        else:
            session: Callable[[], Any] = lambda: open_session(policy, "relay", timeout_s=2)  # noqa: E731
            sender = HttpSender(session, settings, self.tally)
        about = resource("node-1", "0.1.0")
        return Destination(
            settings, sender, self.totals, about, self.tally, now_ns=lambda: self.now_ns, **more
        )

    async def flush(self) -> Any:
        self.now_ns += 1_000_000_000
        return await self.destination.flush()
