"""What the evaluator, metrics and spans know of a beat."""

from uuid import uuid4

import pytest

from engine.catalog import Declared
from engine.subject import compile_subject
from evaluators.policy import Bound


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a?q=1&token=canary&x=2#f", "https://h/a?q=1&token=[redacted]&x=2#f"),
        ("https://h/?api_key=${env:K}", "https://h/?api_key=[redacted]"),
        ("https://h/?page=${env:P}&empty=", "https://h/?page=${env:P}&empty="),
    ],
)
def test_the_address_that_leaves_with_metrics_has_no_secret_in_its_query(url: str, shown: str) -> None:
    beat = Declared(uuid4(), "beat", uuid4(), "x", {"slug": "x", "type": "http", "url": url}, 1, None)
    assert compile_subject(beat, Bound(regions=("eu",))).address == shown
