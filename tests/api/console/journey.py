"""A journey that was done, as the evaluator would have stored it: evidence, and the files kept of it."""

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from msgspec import structs
from PIL import Image, ImageDraw

from api.console.runs import run_url
from engine.store import artifacts, objects, results
from engine.store.database import transaction
from engine.store.ids import new_id, show
from engine.store.objects import Stored
from engine.store.states import moment
from evaluators.model import Failure, Kind, Result, Timings, Verdict
from evaluators.observation import Artifact, Document, Journeyed, StepDone
from tests.api.console.conftest import ACTOR

if TYPE_CHECKING:
    from tests.api.conftest import Server

STEPS = (
    StepDone("open", "go to /", "ok", 0.0, 0.8, url="https://shop.example/", picture="step-1.jpg"),
    StepDone("cart", 'click button "Add to cart"', "ok", 0.8, 0.3, url="https://shop.example/cart", picture="step-2.jpg"),
    StepDone("pay", 'click button "Pay now"', "failed", 1.1, 5.0, 'button "Pay now" was not there within 5 s',
             url="https://shop.example/cart", picture="step-3.jpg"),
    StepDone("thanks", "expect text Thank you", "skipped"),
    StepDone("sign-out", "go to /logout", "ok", 6.1, 0.2, is_teardown=True, url="https://shop.example/", picture="step-5.jpg"),
)  # fmt: skip
SEEN = Journeyed(
    STEPS,
    (
        Document("open", "https://shop.example/", 0.21, 0.9, 4.4, 0.02),
        Document("cart", "https://shop.example/cart", 1.1, None, 2.2, 0.31),
    ),
    ("TypeError: pay is not a function",),
    1,
    ("GET https://cdn.shop.example/pay.js net::ERR_CONNECTION_REFUSED",),
    1,
    23,
    482_113,
    "Chromium 156.0.8078.79",
    "bubblewrap",
)


def drawn(text: str) -> bytes:
    """A picture with a text on it."""
    from io import BytesIO

    picture = Image.new("RGB", (800, 600), "#f4f0ff")
    ImageDraw.Draw(picture).text((40, 40), text, "#33206b", font_size=36)
    picture.save(into := BytesIO(), "JPEG")
    return into.getvalue()


def recorded(*requests: tuple[str, int], name: str = "text/html") -> bytes:
    """An archive of requests, each 100 ms after the one before."""
    entries = [
        {
            "startedDateTime": f"2026-11-21T05:00:{n // 10:02}.{n % 10}00Z",
            "time": 200.0,
            "request": {"method": "GET", "url": url, "headers": [{"name": "x", "value": name}]},
            "response": {"status": status, "content": {"size": 2000, "mimeType": name}, "_transferSize": 812},
            "timings": {"dns": 5, "connect": 30, "ssl": 20, "send": 1, "wait": 100, "receive": 44},
        }
        for n, (url, status) in enumerate(requests)
    ]
    return json.dumps({"log": {"version": "1.2", "entries": entries}}).encode()


FILES = (
    *(Artifact(name, "image/jpeg", drawn(name)) for name in ("failure.jpg", "step-1.jpg", "step-2.jpg", "step-5.jpg", "receipt.jpg")),
    Artifact("network.har", "application/json", recorded(("https://shop.example/", 200), ("https://shop.example/cart?a=1", 200), ("https://cdn.shop.example/pay.js", -1))),
    Artifact("console.txt", "text/plain", b"error TypeError: pay is not a function\nlog ready"),
    Artifact("page.html", "text/plain", b"<main><h1>Your cart</h1></main>"),
    Artifact("trace.zip", "application/zip", b"PK"),
)  # fmt: skip


async def journey_beat(server: "Server", **more: Any) -> Stored:
    """A browser beat of the page `shop`."""
    async with transaction(server.services.pool) as db:
        shop = await objects.find(db, "page", "shop")
        spec = {"slug": f"checkout-{new_id().hex[-6:]}", "type": "browser", "url": "https://shop.example/"}
        return await objects.create(db, ACTOR, "beat", shop.id, spec | {"steps": [{"goto": "/"}]} | more)


async def travelled(
    server: "Server",
    beat: Stored,
    seen: Journeyed = SEEN,
    files: tuple[Artifact, ...] = FILES,
    *,
    ago: float = 0.0,
    region: str = "eu",
    error: str = 'step pay: button "Pay now" was not there within 5 s',
) -> tuple[UUID, str]:
    """Let it have happened; its id, and where its run is shown. That there is a `step-3.jpg` is said, but it never comes."""
    now, run_id = server.services.clock.epoch_s() - ago, str(new_id())
    evidence = {
        "journey": structs.asdict(seen) | {
            "steps": [structs.asdict(one) for one in seen.steps],
            "documents": [structs.asdict(one) for one in seen.documents],
        },
        "artifacts": [
            {"name": name, "type": kind, "size_bytes": size}
            for name, kind, size in (*((one.name, one.type, len(one.data)) for one in files), ("step-3.jpg", "image/jpeg", 9))
        ],
    }  # fmt: skip
    run = Result(
        run_id, str(beat.id), region, Kind.SCHEDULED, Verdict.CRITICAL, now - 6.3, now, 1, 1, Timings(total=6.3), (),
        Failure("step.timeout", error), evidence,
    )  # fmt: skip
    async with transaction(server.services.pool) as db:
        await results.insert(db, [(str(uuid4()), now, run)], now)
        await artifacts.keep(db, UUID(run_id), beat.id, now - 6.3, files)
    return UUID(run_id), run_url(beat.slug, "shop", show("run", run_id), moment(now))
