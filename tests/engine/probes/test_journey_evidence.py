"""What is kept of a journey beside its files: in few bytes, and without its secrets wherever they stand."""

from engine.probes.evidence import course
from engine.store.evidence import MOST_BYTES, encoded
from evaluators.observation import Artifact, Document, Journeyed, Observation, StepDone
from rules.beat import BEAT
from rules.check import Check, compile_check


def _check() -> Check:
    spec = {"slug": "buy", "type": "browser", "url": "https://shop.example/", "steps": [{"goto": "/"}]}
    return compile_check(BEAT.validate_python(spec), {})


def test_no_secret_is_in_a_step_a_page_or_a_line_of_the_console() -> None:
    secret = "hunter2-of-the-shop"
    step = StepDone(
        "pay", f"type {secret}", "failed", 1.0, 2.0, f"no {secret}", url=f"https://x.example/?q={secret}"
    )
    seen = Journeyed(
        (step,), (Document("pay", f"https://x.example/{secret}"),), (secret,), failures=(secret,)
    )
    kept = encoded(course(_check(), Observation(journey=seen, secrets=(secret,)))) or ""
    assert "pay" in kept
    assert secret not in kept


def test_sixty_steps_with_their_pictures_are_kept_whole() -> None:
    steps = tuple(
        StepDone(f"click-{n}", f'click button "Add item {n}"', "ok", n * 1.2345678, 0.7654321,
                 url=f"https://shop.example/category/{n}/things", picture=f"step-{n}.jpg")
        for n in range(60)
    )  # fmt: skip
    files = tuple(Artifact(step.picture, "image/jpeg", b"x" * 30_000) for step in steps)
    kept = encoded(course(_check(), Observation(journey=Journeyed(steps), artifacts=files))) or ""
    assert len(kept) <= MOST_BYTES
    assert '"cut"' not in kept
